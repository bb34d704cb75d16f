"""What HTTP allows a shared cache to do: whom an answer may reach, what is kept, for how long.

Rule: pure decisions over requests, responses and numbers. In doubt an answer is not shared.
Sources: RFC 9110 (semantics), RFC 9111 (caching), RFC 5861 (stale content), RFC 9211
(Cache-Status).
"""

import enum
import functools
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from memoserve._asgi import Header

__all__ = [
    "BypassReason",
    "Demands",
    "Sharing",
    "age_line",
    "cache_control",
    "cache_status_bypass",
    "cache_status_hit",
    "cache_status_miss",
    "demands_of",
    "forbids_storing",
    "freshness_lifetime",
    "is_server_failure",
    "replayable",
    "sharing_of",
    "vary_of",
]

# RFC 9110 §7.6.1 and what Connection names: fields of one connection, never of the answer.
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
        b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade",
    }
)  # fmt: skip
# Fields that describe the exchange in which the answer was made.
_EXCHANGE_ONLY = frozenset(
    {
        b"age", b"baggage", b"cache-status", b"cf-ray", b"date", b"openai-processing-ms",
        b"request-id", b"server-timing", b"set-cookie", b"traceparent",
        b"traceresponse", b"tracestate", b"x-amzn-requestid", b"x-amzn-trace-id",
        b"x-cloud-trace-context", b"x-correlation-id", b"x-process-time", b"x-request-id",
        b"x-response-time", b"x-runtime", b"x-trace-id",
    }
)  # fmt: skip
_EXCHANGE_PREFIXES = (b"ratelimit", b"x-ratelimit-", b"x-rate-limit-", b"x-b3-")

# Answers to who asked or how often, not to what was asked (RFC 9110 §15.5, RFC 6585 §4).
_PERSONAL_STATUSES = frozenset({401, 403, 407, 421, 429})


# Why a covered request goes past the cache: the closed list of `detail` and of metrics.
BypassReason = Literal[
    "credentials",
    "method-override",
    "partial",  # Range, and the preconditions that go with it.
    "client",  # Cache-Control: no-store of a client that is obeyed.
    "too-large",
    "disconnected",
    "not-json",  # A callable of the rule needs a body that has no canonical form.
    "when",
    "rule-error",  # A callable of the rule raised.
    "busy",  # flight_max_bytes is used up.
]


def cache_control(lines: Iterable[bytes]) -> dict[bytes, bytes | None]:
    """Parse Cache-Control (RFC 9111 §5.2): lower-case directive to argument, unquoted.

    A directive that comes twice keeps the argument that restricts more: the first of two
    different numbers cannot be told from the second, so the smaller one holds (§4.2.1).
    """
    directives: dict[bytes, bytes | None] = {}
    for part in _split_list(b",".join(lines)):
        name, equals, argument = part.partition(b"=")
        name = name.strip().lower()
        value = _unquoted(argument.strip()) if equals else None
        if name in directives:
            value = _stricter(directives[name], value)
        if name:
            directives[name] = value
    return directives


def _split_list(text: bytes) -> Iterable[bytes]:
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
        return min(one, other, key=_delta_seconds)
    return b",".join((one, other))


