"""A store that cannot harm a request.

Rule: a call that fails or takes longer than the deadline is a miss for a lookup and nothing for
a write; it is reported, and logged once until the store works again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from memoserve.stores import BatchStore, Store

__all__ = ["GuardedStore"]

_logger = logging.getLogger("memoserve")

_Result = TypeVar("_Result")
Operation = Literal["get", "set", "delete"]


class GuardedStore:
    """Calls a store for at most `deadline` seconds at a time, and never raises.

    Args:
        store: The store that does the work.
        deadline: Seconds after which a call is given up; None for as long as it takes.
        report: Told of every call that was not cancelled: its operation, its seconds, and the
            name of its error, empty for success.
    """

    def __init__(
        self, store: Store, deadline: float | None, report: Callable[[Operation, float, str], None]
    ) -> None:
        self._store = store
        self._deadline = deadline
        self._report = report
        self._is_failing = False

    async def get(self, key: str, /) -> bytes | None:
        """Return what is kept; None, too, if the store cannot say."""
        return await self._call("get", self._store.get(key), otherwise=None)

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each key; nothing at all if the store cannot say."""
        nothing: list[bytes | None] = [None] * len(keys)
        return await self._call("get", _get_many(self._store, keys), otherwise=nothing)

    async def set(self, key: str, value: bytes, ttl: float, /) -> bool:
        """Keep the value; False if the store did not."""
        return await self._call("set", _succeed(self._store.set(key, value, ttl)), otherwise=False)

    async def delete(self, key: str, /) -> bool:
        """Forget the key; False if the store did not."""
        return await self._call("delete", _succeed(self._store.delete(key)), otherwise=False)

    async def _call(
        self, operation: Operation, call: Awaitable[_Result], *, otherwise: _Result
    ) -> _Result:
        started = time.perf_counter()
        error, result = "", otherwise
        try:
            if self._deadline is None:
                result = await call
            else:
                async with asyncio.timeout(self._deadline):
                    result = await call
        except Exception as raised:  # noqa: BLE001  (a store's client may raise anything)
            error = type(raised).__name__
            if not self._is_failing:
                _logger.warning("the store fails, so answers are not cached: %r", raised)
        self._is_failing = bool(error)
        self._report(operation, time.perf_counter() - started, error)
        return result


async def _get_many(store: Store, keys: Sequence[str]) -> list[bytes | None]:
    if isinstance(store, BatchStore):
        return await store.get_many(keys)
    return list(await asyncio.gather(*map(store.get, keys)))


async def _succeed(call: Awaitable[None]) -> bool:
    await call
    return True
