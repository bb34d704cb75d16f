"""A store in the memory of one process.

Rule: it never holds more than `max_bytes`, what is older than its ttl is freed without being
asked for, and every operation takes constant time, evictions and expiries included (amortized).
Least recently used goes first. It may be shared by event loops in several threads.
"""

import asyncio
import heapq
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from memoserve._errors import StoreError

__all__ = ["MemoryStore", "StoreUsage"]

# What CPython spends on an entry beside its key's and its value's own bytes: the objects' heads,
# the slot and the node of the ordered dict, the pair, the float and the reference in a bucket.
_OVERHEAD = 400

_NOTHING = (None, 0.0)

_SWEPT_AT_ONCE = 1_000  # Keys; less than a millisecond of the event loop, which others need, too.
_SWEEP_INTERVAL = 1.0  # Seconds; also the width of a bucket, so nothing outlives its ttl by 2 s.


class StoreUsage(msgspec.Struct, frozen=True):
    """How full a store is; `bytes` counts keys, values and the overhead of keeping them."""

    name: str
    bytes: int
    limit: int
    entries: int
    evictions: int


class MemoryStore:
    """Keep at most `max_bytes` of entries in this process, the recently used ones.

    Args:
        max_bytes: The limit for keys, values and what keeping them costs; above zero.
        clock: Seconds that only grow.

    Raises:
        ValueError: `max_bytes` is not positive.
    """

    def __init__(
        self, max_bytes: int = 268_435_456, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive, not {max_bytes!r}")
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # Oldest use first.
        self._bytes = 0
        self._evictions = 0
        self._buckets: dict[int, list[str]] = {}  # Second of expiry -> keys that may expire then.
        self._due: list[int] = []  # A heap of the buckets' seconds.
        self._uncompacted: list[int] = []  # Buckets not yet rid of what was replaced and evicted,
        self._compacted = 0  # and how much of the last of them is.
        self._references = 0  # Keys in all buckets, those of replaced entries included.
        self._sweeper: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None
        self._lock = threading.Lock()

    async def get(self, key: str, /) -> bytes | None:
        """Return what is kept under this key and has not expired, or None."""
        with self._lock:
            return self._get(key, self._clock())

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each key, in their order."""
        return self.look_up(keys)

    def look_up(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Do what `get_many` does, for callers that need not wait."""
        now = self._clock()
        get, move_to_end = self._entries.get, self._entries.move_to_end
        found: list[bytes | None] = []
        note = found.append
        with self._lock:  # `_get`, spelled out: this is what every hit waits for.
            for key in keys:
                entry = get(key)
                if entry is None or entry[1] <= now:
                    note(None)
                else:
                    move_to_end(key)
                    note(entry[0])
        return found

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Keep the value for `ttl` seconds, evicting what was used least recently.

        Raises:
            StoreError: The value alone is larger than the store.
        """
        self.put(key, value, ttl)

    def put(
        self, key: str, value: bytes, ttl: float, /, *, while_is: tuple[str, bytes] | None = None
    ) -> bool:
        """Do what `set` does, for callers that need not wait; tell whether it was done.

        It is only while a value is kept under another key, if `while_is` names one.

        Raises:
            StoreError: The value alone is larger than the store.
        """
        size = len(key) + len(value) + _OVERHEAD
        expires = self._clock() + ttl
        with self._lock:
            if key in self._entries:
                self._discard(key)
            if size > self._max_bytes:
                raise StoreError(f"{size} bytes are more than the store's {self._max_bytes}")
            while self._bytes + size > self._max_bytes:
                evicted, (freed, _) = self._entries.popitem(last=False)
                self._bytes -= _size(evicted, freed)
                self._evictions += 1
            if while_is is not None and self._entries.get(while_is[0], _NOTHING)[0] != while_is[1]:
                return False
            self._entries[key] = (value, expires)
            self._bytes += size
            if self._references > 2 * len(self._entries) + 1024:
                self._compact_some()
            second = _second_of(expires)
            bucket = self._buckets.get(second)
            if bucket is None:
                bucket = self._buckets[second] = []
                heapq.heappush(self._due, second)
            bucket.append(key)
            self._references += 1
            if self._sweeper is None or self._sweeper[0].is_closed():
                self._wake_sweeper()
        return True

    async def add(self, key: str, value: bytes, ttl: float, /) -> bytes:
        """Keep the value unless there is one; return what is there now."""
        found = self.look_up((key,))[0]
        if found is None:
            await self.set(key, value, ttl)
        return value if found is None else found

    async def delete(self, key: str, /) -> None:
        """Forget the key, if it is there."""
        self.discard(key)

    def discard(self, key: str, /) -> None:
        """Do what `delete` does, for callers that need not wait."""
        with self._lock:
            self._discard(key)

    async def aclose(self) -> None:
        """Forget everything."""
        self.clear()

    def clear(self) -> None:
        """Do what `aclose` does, for callers that need not wait."""
        with self._lock:
            self._entries.clear()
            self._buckets.clear()
            self._due.clear()
            self._uncompacted.clear()
            self._compacted = 0
            self._bytes = self._references = 0
            if self._sweeper is not None:
                self._sweeper[1].cancel()
                self._sweeper = None

    def usage(self) -> StoreUsage:
        """Say how full the store is."""
        return StoreUsage(
            "memory", self._bytes, self._max_bytes, len(self._entries), self._evictions
        )

    def sweep(self) -> bool:
        """Free what has expired, or 1,000 entries of it; tell whether that was all.

        The store calls this itself once a second while it holds any, and at once for the rest.
        """
        with self._lock:
            now = self._clock()
            left = _SWEPT_AT_ONCE
            while self._due and (self._due[0] + 1) * _SWEEP_INTERVAL <= now:
                bucket = self._buckets[self._due[0]]
                while bucket and left:
                    self._discard_if_expired(bucket.pop(), now)
                    self._references -= 1
                    left -= 1
                if bucket:
                    return False
                del self._buckets[heapq.heappop(self._due)]
            return True

    def _get(self, key: str, now: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None or entry[1] <= now:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def _discard(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry[0])

    def _discard_if_expired(self, key: str, now: float) -> None:
        entry = self._entries.get(key)
        if entry is not None and entry[1] <= now:
            self._discard(key)

    def _compact_some(self) -> None:
        """Drop references that replaced and evicted entries left behind, from a slice of a bucket.

        Half of all references are such when this is called, so it pays for itself within as many
        writes as it drops; going round slice by slice, no write waits for more than one.
        """
        if not self._uncompacted:
            self._uncompacted = list(self._buckets)
        second, start = self._uncompacted[-1], self._compacted
        bucket = self._buckets.get(second, [])
        old = bucket[start : start + _SWEPT_AT_ONCE]
        live = [key for key in dict.fromkeys(old) if self._expires_in(key, second)]
        bucket[start : start + len(old)] = live
        self._references -= len(old) - len(live)
        self._compacted = start + len(live)
        if self._compacted >= len(bucket):
            self._uncompacted.pop()
            self._compacted = 0

    def _expires_in(self, key: str, second: int) -> bool:
        entry = self._entries.get(key)
        return entry is not None and _second_of(entry[1]) == second

    def _wake_sweeper(self, delay: float = _SWEEP_INTERVAL) -> None:
        """Have the running loop sweep, in the place of one that was closed before it did."""
        loop = asyncio.get_running_loop()
        self._sweeper = (loop, loop.call_later(delay, self._sweep_and_rearm))

    def _sweep_and_rearm(self) -> None:
        self._sweeper = None
        is_done = self.sweep()
        with self._lock:
            if self._entries:
                self._wake_sweeper(_SWEEP_INTERVAL if is_done else 0.0)


def _second_of(expires: float) -> int:
    return int(min(expires / _SWEEP_INTERVAL, 2**62))


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _OVERHEAD
