"""What HTTP allows a shared cache to do."""

import re
import time
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoserve._asgi import Header
from memoserve._cache_status import (
    BypassReason,
    cache_status_bypass,
    cache_status_hit,
    cache_status_miss,
)
from memoserve._demands import Demands, demands_of
from memoserve._policy import (
    PLAIN_HEAD,
    Sharing,
    Storage,
    Terms,
    is_server_failure,
    read_head,
    replayable,
    sharing_of,
    storage_of,
    vary_of,
)

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def sharing(status: int, headers: list[Header], **terms: bool) -> Sharing:
    return sharing_of(read_head(status, headers, NOW), **terms)


def storage(
    status: int, headers: list[Header], ttl: float | None = 300.0, **terms: Any
) -> Storage | None:
    """Decide on an answer of any status that has come at once."""
    terms = {"statuses": range(200, 600), **terms}
    return storage_of(read_head(status, headers, NOW), Terms(ttl=ttl, **terms), NOW)


def lifetime(status: int, headers: list[Header], ttl: float | None) -> float:
    found = storage(status, headers, ttl)
    return 0.0 if found is None else found.ttl


def control(*lines: bytes) -> list[Header]:
    return [(b"Cache-Control", line) for line in lines]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(200, control(b"no-store"), id="no-store"),
        pytest.param(200, control(b"max-age=60, Private"), id="private"),
        pytest.param(299, control(b"max-age=60, must-understand"), id="not-understood"),
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
    assert sharing(status, headers) is Sharing.LEADER


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(200, [], id="plain"),
        pytest.param(200, control(b"public, max-age=60"), id="public"),
        pytest.param(200, control(b"no-cache"), id="no-cache"),
        pytest.param(200, control(b'private="x-field"'), id="private-field"),
        pytest.param(200, control(b"no-store, must-understand"), id="understood"),
        pytest.param(200, [(b"vary", b"accept")], id="vary"),
        pytest.param(404, [], id="not-found"),
        pytest.param(422, [], id="wrong-question"),
    ],
)
def test_any_other_answer_is_for_all_who_ask_the_same(status: int, headers: list[Header]) -> None:
    assert sharing(status, headers) is Sharing.ALL


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
        (b"no-cache", True),
        (b"max-age=5, NO-CACHE", True),
        (b'no-cache="set-cookie"', False),
        (b"max-age=5", False),
        (b'x="no-cache"', False),
        (b"x-no-cache", False),
        (b"must-revalidate", False),
    ],
)
def test_what_must_be_fetched_anew_is_not_stored(line: bytes, expected: bool) -> None:
    """Unless the app can be asked whether it still holds (bug 51)."""
    headers = control(line)
    validatable = [*headers, (b"etag", b'"a"')]

    asked = storage(200, validatable, is_validatable=True)

    assert (storage(200, headers) is None) is expected
    assert asked is not None
    assert (asked.ttl == 0) is expected
    assert asked.kept_for >= 600


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
    "expires-by-bad-date": ([EXPIRES_IN_60, (b"date", b"today")], 60),
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
    assert lifetime(200, headers, 300) == expected


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
    assert lifetime(status, headers, ttl) == expected


@given(st.binary(max_size=30) | st.text(" ,:0123456789GMTNovue+-", max_size=30).map(str.encode))
def test_no_date_breaks_anything(value: bytes) -> None:
    assert 0 <= lifetime(200, [(b"expires", value)], 300) <= 300


