"""What makes two requests the same, and what never does."""

import hashlib
import json
import string
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoserve._errors import UnkeyableBodyError
from memoserve._keys import (
    Edits,
    Key,
    cache_key,
    canonical_json,
    credential_partition,
    derived_key,
    is_json_pointer,
    parse_json,
)

TWINS = (  # Two texts with one MD5, found by M. Stevens.
    b"TEXTCOLLBYfGiJUETHQ4hAcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak",
    b"TEXTCOLLBYfGiJUETHQ4hEcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak",
)

Draw = Callable[[st.SearchStrategy[Any]], Any]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def spell(value: Any, draw: Draw) -> str:
    """Write a value as JSON in one of its many ways; numbers have one that is accepted."""
    gap = st.text(" \t\r\n", max_size=2)
    match value:
        case dict():
            members = [
                draw(gap) + spell(name, draw) + draw(gap) + ":" + spell(held, draw)
                for name, held in draw(st.permutations(list(value.items())))
            ]
            text = "{" + (",".join(members) or draw(gap)) + "}"
        case list():
            text = "[" + (",".join(spell(held, draw) for held in value) or draw(gap)) + "]"
        case str():
            text = '"' + "".join(spell_character(character, draw) for character in value) + '"'
        case _:
            text = json.dumps(value)
    return f"{draw(gap)}{text}{draw(gap)}"


def spell_character(character: str, draw: Draw) -> str:
    units = character.encode("utf-16-be")
    codes = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
    ways = ["".join(f"\\u{c}" for c in codes), "".join(f"\\u{c.upper()}" for c in codes)]
    if character >= " " and character not in '"\\':
        ways.append(character)
    ways += {'"': ['\\"'], "\\": ["\\\\"], "/": ["\\/"], "\n": ["\\n"], "\t": ["\\t"]}.get(
        character, []
    )
    return str(draw(st.sampled_from(ways)))


def shape(value: Any) -> Any:
    """Return a value whose equality is JSON's: 1, 1.0 and True differ, and so does -0.0."""
    match value:
        case dict():
            return {name: shape(held) for name, held in value.items()}
        case list():
            return [shape(held) for held in value]
        case _:
            return (type(value).__name__, repr(value))


@given(st.data())
def test_one_value_has_one_spelling(data: st.DataObject) -> None:
    """Member order at every depth, white space and escapes do not matter (bug 5)."""
    value = data.draw(values)

    one = spell(value, data.draw).encode()
    other = spell(value, data.draw).encode()

    assert canonical_json(one) == canonical_json(other)


@given(values)
def test_canonical_form_is_the_same_value_and_its_own_canonical_form(value: Any) -> None:
    canonical = canonical_json(json.dumps(value).encode())

    assert shape(json.loads(canonical)) == shape(value)
    assert json.loads(canonical) == parse_json(canonical)


@given(values, values)
def test_different_values_have_different_spellings(one: Any, other: Any) -> None:
    """No two bodies merge, whatever is nested where (bug 1, bug 3, bug 6)."""
    are_equal = shape(one) == shape(other)

    spelled = [canonical_json(json.dumps(value).encode()) for value in (one, other)]

    assert (spelled[0] == spelled[1]) is are_equal


DISTINCT = {
    "array-order": (b"[1,2]", b"[2,1]"),
    "nested-array-order": (b'{"a":[[1],[2]]}', b'{"a":[[2],[1]]}'),
    "integer-and-float": (b"1", b"1.0"),
    "integer-and-boolean": (b"1", b"true"),
    "integer-and-string": (b"1", b'"1"'),
    "zero-and-false": (b"0", b"false"),
    "null-and-string": (b"null", b'"null"'),
    "zero-and-minus-zero": (b"0.0", b"-0.0"),
    "empty-containers": (b"[]", b"{}"),
    "null-and-absent": (b'{"a":null}', b"{}"),
    "empty-string-and-null": (b'""', b"null"),
    "beyond-2-to-53": (b"9007199254740992", b"9007199254740993"),
    "beyond-2-to-64": (b"18446744073709551616", b"18446744073709551617"),
    "beyond-minus-2-to-63": (b"-9223372036854775809", b"-9223372036854775810"),
    "4300-digits": (b"1" * 4300, b"1" * 4299 + b"2"),
    "letter-case": (b'"a"', b'"A"'),
    "unicode-normal-forms": ('"\u00e9"'.encode(), '"e\u0301"'.encode()),
    "one-field-more": (b'{"a":1}', b'{"a":1,"seed":7}'),
}


