"""Where answers are kept: bytes under a key, for a while.

Rule: a store knows nothing of HTTP, and whatever it cannot do it says with an exception; that a
failing store is a miss is the cache's decision, made in `guarded`.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec

from memoserve.stores._sizes import bytes_of
from memoserve.stores.memory import MemoryStore

if TYPE_CHECKING:
    from memoserve.stores.redis import RedisStore

__all__ = [
    "BatchStore",
    "Lease",
    "LeaseEnd",
    "NearStore",
    "SharedStore",
    "Store",
    "open_store",
]

_REDIS_SCHEMES = (
    "redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel",
    "rediss+sentinel",
)  # fmt: skip
_TIERED = "tiered+"


@runtime_checkable
class Store(Protocol):
    """Keeps bytes under a key until their time is up, or until room is needed."""

    async def get(self, key: str, /) -> bytes | None:
        """Return what `set` kept under this key, or None."""

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Keep the value for `ttl` seconds, more than zero, replacing what was there."""

    async def delete(self, key: str, /) -> None:
        """Forget the key; a key that is not there is no error."""

    async def aclose(self) -> None:
        """Give back what the store holds; no other call follows."""


@runtime_checkable
class BatchStore(Store, Protocol):
    """A store that does in one go what others need several steps for."""

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each of the keys, in their order."""
        ...

    async def add(self, key: str, value: bytes, ttl: float, /) -> bytes:
        """Keep the value unless there is one already; return what is there now."""
        ...


@runtime_checkable
class SharedStore(BatchStore, Protocol):
    """A store that other processes and hosts use, too."""

    def join(self, namespace: str, secret: bytes | None, /) -> None:
        """Be told of a cache that uses the store: what its keys begin with, and its secret.

        With a secret, values carry a MAC from now on, and those that do not are not there.

        Raises:
            ValueError: Another cache uses it with another secret.
        """

    async def connect(self) -> None:
        """Make the connections now that the first calls will need."""

    def get_many_within(
        self, keys: Sequence[str], deadline: float, /
    ) -> Awaitable[list[bytes | None]]:
        """Do what `get_many` does, or raise a TimeoutError when so many seconds have passed.

        Many who look something up at the same moment then need no timer each.
        """
        ...

    async def ping(self, deadline: float, /) -> None:
        """Raise unless the store answers a lookup within `deadline` seconds.

        Connecting does not count, and whatever else is under way has no say in it.
        """

    async def reconnect(self) -> None:
        """Drop all connections and what waits for them; the next call makes new ones."""

    # Leases: of all processes and hosts that ask for one key's lease, one has it at a time.

    async def take_lease(self, key: str, owner: str, seconds: float, /) -> "Lease":
        """Take the lease for so long, unless somebody has it; take it again if it is ours."""
        ...

    async def renew_lease(self, key: str, owner: str, seconds: float, /) -> bool:
        """Have it for so long from now on; False if it is not ours any more."""
        ...

    async def end_lease(
        self, key: str, owner: str, end: "LeaseEnd", value: bytes = b"", ttl: float = 0.0, /
    ) -> bool:
        """Give it back and wake all who wait for it, with a value in the same step if any is given.

        Returns:
            Whether the value is kept. If the lease has gone to somebody else it is not, and if it
            has run out it is only where there is none: a late owner overwrites nothing newer.
        """
        ...

    def await_lease(self, key: str, /) -> "AbstractContextManager[asyncio.Future[LeaseEnd]]":
        """Hear how the lease ends that somebody has, if it is taken after this.

        The future is cancelled if that cannot be heard at the moment, and the lease must be tried.
        """
        ...


LeaseEnd = Literal["stored", "unstored", "failed"]


class Lease(msgspec.Struct, frozen=True):
    """What became of an attempt to take a lease."""

    is_ours: bool
    seconds: float  # Until it runs out.
    has_value: bool  # Something is stored under the key, by an earlier owner perhaps.


@runtime_checkable
class NearStore(Store, Protocol):
    """A store that may have an answer in memory."""

    def look_up(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each key, or nothing at all if memory cannot say."""
        ...


def open_store(url: str) -> Store:
    """Make the store that a URL names: `memory://?max_bytes=256mb`, `redis://host:6379/0`.

    `rediss://` is Redis over TLS, `unix://` a socket, `redis+cluster://host:6379` a Cluster, and
    `redis+sentinel://host:26379/service` the master that Sentinels name; `tiered+` before any of
    these puts memory in front. Options follow a question mark: `compress=zlib` or `zstd`,
    `read_from_replicas=yes`, the memory's `max_bytes=256mb`, and those of redis-py.

    Raises:
        ValueError: The URL names no store that there is, or an option that it does not have.
        ModuleNotFoundError: The store needs an extra that is not installed.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        return _open_memory(url)
    if scheme in _REDIS_SCHEMES:
        return _open_redis(url)
    if scheme.startswith(_TIERED) and scheme.removeprefix(_TIERED) in _REDIS_SCHEMES:
        return _open_tiered(url.removeprefix(_TIERED))
    known = ", ".join(f"{known}://" for known in ("memory", "tiered+redis", *_REDIS_SCHEMES))
    # The scheme alone: the rest may hold a password.
    given = f"{scheme}://"
    raise ValueError(f"store must be a URL with one of {known}, not with {given!r}")


def _open_memory(url: str) -> Store:
    place, _, query = url.removeprefix("memory://").partition("?")
    options = {name: value for name, _, value in (o.partition("=") for o in query.split("&") if o)}
    limit = options.pop("max_bytes", "256mb")
    if options or place:
        raise ValueError(f"store must be like memory://?max_bytes=256mb, not {url!r}")
    return MemoryStore(bytes_of(limit))


def _open_redis(url: str) -> "RedisStore":
    try:
        from memoserve.stores.redis import RedisStore  # noqa: PLC0415  (only who uses it has it)
    except ModuleNotFoundError as error:
        message = f"{url.partition('://')[0]}:// needs redis-py: pip install memoserve[redis]"
        raise ModuleNotFoundError(message, name=error.name) from error
    return RedisStore.from_url(url)


def _open_tiered(url: str) -> Store:
    """Put memory in front of Redis; `max_bytes` is the memory's."""
    place, _, query = url.partition("?")
    options = [option for option in query.split("&") if option]
    sizes = [option for option in options if option.startswith("max_bytes=")]
    rest = "&".join(option for option in options if option not in sizes)
    back = _open_redis(f"{place}?{rest}" if rest else place)
    from memoserve.stores.tiered import TieredStore  # noqa: PLC0415  (as above)

    size = sizes[-1].removeprefix("max_bytes=") if sizes else "256mb"
    return TieredStore(back, MemoryStore(bytes_of(size)))