@pytest.mark.parametrize(
    "name",
    [
        b"Set-Cookie", b"date", b"Age", b"X-Request-ID", b"traceparent", b"tracestate",
        b"X-RateLimit-Remaining", b"x-rate-limit-reset", b"RateLimit", b"RateLimit-Policy",
        b"server-timing", b"x-process-time", b"cf-ray", b"openai-processing-ms", b"x-b3-traceid",
        b"X-BentoML-Request-ID", b"X-BentoML-Trace-ID",
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
        (cache_status_miss("miss", 200, is_collapsed=False), b"fwd=miss"),
        (cache_status_miss("request", 404, is_collapsed=False), b"fwd=request"),
        (cache_status_miss("stale", 304, is_collapsed=False), b"fwd=stale; fwd-status=304"),
        (cache_status_miss("miss", 200, is_collapsed=True), b"fwd=miss; collapsed"),
        (
            cache_status_miss("miss", 500, is_collapsed=True),
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
        ([b"min-fresh=5"], Demands(min_fresh=5.0)),
        ([b"max-stale=5"], Demands(max_stale=5.0)),
        ([b"max-stale"], Demands(max_stale=2.0**31)),
    ],
)
def test_demands_are_read_from_cache_control(lines: list[bytes], expected: Demands) -> None:
    """RFC 9111 §5.2.1 (bug 51)."""
    assert demands_of(lines) == expected


@pytest.mark.parametrize(
    ("lines", "pragma", "expected"),
    [
        pytest.param([], [b"no-cache"], True, id="alone"),
        pytest.param([], [b"x, No-Cache"], True, id="in-a-list"),
        pytest.param([], [b"foo"], False, id="something-else"),
        pytest.param([b"max-age=5"], [b"no-cache"], False, id="beside-cache-control"),
    ],
)
def test_pragma_stands_in_for_cache_control(
    lines: list[bytes], pragma: list[bytes], *, expected: bool
) -> None:
    """RFC 9111 §5.4."""
    assert demands_of(lines, pragma).no_cache is expected


@pytest.mark.parametrize(
    ("demands", "age", "fresh_for", "expected"),
    [
        (Demands(), 1e9, 1.0, True),
        (Demands(max_age=0.0), 0.0, 1.0, True),
        (Demands(max_age=0.0), 0.1, 1.0, False),
        (Demands(max_age=5.0), 5.0, 1.0, True),
        (Demands(max_age=5.0), 5.1, 1.0, False),
        (Demands(min_fresh=5.0), 1.0, 5.0, True),
        (Demands(min_fresh=5.0), 1.0, 4.9, False),
    ],
)
def test_a_fresh_answer_will_do_or_not(
    demands: Demands, age: float, fresh_for: float, *, expected: bool
) -> None:
    assert demands.accepts(age, fresh_for) is expected


@pytest.mark.parametrize(
    ("demands", "age", "fresh_for", "expected"),
    [
        (Demands(), 1.0, -1.0, False),
        (Demands(max_stale=5.0), 1.0, -5.0, True),
        (Demands(max_stale=5.0), 1.0, -5.1, False),
        (Demands(max_stale=5.0, max_age=3.0), 4.0, -1.0, False),
    ],
)
def test_a_stale_answer_will_do_for_who_says_so(
    demands: Demands, age: float, fresh_for: float, *, expected: bool
) -> None:
    """RFC 9111 §5.2.1.2."""
    assert demands.accepts_stale(age, fresh_for) is expected


@given(
    terms=st.builds(
        Terms,
        ttl=st.none() | st.floats(1e-3, 1e9),
        statuses=st.sampled_from([None, frozenset({200}), frozenset({404})]),
        stale_while_revalidate=st.floats(0, 1e9),
        stale_if_error=st.floats(0, 1e9),
        heuristic=st.floats(0, 1),
        is_validatable=st.booleans(),
    ),
    delay=st.floats(0, 1e6),
    taken=st.floats(0, 1e9),
)
def test_what_says_nothing_is_stored_as_if_it_were_read(
    terms: Terms, delay: float, taken: float
) -> None:
    """The short way for most answers decides what the long one does."""
    head = read_head(200, [(b"Content-Type", b"application/json")], NOW)
    alike = msgspec.structs.replace(head)  # Which is not known by its identity.

    assert head is PLAIN_HEAD
    assert alike is not PLAIN_HEAD
    found = storage_of(head, terms, NOW, delay=delay, taken=taken)
    assert found == storage_of(alike, terms, NOW, delay=delay, taken=taken)
