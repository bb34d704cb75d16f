"""Why two requests share a key, or do not.

Rule: what is compared is what the keys are made of; where that is equal, what is spelled in two
ways and does not matter is told as well.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from memoserve._curl import SentRequest
from memoserve._keyed import CacheSettings, Keyed, keyed, uncovered
from memoserve._keys import canonical_json, is_array, is_object

__all__ = ["Difference", "Explanation", "differences_in_json", "explain"]

_SHOWN = 60  # Characters of a value.


class Difference(msgspec.Struct, frozen=True):
    """One difference of two requests."""

    where: str  # "body", "field", or a part of the material: "path".
    name: str  # A JSON pointer, a field's name, or nothing.
    what: str


class Explanation(msgspec.Struct, frozen=True):
    """Whether two requests share an answer, and why."""

    is_shared: bool
    first: Keyed
    second: Keyed
    differences: tuple[Difference, ...]  # Because of which they do not; the first decides.
    harmless: tuple[Difference, ...]  # Those that no key knows of.


async def explain(
    first: SentRequest,
    second: SentRequest,
    settings: CacheSettings,
    other_settings: CacheSettings | None = None,
) -> Explanation:
    """Compare two requests to a cache, or to caches with two configurations."""
    a, b = await keyed(first, settings), await keyed(second, other_settings or settings)
    is_shared = bool(a.index) and a.index == b.index
    found = (
        ()
        if is_shared
        else (*_of_rules((first, a), (second, b)), *_of_heads(a, b), *_of_bodies(a, b))
    )
    return Explanation(is_shared, a, b, found, tuple(_harmless(first, second, a, b)))


def _of_rules(*both: tuple[SentRequest, Keyed]) -> Iterator[Difference]:
    for which, (sent, each) in zip(("first", "second"), both, strict=True):
        if each.rule is None:
            yield Difference("rule", "", f"the {which}, {uncovered(sent)}")
        elif each.bypass:
            yield Difference("bypass", "", f"the {which} goes past the cache: {each.bypass}")


def _of_heads(a: Keyed, b: Keyed) -> Iterator[Difference]:
    if not (a.index and b.index):
        return
    is_elsewhere = dict(a.material)["path"] != dict(b.material)["path"]
    for (name, one), (_, other) in zip(a.material, b.material, strict=True):
        # Another path has mostly another rule, and is spelled otherwise.
        if one != other and not (is_elsewhere and name in {"rule", "raw_path"}):
            yield Difference(name, "", _of_material(name, one, other))
    fields, others = dict(a.fields), dict(b.fields)
    for name in sorted(fields.keys() | others.keys()):
        if fields.get(name) != others.get(name):
            what = f"{_lines(fields.get(name))} vs {_lines(others.get(name))}"
            yield Difference("field", name, what)


def _of_material(name: str, one: str | bytes, other: str | bytes) -> str:
    if name == "credentials":
        return "the credentials are two, and each has a cache of its own"
    if name == "rule":
        return "two rules, or one with other options"
    return f"{_text(one)} vs {_text(other)}"


def _text(value: str | bytes) -> str:
    return repr(value if isinstance(value, str) else value.decode("latin-1"))


def _lines(lines: tuple[bytes, ...] | None) -> str:
    return "absent" if lines is None else ", ".join(_text(line) for line in lines)


def _of_bodies(a: Keyed, b: Keyed) -> Iterator[Difference]:
    if not (a.index and b.index) or (a.body == b.body and a.is_canonical == b.is_canonical):
        return
    for which, each in (("first", a), ("second", b)):
        if not each.is_canonical:
            what = f"the {which} is keyed by its bytes: {each.refusal}"
            yield Difference("body", "", what)
    if a.is_canonical and b.is_canonical:
        yield from differences_in_json(a.body, b.body)
    elif a.body != b.body:
        pairs = enumerate(zip(a.body, b.body, strict=False))
        place = next((n for n, (x, y) in pairs if x != y), min(len(a.body), len(b.body)))
        yield Difference("body", "", f"the bytes differ from byte {place} on")


def _harmless(first: SentRequest, second: SentRequest, a: Keyed, b: Keyed) -> Iterator[Difference]:
    """Say what is different in bodies and keys do not know of."""
    if not (a.is_canonical and b.is_canonical):
        return
    known = {each.name for each in differences_in_json(a.body, b.body)}
    # Both have a canonical form with the rule's edits, so they have one without.
    plain = canonical_json(first.body), canonical_json(second.body)
    for each in differences_in_json(*plain):
        if each.name not in known:
            yield each
    if plain[0] == plain[1] and first.body != second.body:
        yield Difference("body", "", "spelled in two ways: order of members, spaces, escapes")


def differences_in_json(one: bytes, other: bytes) -> list[Difference]:
    """Return where two canonical JSON texts differ."""
    return list(_of_values("", msgspec.json.decode(one), msgspec.json.decode(other)))


def _of_values(pointer: str, one: Any, other: Any) -> Iterator[Difference]:
    if is_object(one) and is_object(other):
        yield from _of_objects(pointer, one, other)
    elif is_array(one) and is_array(other):
        for place, (x, y) in enumerate(zip(one, other, strict=False)):
            yield from _of_values(f"{pointer}/{place}", x, y)
        if len(one) != len(other):
            what = f"{len(one)} elements vs {len(other)}"
            yield Difference("body", pointer, what)
    elif type(one) is not type(other) or one != other:
        yield Difference("body", pointer, f"{_said(one)} vs {_said(other)}")


def _of_objects(pointer: str, one: dict[str, Any], other: dict[str, Any]) -> Iterator[Difference]:
    for name in sorted(one.keys() | other.keys()):
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in one:
            yield Difference("body", place, f"missing in the first, {_said(other[name])}")
        elif name not in other:
            yield Difference("body", place, f"{_said(one[name])}, missing in the second")
        else:
            yield from _of_values(place, one[name], other[name])


def _said(value: Any) -> str:
    """Return a value with its type, as JSON has it."""
    text = msgspec.json.encode(value).decode()
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    return f"{_KINDS[type(value)]} {text}".removeprefix("literal ")


_KINDS: dict[type, str] = {
    str: "string", int: "number", float: "number", bool: "literal", type(None): "literal",
    list: "array", dict: "object",
}  # fmt: skip