@pytest.mark.parametrize(("one", "other"), DISTINCT.values(), ids=DISTINCT.keys())
def test_what_a_model_could_tell_apart_stays_apart(one: bytes, other: bytes) -> None:
    """Neither the order of an array nor the type of a number is lost (bug 5, bug 6)."""
    assert canonical_json(one) != canonical_json(other)


UNKEYABLE = {
    "duplicate-name": b'{"a":1,"a":2}',
    "duplicate-name-same-value": b'{"a":1,"a":1}',
    "duplicate-name-escaped": b'{"a":1,"\\u0061":2}',
    "duplicate-name-nested": b'[{"x":{"a":1,"a":2}}]',
    "nan": b"NaN",
    "infinity": b"[Infinity]",
    "minus-infinity": b"[-Infinity]",
    "overflow": b"1e400",
    "underflow": b"1e-400",
    "minus-zero": b"[1,-0]",
    "minus-zero-after-string": b'{"a\\"b":-0}',
    "exponent": b"1e5",
    "trailing-zero": b"0.50",
    "more-digits-than-a-double": b"0.1000000000000000055",
    "integral-float-beyond-2-to-53": b"9007199254740993.0",
    "5000-digits": b"1" * 5000,
    "lone-high-surrogate": b'"\\ud800"',
    "lone-low-surrogate": b'"\\udc00"',
    "swapped-surrogates": b'"\\udc00\\ud800"',
    "surrogate-in-utf8": b'"\xed\xa0\x80"',
    "invalid-utf8": b'"\xff"',
    "overlong-utf8": b'"\xc0\xaf"',
    "bom": b"\xef\xbb\xbf{}",
    "utf-16": '{"a":1}'.encode("utf-16"),
    "utf-16-without-bom": '{"a":1}'.encode("utf-16-le"),
    "utf-32": '{"a":1}'.encode("utf-32"),
    "100000-levels": b"[" * 100_000 + b"]" * 100_000,
    "100000-levels-open": b'{"a":' * 100_000,
    "202-levels": b"[" * 202 + b"]" * 202,
    "empty": b"",
    "blank": b" \n",
    "two-values": b"1 2",
    "trailing-comma": b"[1,]",
    "comment": b"/**/1",
    "single-quotes": b"'a'",
    "leading-zero": b"01",
    "raw-control-character": b'"a\nb"',
    "unclosed-string": b'["-0',
    "form": b"a=1&b=2",
    "multipart": b"--x\r\nContent-Disposition: form-data\r\n\r\n--x--",
    "gzip": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("body", UNKEYABLE.values(), ids=UNKEYABLE.keys())
def test_ambiguous_body_is_unkeyable(body: bytes) -> None:
    """Whatever two parsers may read in two ways, or one of them not at all (bug 7, bug 8)."""
    with pytest.raises(UnkeyableBodyError):
        canonical_json(body)


@given(st.binary(max_size=40) | st.text('[]{}":,\\u0dé-1.e ', max_size=40).map(str.encode))
def test_no_body_raises_anything_else(body: bytes) -> None:
    """What passes is JSON to the strictest of parsers, too (bug 8)."""
    try:
        canonical = canonical_json(body)
    except UnkeyableBodyError:
        return

    assert shape(json.loads(canonical)) == shape(json.loads(body))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 200 + b"]" * 200, id="200-levels"),
        pytest.param(b'{"a":"-0","b":-0.0,"c":[-0.5,"\\"-0"]}', id="minus-zero-in-strings"),
        pytest.param(b'"\\u0000"', id="escaped-nul"),
        pytest.param(b'"\\ud83d\\ude00"', id="surrogate-pair"),
    ],
)
def test_unusual_body_is_keyable(body: bytes) -> None:
    assert json.loads(canonical_json(body)) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'"' + b'\\"' * 100_000 + b"-0", id="unclosed-string-of-quotes"),
        pytest.param(b'"a" ' * 60_000 + b"-0", id="many-strings"),
        pytest.param(b"\\" * 200_000 + b'"-0', id="backslashes"),
        pytest.param(b"-0" * 100_000, id="minus-zeros"),
    ],
)
def test_a_hostile_body_is_refused_in_one_pass(body: bytes) -> None:
    """A pattern that tries again at every quote would take minutes (bug 8)."""
    started = time.process_time()

    with pytest.raises(UnkeyableBodyError):
        canonical_json(body)

    assert time.process_time() - started < 1


