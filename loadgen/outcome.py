"""What the cache says it did with a request: the Cache-Status field (RFC 9211).

Rule: the server's own word is read, nothing is guessed. The field is a list of caches, the one
nearest to the client last; the last member of the cache under test counts. No such member: unknown.
"""

import re
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["REUSE", "CacheStatus", "Outcome", "parse_cache_status"]


class Outcome(IntEnum):
    """The one word for how a request ended; small integers, since runs hold millions."""

    HIT = 0
    STALE = 1
    COALESCED = 2
    MISS = 3
    BYPASS = 4
    ERROR = 5
    UNKNOWN = 6

    def __str__(self) -> str:
        return self.name.lower()


REUSE = frozenset({Outcome.HIT, Outcome.STALE, Outcome.COALESCED})


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """What one cache reports of one request; `ttl` is in seconds, where it was given."""

    outcome: Outcome
    ttl: int | None = None


_UNKNOWN = CacheStatus(Outcome.UNKNOWN)

_STRING = r'"(?:[^"\\]|\\.)*"'
_NAME = r"[A-Za-z*][^\s;,=\"]*"
_BARE = rf"{_STRING}|[^\s;,\"]+"
_PARAMETER = re.compile(rf"\s*;\s*([a-z*][a-z0-9_.*-]*)(?:=({_BARE}))?")
_MEMBER = re.compile(rf"\s*({_STRING}|{_NAME})((?:{_PARAMETER.pattern})*)\s*(?:,|$)")


def parse_cache_status(field: str, cache: str = "memoserve") -> CacheStatus:
    """Read what `cache` says in a Cache-Status field, several lines joined with commas."""
    status = _UNKNOWN
    for name, parameters in _members(field):
        if name == cache:
            status = _status(parameters)
    return status


def _members(field: str) -> list[tuple[str, dict[str, str]]]:
    members: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(field):
        match = _MEMBER.match(field, position)
        if match is None:
            return []  # RFC 9651 4.2: a field that does not parse is ignored as a whole.
        parameters = {name: value or "?1" for name, value in _PARAMETER.findall(match[2])}
        members.append((match[1].strip('"'), parameters))
        position = match.end()
    return members


def _status(parameters: dict[str, str]) -> CacheStatus:
    if parameters.get("hit", "?0") != "?0":
        ttl = _integer(parameters.get("ttl"))
        stale = ttl is not None and ttl < 0
        return CacheStatus(Outcome.STALE if stale else Outcome.HIT, ttl)
    match parameters:
        case {"fwd": "bypass"}:
            return CacheStatus(Outcome.BYPASS)
        case {"fwd-status": status} if status.startswith("5"):
            return CacheStatus(Outcome.ERROR)
        case {"fwd": _, "collapsed": collapsed} if collapsed != "?0":
            return CacheStatus(Outcome.COALESCED)
        case {"fwd": _}:
            return CacheStatus(Outcome.MISS)
        case _:
            return _UNKNOWN


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,15}", text) else None
