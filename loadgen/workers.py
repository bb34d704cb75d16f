"""Processes that send: the parent plans, watches and reports, the workers only send.

Rule: one plan. Worker w of W takes the rows w, w + W, w + 2W ..., all on one monotonic clock from
one start, so that the split changes nothing that is sent. What has ended travels to the parent in
batches a few times a second; drawing a screen there delays no request.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self, TypeVar

from loadgen.arrivals import Closed
from loadgen.plan import Plan
from loadgen.records import Batch, Records
from loadgen.runner import Engine, Run, frozen_heap, unless
from loadgen.target import Target
from loadgen.transport import Client, open_client, warm_up

__all__ = ["Workers", "WorkersError"]

_HEAD_START = 0.2  # Seconds from the last "ready" to the first due time.
_REPORTED = 0.2  # Seconds between batches.
_STOPPING = 5.0  # Seconds that a worker has to end.

T = TypeVar("T")

_SPAWN = multiprocessing.get_context("spawn")


class WorkersError(Exception):
    """A worker process has ended or cannot do its work; the message says why."""


@dataclass(frozen=True, slots=True)
class _Job:
    plan: Plan
    max_inflight: int
    drain: float


@dataclass(frozen=True, slots=True)
class _Ready:
    """The requests are made."""


@dataclass(frozen=True, slots=True)
class _Start:
    at: float


@dataclass(frozen=True, slots=True)
class _Stop:
    """Send nothing more."""


@dataclass(frozen=True, slots=True)
class _Finished:
    elapsed: float
    cpu: float


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str


class Workers:
    """Processes that take one plan after another; an async context manager."""

    def __init__(self, target: Target, count: int = 1) -> None:
        self._target = target
        self._count = count
        self._members: list[_Member] = []

    async def __aenter__(self) -> Self:
        for number in range(self._count):
            ours, theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(
                target=_work, args=(theirs, self._target, number, self._count), daemon=True
            )
            process.start()
            theirs.close()
            self._members.append(_Member(process, ours))
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for member in self._members:
            member.close()
        for member in self._members:
            await asyncio.to_thread(member.process.join, _STOPPING)
            if member.process.is_alive():
                member.process.kill()
                await asyncio.to_thread(member.process.join)

    async def drive(
        self,
        plan: Plan,
        *,
        max_inflight: int = 512,
        drain: float = 30.0,
        stop: asyncio.Event | None = None,
        watch: Callable[[Records], None] | None = None,
        observe: Callable[[Batch], None] | None = None,
    ) -> Run:
        """Send a plan; the arguments are those of `loadgen.drive`.

        Args:
            plan: what to send, and when.
            max_inflight: of all workers together.
            drain: seconds that the last answers have.
            stop: set it to end early.
            watch: called once with the records that will fill.
            observe: called with each batch of what has ended.

        Raises:
            WorkersError: a worker has ended early.
        """
        stop = stop or asyncio.Event()
        records = Records(len(plan.rows))
        if watch is not None:
            watch(records)
        job = _Job(plan, -(-max_inflight // self._count), drain)
        for member in self._members:
            member.send(job)
        stopping = asyncio.create_task(self._pass_on(stop))
        try:
            for member in self._members:
                await member.until(_Ready)
            started = time.monotonic() + _HEAD_START
            for member in self._members:
                member.send(_Start(started))
            ends = await self._collect(records, observe)
        finally:
            stopping.cancel()
        return Run(
            plan,
            records,
            elapsed=max(_HEAD_START, *(end.elapsed for end in ends)),
            cpu=max(end.cpu for end in ends),
            interrupted=stop.is_set(),
            started=started,
            workers=self._count,
        )

    async def _pass_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        for member in self._members:
            member.send(_Stop())

    async def _collect(
        self, records: Records, observe: Callable[[Batch], None] | None
    ) -> list[_Finished]:
        latest: dict[_Member, Batch] = {}

        def take(member: _Member, batch: Batch) -> None:
            latest[member] = batch
            records.put(batch)
            if observe is not None:
                observe(batch)
            records.started = sum(last.started for last in latest.values())
            records.dropped = sum(last.dropped for last in latest.values())
            records.retried = sum(last.retried for last in latest.values())
            records.streamed = sum(last.streamed for last in latest.values())

        waiting = [member.until(_Finished, take) for member in self._members]
        return await asyncio.gather(*waiting)


class _Member:
    """The parent's end of one worker."""

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process = process
        self._pipe = pipe
        self._inbox: asyncio.Queue[object] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(pipe.fileno(), self._receive)

    def send(self, message: object) -> None:
        """Send a message; that nobody is there any more, the next `until` will say."""
        try:
            self._pipe.send(message)
        except OSError:
            self._inbox.put_nowait(None)

    async def until(
        self, kind: type[T], take: "Callable[[_Member, Batch], None] | None" = None
    ) -> T:
        """Wait for a message of one kind; batches on the way are handed to `take`."""
        while True:
            message = await self._inbox.get()
            if isinstance(message, kind):
                return message
            match message:
                case Batch() if take is not None:
                    take(self, message)
                case _Failed(reason):
                    raise WorkersError(reason)
                case None:
                    raise WorkersError("a worker process has ended early")
                case _:
                    pass

    def close(self) -> None:
        """Hang up, which ends the worker."""
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._pipe.close()

    def _receive(self) -> None:
        try:
            self._inbox.put_nowait(self._pipe.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._inbox.put_nowait(None)


def _work(pipe: Connection, target: Target, number: int, count: int) -> None:
    """Be a worker: take jobs until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who tells us.
    with (
        contextlib.suppress(EOFError, OSError),  # The parent is gone.
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(_Worker(pipe, target, number, count).run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where it is installed: its timers are finer and its sockets cheaper."""
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415  (an extra)

    return uvloop.new_event_loop


class _Worker:
    """The worker's end."""

    def __init__(self, pipe: Connection, target: Target, number: int, count: int) -> None:
        self._pipe = pipe
        self._target = target
        self._number = number
        self._count = count
        self._inbox: asyncio.Queue[object] = asyncio.Queue()

    async def run(self) -> None:
        """Take jobs until the parent hangs up."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._receive)
        os.set_blocking(self._pipe.fileno(), True)  # uvloop's readers are not.
        try:
            client = open_client(self._target)
        except (ValueError, ImportError) as error:
            self._pipe.send(_Failed(str(error)))
            return
        async with client:
            while (message := await self._inbox.get()) is not None:
                if isinstance(message, _Job):
                    await self._do(message, client)

    async def _do(self, job: _Job, client: Client) -> None:
        rows = range(self._number, len(job.plan.rows), self._count)
        records = Records(len(job.plan.rows), journal=True)
        engine = Engine(
            job.plan,
            client,
            records,
            max_inflight=job.max_inflight,
            rows=rows,
            clock=time.monotonic,
        )
        stop = asyncio.Event()
        await warm_up(client)
        with frozen_heap():
            self._pipe.send(_Ready())
            start = await self._inbox.get()
            if not isinstance(start, _Start):
                self._pipe.send(_Finished(elapsed=0.0, cpu=0.0))
                return
            reporting = asyncio.create_task(self._report(records))
            listening = asyncio.create_task(self._listen(stop))
            cpu = time.process_time()
            await unless(stop, engine.run(start.at, job.drain, self._users(job.plan)))
            elapsed = max(time.monotonic() - start.at, _HEAD_START)
            cpu = time.process_time() - cpu
            for task in (reporting, listening):
                task.cancel()
            await asyncio.wait({reporting, listening})
        self._pipe.send(records.take())
        self._pipe.send(_Finished(elapsed, cpu / elapsed))

    def _users(self, plan: Plan) -> int | None:
        if not isinstance(plan.arrivals, Closed):
            return None
        return len(range(self._number, plan.arrivals.users, self._count))

    async def _report(self, records: Records) -> None:
        while True:
            await asyncio.sleep(_REPORTED)
            self._pipe.send(records.take())

    async def _listen(self, stop: asyncio.Event) -> None:
        message = await self._inbox.get()  # A word, or the end of the parent: stop either way.
        stop.set()
        if message is None:
            self._inbox.put_nowait(None)  # For `run`.

    def _receive(self) -> None:
        try:
            self._inbox.put_nowait(self._pipe.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._inbox.put_nowait(None)
