r"""Spelling noise: many byte strings for one JSON value.

Rule: every spelling parses to the same value. Varied are the order of members, insignificant
whitespace and the escapes of strings (``a``, ``\u0061``, hex digits in either case, ``\/``).
Numbers and Unicode normalization are left alone: ``1`` and ``1.0`` are different to a careful
cache, and so are composed and decomposed letters.
"""

import json
import random
from collections.abc import Mapping, Sequence

__all__ = ["Json", "respelled", "spelled"]

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None

_SPACES = ("", "", "", " ", "  ", "\n", "\t", "\r\n", "\n    ")
_ESCAPED_SHARE = 0.04  # Enough for many spellings; bodies stay about as long as they were.


def spelled(value: Json) -> bytes:
    """Spell `value` the one plain way: members as given, no whitespace, UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def respelled(value: Json, rng: random.Random) -> bytes:
    """Spell `value`, made of dicts, lists, strings, numbers, booleans and None, at random."""
    return "".join((_space(rng), _value(value, rng), _space(rng))).encode()


def _value(value: Json, rng: random.Random) -> str:
    match value:
        case str():
            return _string(value, rng)
        case Mapping():
            members = [
                f"{_string(name, rng)}{_space(rng)}:{_space(rng)}{_value(member, rng)}"
                for name, member in sorted(value.items(), key=lambda _: rng.random())
            ]
            return _enclosed("{", members, "}", rng)
        case Sequence():
            return _enclosed("[", [_value(element, rng) for element in value], "]", rng)
        case _:
            return json.dumps(value)


def _enclosed(opening: str, parts: Sequence[str], closing: str, rng: random.Random) -> str:
    spaced = (f"{_space(rng)}{part}{_space(rng)}" for part in parts)
    return f"{opening}{','.join(spaced) or _space(rng)}{closing}"


def _string(text: str, rng: random.Random) -> str:
    return f'"{"".join(_character(character, rng) for character in text)}"'


def _character(character: str, rng: random.Random) -> str:
    if rng.random() >= _ESCAPED_SHARE:
        return json.dumps(character, ensure_ascii=False)[1:-1]
    if character == "/":
        return r"\/"
    units = character.encode("utf-16-be").hex()  # Past the BMP: a pair of escapes.
    spelled_units = units.upper() if rng.random() < 0.5 else units
    return "".join(rf"\u{spelled_units[i : i + 4]}" for i in range(0, len(units), 4))


def _space(rng: random.Random) -> str:
    return _SPACES[int(rng.random() * len(_SPACES))]
