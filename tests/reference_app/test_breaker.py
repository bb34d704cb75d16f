"""When a failing model is left alone, and how it comes back."""

import asyncio

import pytest

from reference_app.breaker import Breaker, BreakerOpenError, State
from tests.asgi import settle
from tests.middleware.cases import Clock


class Model:
    def __init__(self) -> None:
        self.calls = 0
        self.is_broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self) -> str:
        self.calls += 1
        await self.gate.wait()
        if self.is_broken:
            raise OSError("broken")
        return "answer"


class Bench:
    """A model behind a breaker that opens after three failures for ten seconds."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.model = Model()
        self.states: list[State] = []
        self.breaker = Breaker(
            "echo", failures=3, pause=10, on_change=self.states.append, clock=self.clock
        )

    async def ask(self) -> str:
        return await self.breaker.call(self.model.answer)

    async def fail(self, times: int) -> None:
        self.model.is_broken = True
        for _ in range(times):
            with pytest.raises(OSError, match="broken"):
                await self.ask()


async def test_a_model_that_works_is_always_asked() -> None:
    bench = Bench()

    assert [await bench.ask() for _ in range(5)] == ["answer"] * 5
    assert bench.breaker.state == "closed"
    assert bench.states == []


async def test_failures_in_a_row_open_it_and_then_nobody_waits_for_another() -> None:
    bench = Bench()
    await bench.fail(3)
    bench.clock.now += 2.5

    with pytest.raises(BreakerOpenError, match="'echo' keeps failing") as caught:
        await bench.ask()

    assert caught.value.retry_after == 8
    assert bench.model.calls == 3
    assert bench.states == ["open"]


async def test_failures_that_are_not_in_a_row_do_not_open_it() -> None:
    bench = Bench()
    for _ in range(4):
        await bench.fail(2)
        bench.model.is_broken = False
        await bench.ask()

    assert bench.breaker.state == "closed"


async def test_after_the_pause_one_call_tries_and_lets_all_in_again() -> None:
    bench = Bench()
    await bench.fail(3)
    bench.clock.now += 10
    bench.model.is_broken = False
    bench.model.gate.clear()

    trial = asyncio.create_task(bench.ask())
    await settle()
    with pytest.raises(BreakerOpenError) as caught:
        await bench.ask()
    bench.model.gate.set()

    assert caught.value.retry_after == 1
    assert await trial == "answer"
    assert await bench.ask() == "answer"
    assert bench.states == ["open", "half_open", "closed"]


async def test_a_trial_that_fails_is_another_pause() -> None:
    bench = Bench()
    await bench.fail(3)
    bench.clock.now += 10
    await bench.fail(1)
    bench.clock.now += 9

    with pytest.raises(BreakerOpenError):
        await bench.ask()
    bench.clock.now += 1
    bench.model.is_broken = False
    assert await bench.ask() == "answer"
    assert bench.states == ["open", "half_open", "open", "half_open", "closed"]


async def test_a_trial_whose_caller_gives_up_leaves_it_to_the_next() -> None:
    bench = Bench()
    await bench.fail(3)
    bench.clock.now += 10
    bench.model.is_broken = False
    bench.model.gate.clear()
    trial = asyncio.create_task(bench.ask())
    await settle()

    trial.cancel()
    await asyncio.wait([trial])
    bench.model.gate.set()

    assert await bench.ask() == "answer"
    assert bench.breaker.state == "closed"


async def test_a_caller_who_gives_up_is_no_failure() -> None:
    bench = Bench()
    bench.model.gate.clear()
    calls = [asyncio.create_task(bench.ask()) for _ in range(5)]
    await settle()
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)

    assert bench.breaker.state == "closed"


async def test_failures_of_calls_that_were_under_way_do_not_prolong_the_pause() -> None:
    bench = Bench()
    bench.model.is_broken = True
    bench.model.gate.clear()
    calls = [asyncio.create_task(bench.ask()) for _ in range(6)]
    await settle()
    bench.model.gate.set()
    await asyncio.wait(calls)

    assert all(isinstance(call.exception(), OSError) for call in calls)
    assert bench.states == ["open"]
