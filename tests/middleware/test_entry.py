"""A stored response comes back as it was, or not at all."""

import json
import pickle
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoserve._entry import Entry, VaryMarker, decode, encode
from memoserve._errors import CorruptEntryError, StoreError

pairs = st.tuples(st.binary(max_size=8), st.binary(max_size=8))
floats = st.floats(allow_nan=False)
entries = st.builds(
    Entry,
    verifier=st.binary(min_size=16, max_size=16),
    status=st.integers(200, 599),
    headers=st.lists(pairs, max_size=4).map(tuple),
    chunks=st.lists(st.binary(max_size=40), max_size=4).map(tuple),
    stored_at=floats,
    initial_age=floats,
    ttl=floats,
    stale_while_revalidate=floats,
    stale_if_error=floats,
    may_be_stale=st.booleans(),
    cost=floats,
    tokens=st.lists(st.binary(max_size=16), max_size=3).map(tuple),
    tags=st.lists(
        st.tuples(st.text(string.printable, max_size=8), st.binary(max_size=16)), max_size=3
    ).map(tuple),
)
markers = st.builds(
    VaryMarker, verifier=st.binary(max_size=16), names=st.lists(st.binary(max_size=8)).map(tuple)
)

ENTRY = Entry(
    verifier=b"v" * 16,
    status=200,
    headers=((b"content-type", b"image/png"), (b"link", b"<a>; rel=x"), (b"link", b"a:b")),
    chunks=(b"\x89PNG\r\n\x00\xff", b"", b"data: \xf0\x9f"),
    stored_at=1_700_000_000.25,
    initial_age=0.0,
    ttl=300.0,
    stale_while_revalidate=0.0,
    stale_if_error=60.0,
    may_be_stale=True,
    cost=0.125,
    tokens=(b"e" * 16, b"r" * 16),
    tags=(("memoserve:tag:ab", b"t" * 16),),
)
RAW = encode(ENTRY)


@given(entries | markers)
def test_what_was_written_is_read_back(item: Entry | VaryMarker) -> None:
    """Every byte of a body, every piece and every line of headers (bug 25, bug 32)."""
    assert decode(encode(item)) == item


def test_binary_bodies_and_odd_headers_survive() -> None:
    """No text is made of them, and no delimiter ends them (bug 32)."""
    found = decode(RAW)

    assert isinstance(found, Entry)
    assert found.chunks == ENTRY.chunks
    assert found.headers == ENTRY.headers


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(RAW[:10], id="cut-in-the-version"),
        pytest.param(RAW.replace(b"memoserve/2", b"memoserve/1"), id="older-version"),
        pytest.param(RAW.replace(b"memoserve/2", b"memoserve/3"), id="newer-version"),
        pytest.param(b"1", id="a-lock"),
        pytest.param(b"t" * 16, id="a-token"),
        pytest.param(json.dumps({"status": 200}).encode(), id="json"),
        pytest.param(RAW[1:], id="without-its-head"),
        pytest.param(RAW + b"\x00", id="trailing-byte"),
        pytest.param(b"\xc0", id="nil"),
        pytest.param(RAW.replace(b" answer", b" ANSWER"), id="unknown-kind"),
        pytest.param(RAW.replace(b"tag:ab", b"tag:\xff\xff"), id="tag-of-invalid-utf-8"),
        pytest.param(b"\x91" * 100_000 + b"\xc0", id="deep"),
    ],
)
def test_what_is_no_entry_of_this_version_is_corrupt(raw: bytes) -> None:
    """A store may hold other software's values, and ours of another day (bug 17)."""
    with pytest.raises(CorruptEntryError):
        decode(raw)


@pytest.mark.parametrize("item", [ENTRY, VaryMarker(b"v", (b"x-lang",))], ids=["entry", "marker"])
def test_an_entry_that_was_cut_is_corrupt_wherever_it_was(item: Entry | VaryMarker) -> None:
    """bug 17, bug 24."""
    raw = encode(item)

    for length in range(len(raw)):
        with pytest.raises(CorruptEntryError):
            decode(raw[:length])


@given(st.data())
def test_damaged_bytes_raise_nothing_else(data: st.DataObject) -> None:
    """Not even where the damage makes text of no encoding or other types (bug 17)."""
    raw = bytearray(RAW)
    for place in data.draw(st.lists(st.integers(0, len(RAW) - 1), min_size=1, max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))

    try:
        found = decode(bytes(raw))
    except CorruptEntryError:
        return

    assert isinstance(found, Entry | VaryMarker)


class _Bomb:
    """Runs code in whoever unpickles it."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("an entry was unpickled",))


@pytest.mark.parametrize("magic", [b"", RAW[:10]], ids=["bare", "with-magic"])
def test_nothing_is_ever_unpickled(magic: bytes) -> None:
    """Else who can write to the store runs code in the server (bug 17)."""
    with pytest.raises(CorruptEntryError):
        decode(magic + pickle.dumps(_Bomb()))


def test_a_corrupt_entry_is_a_store_error() -> None:
    """So whoever takes a failing store for a miss takes this for one."""
    assert issubclass(CorruptEntryError, StoreError)


def test_users_callables_see_the_response_and_its_age() -> None:
    response = ENTRY.response(ENTRY.stored_at + 5)

    assert (response.status, response.headers, response.chunks) == (
        ENTRY.status, ENTRY.headers, ENTRY.chunks,
    )  # fmt: skip
    assert (response.cost, response.age) == (0.125, 5)


def test_an_entry_from_a_clock_that_is_ahead_is_new() -> None:
    """Clocks of hosts differ a little; no age is negative (bug 48, bug 55)."""
    assert ENTRY.response(ENTRY.stored_at - 5).age == 0
