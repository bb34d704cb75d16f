"""Conditions and ranges, answered from what is stored (RFC 9110 §13, §14)."""

import pytest

from memoserve._asgi import Header
from memoserve._conditional import (
    Answer,
    Conditions,
    conditions_of,
    entity_tag,
    freshened,
    selected,
    validates,
    validators_of,
)

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
ETAG = (b"etag", b'"a"')
MODIFIED = (b"last-modified", b"Tue, 14 Nov 2023 22:00:00 GMT")
BODY = b"0123456789"


def answer(*headers: Header, status: int = 200, chunks: tuple[bytes, ...] = (BODY,)) -> Answer:
    return Answer(status, [(b"content-type", b"text/plain"), *headers], chunks, NOW)


def status_for(stored: Answer, conditions: Conditions, method: str = "GET") -> int:
    return selected(stored, conditions, method, NOW).status


@pytest.mark.parametrize(
    ("if_none_match", "etag", "expected"),
    [
        pytest.param(b'"a"', b'"a"', 304, id="same"),
        pytest.param(b'"b"', b'"a"', 200, id="other"),
        pytest.param(b'"b", "a"', b'"a"', 304, id="one-of-several"),
        pytest.param(b'W/"a"', b'"a"', 304, id="weak-for-strong"),
        pytest.param(b'"a"', b'W/"a"', 304, id="strong-for-weak"),
        pytest.param(b'"a,b"', b'"a,b"', 304, id="comma-in-a-tag"),
        pytest.param(b'"a,b"', b'"a', 200, id="half-a-tag"),
        pytest.param(b"*", b'"a"', 304, id="any"),
        pytest.param(b"a", b'"a"', 200, id="unquoted"),
        pytest.param(b"", b'"a"', 200, id="empty"),
    ],
)
def test_who_has_the_answer_already_is_told_so(
    if_none_match: bytes, etag: bytes, expected: int
) -> None:
    """RFC 9110 §13.1.2, by weak comparison (bug 55)."""
    stored = answer((b"etag", etag))

    assert status_for(stored, Conditions(if_none_match=if_none_match)) == expected


def test_an_answer_without_a_tag_matches_any_and_no_other() -> None:
    assert status_for(answer(), Conditions(if_none_match=b"*")) == 304
    assert status_for(answer(), Conditions(if_none_match=b'"a"')) == 200


@pytest.mark.parametrize(
    ("since", "headers", "expected"),
    [
        pytest.param(b"Tue, 14 Nov 2023 22:00:00 GMT", [MODIFIED], 304, id="same"),
        pytest.param(b"Tue, 14 Nov 2023 22:00:01 GMT", [MODIFIED], 304, id="later"),
        pytest.param(b"Tue, 14 Nov 2023 21:59:59 GMT", [MODIFIED], 200, id="earlier"),
        pytest.param(b"yesterday", [MODIFIED], 200, id="no-date"),
        pytest.param(b"Tue, 14 Nov 2023 22:13:20 GMT", [], 304, id="as-old-as-the-answer"),
        pytest.param(b"Tue, 14 Nov 2023 22:13:19 GMT", [], 200, id="older-than-the-answer"),
        pytest.param(
            b"Tue, 14 Nov 2023 22:00:00 GMT", [(b"last-modified", b"x")], 200, id="unreadable"
        ),
    ],
)
def test_a_date_is_a_condition_too(since: bytes, headers: list[Header], expected: int) -> None:
    """RFC 9110 §13.1.3."""
    assert status_for(answer(*headers), Conditions(if_modified_since=since)) == expected


def test_a_tag_stands_in_for_a_date() -> None:
    """RFC 9110 §13.2.2."""
    later = b"Tue, 14 Nov 2023 23:00:00 GMT"

    conditions = Conditions(if_none_match=b'"b"', if_modified_since=later)

    assert status_for(answer(ETAG, MODIFIED), conditions) == 200


def test_only_a_200_becomes_a_304_or_a_206() -> None:
    stored = answer(ETAG, status=404)

    assert status_for(stored, Conditions(if_none_match=b'"a"', range=b"bytes=0-1")) == 404


def test_a_304_has_the_fields_that_update_what_the_client_has() -> None:
    """RFC 9110 §15.4.5."""
    headers = (
        ETAG, (b"vary", b"accept"), (b"cache-control", b"max-age=5"), (b"content-location", b"/a"),
        (b"content-length", b"10"), (b"content-encoding", b"gzip"), (b"x-a", b"1"),
    )  # fmt: skip

    unchanged = selected(answer(*headers), Conditions(if_none_match=b"*"), "GET", NOW)

    kept = [name for name, _ in unchanged.headers]
    assert kept == [b"etag", b"vary", b"cache-control", b"content-location", b"x-a"]
    assert not unchanged.chunks


