"""What a store in Redis has in one event loop: connections, and what is under way on them.

Rule: whoever stops waiting for something stops waiting, while it goes on; what goes on is bounded.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from memoserve._errors import StoreBusyError, StoreError
from memoserve.stores._batches import Lookups
from memoserve.stores._leases import CHANNEL, Leases
from memoserve.stores._listener import Listener
from memoserve.stores._seal import Opened
from memoserve.stores._servers import Servers

__all__ = ["Link"]

_COMMANDS = 12  # At a time, beside the lookups.
_MOST_WAITING = 10_000  # Commands; and
_MOST_BYTES = 67_108_864  # of values that wait to be written.

_Result = TypeVar("_Result")


class Link:
    """What a store has in one event loop: connections, and what is under way on them."""

    def __init__(
        self,
        servers: Servers,
        fetch: Callable[[Sequence[str]], Coroutine[Any, Any, list[Opened | StoreError | None]]],
        fetch_apart: Callable[[Opened], Coroutine[Any, Any, Opened | None]],
    ) -> None:
        self.servers = servers
        self.lookups: Lookups = Lookups(fetch, fetch_apart)
        self.leases: Leases = Leases(
            self.execute, lambda: bool(self.listener and self.listener.is_current)
        )
        self.listener: Listener | None = None
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

    def listen(
        self,
        prefixes: Sequence[str] | None,
        forget: Callable[[Iterable[str] | None], None] | None,
    ) -> Listener:
        """Begin to hear of leases, and of keys that change."""

        def forget_and_wake(keys: Iterable[str] | None) -> None:
            if keys is None:
                self.leases.lose()
            if forget is not None:
                forget(keys)

        self.listener = Listener(
            self.servers, [CHANNEL], self.leases.hear, prefixes=prefixes, forget=forget_and_wake
        )
        return self.listener

    async def execute(self, *command: Any) -> Any:
        """Have one command answered, when it is its turn."""
        async with self._turns:
            return await self.servers.execute(*command)

    async def aclose(self) -> None:
        """Give up what is under way, and close all connections."""
        if self.listener is not None:
            await self.listener.aclose()
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


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