# The digests of a key.


def key_of(
    *pieces: bytes, namespace: str = "n", parts: Any = ("p",), is_canonical: bool = False
) -> Key:
    return cache_key(namespace, parts, pieces, is_canonical=is_canonical)


def test_a_key_is_the_same_in_every_process_and_version() -> None:
    """Nothing of the process is in it, and whoever changes the material must see it (bug 11).

    If this fails on purpose, bump the version of the key's format.
    """
    material = b"\x96\xc4\x012\xa9memoserve\xc4\x01d\xa4POST\x92\xa1a\xc4\x01b\xa0" + b"\x01{}"

    key = cache_key("memoserve", [b"d", "POST", ["a", b"b"], ""], [b"{}"], is_canonical=True)

    assert key.index == "memoserve:" + hashlib.md5(material, usedforsecurity=False).hexdigest()
    assert key.verifier == hashlib.blake2b(material, digest_size=16).digest()


def test_a_key_holds_nothing_of_the_request_in_the_clear() -> None:
    """Only the namespace and two digests are left of it (bug 18)."""
    key = cache_key("n", [b"Bearer s3cret"], [b"s3cret"], is_canonical=False)

    namespace, digest = key.index.split(":")
    assert namespace == "n"
    assert len(digest) == 32
    assert set(digest) <= set(string.hexdigits.lower())
    assert len(key.verifier) == 16


def test_md5_needs_no_permission_of_a_fips_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such builds refuse MD5 to all who do not say that no security rests on it (bug 10)."""
    allowed = hashlib.md5

    def refuse(material: bytes = b"", *, usedforsecurity: bool = True) -> Any:
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return allowed(material, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "md5", refuse)

    assert key_of(b"body").index.startswith("n:")


def test_md5_twins_have_two_keys_and_two_verifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the material is the published pair itself, only the verifier is left (bug 10).

    The head before a body keeps the published pair from colliding, so it is taken away here.
    """
    assert key_of(TWINS[0]).index != key_of(TWINS[1]).index

    monkeypatch.setattr("memoserve._keys._pack", lambda _: b"")
    monkeypatch.setattr("memoserve._keys._RAW", b"")
    one, other = key_of(TWINS[0]), key_of(TWINS[1])

    assert one.index == other.index == "n:faad49866e9498fc1719f5289e7a0269"
    assert one.verifier != other.verifier


def test_where_a_body_was_cut_does_not_matter() -> None:
    assert key_of(b"ab", b"c") == key_of(b"", b"a", b"bc") == key_of(b"abc")


@given(st.binary(max_size=8))
def test_no_raw_body_equals_a_canonical_one(body: bytes) -> None:
    """Else bytes that were refused could pose as a value that was not (bug 7)."""
    raw, canonical = key_of(body), key_of(body, is_canonical=True)

    assert raw.index != canonical.index
    assert raw.verifier != canonical.verifier


