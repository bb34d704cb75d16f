"""A store in Redis, shared by every process and host.

Rule: every key that is written has a time to live; a value that is not whole, or not ours, is not
there; and whoever stops waiting for a call stops waiting, while the call goes on. Whether a failure
matters is decided in `guarded`.

Values over 256 KiB lie under a key of their own, named after what is in them, so that no small
value waits behind a large one; under the key itself is that name.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from redis.exceptions import MovedError

from memoserve._errors import CorruptEntryError, StoreBusyError, StoreError
from memoserve.stores._batches import Lookups
from memoserve.stores._deadline import Deadline
from memoserve.stores._redis_urls import read_url
from memoserve.stores._seal import Compression, Opened, Seal
from memoserve.stores._servers import Servers, answered, close_quietly

__all__ = ["RedisStore"]

_logger = logging.getLogger("memoserve")

_APART = 262_144  # Bytes from which a value travels alone, and is sealed in a thread.
_COMMANDS = 12  # At a time, beside the lookups.
_MOST_WAITING = 10_000  # Commands; and
_MOST_BYTES = 67_108_864  # of values that wait to be written.
_LONGEST = 2**53  # Milliseconds of a ttl; Redis reads no more than 63 bits.
_PROBE = "memoserve:probe"

_Result = TypeVar("_Result")


class RedisStore:
    """Keep entries in Redis, under the eviction policy that is set there.

    It may be used from several event loops; each has connections of its own.

    Args:
        connect: Makes what talks to Redis, in the running event loop; see `from_url`.
        secret: Keys the MAC that values carry; a checksum will do where there is none.
        compression: For values from 16 KiB on.
    """

    def __init__(
        self,
        connect: Callable[[], Servers],
        *,
        secret: bytes | None = None,
        compression: Compression = "none",
    ) -> None:
        self._connect = connect
        self._secret = secret
        self._seal = Seal(secret, compression)
        self._namespaces: set[str] = set()
        self._links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = (
            weakref.WeakKeyDictionary()
        )
        self._has_logged_damage = False

    @classmethod
    def from_url(cls, url: str, *, secret: bytes | None = None) -> "RedisStore":
        """Make a store for any of the URLs that `memoserve.stores` names; nothing is connected yet.

        Raises:
            ValueError: The URL names no Redis that could be, or an option that there is not.
        """
        address = read_url(url)
        return cls(address.connect, secret=secret, compression=address.compression)

    def join(self, namespace: str, secret: bytes | None, /) -> None:
        """Be told of a cache that uses the store.

        Raises:
            ValueError: Another cache uses it with another secret.
        """
        if self._secret not in {None, secret}:
            raise ValueError("caches that share one store must have one secret")
        if secret is not None and self._secret is None:
            self._secret = secret
            self._seal = self._seal.with_secret(secret)
        self._namespaces.add(namespace)

    async def get(self, key: str, /) -> bytes | None:
        """Return what is kept under this key, or None.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        return (await self.get_many((key,)))[0]

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each key; it travels with what others look up at this moment.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        found = await self.open_many(keys)
        return [None if opened is None else opened.value for opened in found]

    async def open_many(self, keys: Sequence[str]) -> list[Opened | None]:
        """Do what `get_many` does, with the times at which the values expire.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        if not keys:
            return []
        found = await self.link().lookups.look_up(keys)
        for place, opened in enumerate(found):
            if opened is not None and opened.is_elsewhere:
                found[place] = await self._open_apart(opened)
        return found

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Keep the value for `ttl` seconds, to the millisecond.

        Raises:
            StoreError: Redis cannot be asked, is out of memory, or is read-only.
        """
        await self.link().run(self._set(key, value, ttl), size=len(value))

    async def add(self, key: str, value: bytes, ttl: float, /) -> bytes:
        """Keep the value unless there is one already; return what is there now.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        return await self.link().run(self._add(key, value, ttl), size=len(value))

    async def delete(self, key: str, /) -> None:
        """Forget the key.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        await self.link().run(self.link().execute("DEL", key))

    async def ping(self, deadline: float) -> None:
        """Look something up on every primary, over a connection made for that.

        Neither a pool that is busy nor one whose connections are dead has a say in it, and
        connecting is not part of the time that an answer may take.

        Raises:
            StoreError: One of them cannot be reached, or refuses.
            TimeoutError: One takes longer than the deadline.
        """
        connections: list[Any] = await self.link().servers.lone_connections()
        try:
            for connection in connections:
                await answered(connection.connect())
                async with Deadline(deadline):
                    await answered(_look_up_over(connection))
        finally:
            for connection in connections:
                await close_quietly(connection.disconnect(nowait=True))

    async def reconnect(self) -> None:
        """Drop all connections and what waits for them; the next call makes new ones."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.aclose()

    async def aclose(self) -> None:
        """Close all connections of the running event loop."""
        await self.reconnect()

    def link(self) -> "Link":
        """Return what belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._links.get(loop)
        if found is None:
            found = self._links[loop] = Link(self._connect(), self._fetch)
        return found

    # Reading.

    async def _fetch(self, keys: Sequence[str]) -> list[Opened | StoreError | None]:
        found = await self.link().servers.fetch(keys)
        return [
            self._open(key, raw) if isinstance(raw, bytes) else raw
            for key, raw in zip(keys, found, strict=True)
        ]

    def _open(self, key: str, sealed: bytes) -> Opened | None:
        try:
            return self._seal.open(key, sealed)
        except CorruptEntryError as error:
            self._log_damage(error)
            return None

    async def _open_apart(self, where: Opened) -> Opened | None:
        """Fetch a large value from where it is."""
        key = where.value.decode()
        sealed = await self.link().run(self.link().execute("GET", key))
        if sealed is None:
            return None
        return await asyncio.to_thread(self._open, key, sealed)

    def _log_damage(self, error: Exception) -> None:
        if not self._has_logged_damage:
            self._has_logged_damage = True
            _logger.warning("values in Redis are not ours and count as not there: %s", error)

    # Writing.

    async def _set(self, key: str, value: bytes, ttl: float) -> None:
        sealed = await self.sealed(key, value, ttl)
        await self.link().execute("SET", key, sealed, "PX", milliseconds(ttl))

    async def _add(self, key: str, value: bytes, ttl: float) -> bytes:
        sealed = await self.sealed(key, value, ttl)
        execute = self.link().execute
        if not await execute("SET", key, sealed, "PX", milliseconds(ttl), "NX"):
            there = await execute("GET", key)
            if there is not None and (opened := self._open(key, there)) is not None:
                return opened.value
            await execute("SET", key, sealed, "PX", milliseconds(ttl))
        return value

    async def sealed(self, key: str, value: bytes, ttl: float) -> bytes:
        """Return what is to be written under a key; a large value itself is written at once.

        Raises:
            StoreError: It could not be.
        """
        expires = time.time() + ttl
        if len(value) < _APART:
            return self._seal.close(key, value, expires)
        digest = await asyncio.to_thread(_name_of, value)
        place = f"{key}:{digest}"
        sealed = await asyncio.to_thread(self._seal.close, place, value, expires)
        await self.link().execute("SET", place, sealed, "PX", milliseconds(ttl))
        return self._seal.close(key, place.encode(), expires, is_elsewhere=True)


