"""Memory in front of Redis.

Rule: what is served from memory is what Redis had less than a second ago. Redis tells of every key
that changes, is evicted or runs out, whoever changed it; memory is only believed while every server
has been heard within the last nine tenths of a second, and is emptied when a connection is lost.
What was looked up while its key changed is not kept.
"""

import asyncio
import contextlib
import time
import weakref
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

# First, since it says which extra is missing.
import memoserve.stores.redis  # noqa: F401  # pyright: ignore[reportUnusedImport]
from memoserve._errors import StoreError
from memoserve.stores import Lease, LeaseEnd
from memoserve.stores._listener import Listener
from memoserve.stores._seal import Opened
from memoserve.stores.memory import MemoryStore, StoreUsage
from memoserve.stores.redis import RedisStore

__all__ = ["TieredStore"]

_LONGEST = 3600.0  # Seconds in memory; what is asked for less often may as well come from Redis.


class TieredStore:
    """Keep in memory what was looked up in Redis.

    Args:
        back: Where everything is. It must not read from replicas: those may be behind what the
            primaries tell.
        front: The memory, this store's alone.

    Raises:
        ValueError: The back reads from replicas.
    """

    def __init__(self, back: RedisStore, front: MemoryStore) -> None:
        if back.reads_replicas:
            raise ValueError("read_from_replicas and tiered+ exclude each other")
        self._back = back
        self._front = front
        self._listeners: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Listener] = (
            weakref.WeakKeyDictionary()
        )
        self._readings: set[_Reading] = set()
        back.track(self._forget)

    def join(self, namespace: str, secret: bytes | None, /) -> None:
        """Be told of a cache that uses the store.

        Raises:
            ValueError: Another cache uses it with another secret.
        """
        self._back.join(namespace, secret)

    def look_up(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept if memory has all of it, and nothing otherwise."""
        listener = self._listeners.get(asyncio.get_running_loop())
        if listener is None or not listener.is_current:
            return []
        found = self._front.look_up(keys)
        return [] if None in found else found

    async def get(self, key: str, /) -> bytes | None:
        """Return what is kept under this key, or None.

        Raises:
            StoreError: Memory does not have it, and Redis cannot be asked.
        """
        return (await self.get_many((key,)))[0]

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each key.

        Raises:
            StoreError: Memory does not have all of it, and Redis cannot be asked.
        """
        return await self._get_many(keys, None)

    async def get_many_within(self, keys: Sequence[str], deadline: float, /) -> list[bytes | None]:
        """Do what `get_many` does, for so many seconds at the most.

        Raises:
            StoreError: Memory does not have all of it, and Redis cannot be asked.
            TimeoutError: It takes longer.
        """
        return await self._get_many(keys, deadline)

    async def _get_many(self, keys: Sequence[str], deadline: float | None) -> list[bytes | None]:
        found = self.look_up(keys)
        if found or not keys:
            return found
        loop = asyncio.get_running_loop()
        listener = self._listeners[loop] = self._back.listen()
        reading = _Reading()
        self._readings.add(reading)
        try:
            opened = await self._back.open_many(keys, deadline)
        finally:
            self._readings.discard(reading)
        if listener.is_current and not reading.is_spoilt:
            for key, each in zip(keys, opened, strict=True):
                if each is not None and key not in reading.changed:
                    await self._keep(key, each)
        return [None if each is None else each.value for each in opened]

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Keep the value for `ttl` seconds.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        try:
            await self._back.set(key, value, ttl)
        finally:
            self._forget((key,))

    async def add(self, key: str, value: bytes, ttl: float, /) -> bytes:
        """Keep the value unless there is one; return what is there now.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        return await self._back.add(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        """Forget the key.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        try:
            await self._back.delete(key)
        finally:
            self._forget((key,))

    async def connect(self) -> None:
        """Make the connections now that the first calls will need."""
        await self._back.connect()

    async def ping(self, deadline: float, /) -> None:
        """Raise unless Redis answers a lookup in time."""
        await self._back.ping(deadline)

    async def reconnect(self) -> None:
        """Drop all connections, and what is in memory."""
        self._listeners.pop(asyncio.get_running_loop(), None)
        await self._back.reconnect()
        self._forget(None)

    async def take_lease(self, key: str, owner: str, seconds: float, /) -> Lease:
        """Take the lease of a key, unless somebody has it."""
        return await self._back.take_lease(key, owner, seconds)

    async def renew_lease(self, key: str, owner: str, seconds: float, /) -> bool:
        """Have a lease for longer."""
        return await self._back.renew_lease(key, owner, seconds)

    async def end_lease(
        self, key: str, owner: str, end: LeaseEnd, value: bytes = b"", ttl: float = 0.0, /
    ) -> bool:
        """Give a lease back, with a value."""
        try:
            return await self._back.end_lease(key, owner, end, value, ttl)
        finally:
            self._forget((key,))

    def await_lease(self, key: str, /) -> AbstractContextManager[asyncio.Future[LeaseEnd]]:
        """Hear how the lease ends that somebody has."""
        return self._back.await_lease(key)

    def usage(self) -> StoreUsage:
        """Say how full the memory is."""
        return self._front.usage()

    async def aclose(self) -> None:
        """Close all connections of the running event loop, and forget what is in memory."""
        await self.reconnect()
        await self._front.aclose()

    async def _keep(self, key: str, opened: Opened) -> None:
        ttl = min(opened.expires - time.time(), _LONGEST)
        if ttl > 0:
            with contextlib.suppress(StoreError):  # It is larger than the memory.
                await self._front.set(key, opened.value, ttl)

    def _forget(self, keys: Iterable[str] | None) -> None:
        """Forget keys, or everything, and spoil what is being looked up meanwhile."""
        for reading in self._readings:
            if keys is None:
                reading.is_spoilt = True
            else:
                reading.changed.update(keys)
        if keys is None:
            self._front.clear()
        else:
            for key in keys:
                self._front.discard(key)


class _Reading:
    """One look-up in Redis that is under way."""

    __slots__ = ("changed", "is_spoilt")

    def __init__(self) -> None:
        self.changed: set[str] = set()  # Keys that have changed since it began.
        self.is_spoilt = False  # Any may have.