parts_lists = st.lists(
    st.recursive(
        st.binary(max_size=3) | st.text(string.ascii_letters + ":\0", max_size=3),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
materials = st.tuples(st.sampled_from(["a", "ab", "a:b", ""]), parts_lists, st.binary(max_size=4))


@given(materials, materials)
def test_no_part_can_pose_as_its_neighbour(one: Any, other: Any) -> None:
    """Two materials share a key only if they are equal part by part (bug 4)."""
    keys = [
        cache_key(namespace, parts, [body], is_canonical=False)
        for namespace, parts, body in (one, other)
    ]

    assert (keys[0] == keys[1]) is (one == other)


SHIFTED = {
    "between-parts": (("ab", "c"), ("a", "bc")),
    "into-the-next-list": ((["a"], ["b"]), (["a", "b"], [])),
    "nested-deeper": ((["a"],), ([["a"]],)),
    "bytes-and-string": ((b"a",), ("a",)),
    "empty-and-absent": (("a", ""), ("a",)),
    "delimiters": (("a|b", "c"), ("a", "b|c")),
}


@pytest.mark.parametrize(("one", "other"), SHIFTED.values(), ids=SHIFTED.keys())
def test_shifted_parts_have_another_key(one: Any, other: Any) -> None:
    """A path, a query, a method, an epoch, a variant: each counts in its place (bug 2, bug 52)."""
    assert key_of(parts=one).index != key_of(parts=other).index
    assert key_of(parts=one).verifier != key_of(parts=other).verifier


def test_a_body_cannot_pose_as_the_last_part() -> None:
    """What follows the head begins where the head says that it ends (bug 4)."""
    assert key_of(b"\xa1b", parts=("a",)) != key_of(parts=("a", "b"))


def test_a_variant_has_a_key_of_its_own() -> None:
    """It follows from the primary key, its verifier included, and from the values (bug 4)."""
    primary = key_of(b"body")
    twin = Key(primary.index, b"another verifier")

    keys = {
        derived_key(primary, "n", [[b"x-language", b"de"]]),
        derived_key(primary, "n", [[b"x-language", b"en"]]),
        derived_key(primary, "n", [[b"x-language"], [b"de"]]),
        derived_key(twin, "n", [[b"x-language", b"de"]]),
        primary,
    }

    assert len(keys) == len({key.index for key in keys}) == 5
    assert derived_key(primary, "n", []) == derived_key(primary, "n", [])


def test_a_partition_names_a_holder_and_hides_the_credential() -> None:
    """It needs the secret, and the lines' order is no part of it (bug 14, bug 18)."""
    one = [(b"authorization", b"Bearer s3cret"), (b"cookie", b"a=1")]

    partition = credential_partition(b"secret", one)

    assert partition == credential_partition(b"secret", reversed(one))
    assert partition != credential_partition(b"another", one)
    assert partition != credential_partition(b"secret", one[:1])
    assert partition != credential_partition(b"secret", [(b"authorizationBearer", b" s3cret")])
    assert b"s3cret" not in partition
    assert len(partition) == 32


# What a rule leaves out of a key.


def edited(body: Any, **options: Any) -> Any:
    return json.loads(canonical_json(json.dumps(body).encode(), Edits(**options)))


EDITS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "ignore": ({"id": 1, "x": 2}, {"ignore": ("/id",)}, {"x": 2}),
    "ignore-absent": ({"x": 2}, {"ignore": ("/id",)}, {"x": 2}),
    "ignore-nested": ({"m": {"id": 1, "x": 2}}, {"ignore": ("/m/id",)}, {"m": {"x": 2}}),
    "ignore-whole-object": ({"m": {"id": 1}}, {"ignore": ("/m",)}, {}),
    "ignore-in-array": ([{"id": 1}, {"id": 2}], {"ignore": ("/0/id",)}, [{}, {"id": 2}]),
    "ignore-element": ([1, 2, 3], {"ignore": ("/1",)}, [1, None, 3]),
    "ignore-past-the-end": ([1], {"ignore": ("/1",)}, [1]),
    "ignore-append": ([1], {"ignore": ("/-",)}, [1]),
    "ignore-name-in-array": ([1], {"ignore": ("/id",)}, [1]),
    "ignore-number-in-object": ({"0": 1, "x": 2}, {"ignore": ("/0",)}, {"x": 2}),
    "ignore-below-a-string": ({"a": "b"}, {"ignore": ("/a/b",)}, {"a": "b"}),
    "ignore-below-absent": ({"a": 1}, {"ignore": ("/b/c/d",)}, {"a": 1}),
    "ignore-in-scalar": (7, {"ignore": ("/a",)}, 7),
    "escaped-slash": ({"a/b": 1, "c": 2}, {"ignore": ("/a~1b",)}, {"c": 2}),
    "escaped-tilde": ({"a~b": 1, "c": 2}, {"ignore": ("/a~0b",)}, {"c": 2}),
    "escaped-tilde-then-1": ({"~1": 1, "/": 2}, {"ignore": ("/~01",)}, {"/": 2}),
    "empty-name": ({"": 1, "c": 2}, {"ignore": ("/",)}, {"c": 2}),
    "default-absent": ({}, {"defaults": {"/n": 1.0}}, {"n": 1.0}),
    "default-present": ({"n": 2}, {"defaults": {"/n": 1.0}}, {"n": 2}),
    "default-null": ({"n": None}, {"defaults": {"/n": 1.0}}, {"n": None}),
    "default-nested": ({"o": {}}, {"defaults": {"/o/n": 1}}, {"o": {"n": 1}}),
    "default-below-absent": ({}, {"defaults": {"/o/n": 1}}, {}),
    "default-below-default": ({}, {"defaults": {"/o": {}, "/o/n": 1}}, {"o": {"n": 1}}),
    "default-element": ([], {"defaults": {"/0": 1}}, []),
    "default-element-present": ([2], {"defaults": {"/0": 1}}, [2]),
    "ignored-then-default": ({"n": 2}, {"ignore": ("/n",), "defaults": {"/n": 1}}, {"n": 1}),
    "strip": ({"q": " a b "}, {"text": {"/q": ("strip",)}}, {"q": "a b"}),
    "collapse": ({"q": "a \n\t b"}, {"text": {"/q": ("collapse",)}}, {"q": "a b"}),
    "casefold": ({"q": "Straße"}, {"text": {"/q": ("casefold",)}}, {"q": "strasse"}),
    "nfc": ({"q": "e\u0301"}, {"text": {"/q": ("nfc",)}}, {"q": "\u00e9"}),
    "steps-in-order": ({"q": " A "}, {"text": {"/q": ("strip", "casefold")}}, {"q": "a"}),
    "text-of-a-default": ({}, {"defaults": {"/q": " A"}, "text": {"/q": ("strip",)}}, {"q": "A"}),
    "text-in-array": ([" a"], {"text": {"/0": ("strip",)}}, ["a"]),
    "text-of-a-number": ({"q": 1}, {"text": {"/q": ("strip",)}}, {"q": 1}),
    "text-absent": ({}, {"text": {"/q": ("strip",)}}, {}),
}


@pytest.mark.parametrize(("body", "options", "expected"), EDITS.values(), ids=EDITS.keys())
def test_edits_change_only_what_they_name(
    body: Any, options: dict[str, Any], expected: Any
) -> None:
    """Volatile fields leave the key, everything else stays in it (bug 12)."""
    assert shape(edited(body, **options)) == shape(expected)


@given(values, st.text("/~01ab", max_size=6))
def test_no_pointer_breaks_on_any_body(body: Any, pointer: str) -> None:
    """A body that is not as the rule's author thought is keyed all the same (bug 8)."""
    pointer = "/" + pointer.replace("~", "~0")

    changed = edited(
        body, ignore=(pointer,), defaults={pointer: []}, text={pointer: ("nfc", "strip")}
    )

    assert type(changed) is type(body)


def test_junk_fields_that_a_rule_ignores_mint_no_keys() -> None:
    """However many request ids come, there is one key (bug 13)."""
    edits = Edits(ignore=("/id",))

    spelled = {canonical_json(b'{"q":"a","id":%d}' % number, edits) for number in range(100)}

    assert spelled == {b'{"q":"a"}'}


def test_the_users_defaults_are_never_changed() -> None:
    """A later edit reaches into what an earlier one filled in, but not into the rule (bug 12)."""
    default = {"messages": [" A "], "id": 7}
    edits = Edits(defaults={"/o": default, "/o/n": 1}, text={"/o/messages/0": ("strip",)})

    first, second = canonical_json(b"{}", edits), canonical_json(b"{}", edits)

    assert first == second == b'{"o":{"id":7,"messages":["A"],"n":1}}'
    assert default == {"messages": [" A "], "id": 7}


def test_a_default_that_is_no_json_makes_a_body_unkeyable() -> None:
    with pytest.raises(UnkeyableBodyError, match="object"):
        canonical_json(b"{}", Edits(defaults={"/n": object()}))


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/a", True),
        ("/a/0/b", True),
        ("/", True),
        ("/a~0~1", True),
        ("", False),
        ("a", False),
        ("/a~", False),
        ("/a~2", False),
    ],
)
def test_a_pointer_names_a_part_of_a_document(pointer: str, expected: bool) -> None:
    assert is_json_pointer(pointer) is expected