def _values(headers: Iterable[Header], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def vary_of(headers: Sequence[Header]) -> frozenset[bytes]:
    """Return the request fields on which a response depends, `*` for all the world.

    An `Access-Control-Allow-Origin` for one origin depends on it, whether Vary says so or not.
    """
    listed = b",".join(_values(headers, b"vary")).lower().split(b",")
    names = {name.strip() for name in listed} - {b""}
    if any(origin != b"*" for origin in _values(headers, b"access-control-allow-origin")):
        names.add(b"origin")
    return frozenset(names)


def is_server_failure(status: int, headers: Iterable[Header]) -> bool:
    """Tell a failure that another try may mend; a 503 with Retry-After asks for no other try."""
    return status >= 500 and not (status == 503 and _values(headers, b"retry-after"))


class Sharing(enum.Enum):
    """Whom a response may reach, as known when it starts."""

    ALL = enum.auto()  # Everyone with this key, whom its Vary does not tell apart.
    LEADER = enum.auto()  # Only who asked; the others must ask themselves.


def sharing_of(status: int, headers: Sequence[Header]) -> Sharing:
    """Decide at its start whether a response may go to others who asked the same."""
    personal = status in _PERSONAL_STATUSES or status in {206, 304} or status < 200
    if personal or b"*" in vary_of(headers) or _values(headers, b"set-cookie"):
        return Sharing.LEADER
    directives = cache_control(_values(headers, b"cache-control"))
    if b"no-store" in directives or b"private" in directives:
        return Sharing.LEADER
    return Sharing.ALL


def forbids_storing(headers: Iterable[Header]) -> bool:
    """Tell whether the response asks to be fetched anew each time (RFC 9111 §5.2.2.4)."""
    directives = cache_control(_values(headers, b"cache-control"))
    return bool({b"no-cache", b"no-store", b"private"} & directives.keys())


def freshness_lifetime(
    status: int, headers: Sequence[Header], ttl: float | None, now: float
) -> float:
    """Return the seconds for which a response is fresh, 0 where it must not be stored.

    What the response grants (RFC 9111 §4.2.1: s-maxage, max-age, then Expires, less its Age)
    shortens the rule's ttl and never lengthens it. Without a ttl, and for any status but 200,
    the response's own grant is all there is.
    """
    granted = _granted_lifetime(headers, now)
    if ttl is None or status != 200:
        return max(0.0, granted or 0.0)
    return max(0.0, ttl if granted is None else min(ttl, granted))


def _granted_lifetime(headers: Sequence[Header], now: float) -> float | None:
    directives = cache_control(_values(headers, b"cache-control"))
    for name in (b"s-maxage", b"max-age"):
        if name in directives:
            return _delta_seconds(directives[name]) - _upstream_age(headers)
    expires = _values(headers, b"expires")
    if not expires:
        return None
    dates = _values(headers, b"date")
    at = _http_date(expires[0])
    made = _http_date(dates[0]) if dates else now
    return 0.0 if at is None or made is None else at - made - _upstream_age(headers)


def _delta_seconds(argument: bytes | None) -> float:
    """Read delta-seconds (RFC 9111 §1.2.2); what is malformed counts as 0 (§4.2.1)."""
    if argument is None or not argument.isdigit():
        return 0.0
    return float(min(int(argument.lstrip(b"0")[:11] or b"0"), 2**31))


def _upstream_age(headers: Iterable[Header]) -> float:
    ages = _values(headers, b"age")
    return _delta_seconds(ages[0]) if ages else 0.0


def _http_date(value: bytes) -> float | None:
    # Imported here, as few responses have an Expires and this is a tenth of all our imports.
    import email.utils  # noqa: PLC0415
    from datetime import UTC  # noqa: PLC0415

    try:
        date = email.utils.parsedate_to_datetime(value.decode("latin-1"))
        if date.tzinfo is None:  # The asctime form names no zone; all HTTP dates are in GMT.
            date = date.replace(tzinfo=UTC)
        return date.timestamp()
    except (ValueError, OverflowError):
        return None


def replayable(headers: Iterable[Header]) -> tuple[Header, ...]:
    """Return the fields of a response that belong to its answer, names in lower case."""
    pairs = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _EXCHANGE_ONLY | _named_by_connection(pairs)
    return tuple(
        (name, value)
        for name, value in pairs
        if name not in dropped and not name.startswith(_EXCHANGE_PREFIXES)
    )


def _named_by_connection(headers: Iterable[Header]) -> set[bytes]:
    listed = b",".join(_values(headers, b"connection")).lower().split(b",")
    return {name.strip() for name in listed}


@functools.lru_cache(maxsize=4096)  # A hit's cheapest line is one that is made already.
def cache_status_hit(ttl: int) -> Header:
    """Say that the answer came from the store; stale where `ttl` is below zero."""
    return (b"cache-status", b"memoserve; hit; ttl=%d" % ttl)


@functools.lru_cache(maxsize=4096)
def age_line(age: int) -> Header:
    """Say how old the answer is, in whole seconds (RFC 9111 §5.1)."""
    return (b"age", b"%d" % age)


def cache_status_miss(*, is_forced: bool, is_collapsed: bool, status: int) -> Header:
    """Say that the app answered: this request's own call or one that it shared."""
    value = b"memoserve; fwd=request" if is_forced else b"memoserve; fwd=miss"
    if status >= 500:
        value += b"; fwd-status=%d" % status
    return (b"cache-status", value + b"; collapsed" if is_collapsed else value)


def cache_status_bypass(reason: BypassReason) -> Header:
    """Say that the cache was not asked, and why."""
    return (b"cache-status", b"memoserve; fwd=bypass; detail=" + reason.encode())


class Demands(msgspec.Struct, frozen=True):
    """What a request's Cache-Control asks for (RFC 9111 §5.2.1)."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: float | None = None

    def accepts_age(self, age: float) -> bool:
        """Tell whether an answer of this age will do."""
        return self.max_age is None or age <= self.max_age


def demands_of(lines: Iterable[bytes]) -> Demands:
    """Read a request's Cache-Control."""
    directives = cache_control(lines)
    has_max_age = b"max-age" in directives
    return Demands(
        no_store=b"no-store" in directives,
        no_cache=b"no-cache" in directives,
        only_if_cached=b"only-if-cached" in directives,
        max_age=_delta_seconds(directives[b"max-age"]) if has_max_age else None,
    )
