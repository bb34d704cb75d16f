"""A store in Redis, shared by every process and host.

Rule: what Redis or its client raises is a `StoreError`, translated here once; every key that is
written has a time to live. Whether a failure matters is decided in `guarded`.
"""

from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from memoserve._errors import StoreError

__all__ = ["RedisStore"]


class RedisStore:
    """Keep entries in one Redis server, under the eviction policy that is set there.

    Args:
        client: What talks to the server; it must return bytes (`decode_responses=False`).
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    @classmethod
    def from_url(cls, url: str) -> "RedisStore":
        """Make a store for `redis://`, `rediss://` or `unix://`; nothing is connected yet.

        Raises:
            ValueError: redis-py cannot read the URL.
        """
        # pyright: ignore because redis-py leaves its keyword arguments without types.
        return cls(Redis.from_url(url))  # pyright: ignore[reportUnknownMemberType]

    async def get(self, key: str, /) -> bytes | None:
        """Return what is kept under this key, or None.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        return cast("bytes | None", await _translated(self._client.get(key)))

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each key, in one round trip.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        if not keys:
            return []
        return cast("list[bytes | None]", await _translated(self._client.mget(keys)))

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Keep the value for `ttl` seconds, to the millisecond.

        Raises:
            StoreError: Redis cannot be asked, is out of memory, or is read-only.
        """
        milliseconds = max(1, min(round(ttl * 1000), 2**53))
        await _translated(self._client.set(key, value, px=milliseconds))

    async def delete(self, key: str, /) -> None:
        """Forget the key.

        Raises:
            StoreError: Redis cannot be asked, or refuses.
        """
        await _translated(self._client.delete(key))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def _translated(command: Any) -> Any:
    try:
        return await command
    except (RedisError, OSError) as error:
        raise StoreError(f"{type(error).__name__}: {error}") from error
