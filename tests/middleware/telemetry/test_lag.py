"""Event loop lag, on a real loop whose clock can be moved."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from memoserve.telemetry._lag import LoopLag


class MovableLoop(asyncio.SelectorEventLoop):
    """A loop that can be made to believe that it was held up."""

    moved = 0.0

    def time(self) -> float:
        return super().time() + self.moved


def run(lag_test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        runner.run(lag_test)


def loop_and_lag() -> tuple[MovableLoop, LoopLag]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MovableLoop)
    return loop, LoopLag(interval=0.25, window=15.0, clock=loop.time)


async def turn(loop: MovableLoop, seconds: float) -> None:
    """Let the time pass in one leap and all timers run that are due."""
    loop.moved += seconds
    for _ in range(3):
        await asyncio.sleep(0)


def test_nothing_is_said_of_a_loop_that_nobody_watches() -> None:
    lag = LoopLag()

    lag.watch()  # No loop is running here.

    assert lag.seconds() is None


def test_a_stall_is_as_long_as_the_timer_was_late() -> None:
    async def stall() -> None:
        loop, lag = loop_and_lag()
        lag.watch()

        await turn(loop, 2.25)

        seconds = lag.seconds()
        assert seconds is not None
        assert 1.99 < seconds < 2.25

    run(stall())


def test_a_stall_that_lasts_is_seen_from_another_thread() -> None:
    async def stall() -> None:
        loop, lag = loop_and_lag()
        lag.watch()

        loop.moved += 5.0  # The timer has had no turn since.
        seconds = await asyncio.to_thread(lag.seconds)

        assert seconds is not None
        assert seconds > 4.7

    run(stall())


def test_a_stall_is_remembered_for_one_window_and_forgotten_after_two() -> None:
    async def stall() -> None:
        loop, lag = loop_and_lag()
        lag.watch()
        await turn(loop, 3.25)
        seen = []

        for _ in range(130):
            await turn(loop, 0.25)
            seen.append(lag.seconds() or 0.0)

        assert all(seconds > 2.9 for seconds in seen[:60])
        assert seen[-1] < 0.2

    run(stall())


def test_watching_again_changes_nothing() -> None:
    async def stall() -> None:
        loop, lag = loop_and_lag()
        lag.watch()
        await turn(loop, 2.25)

        lag.watch()

        assert (lag.seconds() or 0.0) > 1.9

    run(stall())


def test_a_new_loop_takes_the_place_of_a_closed_one() -> None:
    lag = LoopLag()

    async def watch() -> float | None:
        lag.watch()
        return lag.seconds()

    first = asyncio.run(watch())
    between = lag.seconds()
    second = asyncio.run(watch())

    assert first is not None
    assert between is None
    assert second is not None