RANGES = {
    "first": (b"bytes=0-1", 206, b"01", b"bytes 0-1/10"),
    "from": (b"bytes=7-", 206, b"789", b"bytes 7-9/10"),
    "past-the-end": (b"bytes=8-99", 206, b"89", b"bytes 8-9/10"),
    "last": (b"bytes=-3", 206, b"789", b"bytes 7-9/10"),
    "last-of-more-than-there-is": (b"bytes=-99", 206, BODY, b"bytes 0-9/10"),
    "spaces-and-case": (b" Bytes = 0 - 1 ", 206, b"01", b"bytes 0-1/10"),
    "beyond": (b"bytes=10-", 416, b"", b"bytes */10"),
    "last-of-none": (b"bytes=-0", 416, b"", b"bytes */10"),
    "backwards": (b"bytes=3-1", 200, BODY, None),
    "several": (b"bytes=0-1,3-4", 200, BODY, None),
    "empty": (b"bytes=-", 200, BODY, None),
    "other-unit": (b"lines=0-1", 200, BODY, None),
    "no-number": (b"bytes=a-b", 200, BODY, None),
    "endless-number": (b"bytes=" + b"9" * 5000 + b"-", 200, BODY, None),
}


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"), RANGES.values(), ids=RANGES.keys()
)
def test_a_part_of_a_whole_answer(
    wanted: bytes, status: int, body: bytes, content_range: bytes | None
) -> None:
    """RFC 9110 §14.2: one range, or all of it (bug 30)."""
    stored = answer((b"content-length", b"10"), chunks=(b"0123", b"456789"))

    part = selected(stored, Conditions(range=wanted), "GET", NOW)

    assert (part.status, b"".join(part.chunks)) == (status, body)
    assert dict(part.headers).get(b"content-range") == content_range
    assert dict(part.headers)[b"content-length"] == b"%d" % len(body)


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [
        pytest.param(b'"a"', 206, id="same-tag"),
        pytest.param(b'"b"', 200, id="other-tag"),
        pytest.param(b'W/"a"', 200, id="weak-tag"),
        pytest.param(MODIFIED[1], 206, id="same-date"),
        pytest.param(b"Tue, 14 Nov 2023 22:00:01 GMT", 200, id="other-date"),
    ],
)
def test_a_part_is_of_the_bytes_that_the_client_has(if_range: bytes, expected: int) -> None:
    """RFC 9110 §13.1.5, by strong comparison (bug 30)."""
    conditions = Conditions(range=b"bytes=0-1", if_range=if_range)

    assert status_for(answer(ETAG, MODIFIED), conditions) == expected


@pytest.mark.parametrize("method", ["POST", "QUERY"])
def test_a_range_means_nothing_to_other_methods(method: str) -> None:
    """RFC 9110 §14.2."""
    assert status_for(answer(), Conditions(range=b"bytes=0-1"), method) == 200


def test_a_head_gets_the_head_of_the_whole_answer() -> None:
    """bug 30."""
    head = selected(answer(chunks=(b"ab", b"c")), Conditions(range=b"bytes=0-0"), "HEAD", NOW)

    assert (head.status, list(head.chunks)) == (200, [])
    assert dict(head.headers)[b"content-length"] == b"3"


def test_conditions_on_several_lines_are_one_list() -> None:
    headers = [(b"If-None-Match", b'"a"'), (b"x", b"y"), (b"if-none-match", b'"b"')]

    assert conditions_of(headers) == Conditions(if_none_match=b'"a", "b"')


def test_a_stored_answer_is_validated_by_what_it_has() -> None:
    """RFC 9111 §4.3.1."""
    assert validators_of([ETAG, MODIFIED, (b"etag", b'"second"')]) == [
        (b"if-none-match", b'"a"'),
        (b"if-modified-since", MODIFIED[1]),
    ]


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        pytest.param([], True, id="no-tag"),
        pytest.param([(b"ETag", b'"a"')], True, id="same"),
        pytest.param([(b"etag", b'W/"a"')], True, id="weak"),
        pytest.param([(b"etag", b'"b"')], False, id="other"),
    ],
)
def test_a_304_speaks_of_the_answer_that_it_names(update: list[Header], expected: bool) -> None:
    """RFC 9111 §4.3.4."""
    assert validates([ETAG], update) is expected


def test_a_304_replaces_fields_but_those_of_the_body() -> None:
    """RFC 9111 §3.2."""
    stored = [
        (b"content-type", b"text/plain"), (b"content-length", b"10"), ETAG, (b"x-a", b"1"),
        (b"x-b", b"1"), (b"x-b", b"2"), (b"age", b"7"), (b"date", b"then"),
    ]  # fmt: skip
    update = [
        (b"Content-Length", b"0"), (b"X-B", b"3"), (b"Cache-Control", b"max-age=9"),
        (b"Date", b"now"), (b"content-encoding", b"gzip"),
    ]  # fmt: skip

    assert freshened(stored, update) == [
        (b"content-type", b"text/plain"), (b"content-length", b"10"), ETAG, (b"x-a", b"1"),
        (b"x-b", b"3"), (b"cache-control", b"max-age=9"), (b"date", b"now"),
    ]  # fmt: skip


def test_a_made_tag_is_of_the_bytes_alone() -> None:
    """Equal in every process, however the app cut the body (bug 11)."""
    assert (
        entity_tag([b"ab", b"c"]) == entity_tag([b"abc"]) == b'"cf4ab791c62b8d2b2109c90275287816"'
    )
    assert entity_tag([b"abd"]) != entity_tag([b"abc"])
