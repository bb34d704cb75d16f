"""The engine: sends a plan on its schedule and writes down the times of each request.

Rule: the schedule is absolute and is never moved. A request that is late goes out at once
(catch-up) and its lateness counts in its response time; one that is due while too many are in
flight is dropped and counted, not delayed. So a stall of the server shows as what its users would
have felt (coordinated omission, wrk2's lesson), and a stall of the generator shows as lag.
"""

import asyncio
import contextlib
import gc
import itertools
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass

from loadgen.arrivals import Closed
from loadgen.explain import Explanation, Fills, explain
from loadgen.plan import Plan
from loadgen.records import Records
from loadgen.reply import Reply
from loadgen.transport import Client, Prepared, exchange

__all__ = ["Engine", "Probe", "Run", "drive", "frozen_heap", "probe", "unless"]

_HEAD_START = 0.05  # Seconds between the last preparation and the first due time.
_UVLOOP_ROUNDING = 0.0005  # Seconds: its timers are of whole ms, and early is no better than late.
_CATCH_UP = 50  # Late requests sent in a row before answers are read again.


@dataclass(frozen=True, slots=True)
class Probe:
    """What a closed loop found out: how each exchange ended, in how many seconds altogether."""

    replies: tuple[Reply, ...]
    elapsed: float

    @property
    def rate(self) -> float:
        """Usable answers per second."""
        usable = sum(1 for reply in self.replies if reply.is_usable)
        return usable / self.elapsed


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: what was planned and what was measured."""

    plan: Plan
    records: Records
    elapsed: float  # Seconds from the first due time to the end of the last answer.
    cpu: float  # Share of one core that the generator took meanwhile; of workers, the busiest.
    interrupted: bool = False
    started: float = 0.0  # When the first request could be due, on the clock of the records.
    workers: int = 1

    def explain(
        self,
        ttl: float | None = None,
        *,
        capacity: int | None = None,
        coalesce: bool = True,
        warm: Fills | None = None,
    ) -> Explanation:
        """Say of each request why it was a hit or a miss; see `loadgen.explain`."""
        return explain(
            self.plan, self.records, ttl=ttl, capacity=capacity, coalesce=coalesce, warm=warm
        )

    @property
    def unexplained(self) -> list[int]:
        """The misses that the cache should not have had, by what its answers say of lifetimes."""
        return self.explain().unexplained


async def drive(
    plan: Plan,
    client: Client,
    *,
    max_inflight: int = 512,
    drain: float = 30.0,
    stop: asyncio.Event | None = None,
    watch: Callable[[Records], None] | None = None,
) -> Run:
    """Send a plan with any httpx client and return what happened.

    Args:
        plan: what to send, and when.
        client: an `httpx.AsyncClient`; with an `ASGITransport` there is no network at all.
        max_inflight: a request that is due while so many are unanswered is dropped.
        drain: seconds that the last answers have after the last send.
        stop: set it to end early: nothing more is sent, open requests are given up.
        watch: called once, before the first request, with the records that will fill.
    """
    records = Records(len(plan.rows))
    engine = Engine(plan, client, records, max_inflight=max_inflight)
    if watch is not None:
        watch(records)
    clock = asyncio.get_running_loop().time
    with frozen_heap():
        cpu, started = time.process_time(), clock() + _HEAD_START
        await unless(stop or asyncio.Event(), engine.run(started, drain))
        elapsed = max(clock() - started, _HEAD_START)
        cpu = time.process_time() - cpu
    interrupted = stop is not None and stop.is_set()
    return Run(plan, records, elapsed, cpu / elapsed, interrupted, started)


async def probe(
    client: Client, plan: Plan, *, connections: int, duration: float, stop: asyncio.Event
) -> Probe:
    """Ask for the requests of a plan, over and over, `connections` at a time: what can it take?"""
    prepared = Prepared(client, plan, range(len(plan.rows)))
    requests = itertools.cycle([prepared[row] for row in range(len(plan.rows))])
    replies: list[Reply] = []
    clock = asyncio.get_running_loop().time
    started = clock()

    async def ask() -> None:
        while clock() < started + duration:
            replies.append(await exchange(client, next(requests)))

    async def ask_side_by_side() -> None:
        async with asyncio.TaskGroup() as askers:
            for _ in range(connections):
                askers.create_task(ask())

    await unless(stop, ask_side_by_side())
    return Probe(tuple(replies), clock() - started)


class Engine:
    """The sending of one plan, or of the rows of it that are one worker's."""

    def __init__(
        self,
        plan: Plan,
        client: Client,
        records: Records,
        *,
        max_inflight: int,
        rows: Sequence[int] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._plan = plan
        self._rows = range(len(plan.rows)) if rows is None else rows
        self._client = client
        self._records = records
        self._requests = Prepared(client, plan, self._rows)
        self._max_inflight = max_inflight
        self._open: set[int] = set()
        loop = asyncio.get_running_loop()
        self._clock = clock or loop.time
        self._rounding = _UVLOOP_ROUNDING if type(loop).__module__.startswith("uvloop") else 0.0

    async def run(self, started: float, drain: float, users: int | None = None) -> None:
        """Send everything, wait for the answers; those that take longer than `drain` fail.

        Args:
            started: when the plan begins, on the clock of the event loop.
            drain: seconds.
            users: of a closed loop that are this worker's.
        """
        try:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as flights:
                if isinstance(self._plan.arrivals, Closed):
                    share = self._plan.arrivals.users if users is None else users
                    limit.reschedule(started + self._plan.duration + drain)
                    self._ask_in_turn(started, share, flights)
                else:
                    await self._dispatch(started, flights)
                    limit.reschedule(self._clock() + drain)
        except TimeoutError:
            for row in self._open:
                self._records.fail(row, now=self._clock(), reason="unfinished at the end")

    async def _dispatch(self, started: float, flights: asyncio.TaskGroup) -> None:
        offsets = self._plan.rows.due
        for number, row in enumerate(self._rows):
            due = started + offsets[row]
            ahead = due - self._clock()
            if ahead > 0:
                await asyncio.sleep(ahead + self._rounding)
            elif number % _CATCH_UP == 0:
                await asyncio.sleep(0)
            if len(self._open) >= self._max_inflight:
                self._records.drop()
                continue
            self._open.add(row)
            flights.create_task(self._send(row, due))

    def _ask_in_turn(self, started: float, users: int, flights: asyncio.TaskGroup) -> None:
        rows = iter(self._rows)
        for _ in range(users):
            flights.create_task(self._ask_on(rows, started))

    async def _ask_on(self, rows: Iterator[int], started: float) -> None:
        await asyncio.sleep(max(0.0, started - self._clock()))
        for row in rows:
            now = self._clock()
            if now >= started + self._plan.duration:
                return
            self._open.add(row)
            await self._send(row, now)

    async def _send(self, row: int, due: float) -> None:
        request = self._requests[row]
        self._records.send(row, due=due, now=self._clock())
        reply = await exchange(self._client, request)
        now = self._clock()
        self._open.remove(row)
        if reply.failure is not None:
            self._records.fail(row, now=now, reason=reply.failure)
            return
        self._records.answer(
            row,
            now=now,
            first=reply.first_byte,
            status=reply.status,
            cache=reply.cache,
            retried=reply.retried,
            streamed=reply.streamed,
        )


async def unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Do `work`, or break it off when `stop` is set; nothing is left running either way."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:  # Cancelled itself, too.
        working.cancel()
        stopping.cancel()
        await asyncio.wait({working, stopping})
    if not working.cancelled():
        working.result()


@contextlib.contextmanager
def frozen_heap() -> Generator[None]:
    """Keep the plan out of the garbage collector's sight: a full collection costs 10s of ms."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
