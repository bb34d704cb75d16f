# ruff: noqa: T201  (a script, whose report is what it prints)
"""Throw at the parsers whatever a client, an app or a store could send.

Run `python tests/fuzz.py --seconds 300`. Rounds of generated examples go over all properties in
turn until the time is up; the first example that breaks one is made small and printed.
"""

import argparse
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from memoserve._conditional import Answer, conditions_of, freshened, selected, validates
from memoserve._demands import demands_of
from memoserve._entry import Entry, VaryMarker, decode, encode
from memoserve._errors import CorruptEntryError, UnkeyableBodyError
from memoserve._fields import ALWAYS_KEYED, HeaderFilter, vary_values
from memoserve._keys import Edits, cache_key, canonical_json
from memoserve._policy import (
    Terms,
    read_head,
    replayable,
    sharing_of,
    storage_of,
    unreplayable_of,
    vary_of,
)

EXAMPLES = 200  # In one round of one property.

outcomes: Counter[str] = Counter()  # How often each of two ways was taken, since the import.

# What parsers have stumbled over, to be put anywhere in a text.
TOKENS = (
    b"-0", b"-0.0", b"1e400", b"1e-400", b"0.1", b"1.0", b"1", b"true", b"NaN", b"-Infinity",
    b"01", b"1e+16", b"1E-07", b"0.00001",
    b"18446744073709551616", b"9007199254740993", b"9" * 4400, b"1.00", b"1E5", b"null", b"[" * 300,
    b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"a":', b'"\\u0061":', b"{}", b"[]", b",",
    b":", b'"', b"\\", b"\\/", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x00",
    b" ", b"\n", b"\xe2\x80\xa8", b"{", b"}", b"]", b"//", b"'",
)  # fmt: skip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)
TEXTS = st.builds(
    lambda value, ascii_only, indent: json.dumps(
        value, ensure_ascii=ascii_only, indent=indent
    ).encode("utf-8", "surrogatepass"),
    VALUES,
    st.booleans(),
    st.none() | st.integers(0, 2),
)


@st.composite
def damaged(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> bytes:
    """Cut, double, flip and fill in, a few times."""
    body = draw(texts)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 9)))
        piece = body[start:end]
        filling = draw(
            st.sampled_from(TOKENS)
            | st.binary(max_size=3)
            | st.sampled_from([b"", piece * 2, bytes(octet ^ 1 for octet in piece)])
        )
        body = body[:start] + filling + body[end:]
    return body


BODIES = st.binary(max_size=200) | damaged(TEXTS)
POINTERS = st.lists(st.sampled_from(["", "0", "1", "a", "~0", "~1", "²"]), min_size=1).map(
    lambda tokens: "/" + "/".join(tokens)
)
EDITS = st.builds(
    Edits,
    ignore=st.lists(POINTERS, max_size=2).map(tuple),
    defaults=st.dictionaries(POINTERS, VALUES, max_size=2),
    text=st.dictionaries(
        POINTERS, st.lists(st.sampled_from(["nfc", "strip", "collapse", "casefold"])), max_size=2
    ),
)
FLOATS = st.floats(allow_nan=False)
PAIRS = st.tuples(st.binary(max_size=9), st.binary(max_size=9))
TAGS = st.tuples(st.text(st.characters(codec="utf-8"), max_size=9), st.binary(max_size=16))
ENTRIES = st.builds(
    Entry,
    verifier=st.binary(max_size=16),
    status=st.integers(100, 599),
    headers=st.lists(PAIRS, max_size=3).map(tuple),
    chunks=st.lists(st.binary(max_size=40), max_size=3).map(tuple),
    stored_at=FLOATS,
    initial_age=FLOATS,
    ttl=FLOATS,
    stale_while_revalidate=FLOATS,
    stale_if_error=FLOATS,
    may_be_stale=st.booleans(),
    cost=FLOATS,
    tokens=st.lists(st.binary(max_size=16), max_size=3).map(tuple),
    tags=st.lists(TAGS, max_size=3).map(tuple),
) | st.builds(
    VaryMarker, verifier=st.binary(max_size=16), names=st.lists(st.binary(max_size=9)).map(tuple)
)