class Link:
    """What a store has in one event loop: connections, and what is under way on them."""

    def __init__(
        self,
        servers: Servers,
        fetch: Callable[[Sequence[str]], Coroutine[Any, Any, list[Opened | StoreError | None]]],
    ) -> None:
        self.servers = servers
        self.lookups = Lookups[Opened | None](fetch)
        self._turns = asyncio.Semaphore(_COMMANDS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._bytes = 0

    async def run(self, work: Coroutine[Any, Any, _Result], *, size: int = 0) -> _Result:
        """Do something that goes on when nobody waits for it any more.

        Raises:
            StoreBusyError: Too much is under way already.
        """
        is_full = self._bytes and self._bytes + size > _MOST_BYTES
        if is_full or len(self._tasks) >= _MOST_WAITING:
            work.close()
            raise StoreBusyError(f"{len(self._tasks)} calls, {self._bytes} bytes wait already")
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        self._bytes += size
        task.add_done_callback(lambda done: self._forget(done, size))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled() or _is_cancelled():
                raise
            raise StoreError("the store was closed or reconnected meanwhile") from None

    async def execute(self, *command: Any) -> Any:
        """Have one command answered, when it is its turn."""
        async with self._turns:
            return await self.servers.execute(*command)

    async def aclose(self) -> None:
        """Give up what is under way, and close all connections."""
        await self.lookups.aclose()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.servers.aclose()

    def _forget(self, task: "asyncio.Task[Any]", size: int) -> None:
        self._tasks.discard(task)
        self._bytes -= size
        if not task.cancelled():
            task.exception()  # Raised to whoever still waits; else nobody is there to care.


def milliseconds(ttl: float) -> int:
    """Return a ttl as Redis takes it."""
    return max(1, min(round(ttl * 1000), _LONGEST))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _look_up_over(connection: Any) -> None:
    await connection.send_command("GET", _PROBE)
    with contextlib.suppress(MovedError):  # The key is another server's; this one is well.
        await connection.read_response()


def _name_of(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest()
