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
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

try:
    from redis.exceptions import MovedError
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"a store in Redis needs {_error.name}: pip install 'memoserve[redis]'", name=_error.name
    ) from _error

from memoserve._errors import CorruptEntryError, StoreError
from memoserve.stores import Lease, LeaseEnd
from memoserve.stores._deadline import Deadline
from memoserve.stores._link import Link
from memoserve.stores._listener import Listener
from memoserve.stores._redis_urls import read_url
from memoserve.stores._seal import Compression, Opened, Seal
from memoserve.stores._servers import Servers, answered, close_quietly

__all__ = ["RedisStore"]

_logger = logging.getLogger("memoserve")

_IN_A_THREAD = 65_536  # Bytes from which a value is sealed in a thread, and
_APART = 262_144  # from which it travels alone.
_LONGEST = 2**53  # Milliseconds of a ttl; Redis reads no more than 63 bits.
_PROBE = "memoserve:probe"


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
        self._links: dict[asyncio.AbstractEventLoop, Link] = {}
        self._forget: Callable[[Iterable[str] | None], None] | None = None
        self._has_logged_damage = False
        self.reads_replicas = False

    @classmethod
    def from_url(cls, url: str, *, secret: bytes | None = None) -> "RedisStore":
        """Make a store for any of the URLs that `memoserve.stores` names; nothing is connected yet.

        Raises:
            ValueError: The URL names no Redis that could be, or an option that there is not.
        """
        address = read_url(url)
        store = cls(address.connect, secret=secret, compression=address.compression)
        store.reads_replicas = address.reads_replicas
        return store

    def join(self, namespace: str, secret: bytes | None, /) -> None:
        """Be told of a cache that uses the store.

        Raises:
            ValueError: Another cache uses it with another secret.
        """
        if secret is not None and secret != self._secret:
            if self._secret is not None:
                raise ValueError("caches that share one store must have one secret")
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
        return await self.link().lookups.look_up(keys) if keys else []

    def get_many_within(
        self, keys: Sequence[str], deadline: float, /
    ) -> Awaitable[list[bytes | None]]:
        """Do what `get_many` does, for so many seconds at the most.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
            TimeoutError: It takes longer.
        """
        return self.link().lookups.look_up(keys, deadline)

    async def open_many(
        self, keys: Sequence[str], deadline: float | None = None
    ) -> list[Opened | None]:
        """Do what `get_many` does, with the times at which the values expire.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
            TimeoutError: It takes longer than the deadline.
        """
        return await self.link().lookups.open(keys, deadline)

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

    async def connect(self) -> None:
        """Make the connections now that the first calls will need.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        self.listen()
        await asyncio.gather(self.get(_PROBE), self.renew_lease(_PROBE, "nobody", 1))

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

    # Leases.

    async def take_lease(self, key: str, owner: str, seconds: float, /) -> Lease:
        """Take the lease of a key, unless somebody has it.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        link = self.link()
        is_wanted = [True]
        try:
            return await link.run(_take(link, key, owner, seconds, is_wanted))
        except asyncio.CancelledError:
            is_wanted.clear()
            raise

    async def renew_lease(self, key: str, owner: str, seconds: float, /) -> bool:
        """Have a lease for so long from now on; False if it is not ours any more.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        link = self.link()
        return await link.run(link.leases.renew(key, owner, seconds))

    async def end_lease(
        self, key: str, owner: str, end: LeaseEnd, value: bytes = b"", ttl: float = 0.0, /
    ) -> bool:
        """Give a lease back, with a value in the same step; tell whether that is kept.

        Raises:
            StoreError: Redis cannot be asked, or refuses to keep the value.
        """
        return await self.link().run(self._end_lease(key, owner, end, value, ttl), size=len(value))

    def await_lease(self, key: str, /) -> AbstractContextManager[asyncio.Future[LeaseEnd]]:
        """Hear how the lease ends that somebody has, if it is taken after this."""
        self.listen()
        return self.link().leases.awaiting(key)

    # Being told.

    def track(self, forget: Callable[[Iterable[str] | None], None]) -> None:
        """Have `forget` called with keys that change; with None when any may have, unheard."""
        self._forget = forget

    def listen(self) -> Listener:
        """Return what listens in the running event loop, from now on."""
        link = self.link()
        if link.listener is not None:
            return link.listener
        return link.listen(None if self._forget is None else sorted(self._namespaces), self._forget)

    async def reconnect(self) -> None:
        """Drop all connections and what waits for them; the next call makes new ones."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.aclose()

    async def aclose(self) -> None:
        """Close all connections of the running event loop."""
        await self.reconnect()

    def link(self) -> Link:
        """Return what belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._links.get(loop)
        if found is None:
            self._links = {loop: own for loop, own in self._links.items() if not loop.is_closed()}
            found = self._links[loop] = Link(self._connect(), self._fetch, self._open_apart)
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
        """Fetch a large value from where it is; small ones have not waited for it."""
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
        sealed = await self._sealed(key, value, ttl)
        await self.link().execute("SET", key, sealed, "PX", _milliseconds(ttl))

    async def _end_lease(
        self, key: str, owner: str, end: LeaseEnd, value: bytes, ttl: float
    ) -> bool:
        sealed = await self._sealed(key, value, ttl) if value else b""
        return await self.link().leases.end(key, owner, end, sealed, _milliseconds(ttl))

    async def _add(self, key: str, value: bytes, ttl: float) -> bytes:
        sealed = await self._sealed(key, value, ttl)
        execute = self.link().execute
        if not await execute("SET", key, sealed, "PX", _milliseconds(ttl), "NX"):
            there = await execute("GET", key)
            if there is not None and (opened := self._open(key, there)) is not None:
                return opened.value
            await execute("SET", key, sealed, "PX", _milliseconds(ttl))
        return value

    async def _sealed(self, key: str, value: bytes, ttl: float) -> bytes:
        """Return what is to be written under a key; a large value itself is written at once.

        Raises:
            StoreError: It could not be.
        """
        expires = time.time() + ttl
        if len(value) < _IN_A_THREAD:
            return self._seal.close(key, value, expires)
        if len(value) < _APART:
            return await asyncio.to_thread(self._seal.close, key, value, expires)
        digest = await asyncio.to_thread(_name_of, value)
        place = f"{key}:{digest}"
        sealed = await asyncio.to_thread(self._seal.close, place, value, expires)
        await self.link().execute("SET", place, sealed, "PX", _milliseconds(ttl))
        return self._seal.close(key, place.encode(), expires, is_elsewhere=True)


async def _take(
    link: Link, key: str, owner: str, seconds: float, is_wanted: Sequence[bool]
) -> Lease:
    """Take a lease, and give it back if nobody waits for it any more when it comes."""
    lease = await link.leases.take(key, owner, seconds)
    if lease.is_ours and not is_wanted:
        await link.leases.end(key, owner, "failed", b"", 0)
    return lease


def _milliseconds(ttl: float) -> int:
    """Return a ttl as Redis takes it."""
    return max(1, min(round(ttl * 1000), _LONGEST))


async def _look_up_over(connection: Any) -> None:
    await connection.send_command("GET", _PROBE)
    with contextlib.suppress(MovedError):  # The key is another server's; this one is well.
        await connection.read_response()


def _name_of(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest()
