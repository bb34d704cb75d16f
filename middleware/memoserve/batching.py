"""Micro-batching: concurrent calls of a model become one.

Rule: every caller gets the result that its item would have had alone. Who gives up costs the
others nothing, what one item breaks is broken for its caller only, and nobody waits for company
that is not to be expected.
"""

import asyncio
import contextvars
import functools
import inspect
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from memoserve._errors import OverloadedError
from memoserve._events import BatchFinished, Observer, tell

__all__ = ["MicroBatcher"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Call(Generic[_Item, _Result]):
    """One caller who waits."""

    __slots__ = ("group", "item", "length", "result")

    def __init__(self, item: _Item, length: float, group: Hashable) -> None:
        self.item = item
        self.length = length
        self.group = group
        self.result: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()


class MicroBatcher(Generic[_Item, _Result]):
    """Let concurrent callers of a model share its batches: `result = await batcher(item)`.

    One batch runs at a time; who calls meanwhile is in the next one. A caller who is alone does
    not wait; where the last batch had several, the next one waits for them to come back, for at
    most `max_wait`. There is nothing to start, and one batcher serves one event loop at a time.

    Args:
        run: Takes a list of items and returns their results in the same order. A plain function
            runs in a thread of this batcher's own, so the event loop goes on; a coroutine
            function is awaited.
        model: The label in metrics, and the name of the thread.
        max_size: Items in a batch, at most.
        max_wait: Seconds that a batch waits for more callers, at most.
        max_queue: Callers that may wait; one more gets an `OverloadedError` at once.
        length: How long an item is, in any unit. A batch is padded to its longest item, so it
            holds only what is alike in length: see `spread`.
        spread: How many times longer or shorter than the batch's oldest item the others may be.
            On a CPU, batches of short texts gained most with 1.35 to 1.5, and little beyond 2.
        group: Items run together only if this is equal: generation parameters, for example.
        nice: How far the thread steps back for the others of this process, 0 to 19 (Linux only):
            with 10, cache hits stay quick while models keep all cores busy.
        observer: Told of each batch; `memoserve.telemetry.otel.default_observer()` makes it
            metrics.

    Raises:
        ValueError: An argument is none of these.
    """

    def __init__(
        self,
        run: Callable[[list[_Item]], Sequence[_Result] | Awaitable[Sequence[_Result]]],
        *,
        model: str = "model",
        max_size: int = 16,
        max_wait: float = 0.002,
        max_queue: int = 256,
        length: Callable[[_Item], float] | None = None,
        spread: float = 1.5,
        group: Callable[[_Item], Hashable] | None = None,
        nice: int = 0,
        observer: Observer | None = None,
    ) -> None:
        for name, value, least in (
            ("max_size", max_size, 1),
            ("max_wait", max_wait, 0),
            ("max_queue", max_queue, 1),
            ("spread", spread, 1),
        ):
            if not value >= least:  # NaN is none either.
                raise ValueError(f"{name} must be at least {least}, not {value!r}")
        if nice not in range(20):
            raise ValueError(f"nice must be from 0 to 19, not {nice!r}")
        self._run: Callable[[list[_Item]], Any] = run
        self._is_async = _is_async(run)
        self._model = model
        self._max_size = max_size
        self._max_wait = max_wait
        self._max_queue = max_queue
        self._length = length
        self._spread = spread
        self._group = group
        self._nice = nice
        self._observer = observer
        self._waiting: dict[_Call[_Item, _Result], None] = {}  # In the order of their arrival.
        self._full = asyncio.Event()
        self._had_company = False  # The last batch held more than one call.
        self._serving: asyncio.Task[None] | None = None  # Lives while somebody waits.
        self._thread: ThreadPoolExecutor | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """How many callers wait for a batch to begin."""
        return len(self._waiting)

    async def __call__(self, item: _Item) -> _Result:
        """Return the result of one item.

        Raises:
            OverloadedError: `max_queue` callers wait already.
            RuntimeError: The batcher was closed.
            Exception: What `run` raised for this item alone.
        """
        if self._is_closed:
            raise RuntimeError("this MicroBatcher was closed")
        if len(self._waiting) >= self._max_queue:
            raise OverloadedError(f"{len(self._waiting)} calls of {self._model!r} wait already")
        length = 1.0 if self._length is None else float(self._length(item))
        group = None if self._group is None else self._group(item)
        call = _Call[_Item, _Result](item, length, group)
        self._waiting[call] = None
        self._wake()
        try:
            return await call.result
        finally:
            self._waiting.pop(call, None)  # Still there only if the caller has given up.

    async def aclose(self) -> None:
        """Refuse further calls, let those that wait have their results, and end the thread."""
        self._is_closed = True
        self._full.set()
        if self._serving is not None:
            await asyncio.wait([self._serving])
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)

    def _wake(self) -> None:
        if self._serving is None:
            self._full = asyncio.Event()  # One belongs to a loop, a batcher that is idle does not.
            # An empty context: the task serves all callers, not the one that happened to be first.
            self._serving = asyncio.get_running_loop().create_task(
                self._serve(), context=contextvars.Context()
            )
        elif len(self._waiting) >= self._max_size:
            self._full.set()

    async def _serve(self) -> None:
        """Run batch after batch until nobody waits."""
        try:
            while self._waiting:
                await self._wait_for_company()
                if batch := self._next_batch():
                    self._had_company = len(batch) > 1
                    await self._run_batch(batch)
        finally:
            self._serving = None
            for call in self._waiting:  # Only if this task was cancelled: nobody else would come.
                call.result.cancel()

    async def _wait_for_company(self) -> None:
        is_expected = self._had_company or len(self._waiting) > 1
        if not is_expected or len(self._waiting) >= self._max_size or self._is_closed:
            return
        self._full.clear()
        timer = asyncio.get_running_loop().call_later(self._max_wait, self._full.set)
        await self._full.wait()
        timer.cancel()

    def _next_batch(self) -> list[_Call[_Item, _Result]]:
        """Take the oldest call and those that may run with it, in the order of their arrival."""
        batch: list[_Call[_Item, _Result]] = []
        for call in self._waiting:
            if len(batch) == self._max_size:
                break
            if not batch or self._fit(batch[0], call):
                batch.append(call)
        for call in batch:
            del self._waiting[call]
        return batch

    def _fit(self, oldest: _Call[_Item, _Result], other: _Call[_Item, _Result]) -> bool:
        return (
            oldest.group == other.group
            and other.length <= oldest.length * self._spread
            and oldest.length <= other.length * self._spread
        )

    async def _run_batch(self, batch: list[_Call[_Item, _Result]]) -> None:
        try:
            results = await self._run_timed([call.item for call in batch])
        except Exception as error:  # noqa: BLE001  (it is the callers' to handle)
            await self._give_up_on(batch, error)
        except BaseException:
            for call in batch:
                call.result.cancel()
            raise
        else:
            for call, result in zip(batch, results, strict=True):
                if not call.result.done():  # Else its caller has given up.
                    call.result.set_result(result)

    async def _give_up_on(self, batch: list[_Call[_Item, _Result]], error: Exception) -> None:
        """Find out whose item broke the batch: each runs once more, alone."""
        left = [call for call in batch if not call.result.done()]
        if len(batch) > 1:
            for call in left:
                await self._run_batch([call])
        else:
            for call in left:
                call.result.set_exception(error)

    async def _run_timed(self, items: list[_Item]) -> Sequence[_Result]:
        started = time.perf_counter()
        try:
            if self._is_async:
                results: Sequence[_Result] = await self._run(items)
            else:
                loop = asyncio.get_running_loop()
                results = await loop.run_in_executor(self._own_thread(), self._run_here, items)
        finally:
            seconds = time.perf_counter() - started
            if self._observer is not None:
                tell(self._observer, BatchFinished(self._model, len(items), seconds))
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} items had {len(results)} results: {self._run!r}")
        return results

    def _run_here(self, items: list[_Item]) -> Sequence[_Result]:
        try:
            results: Sequence[_Result] = self._run(items)
        except StopIteration as error:  # No future can hold one: its caller would wait for ever.
            raise RuntimeError(f"StopIteration came out of {self._run!r}") from error
        return results

    def _own_thread(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(
                1,
                thread_name_prefix=self._model,
                initializer=functools.partial(_step_back, self._nice),
            )
        return self._thread


def _step_back(nice: int) -> None:
    # On Linux each thread has a priority of its own, which those that PyTorch starts here inherit.
    if nice and sys.platform == "linux":
        thread = threading.get_native_id()
        # From where the server is, which may be nice as a whole: only root could go below that.
        stepped = min(19, os.getpriority(os.PRIO_PROCESS, thread) + nice)
        os.setpriority(os.PRIO_PROCESS, thread, stepped)


def _is_async(run: object) -> bool:
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(
        getattr(run, "__call__", None)  # noqa: B004  (of an object, not whether there is one)
    )
