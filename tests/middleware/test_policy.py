"""What HTTP allows a shared cache to do."""

import re
import time
from collections.abc import Iterator
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoserve._asgi import Header
from memoserve._policy import (
    BypassReason,
    Demands,
    Sharing,
    cache_control,
    cache_status_bypass,
    cache_status_hit,
    cache_status_miss,
    demands_of,
    forbids_storing,
    freshness_lifetime,
    is_server_failure,
    replayable,
    sharing_of,
    vary_of,
)

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def control(*lines: bytes) -> list[Header]:
    return [(b"Cache-Control", line) for line in lines]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b"no-store"], {b"no-store": None}, id="one"),
        pytest.param([b"No-Store, MAX-AGE=5"], {b"no-store": None, b"max-age": b"5"}, id="case"),
        pytest.param(
            [b"private", b"max-age=5"], {b"private": None, b"max-age": b"5"}, id="several-lines"
        ),
        pytest.param([b" a = 1 ,, ,b"], {b"a": b"1", b"b": None}, id="loose-spacing"),
        pytest.param([b'max-age="5"'], {b"max-age": b"5"}, id="quoted"),
        pytest.param([b'a="x, no-store, \\" y", b'], {b"a": b'x, no-store, " y', b"b": None},
                     id="comma-in-quotes"),
        pytest.param([b'a="'], {b"a": b'"'}, id="lone-quote"),
        pytest.param([b'a="x, no-store'], {b"a": b'"x', b"no-store": None}, id="unclosed-quote"),
        pytest.param([b"max-age=5, max-age=3"], {b"max-age": b"3"}, id="smaller-of-two"),
        pytest.param([b"max-age=5, max-age=10"], {b"max-age": b"5"}, id="smaller-not-shorter"),
        pytest.param([b"max-age=5, max-age"], {b"max-age": None}, id="bare-after-argument"),
        pytest.param([b"no-cache, no-cache=x"], {b"no-cache": None}, id="bare-before-argument"),
        pytest.param([b"max-age=5, max-age=x"], {b"max-age": b"5,x"}, id="number-and-junk"),
        pytest.param([b"=5"], {}, id="no-name"),
        pytest.param([], {}, id="none"),
    ],
)  # fmt: skip
def test_cache_control_is_read_directive_by_directive(
    lines: list[bytes], expected: dict[bytes, bytes | None]
) -> None:
    """Not as one string, and of two values the stricter one holds (bug 51)."""
    assert cache_control(lines) == expected


@given(st.lists(st.text('abz-=",\\ 015').map(str.encode), max_size=3))
def test_no_cache_control_breaks_anything_or_hides_no_store(lines: list[bytes]) -> None:
    """What stands in a line of its own holds, however broken the line after it is (bug 51)."""
    assert b"no-store" in cache_control([b"no-store", *lines])


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(200, control(b"no-store"), id="no-store"),
        pytest.param(200, control(b"max-age=60, Private"), id="private"),
        pytest.param(200, control(b'private="x-field"'), id="private-field"),
        pytest.param(200, [(b"Set-Cookie", b"a=1")], id="set-cookie"),
        pytest.param(200, [(b"vary", b"accept, *")], id="vary-star"),
        *(
            pytest.param(status, [], id=f"{status}")
            for status in (101, 206, 304, 401, 403, 407, 421, 429)
        ),
    ],
)
def test_a_personal_answer_is_for_its_asker(status: int, headers: list[Header]) -> None:
    """Cookies, partial content and refusals go to nobody else (bug 14, bug 16, bug 30, bug 51)."""
    assert sharing_of(status, headers) is Sharing.LEADER


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(200, [], id="plain"),
        pytest.param(200, control(b"public, max-age=60"), id="public"),
        pytest.param(200, control(b"no-cache"), id="no-cache"),
        pytest.param(200, [(b"vary", b"accept")], id="vary"),
        pytest.param(404, [], id="not-found"),
        pytest.param(422, [], id="wrong-question"),
    ],
)
def test_any_other_answer_is_for_all_who_ask_the_same(status: int, headers: list[Header]) -> None:
    assert sharing_of(status, headers) is Sharing.ALL


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([], set(), id="none"),
        pytest.param([(b"Vary", b"Accept, X-Lang"), (b"vary", b"a,,")],
                     {b"accept", b"x-lang", b"a"}, id="lines"),
        pytest.param([(b"access-control-allow-origin", b"*")], set(), id="any-origin"),
        pytest.param([(b"Access-Control-Allow-Origin", b"https://a")], {b"origin"}, id="origin"),
        pytest.param([(b"access-control-allow-origin", b"null")], {b"origin"}, id="null-origin"),
    ],
)  # fmt: skip
def test_an_answer_varies_by_what_it_names_and_by_the_origin_it_allows(
    headers: list[Header], expected: set[bytes]
) -> None:
    """An origin that is allowed without a Vary must not reach another one (bug 16)."""
    assert vary_of(headers) == expected


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (500, [], True),
        (502, [], True),
        (503, [], True),
        (503, [(b"Retry-After", b"1")], False),
        (500, [(b"retry-after", b"1")], True),
        (499, [], False),
        (200, [], False),
    ],
)
def test_a_failure_is_what_another_try_may_mend(
    status: int, headers: list[Header], expected: bool
) -> None:
    assert is_server_failure(status, headers) is expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"no-store", True),
        (b"no-cache", True),
        (b"private", True),
        (b'no-cache="set-cookie"', True),
        (b"max-age=5, NO-CACHE", True),
        (b"max-age=5", False),
        (b'x="no-store"', False),
        (b"x-no-store", False),
        (b"must-revalidate", False),
    ],
)
def test_what_must_be_fetched_anew_is_not_stored(line: bytes, expected: bool) -> None:
    """bug 51."""
    assert forbids_storing(control(line)) is expected


