"""What HTTP allows a shared cache to do: whom an answer may reach, what is kept, for how long.

Rule: pure decisions over requests, responses and numbers. In doubt an answer is not shared.
Sources: RFC 9110 (semantics), RFC 9111 (caching), RFC 5861 (stale content), RFC 9213
(CDN-Cache-Control).
"""

import enum
from collections.abc import Collection, Iterable, Sequence

import msgspec

from memoserve._asgi import Header
from memoserve._directives import (
    INFINITE,
    Directives,
    age_of,
    cache_control,
    delta_seconds,
    http_date,
    names_in,
    targeted_control,
)

__all__ = [
    "PLAIN_HEAD",
    "ResponseHead",
    "Sharing",
    "Storage",
    "Terms",
    "is_server_failure",
    "read_head",
    "replayable",
    "sharing_of",
    "storage_of",
    "unreplayable_of",
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
        b"x-bentoml-request-id", b"x-bentoml-trace-id", b"x-cloud-trace-context",
        b"x-correlation-id", b"x-process-time", b"x-request-id", b"x-response-time",
        b"x-runtime", b"x-trace-id",
    }
)  # fmt: skip
_NOT_REPLAYED = _HOP_BY_HOP | _EXCHANGE_ONLY
_EXCHANGE_PREFIXES = (b"ratelimit", b"x-ratelimit-", b"x-rate-limit-", b"x-b3-")

# Answers to who asked or how often, not to what was asked (RFC 9110 §15.5, RFC 6585 §4).
_PERSONAL_STATUSES = frozenset({401, 403, 407, 421, 429})

# Whose meaning is known here, as must-understand wants it (RFC 9111 §5.2.2.3).
_UNDERSTOOD_STATUSES = frozenset(
    {
        200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 404, 405, 406, 408, 409, 410, 411, 413,
        414, 415, 422, 451, 500, 501, 502, 503, 504,
    }
)  # fmt: skip
# Statuses that may be reused by heuristics alone (RFC 9110 §15.1), less 206.
_HEURISTIC_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})

_LONGEST_GUESS = 86_400.0  # Seconds; beyond a day a guess would need a warning (RFC 7234 §5.5.4).

# How long an answer that can be validated is kept past its freshness, in seconds: nginx forgets
# what was not asked for within ten minutes.
_VALIDATABLE_FOR = 600.0


class ResponseHead(msgspec.Struct, frozen=True):
    """What a cache goes by in the head of a response."""

    status: int
    directives: Directives  # Of the targeted field where there is one, else of Cache-Control.
    vary: frozenset[bytes]
    age: float
    date: float | None  # None if there is none that can be read.
    granted: float | None  # The freshness lifetime that it states; None if it states none.
    has_age: bool
    has_cookie: bool
    last_modified: float | None
    has_validator: bool

    @property
    def is_for_once(self) -> bool:
        """It says that it is stale as soon as it is there."""
        is_stale = self.granted is not None and self.granted <= self.age
        return is_stale or self.must_be_validated

    @property
    def must_be_validated(self) -> bool:
        """It says that it must not be used unasked (RFC 9111 §5.2.2.4)."""
        directives = self.directives
        return b"no-cache" in directives and not _kept_back(directives, b"no-cache")


_NOTED = frozenset(
    {
        b"access-control-allow-origin", b"age", b"cache-control", b"cache-groups",
        b"cdn-cache-control", b"date",
        b"etag", b"expires", b"last-modified", b"set-cookie", b"vary",
    }
)  # fmt: skip


def read_head(status: int, headers: Iterable[Header], now: float) -> ResponseHead:
    """Read the head of a response that came at `now`."""
    noted: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _NOTED:
            noted.setdefault(lowered, []).append(value)
    if not noted:
        return PLAIN_HEAD if status == 200 else msgspec.structs.replace(PLAIN_HEAD, status=status)
    targeted = noted.get(b"cdn-cache-control")
    directives = targeted_control(targeted) if targeted else None
    expires = None
    if directives is None:  # Else it stands in for both of these (RFC 9213 §2.2).
        directives = cache_control(noted.get(b"cache-control", ()))
        expires = noted.get(b"expires")
    date = _date_in(noted.get(b"date"), now)
    return ResponseHead(
        status,
        directives,
        _vary_of(noted),
        age_of(noted.get(b"age", ())),
        date,
        _granted(directives, expires, now if date is None else date, now),
        has_age=b"age" in noted,
        has_cookie=b"set-cookie" in noted,
        last_modified=_date_in(noted.get(b"last-modified"), now),
        has_validator=b"etag" in noted or b"last-modified" in noted,
    )


