"""What the cache says it did with a request: Cache-Status (RFC 9211), or X-Cache of older ones.

Rule: the server's own word is read, nothing is guessed. The field is a list of caches, the one
nearest to the client last; memoserve's last member counts, or the last one where memoserve is not
among them. No word that is understood: unknown.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

__all__ = ["REUSE", "CacheStatus", "Outcome", "parse_cache_status", "parse_x_cache"]


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


@lru_cache(maxsize=4096)  # Few different fields come in very many answers.
def parse_cache_status(field: str, cache: str = "memoserve") -> CacheStatus:
    """Read what `cache` says in a Cache-Status field, several lines joined with commas."""
    members = _members(field)
    ours = [parameters for name, parameters in members if name == cache]
    others = [parameters for _, parameters in members]
    said = ours or others
    return _status(said[-1]) if said else _UNKNOWN


def parse_x_cache(field: str) -> CacheStatus:
    """Read ``HIT``, ``Miss from cloudfront``, ``TCP_HIT``, ``MISS, HIT`` or nginx's words."""
    words = _WORD.findall(field.lower())
    return CacheStatus(_X_CACHE[words[-1]]) if words else _UNKNOWN


_X_CACHE = {
    "hit": Outcome.HIT,
    "revalidated": Outcome.HIT,
    "stale": Outcome.STALE,
    "updating": Outcome.STALE,
    "miss": Outcome.MISS,
    "expired": Outcome.MISS,
    "bypass": Outcome.BYPASS,
    "pass": Outcome.BYPASS,
    "error": Outcome.ERROR,
}
_WORD = re.compile(rf"(?:\b|_)({'|'.join(_X_CACHE)})(?:\b|_)")


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