DIRECTIVES = st.sampled_from(
    [
        b"max-age", b"S-Maxage", b"no-store", b"private", b"no-cache", b"only-if-cached", b"=",
        b'"', b",", b"\\", b" ", b"\t", b"-1", b"0", b"5", b"1.5", b"9" * 5000, b"*", b"accept",
        b"Thu, 01 Jan 1970 00:00:00 GMT", b"Mon, 99 Foo 2020", b"Thu, 01 Jan 99999 00:00:00 GMT",
        b"0001", b"-0000", b"\xff", b"chunked", b"application/json", b";charset=", b"utf-8", b"",
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        b"cache-control", b"Cache-Control", b"expires", b"date", b"age", b"vary", b"connection",
        b"set-cookie", b"access-control-allow-origin", b"content-type", b"content-encoding",
        b"authorization", b"x-api-key", b"range", b"if-none-match", b"retry-after",
    ]
)  # fmt: skip
HEADERS = st.lists(
    st.tuples(
        NAMES | st.binary(min_size=1, max_size=5),
        st.lists(DIRECTIVES | st.binary(max_size=4), max_size=6).map(b"".join),
    ),
    max_size=6,
)


def meaning(body: bytes) -> Any:
    """Say what a JSON text means, numbers of other digits, exponents and types kept apart."""
    return json.loads(
        body,
        object_pairs_hook=lambda pairs: ("object", sorted(pairs, key=lambda pair: pair[0])),
        parse_float=lambda text: ("float", Decimal(text).as_tuple()),
        parse_int=lambda text: ("integer", text),
    )


def canonical(body: bytes, edits: Edits | None = None) -> bytes | None:
    """Return the canonical form, None where there is none; anything else raised is a finding."""
    try:
        form = canonical_json(body, edits)
    except UnkeyableBodyError:
        outcomes["bodies refused"] += 1
        return None
    outcomes["bodies with a canonical form"] += 1
    return form


@given(BODIES)
def a_canonical_form_means_what_the_body_means(body: bytes) -> None:
    form = canonical(body)
    if form is not None:
        assert meaning(form) == meaning(body)
        assert canonical(form) == form


@given(BODIES, EDITS)
def edits_never_fail_and_never_undo_themselves(body: bytes, edits: Edits) -> None:
    form = canonical(body, edits)
    if form is not None:
        assert canonical(form) == form


@given(TEXTS, st.data())
def one_key_is_one_meaning(body: bytes, data: st.DataObject) -> None:
    other = data.draw(damaged(st.just(body)))
    keys, forms = [], []
    for each in (body, other):
        form = canonical(each)
        forms.append(each if form is None else meaning(form))
        pieces = [each] if form is None else [form]
        keys.append(cache_key("ns", ["part"], pieces, is_canonical=form is not None))
    assert (keys[0] == keys[1]) == (keys[0].index == keys[1].index) == (forms[0] == forms[1])


@given(st.lists(st.binary(max_size=50), max_size=4), st.integers(0, 3))
def a_body_in_pieces_has_the_key_of_the_whole(pieces: list[bytes], count: int) -> None:
    pieces = pieces + [b"x" * 30_000] * count
    whole = cache_key("ns", [], [b"".join(pieces)], is_canonical=False)
    assert cache_key("ns", [], pieces, is_canonical=False) == whole
    assert cache_key("ns", [], [b"".join(pieces)], is_canonical=True) != whole


def decoded(raw: bytes) -> Entry | VaryMarker | None:
    """Read an entry, None where it is none; anything else raised is a finding."""
    try:
        found = decode(raw)
    except CorruptEntryError:
        outcomes["entries corrupt"] += 1
        return None
    outcomes["entries read"] += 1
    return found


