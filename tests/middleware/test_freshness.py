"""Ages and lifetimes against the formulas of RFC 9111, written down a second time as they stand."""

import time

from hypothesis import given
from hypothesis import strategies as st

from memoserve._asgi import Header
from memoserve._policy import Terms, read_head, storage_of

RECEIVED = 1_700_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
SECONDS = st.integers(0, 200_000)
MAYBE = st.none() | SECONDS


def http_date(seconds: int) -> bytes:
    """Write a date as RFC 9110 §5.6.7 prefers it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds)).encode()


def naive_age(
    age_value: int | None, date_value: int | None, response_time: int, response_delay: int
) -> int:
    """RFC 9111 §4.2.3, line by line; without a Date the message is as old as its arrival."""
    date = response_time if date_value is None else date_value
    apparent_age = max(0, response_time - date)
    corrected_age_value = 0 if age_value is None else age_value + response_delay
    return max(apparent_age, corrected_age_value)


def naive_lifetime(
    s_maxage: int | None, max_age: int | None, expires: int | None, date: int
) -> int | None:
    """RFC 9111 §4.2.1, in the order of its list."""
    if s_maxage is not None:
        return s_maxage
    if max_age is not None:
        return max_age
    if expires is not None:
        return max(0, expires - date)
    return None


@given(
    s_maxage=MAYBE,
    max_age=MAYBE,
    expires=st.none() | st.integers(-100_000, 200_000),
    date=st.none() | st.integers(-100_000, 100_000),
    age=MAYBE,
    delay=st.integers(0, 100),
    ttl=st.none() | st.integers(1, 100_000),
)
def test_lifetimes_and_ages_are_those_of_the_formulas(
    s_maxage: int | None,
    max_age: int | None,
    expires: int | None,
    date: int | None,
    age: int | None,
    delay: int,
    ttl: int | None,
) -> None:
    """With a ttl, the shorter of the two holds (bug 48, bug 55)."""
    headers: list[Header] = []
    if s_maxage is not None:
        headers.append((b"Cache-Control", b"s-maxage=%d" % s_maxage))
    if max_age is not None:
        headers.append((b"cache-control", b"max-age=%d" % max_age))
    if expires is not None:
        headers.append((b"expires", http_date(RECEIVED + expires)))
    if date is not None:
        headers.append((b"date", http_date(RECEIVED + date)))
    if age is not None:
        headers.append((b"age", b"%d" % age))
    made = RECEIVED + (date or 0)
    expected_age = naive_age(age, None if date is None else made, RECEIVED, delay)
    granted = naive_lifetime(
        s_maxage, max_age, None if expires is None else RECEIVED + expires, made
    )
    left = None if granted is None else max(0, granted - expected_age)
    expected = left or 0 if ttl is None else ttl if left is None else min(ttl, left)

    storage = storage_of(
        read_head(200, headers, RECEIVED), Terms(ttl=ttl, statuses=None), RECEIVED, delay=delay
    )

    if expected == 0:
        assert storage is None
    else:
        assert storage is not None
        assert (storage.ttl, storage.age) == (expected, expected_age)


@given(taken=SECONDS, max_age=SECONDS, ttl=st.integers(1, 100_000))
def test_a_long_answer_ages_while_it_is_produced(taken: int, max_age: int, ttl: int) -> None:
    """What it grants counts from its start, a rule's ttl from its end."""
    head = read_head(200, [(b"cache-control", b"max-age=%d" % max_age)], RECEIVED)

    storage = storage_of(head, Terms(ttl=ttl, statuses=None), RECEIVED, taken=taken)

    left = min(ttl, max_age - taken)
    assert (storage is None) is (left <= 0)
    assert storage is None or (storage.ttl, storage.age) == (left, taken)


@given(since=st.integers(-10, 2_000_000), fraction=st.floats(0.01, 1))
def test_a_guess_is_a_fraction_of_the_time_since_the_last_change(
    since: int, fraction: float
) -> None:
    """RFC 9111 §4.2.2, and at most a day."""
    head = read_head(200, [(b"last-modified", http_date(RECEIVED - since))], RECEIVED)

    storage = storage_of(head, Terms(ttl=None, statuses=None, heuristic=fraction), RECEIVED)

    expected = min(max(0, since) * fraction, 86_400)
    assert (0 if storage is None else storage.ttl) == expected