EXPIRES_IN_60 = (b"expires", b"Tue, 14 Nov 2023 22:14:20 GMT")
DATE = (b"date", b"Tue, 14 Nov 2023 22:13:50 GMT")  # Half a minute before that.

LIFETIMES: dict[str, tuple[list[Header], float]] = {
    "nothing-granted": ([], 300),
    "max-age": (control(b"max-age=60"), 60),
    "longer-max-age": (control(b"max-age=600"), 300),
    "max-age-0": (control(b"max-age=0"), 0),
    "s-maxage-wins": (control(b"max-age=60, s-maxage=7"), 7),
    "s-maxage-0-wins": (control(b"max-age=60, s-maxage=0"), 0),
    "two-max-ages": (control(b"max-age=60", b"max-age=5"), 5),
    "less-its-age": ([*control(b"max-age=60"), (b"Age", b"20")], 40),
    "older-than-max-age": ([*control(b"max-age=60"), (b"age", b"61")], 0),
    "malformed-age": ([*control(b"max-age=60"), (b"age", b"-5")], 60),
    "max-age-without-argument": (control(b"max-age"), 0),
    "negative-max-age": (control(b"max-age=-5"), 0),
    "fractional-max-age": (control(b"max-age=5.5"), 0),
    "signed-max-age": (control(b"max-age=+5"), 0),
    "spelled-max-age": (control(b"max-age=soon"), 0),
    "other-digits": (control("max-age=\u0665".encode()), 0),
    "leading-zeros": (control(b"max-age=" + b"0" * 20 + b"60"), 60),
    "huge-max-age": (control(b"max-age=" + b"9" * 5000), 300),
    "expires": ([EXPIRES_IN_60], 60),
    "expires-by-date": ([EXPIRES_IN_60, DATE], 30),
    "expires-by-bad-date": ([EXPIRES_IN_60, (b"date", b"today")], 0),
    "expires-less-age": ([EXPIRES_IN_60, (b"age", b"20")], 40),
    "max-age-before-expires": ([EXPIRES_IN_60, *control(b"max-age=5")], 5),
    "expired": ([(b"expires", b"Tue, 14 Nov 2023 22:13:19 GMT")], 0),
    "expires-0": ([(b"expires", b"0")], 0),
    "expires-minus-1": ([(b"expires", b"-1")], 0),
    "expires-empty": ([(b"expires", b"")], 0),
    "expires-in-asctime": ([(b"expires", b"Tue Nov 14 22:14:20 2023")], 60),
    "expires-in-rfc-850": ([(b"expires", b"Tuesday, 14-Nov-23 22:14:20 GMT")], 60),
    "expires-in-year-99999": ([(b"expires", b"Tue, 14 Nov 99999 22:14:20 GMT")], 0),
}