@given(ENTRIES)
def an_entry_is_read_as_it_was_written(entry: Entry | VaryMarker) -> None:
    raw = encode(entry)
    assert decoded(raw) == entry
    assert decoded(raw + b"\x00") is None
    assert decoded(raw[:-1]) is None


@given(st.binary(max_size=300) | damaged(ENTRIES.map(encode)))
def damaged_entries_are_corrupt_or_entries(raw: bytes) -> None:
    found = decoded(raw)
    if found is not None:
        assert decoded(encode(found)) == found or "nan" in repr(found)


@given(HEADERS, st.sampled_from([200, 304, 404, 503]), st.none() | st.floats(0.1, 1e6))
def no_header_makes_a_policy_fail(
    headers: list[tuple[bytes, bytes]], status: int, ttl: float | None
) -> None:
    head = read_head(status, headers, 1.7e9)
    terms = Terms(ttl=ttl, statuses=None, heuristic=0.1, is_validatable=True)
    storage = storage_of(head, terms, 1.7e9, delay=1.0)
    if storage is not None:
        assert 0 <= storage.ttl <= storage.kept_for < math.inf
        assert ttl is None or status != 200 or storage.ttl <= ttl
    sharing_of(head, is_authorized=True)
    unreplayable_of(head)
    values = [value for _, value in headers]
    demands_of(values, values).accepts(1.0, 1.0)
    asked = conditions_of(headers)
    part = selected(Answer(status, headers, (b"abc",), 1.7e9), asked, "GET", 1.7e9)
    assert part.status in {status, 206, 304, 416}
    freshened(headers, headers)
    validates(headers, headers)
    assert replayable(replayable(headers)) == replayable(headers)
    vary_values(headers, sorted(vary_of(headers)))


@given(HEADERS)
def every_line_of_a_keyed_field_is_kept(headers: list[tuple[bytes, bytes]]) -> None:
    fields = HeaderFilter([b"vary"], None).read({"headers": headers})
    for name, kept in zip((*ALWAYS_KEYED, b"vary"), fields.keyed, strict=True):
        lines = () if kept is None else (kept,) if isinstance(kept, bytes) else kept
        assert lines == tuple(value for key, value in headers if key.lower() == name)
    credentials = [value for _, value in fields.credentials]
    assert Counter(credentials) <= Counter(value for _, value in headers)


_bounded = settings(
    max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck), print_blob=False,
)  # fmt: skip

PROPERTIES: Sequence[Callable[[], None]] = (
    _bounded(a_canonical_form_means_what_the_body_means),
    _bounded(edits_never_fail_and_never_undo_themselves),
    _bounded(one_key_is_one_meaning),
    _bounded(a_body_in_pieces_has_the_key_of_the_whole),
    _bounded(an_entry_is_read_as_it_was_written),
    _bounded(damaged_entries_are_corrupt_or_entries),
    _bounded(no_header_makes_a_policy_fail),
    _bounded(every_line_of_a_keyed_field_is_kept),
)


def fuzz(seconds: float, start: int = 0) -> Counter[str]:
    """Go round the properties, at least once, until the time is up; count examples of each.

    Raises:
        Exception: What the first example that breaks a property raised; Hypothesis prints it.
    """
    ends = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    for round_number in itertools.count(start):
        for each in PROPERTIES:
            if round_number > start and time.monotonic() >= ends:
                return counts
            seed(round_number)(each)()
            counts[each.__name__] += EXAMPLES
    raise AssertionError("unreachable")


def main() -> None:
    """Fuzz for as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    arguments = parser.parse_args()
    counts = fuzz(arguments.seconds, arguments.seed)
    for name, count in (counts + outcomes).items():
        print(f"{count:>9}  {name.replace('_', ' ')}")
    print(f"{counts.total():>9}  examples, and none broke a property")


if __name__ == "__main__":
    main()
