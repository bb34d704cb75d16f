"""Lookups that travel together.

Rule: what is looked up in one iteration of the event loop leaves in the next, in one batch; no
lookup waits for another to come. Only while all lanes are busy do lookups collect, and then the
next batch takes them all. A caller who gives up takes nobody's batch along.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from memoserve._errors import StoreBusyError, StoreError
from memoserve.stores._deadline import SharedDeadline

__all__ = ["Lookups"]

_LANES = 2  # Batches under way at a time; one alone would wait for the other's return.
_KEYS_AT_ONCE = 512  # In one batch; Redis serves nobody else meanwhile.
_MOST_WAITING = 20_000  # Lookups; a loop that is so far behind must not get further.

_Value = TypeVar("_Value")
Waiter = tuple[Sequence[str], asyncio.Future[list[_Value]]]


class Lookups(Generic[_Value]):
    """Collects lookups of one event loop.

    Args:
        fetch: Returns for each key, all different, what is there, or why that cannot be said.
    """

    def __init__(
        self, fetch: Callable[[Sequence[str]], Awaitable[list[_Value | StoreError]]]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._fetch = fetch
        self._waiting: list[Waiter[_Value]] = []
        self._free_lanes = _LANES
        self._is_departing = False
        self._deadline: SharedDeadline | None = None  # Of those who came in this iteration.
        self._tasks: set[asyncio.Task[None]] = set()

    def look_up(
        self, keys: Sequence[str], deadline: float | None = None
    ) -> "asyncio.Future[list[_Value]]":
        """Return what will hold the values, in the keys' order, or a TimeoutError.

        Raises:
            StoreBusyError: Too many wait already.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise StoreBusyError(f"{len(self._waiting)} lookups wait already")
        waiter: asyncio.Future[list[_Value]] = self._loop.create_future()
        self._waiting.append((keys, waiter))
        if deadline is not None:
            self._limit(waiter, deadline)
        if self._free_lanes and not self._is_departing:
            self._is_departing = True
            self._loop.call_soon(self._depart)
        return waiter

    async def aclose(self) -> None:
        """Give up whatever is under way; who waits for it gets an error."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _limit(self, waiter: "asyncio.Future[list[_Value]]", deadline: float) -> None:
        """Have all who begin to wait in one iteration share one timer."""
        if self._deadline is None or self._deadline.seconds != deadline:
            self._deadline = SharedDeadline(deadline)
            self._loop.call_soon(self._close_deadline)
        self._deadline.waiting.append(waiter)

    def _close_deadline(self) -> None:
        self._deadline = None

    def _depart(self) -> None:
        self._is_departing = False
        while self._waiting and self._free_lanes:
            waiters, keys = self._board()
            if waiters:
                self._free_lanes -= 1
                task = self._loop.create_task(self._carry(waiters, list(keys)))
                self._tasks.add(task)
                task.add_done_callback(self._arrive)

    def _board(self) -> tuple[list[Waiter[_Value]], dict[str, None]]:
        """Take as many of those who wait as fit into a batch, without those who gave up."""
        boarded: list[Waiter[_Value]] = []
        keys: dict[str, None] = {}
        taken = 0
        for waiter in self._waiting:
            taken += 1
            if not waiter[1].done():
                boarded.append(waiter)
                keys.update(dict.fromkeys(waiter[0]))
                if len(keys) >= _KEYS_AT_ONCE:
                    break
        del self._waiting[:taken]
        return boarded, keys

    async def _carry(self, waiters: list[Waiter[_Value]], keys: list[str]) -> None:
        try:
            found = dict(zip(keys, await self._fetch(keys), strict=True))
        except Exception as error:  # noqa: BLE001  (whoever waits has it raised)
            for _, waiter in waiters:
                _fail(waiter, error)
            return
        except asyncio.CancelledError:
            for _, waiter in waiters:
                _fail(waiter, StoreError("the store was closed or reconnected meanwhile"))
            raise
        for wanted, waiter in waiters:
            _settle(waiter, [found[key] for key in wanted])

    def _arrive(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._free_lanes += 1
        if self._waiting:
            self._depart()


def _settle(waiter: "asyncio.Future[list[_Value]]", found: list[_Value | StoreError]) -> None:
    values: list[_Value] = []
    for each in found:
        if isinstance(each, StoreError):
            _fail(waiter, each)
            return
        values.append(each)
    if not waiter.done():
        waiter.set_result(values)


def _fail(waiter: "asyncio.Future[list[_Value]]", error: Exception) -> None:
    """Raise the error for one who waits: a copy, or all their tracebacks would grow on one."""
    if not waiter.done():
        copy = type(error)(*error.args) if isinstance(error, StoreError) else StoreError(error)
        copy.__cause__ = error.__cause__ or error
        waiter.set_exception(copy)
