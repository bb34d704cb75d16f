"""The fields that caches go by, read as the RFCs read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoserve._directives import (
    INFINITE,
    age_of,
    cache_control,
    group_names,
    http_date,
    targeted_control,
)

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b"no-store"], {b"no-store": None}, id="one"),
        pytest.param([b"No-Store, MAX-AGE=5"], {b"no-store": None, b"max-age": b"5"}, id="case"),
        pytest.param(
            [b"private", b"max-age=5"], {b"private": None, b"max-age": b"5"}, id="several-lines"
        ),
        pytest.param([b" a=1 ,, ,b"], {b"a": b"1", b"b": None}, id="loose-spacing"),
        pytest.param([b"a =1"], {b"a": b" 1"}, id="space-before-the-sign"),
        pytest.param([b"a= 1"], {b"a": b" 1"}, id="space-behind-the-sign"),
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
    ("lines", "expected"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([b"20"], 20, id="one"),
        pytest.param([b"20, 30"], 20, id="first-member"),
        pytest.param([b"20", b"30"], 20, id="first-line"),
        pytest.param([b"0, 7200"], 0, id="first-is-zero"),
        pytest.param([b"old"], 0, id="no-number"),
        pytest.param([b"-5"], 0, id="negative"),
        pytest.param([b"7.5"], 0, id="fraction"),
        pytest.param([b"9" * 5000], INFINITE, id="huge"),
    ],
)
def test_the_first_age_counts_if_it_is_a_number(lines: list[bytes], expected: float) -> None:
    """RFC 9111 §5.1 (bug 55)."""
    assert age_of(lines) == expected


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"Tue, 14 Nov 2023 22:13:20 GMT", id="imf-fixdate"),
        pytest.param(b"tue, 14 nov 2023 22:13:20 gmt", id="any-case"),
        pytest.param(b"Tuesday, 14-Nov-23 22:13:20 GMT", id="rfc-850"),
        pytest.param(b"Tue Nov 14 22:13:20 2023", id="asctime"),
        pytest.param(b" Tue, 14 Nov 2023 22:13:20 GMT ", id="spaces-around"),
    ],
)
def test_the_three_formats_of_a_date_are_read(value: bytes) -> None:
    """RFC 9110 §5.6.7."""
    assert http_date(value, NOW) == NOW


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"0", id="zero"),
        pytest.param(b"Tue, 14 Nov 2023 22:13:20 UTC", id="utc"),
        pytest.param(b"Tue, 14 Nov 2023 22:13:20 +0000", id="offset"),
        pytest.param(b"Tue, 14 Nov 23 22:13:20 GMT", id="two-digit-year"),
        pytest.param(b"Tue 14 Nov 2023 22:13:20 GMT", id="no-comma"),
        pytest.param(b"Tue, 14  Nov 2023 22:13:20 GMT", id="two-spaces"),
        pytest.param(b"Tue, 14-Nov-2023 22:13:20 GMT", id="dashes"),
        pytest.param(b"Tue, 14 Nov 2023 22.13.20 GMT", id="periods"),
        pytest.param(b"Tue, 14 Nov 2023 2:13:20 GMT", id="one-digit-hour"),
        pytest.param(b"Tue, 31 Feb 2023 22:13:20 GMT", id="no-such-day"),
        pytest.param(b"Tue, 14 Foo 2023 22:13:20 GMT", id="no-such-month"),
        pytest.param(b"Tue, 14 Nov 2023 24:00:00 GMT", id="no-such-hour"),
        pytest.param(b"Tue, 14 Nov 0000 22:13:20 GMT", id="no-such-year"),
        pytest.param(b"Tue, 14 Nov 99999 22:13:20 GMT", id="five-digit-year"),
    ],
)
def test_what_is_in_none_of_them_is_no_date(value: bytes) -> None:
    assert http_date(value, NOW) is None


@pytest.mark.parametrize(
    ("value", "year"), [(b"70", 2070), (b"73", 2073), (b"74", 1974), (b"99", 1999), (b"00", 2000)]
)
def test_a_two_digit_year_is_less_than_50_years_ahead(value: bytes, year: int) -> None:
    """RFC 9110 §5.6.7."""
    short = http_date(b"Sunday, 01-Jul-%b 00:00:00 GMT" % value, NOW)

    assert short == http_date(b"Sun, 01 Jul %d 00:00:00 GMT" % year, NOW)


def test_a_leap_second_is_the_one_after() -> None:
    assert http_date(b"Tue, 14 Nov 2023 22:13:60 GMT", NOW) == NOW + 40


@given(st.binary(max_size=40) | st.text(" ,:0123456789GMTNovue+-").map(str.encode))
def test_no_bytes_break_the_reading_of_a_date(value: bytes) -> None:
    assert http_date(value, NOW) is None or http_date(value, NOW + 1) is not None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b"max-age=60, no-cache"], {b"max-age": b"60", b"no-cache": None}, id="both"),
        pytest.param([b"max-age=60", b"private"], {b"max-age": b"60", b"private": None},
                     id="lines"),
        pytest.param([b'private="a, b"'], {b"private": b"a, b"}, id="string"),
        pytest.param([b"x=(1 2), max-age=60"], {b"max-age": b"60"}, id="inner-list"),
        pytest.param([b"max-age=60, &&&"], None, id="no-dictionary"),
        pytest.param([b'max-age="60"'], None, id="wrong-type"),
        pytest.param([b"max-age=-1"], None, id="negative"),
        pytest.param([b"max-age=1.5"], None, id="fraction"),
        pytest.param([b""], None, id="empty"),
        pytest.param([b"\xff"], None, id="no-ascii"),
    ],
)  # fmt: skip
def test_a_targeted_field_is_a_structured_dictionary_or_nothing(
    lines: list[bytes], expected: dict[bytes, bytes | None] | None
) -> None:
    """RFC 9213 §2.1."""
    assert targeted_control(lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b'"a", "b c"'], {"a", "b c"}, id="strings"),
        pytest.param([b'"a"', b'"b";x=1'], {"a", "b"}, id="lines-and-parameters"),
        pytest.param([b"a"], set(), id="token"),
        pytest.param([b'"a", 1'], set(), id="number"),
        pytest.param([b'"a'], set(), id="malformed"),
        pytest.param([b""], set(), id="empty"),
    ],
)
def test_groups_are_named_by_strings(lines: list[bytes], expected: set[str]) -> None:
    """RFC 9875 §2."""
    assert group_names(lines) == expected
