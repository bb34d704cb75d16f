"""What an answer says of its way here (RFC 9211), in closed lists of words.

Rule: every answer that a rule covers has one member of our own in Cache-Status.
"""

import functools
from typing import Literal

from memoserve._asgi import Header

__all__ = [
    "NOT_CACHED",
    "BypassReason",
    "Forward",
    "age_line",
    "cache_status_bypass",
    "cache_status_hit",
    "cache_status_miss",
]

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
    "shadow",  # The cache only watches.
]

# Why the app was asked (RFC 9211 §2.2).
Forward = Literal["miss", "stale", "request"]


# To who wants nothing but what is stored: the app was not asked.
NOT_CACHED: Header = (b"cache-status", b"memoserve; detail=not-cached")


@functools.lru_cache(maxsize=4096)  # A hit's cheapest line is one that is made already.
def cache_status_hit(ttl: int) -> Header:
    """Say that the answer came from the store; stale where `ttl` is below zero."""
    return (b"cache-status", b"memoserve; hit; ttl=%d" % ttl)


@functools.lru_cache(maxsize=4096)
def age_line(age: int) -> Header:
    """Say how old the answer is, in whole seconds (RFC 9111 §5.1)."""
    return (b"age", b"%d" % age)


@functools.lru_cache(maxsize=256)
def cache_status_miss(forward: Forward, status: int, *, is_collapsed: bool) -> Header:
    """Say that the app answered: this request's own call or one that it shared.

    `status` is what the app sent; it is told where it explains more than the client's own.
    """
    value = b"memoserve; fwd=" + forward.encode()
    if status >= 500 or status == 304:
        value += b"; fwd-status=%d" % status
    return (b"cache-status", value + b"; collapsed" if is_collapsed else value)


def cache_status_bypass(reason: BypassReason) -> Header:
    """Say that the cache was not asked, and why."""
    return (b"cache-status", b"memoserve; fwd=bypass; detail=" + reason.encode())
