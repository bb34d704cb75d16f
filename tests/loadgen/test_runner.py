import asyncio
import gc

import httpx
import pytest

from loadgen import Closed, Constant, Plan, Poisson, Run, Uniform, Zipf, drive
from loadgen.explain import Cause
from loadgen.outcome import Outcome
from loadgen.records import Records, summarize
from loadgen.runner import Probe, probe, unless
from loadgen.theory import predict, predict_by_bytes
from tests.loadgen.apps import CachedApp, Receive, Scope, Send, answer, read_body
from tests.loadgen.virtual import run_virtually


def _client(app: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Any callable of three.
    return httpx.AsyncClient(transport=transport, base_url="http://app")


async def _driven(plan: Plan, app: object, *, max_inflight: int = 512, drain: float = 30) -> Run:
    async with _client(app) as client:
        return await drive(plan, client, max_inflight=max_inflight, drain=drain)


def _plan(
    *, rate: float = 100, duration: float = 20, spelling: float = 0.0, items: int = 10_000
) -> Plan:
    return Plan(law=Zipf(items, 1.2), arrivals=Poisson(rate), duration=duration, spelling=spelling)


@pytest.mark.parametrize("spelling", [0.0, 1.0], ids=["plain", "respelled"])
def test_an_ideal_cache_has_efficiency_one(spelling: float) -> None:
    plan = _plan(spelling=spelling)

    run = run_virtually(_driven(plan, CachedApp(inference=0.3)))

    explanation = run.explain(ttl=300)
    assert run.records.finished == len(plan.rows) > 1900
    assert explanation.efficiency == 1
    assert explanation.unexplained == explanation.unexpected == []
    assert explanation.counts[Cause.COALESCED] > 0
    assert explanation.observed == pytest.approx(predict(plan), abs=0.03)


@pytest.mark.parametrize("spelling", [0.1, 0.3, 0.5, 1.0])
def test_a_cache_that_is_keyed_by_bytes_is_found_out(spelling: float) -> None:
    """Unexplained misses, and the collapse that was predicted."""
    plan = _plan(spelling=spelling)

    run = run_virtually(_driven(plan, CachedApp(raw_keys=True)))

    explanation = run.explain(ttl=300)
    assert len(explanation.unexplained) > 100
    assert explanation.efficiency < 0.9
    assert explanation.observed == pytest.approx(predict_by_bytes(plan), abs=0.02)
    assert run.unexplained == explanation.unexplained


def test_a_stall_is_felt_by_all_who_come_meanwhile() -> None:
    """Coordinated omission: one request in a row would wait once; users who come on time all do."""

    class Stalling:
        """Takes nothing up during 0.6 of every 3 seconds; one that has waited is quick again."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            now = asyncio.get_running_loop().time() % 3
            if now < 0.6:
                await asyncio.sleep(0.6 - now)
            await answer(send)

    run = run_virtually(_driven(_plan(rate=50, duration=30), Stalling()))

    response = summarize(run.records.responses(run.records.rows()))
    service = summarize(run.records.services(run.records.rows()))
    assert service.p50 < 0.020
    assert response.p90 >= 0.250
    assert response.p90 == pytest.approx(0.3, abs=0.06)


def test_a_generator_that_was_held_up_catches_up_and_says_so() -> None:
    """What was due during the hold-up goes out at once, and its lateness is counted."""
    plan = Plan(law=Uniform(9), arrivals=Constant(100), duration=2)

    class HoldingUp:
        """Its 100th request blocks the loop, and with it the generator, for half a second."""

        requests = 0

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.requests += 1
            if self.requests == 100:
                loop = asyncio.get_running_loop()
                loop._virtual.now += 0.5  # type: ignore[attr-defined]  # Of the virtual loop.
            await answer(send)

    run = run_virtually(_driven(plan, HoldingUp()))

    late = [lag for lag in run.records.lags() if lag > 0.001]
    assert run.records.started == 200
    assert len(late) == pytest.approx(50, abs=2)
    assert max(late) == pytest.approx(0.49, abs=0.02)
    assert max(run.records.responses(run.records.rows())) >= max(late)


def test_what_is_over_the_limit_is_dropped_not_delayed() -> None:
    plan = Plan(law=Uniform(9), arrivals=Constant(10), duration=3)

    run = run_virtually(_driven(plan, CachedApp(inference=1.0, obey=False), max_inflight=3))

    records = run.records
    assert records.dropped > 0
    assert records.started + records.dropped == 30
    assert max(records.lags()) < 0.001


def test_answers_that_never_come_are_given_up_and_are_errors() -> None:
    class Silent:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.Event().wait()

    plan = Plan(law=Uniform(9), arrivals=Constant(2), duration=2)

    run = run_virtually(_driven(plan, Silent(), drain=5))

    assert run.records.failures == {"unfinished at the end": 4}
    assert run.records.errors == run.records.counts[Outcome.ERROR] == 4
    assert run.elapsed == pytest.approx(1.5 + 5, abs=0.1)


def test_a_run_can_be_stopped() -> None:
    async def stopped_after_a_second() -> tuple[Run, int]:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(1.05, stop.set)
        async with _client(CachedApp(inference=5)) as client:
            run = await drive(_plan(rate=10), client, stop=stop)
        return run, len(asyncio.all_tasks())

    run, tasks = run_virtually(stopped_after_a_second())

    assert run.interrupted
    assert 0 < run.records.started < 25
    assert run.records.finished == 0
    assert tasks == 1


def test_cancelling_leaves_nothing_behind() -> None:
    async def cancelled() -> set[str]:
        async with _client(CachedApp(inference=5)) as client:
            task = asyncio.create_task(drive(_plan(rate=10), client))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}

    assert run_virtually(cancelled()) == set()
    assert gc.get_freeze_count() == 0


def test_the_fault_of_an_app_in_memory_is_not_a_measurement() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no model")

    with pytest.raises(ExceptionGroup) as caught:
        run_virtually(_driven(_plan(duration=1), broken))

    assert caught.group_contains(LookupError, match="no model")


def test_the_watcher_sees_the_records_before_the_first_request() -> None:
    seen: list[tuple[Records, int]] = []

    async def watched() -> Run:
        async with _client(CachedApp()) as client:
            return await drive(
                _plan(duration=1),
                client,
                watch=lambda records: seen.append((records, len(records))),
            )

    run = run_virtually(watched())

    assert seen == [(run.records, len(run.plan.rows))]


def test_equal_plans_send_equal_bytes() -> None:
    async def recorded() -> list[bytes]:
        bodies: list[bytes] = []

        async def recording(scope: Scope, receive: Receive, send: Send) -> None:
            bodies.append(scope["path"].encode() + await read_body(receive))
            await answer(send)

        await _driven(_plan(duration=2, spelling=0.5), recording)
        return bodies

    assert run_virtually(recorded()) == run_virtually(recorded())


def test_a_closed_loop_finds_the_capacity() -> None:
    """Four connections, 0.1 s each: 40 a second."""
    plan = Plan(law=Uniform(9), arrivals=Constant(1), duration=5, bypass=True)

    async def probed() -> Probe:
        async with _client(CachedApp(inference=0.1)) as client:
            return await probe(client, plan, connections=4, duration=10, stop=asyncio.Event())

    found = run_virtually(probed())

    assert found.rate == pytest.approx(40, rel=0.02)
    assert {reply.cache.outcome for reply in found.replies} == {Outcome.BYPASS}


def test_a_probe_can_be_stopped() -> None:
    async def stopped() -> Probe:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(1, stop.set)
        async with _client(CachedApp(inference=0.3)) as client:
            return await probe(client, _plan(duration=1), connections=1, duration=1000, stop=stop)

    found = run_virtually(stopped())

    assert 1 < len(found.replies) < 50


async def test_a_fault_in_the_work_is_not_lost() -> None:
    async def work() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await unless(asyncio.Event(), work())


def test_a_closed_loop_asks_when_it_is_answered() -> None:
    """Five users, 0.1 s each: 50 a second, and a response is a service time."""
    plan = Plan(law=Uniform(10**6), arrivals=Closed(5, requests=2000), duration=10)

    run = run_virtually(_driven(plan, CachedApp(inference=0.1)))

    assert run.records.finished == pytest.approx(500, abs=10)
    rows = run.records.rows()
    assert run.records.responses(rows) == pytest.approx(run.records.services(rows))
    assert run.elapsed == pytest.approx(10, abs=0.2)


def test_a_closed_loop_ends_with_its_last_request() -> None:
    plan = Plan(law=Uniform(9), arrivals=Closed(5, requests=12), duration=10)

    run = run_virtually(_driven(plan, CachedApp(inference=0.1)))

    assert run.records.finished == 12
