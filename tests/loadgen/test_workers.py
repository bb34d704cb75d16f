"""Real processes over real sockets; what is sent must not depend on how many there are."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from loadgen import Closed, Constant, Plan, Poisson, Uniform, Zipf
from loadgen.explain import Cause
from loadgen.records import Batch, Records
from loadgen.target import Target
from loadgen.workers import Workers, WorkersError
from tests.loadgen.apps import CachedApp, Receive, Scope, Send, answer, read_body
from tests.loadgen.serving import serving

_PLAN = Plan(law=Zipf(200, 1.2), arrivals=Poisson(150), duration=1.0, spelling=0.3, salt="w")


@asynccontextmanager
async def _workers(url: str, count: int) -> AsyncGenerator[Workers]:
    async with Workers(Target(url=url, timeout=20), count) as workers:
        yield workers


@pytest.mark.parametrize("count", [1, 2])
async def test_the_split_changes_nothing_that_is_sent(count: int) -> None:
    bodies: Counter[bytes] = Counter()

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if scope["method"] == "POST":
            bodies[body] += 1
        await answer(send, "memoserve; fwd=miss; stored")

    with serving(recording) as url:
        async with _workers(url, count) as workers:
            run = await workers.drive(_PLAN)

    assert bodies == Counter(_PLAN.bodies())
    assert run.records.finished == run.records.started == len(_PLAN.rows)
    assert run.workers == count
    due = [run.records.due[row] - run.started for row in run.records.rows()]
    assert due == pytest.approx(list(_PLAN.rows.due))


async def test_an_ideal_cache_is_ideal_through_two_workers() -> None:
    batches: list[Batch] = []
    seen: list[Records] = []

    with serving(CachedApp(inference=0.01)) as url:
        async with _workers(url, 2) as workers:
            run = await workers.drive(_PLAN, watch=seen.append, observe=batches.append)

    explanation = run.explain()
    assert seen == [run.records]
    assert sum(len(batch.rows) for batch in batches) == len(_PLAN.rows)
    assert explanation.efficiency == 1
    assert explanation.unexplained == run.unexplained == []
    assert explanation.counts[Cause.HIT] > 50


async def test_workers_take_one_plan_after_another() -> None:
    with serving(CachedApp()) as url:
        async with _workers(url, 1) as workers:
            runs = [await workers.drive(_PLAN) for _ in range(2)]

    assert [run.records.finished for run in runs] == [len(_PLAN.rows)] * 2
    assert runs[1].explain(warm=runs[0].explain().fills).observed == 1


async def test_users_of_a_closed_loop_are_shared_out() -> None:
    in_flight, most = 0, 0

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal in_flight, most
        await read_body(receive)
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.02)
        in_flight -= 1
        await answer(send, "memoserve; fwd=miss")

    plan = Plan(law=Uniform(9), arrivals=Closed(5, requests=60), duration=30)
    with serving(busy) as url:
        async with _workers(url, 2) as workers:
            run = await workers.drive(plan)

    assert run.records.finished == 60
    assert most == 5


async def test_a_stop_ends_all_workers_and_keeps_what_was_measured() -> None:
    stop, batches = asyncio.Event(), list[Batch]()

    def observe(batch: Batch) -> None:
        batches.append(batch)
        if sum(len(batch.rows) for batch in batches) >= 20:
            stop.set()

    plan = Plan(law=Uniform(9), arrivals=Constant(50), duration=600)
    with serving(CachedApp()) as url:
        async with _workers(url, 2) as workers:
            run = await workers.drive(plan, stop=stop, observe=observe)

    assert run.interrupted
    assert 20 <= run.records.finished < 5000


async def test_a_stop_before_the_start_sends_nothing() -> None:
    stop = asyncio.Event()
    stop.set()

    with serving(CachedApp()) as url:
        async with _workers(url, 1) as workers:
            run = await workers.drive(_PLAN, stop=stop)

    assert run.interrupted
    assert run.records.finished < len(_PLAN.rows)


async def test_a_worker_that_dies_is_one_clear_word() -> None:
    with serving(CachedApp()) as url:
        async with _workers(url, 1) as workers:
            workers._members[0].process.kill()
            with pytest.raises(WorkersError, match="ended early"):
                await workers.drive(_PLAN)
            with pytest.raises(WorkersError, match="ended early"):
                await workers.drive(_PLAN)


async def test_a_worker_that_cannot_make_its_client_says_why() -> None:
    target = Target(url="https://127.0.0.1:1", ca=os.devnull)

    async with Workers(target) as workers:
        with pytest.raises(WorkersError, match="holds no certificates"):
            await workers.drive(_PLAN)


async def test_failures_are_counted_across_workers() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await answer(send, body=json.dumps("x").encode(), content_type=b"text/plain")

    with serving(page) as url:
        async with _workers(url, 2) as workers:
            run = await workers.drive(_PLAN)

    assert run.records.failures == {"answered text/plain, not JSON": len(_PLAN.rows)}
