"""Lookups that travel together.

Rule: what is looked up in one iteration of the event loop leaves in the next, in one batch; no
lookup waits for another to come. Only while all lanes are busy do lookups collect, and then the
next batch takes them all. A caller who gives up takes nobody's batch along, and who asks for a
large value, which is fetched apart, holds up nobody else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeGuard

import msgspec

from memoserve._errors import StoreBusyError, StoreError
from memoserve.stores._deadline import SharedDeadline
from memoserve.stores._seal import Opened

__all__ = ["Lookups"]

_LANES = 2  # Batches under way at a time; one alone would wait for the other's return.
_KEYS_AT_ONCE = 512  # In one batch; Redis serves nobody else meanwhile.
_MOST_WAITING = 20_000  # Lookups; a loop that is so far behind must not get further.

Found = Opened | StoreError | None


class _Waiter(msgspec.Struct):
    keys: Sequence[str]
    future: asyncio.Future[Any]
    wants_times: bool  # The values as they were opened, not alone.


class Lookups:
    """Collects lookups of one event loop.

    Args:
        fetch: Returns for each key, all different, what is there, or why that cannot be said.
        fetch_apart: Returns the value that is elsewhere.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[str]], Awaitable[list[Found]]],
        fetch_apart: Callable[[Opened], Awaitable[Opened | None]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._fetch = fetch
        self._fetch_apart = fetch_apart
        self._waiting: list[_Waiter] = []
        self._free_lanes = _LANES
        self._is_departing = False
        self._deadline: SharedDeadline | None = None  # Of those who came in this iteration.
        self._tasks: set[asyncio.Task[None]] = set()

    def look_up(
        self, keys: Sequence[str], deadline: float | None = None
    ) -> asyncio.Future[list[bytes | None]]:
        """Return what will hold the values, in the keys' order, or a TimeoutError.

        Raises:
            StoreBusyError: Too many wait already.
        """
        return self._wait(keys, deadline, wants_times=False)

    def open(
        self, keys: Sequence[str], deadline: float | None = None
    ) -> asyncio.Future[list[Opened | None]]:
        """Do the same, with the times at which the values expire.

        Raises:
            StoreBusyError: Too many wait already.
        """
        return self._wait(keys, deadline, wants_times=True)

    async def aclose(self) -> None:
        """Give up whatever is under way; who waits for it gets an error."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            _fail(waiter, _closed())
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wait(
        self, keys: Sequence[str], deadline: float | None, *, wants_times: bool
    ) -> asyncio.Future[Any]:
        if len(self._waiting) >= _MOST_WAITING:
            raise StoreBusyError(f"{len(self._waiting)} lookups wait already")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(_Waiter(keys, future, wants_times))
        if deadline is not None:
            self._limit(future, deadline)
        if self._free_lanes and not self._is_departing:
            self._is_departing = True
            self._loop.call_soon(self._depart)
        return future

    def _limit(self, future: asyncio.Future[Any], deadline: float) -> None:
        """Have all who begin to wait in one iteration share one timer."""
        if self._deadline is None or self._deadline.seconds != deadline:
            self._deadline = SharedDeadline(deadline)
            self._loop.call_soon(self._close_deadline)
        self._deadline.waiting.append(future)

    def _close_deadline(self) -> None:
        self._deadline = None

    def _depart(self) -> None:
        self._is_departing = False
        while self._waiting and self._free_lanes:
            waiters, keys = self._board()
            if waiters:
                self._free_lanes -= 1
                self._spawn(self._carry(waiters, list(keys))).add_done_callback(self._arrive)

    def _board(self) -> tuple[list[_Waiter], dict[str, None]]:
        """Take as many of those who wait as fit into a batch, without those who gave up."""
        boarded: list[_Waiter] = []
        keys: dict[str, None] = {}
        taken = 0
        for waiter in self._waiting:
            taken += 1
            if not waiter.future.done():
                boarded.append(waiter)
                keys.update(dict.fromkeys(waiter.keys))
                if len(keys) >= _KEYS_AT_ONCE:
                    break
        del self._waiting[:taken]
        return boarded, keys

    async def _carry(self, waiters: list[_Waiter], keys: list[str]) -> None:
        try:
            found = dict(zip(keys, await self._fetch(keys), strict=True))
        except BaseException as error:
            for waiter in waiters:
                _fail(waiter, error)
            if isinstance(error, Exception):
                return
            raise
        values = {
            key: None if each is None else each.value
            for key, each in found.items()
            if _is_plain(each)
        }
        for waiter in waiters:
            try:
                alone = None if waiter.wants_times else [values[key] for key in waiter.keys]
            except KeyError:
                alone = None
            if alone is None:
                self._spawn(self._complete(waiter, found))
            elif not waiter.future.done():
                waiter.future.set_result(alone)

    async def _complete(self, waiter: _Waiter, found: dict[str, Found]) -> None:
        """Give one who waits what was found, and what has to be fetched apart."""
        try:
            opened = [await self._opened(found[key]) for key in waiter.keys]
        except BaseException as error:
            _fail(waiter, error)
            if isinstance(error, Exception):
                return
            raise
        if not waiter.future.done():
            alone = [None if each is None else each.value for each in opened]
            waiter.future.set_result(opened if waiter.wants_times else alone)

    async def _opened(self, found: Found) -> Opened | None:
        if isinstance(found, StoreError):
            raise found
        if found is None or not found.is_elsewhere:
            return found
        return await self._fetch_apart(found)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _arrive(self, _: "asyncio.Task[None]") -> None:
        self._free_lanes += 1
        if self._waiting:
            self._depart()


def _is_plain(found: Found) -> TypeGuard[Opened | None]:
    return found is None or (isinstance(found, Opened) and not found.is_elsewhere)


def _closed() -> StoreError:
    return StoreError("the store was closed or reconnected meanwhile")


def _fail(waiter: _Waiter, error: BaseException) -> None:
    """Raise the error for one who waits: a copy, or all their tracebacks would grow on one."""
    if waiter.future.done():
        return
    if isinstance(error, StoreError):
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
    else:
        copy = StoreError(error) if isinstance(error, Exception) else _closed()
        copy.__cause__ = error
    waiter.future.set_exception(copy)
