"""The header fields that caches go by, from their bytes to plain values.

Rule: a field that is malformed never grants anything: not storing, not a longer life, not reuse.
Sources: RFC 9110 §5.6 (lists, dates), RFC 9111 §1.2.2 (delta-seconds), §5.1 (Age), §5.2
(Cache-Control), §5.3 (Expires), RFC 9213 (targeted fields), RFC 9875 (Cache-Groups).
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "INFINITE",
    "Directives",
    "age_of",
    "cache_control",
    "delta_seconds",
    "group_names",
    "http_date",
    "names_in",
    "split_list",
    "targeted_control",
]

Directives = Mapping[bytes, bytes | None]  # Lower-case directive to argument, unquoted.

INFINITE = 2.0**31  # Seconds; RFC 9111 §1.2.2 lets it stand for all that is longer.

_MONTHS = {
    name: number
    for number, name in enumerate(
        b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1
    )
}


def cache_control(lines: Iterable[bytes]) -> Directives:
    """Parse Cache-Control (RFC 9111 §5.2).

    A directive that comes twice keeps the argument that restricts more: the first of two
    different numbers cannot be told from the second, so the smaller one holds (§4.2.1).
    """
    return _parsed(b",".join(lines))


@functools.lru_cache(maxsize=256)  # Apps say the same again and again.
def _parsed(text: bytes) -> Directives:
    directives: dict[bytes, bytes | None] = {}
    for part in split_list(text):
        name, equals, argument = part.strip().partition(b"=")
        # With space at the sign the directive may restrict but not grant: it is no number then.
        value = _unquoted(argument) if equals else None
        if value is not None and name.endswith((b" ", b"\t")):
            value = b" " + value
        name = name.strip().lower()
        if name in directives:
            value = _stricter(directives[name], value)
        if name:
            directives[name] = value
    return directives


def split_list(text: bytes) -> Iterable[bytes]:
    """Split a list at the commas that stand outside of quoted strings (RFC 9110 §5.6)."""
    if b'"' not in text:
        yield from text.split(b",")
        return
    start, is_quoted, is_escaped = 0, False, False
    for place, octet in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif is_quoted and octet == ord("\\"):
            is_escaped = True
        elif octet == ord('"'):
            is_quoted = not is_quoted
        elif octet == ord(",") and not is_quoted:
            yield text[start:place]
            start = place + 1
    # A quote that is never closed must not hide the directives behind it.
    yield from text[start:].split(b",") if is_quoted else [text[start:]]


def _unquoted(argument: bytes) -> bytes:
    if len(argument) >= 2 and argument[:1] == argument[-1:] == b'"':
        return argument[1:-1].replace(b"\\", b"")
    return argument


def _stricter(one: bytes | None, other: bytes | None) -> bytes | None:
    if one is None or other is None:
        return None  # Without an argument the directive covers everything.
    if one.isdigit() and other.isdigit():
        return min(one, other, key=delta_seconds)
    return b",".join((one, other))


def names_in(argument: bytes) -> frozenset[bytes]:
    """Return the field names that a directive's argument lists (RFC 9111 §5.2.2.4)."""
    return frozenset(name.strip().lower() for name in argument.split(b",")) - {b""}


def targeted_control(lines: Iterable[bytes]) -> Directives | None:
    """Parse a targeted field, such as CDN-Cache-Control; None if it is to be ignored.

    It is a structured dictionary (RFC 9213 §2.1): what does not parse, or is empty, counts as
    absent, and so does the whole field where a directive's value is of another type than its
    argument in Cache-Control.
    """
    import http_sf  # noqa: PLC0415  (few responses have such a field)

    try:
        parsed: Any = http_sf.parse(b", ".join(lines), tltype="dictionary")
    except ValueError:
        return None
    directives: dict[bytes, bytes | None] = {}
    for name, (value, _) in parsed.items():
        if value is True:
            directives[name.encode()] = None
        elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            directives[name.encode()] = b"%d" % value
        elif name in _NUMERIC_DIRECTIVES:
            return None
        elif isinstance(value, str):
            directives[name.encode()] = value.encode()
    return directives or None


_NUMERIC_DIRECTIVES = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})


def group_names(lines: Iterable[bytes]) -> frozenset[str]:
    """Return the groups that Cache-Groups or Cache-Group-Invalidation names (RFC 9875 §2).

    A field that is no list of strings counts as absent.
    """
    import http_sf  # noqa: PLC0415  (few responses have such a field)

    try:
        members: Any = http_sf.parse(b", ".join(lines), tltype="list")
    except ValueError:
        return frozenset()
    values = [value for value, _ in members]
    # A token is a string of another class.
    return frozenset(values) if all(type(value) is str for value in values) else frozenset()


def delta_seconds(argument: bytes | None) -> float:
    """Read delta-seconds (RFC 9111 §1.2.2); what is malformed counts as 0 (§4.2.1)."""
    if argument is None or not argument.isdigit():
        return 0.0
    return min(float(argument.lstrip(b"0")[:11] or b"0"), INFINITE)


def age_of(lines: Iterable[bytes]) -> float:
    """Read Age: the first of several counts, and what is no number does not (RFC 9111 §5.1)."""
    return delta_seconds(b",".join(lines).partition(b",")[0].strip())


_IMF_FIXDATE = re.compile(
    rb"(?:mon|tue|wed|thu|fri|sat|sun), (\d\d) ([a-z]{3}) (\d{4}) (\d\d):(\d\d):(\d\d) gmt"
)
_RFC_850 = re.compile(
    rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day, "
    rb"(\d\d)-([a-z]{3})-(\d\d) (\d\d):(\d\d):(\d\d) gmt"
)
_ASCTIME = re.compile(
    rb"(?:mon|tue|wed|thu|fri|sat|sun) ([a-z]{3}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4})"
)


def http_date(value: bytes, now: float) -> float | None:
    """Read a date in one of the three formats of RFC 9110 §5.6.7; None if it is in none of them.

    A two-digit year is the one less than 50 years ahead of `now`.
    """
    text = value.strip().lower()
    if found := _IMF_FIXDATE.fullmatch(text):
        day, month, year, *time = found.groups()
    elif found := _ASCTIME.fullmatch(text):
        month, day, *time, year = found.groups()
    elif found := _RFC_850.fullmatch(text):
        day, month, short, *time = found.groups()
        year = b"%d" % _whole_year(int(short), now)
    else:
        return None
    # Imported here, as few responses have a date and this is a tenth of all our imports.
    from datetime import UTC, datetime  # noqa: PLC0415

    hour, minute, second = map(int, time)
    try:
        date = datetime(
            int(year), _MONTHS[month], int(day), hour, minute, min(second, 59), tzinfo=UTC
        )
    except (KeyError, ValueError):
        return None
    return date.timestamp() + (second == 60)  # A leap second.


def _whole_year(short: int, now: float) -> int:
    this_year = 1970 + int(now // 31_556_952)
    year = this_year - this_year % 100 + short
    return year - 100 if year > this_year + 50 else year