@pytest.fixture
def far_from_greenwich() -> Iterator[None]:
    """Let the server stand where the clocks show another time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC+5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
@pytest.mark.parametrize(("headers", "expected"), LIFETIMES.values(), ids=LIFETIMES.keys())
def test_a_grant_shortens_the_ttl_and_never_lengthens_it(
    headers: list[Header], expected: float
) -> None:
    """RFC 9111 §4.2.1, wherever the server stands (bug 48, bug 51, bug 55)."""
    assert freshness_lifetime(200, headers, 300, NOW) == expected


@pytest.mark.parametrize(
    ("status", "ttl", "headers", "expected"),
    [
        pytest.param(200, None, [], 0, id="no-ttl"),
        pytest.param(200, None, control(b"max-age=600"), 600, id="no-ttl-granted"),
        pytest.param(200, None, control(b"max-age=" + b"9" * 30), 2**31, id="no-ttl-huge"),
        pytest.param(200, None, [*control(b"max-age=5"), (b"age", b"9")], 0, id="no-ttl-aged"),
        pytest.param(404, 300.0, [], 0, id="404"),
        pytest.param(404, 300.0, control(b"max-age=600"), 600, id="404-granted"),
        pytest.param(301, 300.0, control(b"max-age=0"), 0, id="301-refused"),
        pytest.param(200, 0.25, [], 0.25, id="below-a-second"),
    ],
)
def test_without_a_ttl_and_for_other_statuses_only_the_grant_counts(
    status: int, ttl: float | None, headers: list[Header], expected: float
) -> None:
    """A ttl is kept to the fraction, and errors are not stored on their own (bug 48, bug 49)."""
    assert freshness_lifetime(status, headers, ttl, NOW) == expected


@given(st.binary(max_size=30) | st.text(" ,:0123456789GMTNovue+-", max_size=30).map(str.encode))
def test_no_date_breaks_anything(value: bytes) -> None:
    assert 0 <= freshness_lifetime(200, [(b"expires", value)], 300, NOW) <= 300


@pytest.mark.parametrize(
    "name",
    [
        b"Set-Cookie", b"date", b"Age", b"X-Request-ID", b"traceparent", b"tracestate",
        b"X-RateLimit-Remaining", b"x-rate-limit-reset", b"RateLimit", b"RateLimit-Policy",
        b"server-timing", b"x-process-time", b"cf-ray", b"openai-processing-ms", b"x-b3-traceid",
        b"cache-status", b"connection", b"Keep-Alive", b"transfer-encoding", b"trailer", b"upgrade",
    ],
)  # fmt: skip
def test_what_describes_one_exchange_is_not_replayed(name: bytes) -> None:
    """bug 16, bug 18."""
    assert replayable([(name, b"1")]) == ()


def test_what_connection_names_is_not_replayed() -> None:
    headers = [(b"Connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"x-end", b"2")]

    assert replayable(headers) == ((b"x-end", b"2"),)


def test_what_belongs_to_the_answer_is_replayed_in_order() -> None:
    """Lines of one name stay several lines, and colons mean nothing (bug 32, bug 55)."""
    headers = [
        (b"Content-Type", b"application/json"), (b"Link", b"<a>; rel=x"), (b"ETag", b'W/"a:b"'),
        (b"link", b"<b>"), (b"content-length", b"2"), (b"vary", b"accept"), (b"x-b", b"\xff\x00"),
        (b"expires", b"0"), (b"last-modified", b"x"), (b"cache-control", b"max-age=5"),
    ]  # fmt: skip

    assert replayable(headers) == tuple((name.lower(), value) for name, value in headers)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (cache_status_hit(299), b"hit; ttl=299"),
        (cache_status_hit(0), b"hit; ttl=0"),
        (cache_status_hit(-30), b"hit; ttl=-30"),
        (cache_status_miss(is_forced=False, is_collapsed=False, status=200), b"fwd=miss"),
        (cache_status_miss(is_forced=True, is_collapsed=False, status=404), b"fwd=request"),
        (cache_status_miss(is_forced=False, is_collapsed=True, status=200), b"fwd=miss; collapsed"),
        (
            cache_status_miss(is_forced=False, is_collapsed=True, status=500),
            b"fwd=miss; fwd-status=500; collapsed",
        ),
        (cache_status_bypass("too-large"), b"fwd=bypass; detail=too-large"),
    ],
)
def test_cache_status_says_what_happened(header: Header, expected: bytes) -> None:
    """RFC 9211; a stale answer is never said to be fresh."""
    assert header == (b"cache-status", b"memoserve; " + expected)


def test_every_reason_is_a_token() -> None:
    """So it needs no quotes in a field, and has no room for what a client sent (bug 18)."""
    assert all(re.fullmatch("[a-z-]+", reason) for reason in get_args(BypassReason))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], Demands()),
        ([b"no-store"], Demands(no_store=True)),
        ([b"No-Cache", b"only-if-cached"], Demands(no_cache=True, only_if_cached=True)),
        ([b"max-age=0"], Demands(max_age=0.0)),
        ([b"max-age=x"], Demands(max_age=0.0)),
        ([b"min-fresh=5"], Demands()),
    ],
)
def test_demands_are_read_from_cache_control(lines: list[bytes], expected: Demands) -> None:
    """bug 51."""
    assert demands_of(lines) == expected


@pytest.mark.parametrize(
    ("max_age", "age", "expected"),
    [(None, 1e9, True), (0.0, 0.0, True), (0.0, 0.1, False), (5.0, 5.0, True), (5.0, 5.1, False)],
)
def test_an_answer_of_the_age_asked_for_will_do(
    max_age: float | None, age: float, expected: bool
) -> None:
    assert Demands(max_age=max_age).accepts_age(age) is expected