# What most apps say: nothing.
PLAIN_HEAD = ResponseHead(
    200, {}, frozenset(), 0.0, None, None, has_age=False, has_cookie=False, last_modified=None,
    has_validator=False,
)  # fmt: skip


def _date_in(lines: Sequence[bytes] | None, now: float) -> float | None:
    return http_date(lines[0], now) if lines else None


def _granted(
    directives: Directives, expires: Sequence[bytes] | None, made: float, now: float
) -> float | None:
    """Return the stated freshness lifetime (RFC 9111 §4.2.1)."""
    for name in (b"s-maxage", b"max-age"):
        if name in directives:
            return delta_seconds(directives[name])
    if not expires:
        return None
    until = http_date(expires[0], now) if len(expires) == 1 else None
    return 0.0 if until is None else max(0.0, until - made)  # §5.3: what is invalid has expired.


def _values(headers: Iterable[Header], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def vary_of(headers: Iterable[Header]) -> frozenset[bytes]:
    """Return the request fields on which a response depends, `*` for all the world.

    An `Access-Control-Allow-Origin` for one origin depends on it, whether Vary says so or not.
    """
    names = (b"vary", b"access-control-allow-origin")
    pairs = [(name.lower(), value) for name, value in headers]
    return _vary_of({name: _values(pairs, name) for name in names})


def _vary_of(noted: dict[bytes, list[bytes]]) -> frozenset[bytes]:
    listed = b",".join(noted.get(b"vary", ())).lower().split(b",")
    names = {name.strip() for name in listed} - {b""}
    if any(origin != b"*" for origin in noted.get(b"access-control-allow-origin", ())):
        names.add(b"origin")
    return frozenset(names)


def is_server_failure(status: int, headers: Iterable[Header]) -> bool:
    """Tell a failure that another try may mend; a 503 with Retry-After asks for no other try."""
    return status >= 500 and not (status == 503 and _values(headers, b"retry-after"))


class Terms(msgspec.Struct, frozen=True):
    """What the rule and the request say of storing an answer."""

    ttl: float | None
    statuses: Collection[int] | None  # None: all that the response grants freshness to.
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    heuristic: float = 0.0  # Fraction of the time since Last-Modified.
    is_validatable: bool = False  # Its method is one that If-None-Match can be sent with.

    def allow(self, head: ResponseHead) -> bool:
        """Tell whether a response of this status may be stored."""
        if self.statuses is None:
            return head.status == 200 or self.ttl is None
        return head.status in self.statuses


class Sharing(enum.Enum):
    """Whom a response may reach, as known when it starts."""

    ALL = enum.auto()  # Everyone with this key, whom its Vary does not tell apart.
    LEADER = enum.auto()  # Only who asked; the others must ask themselves.


def sharing_of(head: ResponseHead, *, is_authorized: bool = False) -> Sharing:
    """Decide at its start whether a response may go to others who asked the same."""
    status, directives = head.status, head.directives
    personal = status in _PERSONAL_STATUSES or status in {206, 304} or status < 200
    if personal or head.has_cookie or b"*" in head.vary:
        return Sharing.LEADER
    if _forbids_storing(head):
        return Sharing.LEADER
    # RFC 9111 §3.5: an answer to credentials is for others only if it says so.
    if is_authorized and not directives.keys() & {b"public", b"must-revalidate", b"s-maxage"}:
        return Sharing.LEADER
    return Sharing.ALL


def _forbids_storing(head: ResponseHead) -> bool:
    """Tell whether the response must not be stored (RFC 9111 §3, §5.2.2.3 to §5.2.2.7)."""
    directives = head.directives
    if not directives:
        return False
    if b"private" in directives and not _kept_back(directives, b"private"):
        return True
    if b"must-understand" in directives:
        return head.status not in _UNDERSTOOD_STATUSES
    return b"no-store" in directives


def unreplayable_of(head: ResponseHead) -> frozenset[bytes]:
    """Return the fields that `private` and `no-cache` keep back (RFC 9111 §5.2.2.4, §5.2.2.7)."""
    if not head.directives:
        return frozenset()
    return _kept_back(head.directives, b"private") | _kept_back(head.directives, b"no-cache")


def _kept_back(directives: Directives, name: bytes) -> frozenset[bytes]:
    """Return the fields that a directive is about; none if it is about the whole response.

    An argument that is no list of names does not narrow it.
    """
    argument = directives.get(name)
    return frozenset() if not argument or b'"' in argument else names_in(argument)


class Storage(msgspec.Struct, frozen=True):
    """For how long an answer may be used, in seconds since it came."""

    ttl: float  # Fresh; 0 for an answer that has to be validated each time.
    age: float  # What it had already when it came (RFC 9111 §4.2.3).
    stale_while_revalidate: float
    stale_if_error: float
    may_be_stale: bool
    kept_for: float  # In all.


def storage_of(
    head: ResponseHead, terms: Terms, now: float, *, delay: float = 0.0, taken: float = 0.0
) -> Storage | None:
    """Decide whether and for how long an answer that may be shared is stored.

    Args:
        head: Of the response.
        terms: Of rule and request.
        now: When it started, in seconds since the epoch.
        delay: Seconds from asking the app to the response's start.
        taken: Seconds from there to its end, from which a rule's ttl counts.
    """
    if not terms.allow(head):
        return None
    if head is PLAIN_HEAD and terms.ttl is not None:  # All of the below, at once.
        swr, sie = terms.stale_while_revalidate, terms.stale_if_error
        kept_for = terms.ttl + max(swr, sie)
        return Storage(terms.ttl, taken, swr, sie, may_be_stale=True, kept_for=kept_for)
    age = _initial_age(head, now, delay) + taken
    no_cache = head.must_be_validated
    ttl = 0.0 if no_cache else _freshness(head, terms, now, age)
    can_validate = terms.is_validatable and head.has_validator
    if ttl <= 0 and not can_validate:
        return None
    may_be_stale = not no_cache and _NEVER_STALE.isdisjoint(head.directives)
    swr = sie = 0.0
    if may_be_stale:  # RFC 5861.
        swr = _window(head, b"stale-while-revalidate", terms.stale_while_revalidate)
        sie = _window(head, b"stale-if-error", terms.stale_if_error)
    validatable_for = _VALIDATABLE_FOR if can_validate else 0.0
    return Storage(ttl, age, swr, sie, may_be_stale, ttl + max(swr, sie, validatable_for))


def _initial_age(head: ResponseHead, now: float, delay: float) -> float:
    """Return how old the response was when it came (RFC 9111 §4.2.3).

    One that has neither Date nor Age was made here and now.
    """
    apparent = 0.0 if head.date is None else max(0.0, now - head.date)
    return max(apparent, head.age + delay) if head.has_age else apparent


def _freshness(head: ResponseHead, terms: Terms, now: float, age: float) -> float:
    """Return the seconds for which a response will be fresh; 0 if it is not."""
    granted = head.granted
    if granted is None:
        granted = _heuristic_lifetime(head, terms, now)
    left = None if granted is None else max(0.0, min(granted, INFINITE) - age)
    if terms.ttl is None or head.status != 200:
        return left or 0.0
    return terms.ttl if left is None else min(terms.ttl, left)


def _heuristic_lifetime(head: ResponseHead, terms: Terms, now: float) -> float | None:
    """Guess a lifetime from Last-Modified (RFC 9111 §4.2.2), where the rule asks for it."""
    is_allowed = head.status in _HEURISTIC_STATUSES or b"public" in head.directives
    if not terms.heuristic or head.last_modified is None or not is_allowed:
        return None
    since = (now if head.date is None else head.date) - head.last_modified
    return min(max(0.0, since) * terms.heuristic, _LONGEST_GUESS)


# RFC 9111 §4.2.4, §5.2.2.2, §5.2.2.8, §5.2.2.10: past their freshness these are not to be used.
_NEVER_STALE = frozenset({b"must-revalidate", b"proxy-revalidate", b"s-maxage"})


def _window(head: ResponseHead, name: bytes, otherwise: float) -> float:
    """Return for how long the response lets itself be used past its freshness, else the rule."""
    return delta_seconds(head.directives[name]) if name in head.directives else otherwise


def replayable(
    headers: Iterable[Header], withheld: frozenset[bytes] = frozenset()
) -> tuple[Header, ...]:
    """Return the fields of a response that belong to its answer, names in lower case."""
    kept: list[Header] = []
    listed: list[bytes] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"connection":
            listed.append(value)
        elif lowered not in _NOT_REPLAYED and not lowered.startswith(_EXCHANGE_PREFIXES):
            kept.append((lowered, value))
    if withheld or listed:
        dropped = withheld | names_in(b",".join(listed))
        kept = [pair for pair in kept if pair[0] not in dropped]
    return tuple(kept)
