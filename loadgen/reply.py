"""How an exchange ended, whatever carried it.

Rule: an answer is of use if it is a 2xx of a kind that was asked for. Event streams count as JSON:
they are how models send it.
"""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass

from loadgen.outcome import CacheStatus, Outcome, parse_cache_status, parse_x_cache

__all__ = ["Reply", "cache_status", "is_accepted", "is_stream", "no_reply"]

_EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """How an exchange ended: with a status, or without a usable answer (`failure`, a few words)."""

    status: int
    cache: CacheStatus
    failure: str | None = None
    first_byte: float | None = None  # On the clock of `time.monotonic`, which is the event loop's.
    streamed: bool = False  # Server-sent events.
    retried: bool = False  # A kept connection had died.

    @property
    def is_usable(self) -> bool:
        """Whether it is a 2xx answer of the kind that was asked for."""
        return self.failure is None and 200 <= self.status < 300


def no_reply(why: str) -> Reply:
    """Return what stands for no answer at all."""
    return Reply(0, CacheStatus(Outcome.ERROR), why)


def cache_status(headers: Mapping[str, str]) -> CacheStatus:
    """Read what the cache says in the fields of an answer."""
    if (field := headers.get("cache-status")) is not None:
        return parse_cache_status(field)
    return parse_x_cache(headers.get("x-cache") or headers.get("x-cache-status", ""))


def is_stream(content_type: str) -> bool:
    """Return whether an answer is a stream of events."""
    return content_type.startswith(_EVENT_STREAM)


def is_accepted(accept: str, content_type: str) -> bool:
    """Return whether an answer is of a kind that an Accept field asks for."""
    kind = content_type.partition(";")[0].strip().lower()
    if accept == "application/json":
        return "json" in kind or kind == _EVENT_STREAM
    return any(fnmatch.fnmatch(kind, part.partition(";")[0].strip()) for part in accept.split(","))
