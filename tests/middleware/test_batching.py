"""Concurrent calls that become batches: what is shared, and what must not be."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from memoserve import MicroBatcher
from memoserve._errors import OverloadedError
from memoserve._events import BatchFinished
from tests.asgi import settle
from tests.middleware.cases import Notes


class Doubling:
    """A model whose batches a test can see, hold back and break."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.poison: set[int] = set()

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        await self.open.wait()
        if self.poison.intersection(items):
            raise ValueError(f"poison in {items}")
        return [2 * item for item in items]


def start(batcher: MicroBatcher[Any, Any], *items: Any) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(batcher(item)) for item in items]


async def test_whoever_is_alone_does_not_wait_for_company() -> None:
    """With an hour to wait, the test would not end."""
    run = Doubling()
    batcher = MicroBatcher(run, max_wait=3600)

    assert await batcher(1) == 2
    assert await batcher(2) == 4
    assert run.batches == [[1], [2]]


async def test_calls_that_come_while_a_batch_runs_are_the_next_batch() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, max_wait=0)
    run.open.clear()
    first = start(batcher, 1)
    await settle()
    others = start(batcher, 2, 3, 4)
    await settle()

    waiting = batcher.waiting
    run.open.set()
    results = await asyncio.gather(*first, *others)

    assert waiting == 3
    assert results == [2, 4, 6, 8]
    assert run.batches == [[1], [2, 3, 4]]


async def test_after_company_a_batch_waits_for_more_of_it() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, max_size=2, max_wait=3600)
    await asyncio.gather(*start(batcher, 1, 2))

    early = start(batcher, 3)
    await settle()
    waited = list(run.batches)
    late = start(batcher, 4)
    results = await asyncio.gather(*early, *late)

    assert waited == [[1, 2]]
    assert results == [6, 8]
    assert run.batches == [[1, 2], [3, 4]]


async def test_company_that_does_not_come_is_not_waited_for_longer_than_allowed() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, max_size=2, max_wait=0.001)
    await asyncio.gather(*start(batcher, 1, 2))

    assert await asyncio.wait_for(batcher(3), 30) == 6
    assert run.batches == [[1, 2], [3]]


async def test_a_batch_has_a_largest_size() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, max_size=3, max_wait=0)

    results = await asyncio.gather(*start(batcher, *range(8)))

    assert results == [2 * item for item in range(8)]
    assert [len(batch) for batch in run.batches] == [3, 3, 2]


async def test_a_batch_holds_what_is_alike_in_length() -> None:
    """The oldest is always served first, so that an odd length never starves."""
    batches: list[list[str]] = []

    async def run(items: list[str]) -> list[int]:
        batches.append(items)
        return [len(item) for item in items]

    batcher = MicroBatcher(run, length=len, spread=2, max_wait=0)
    texts = ["a" * length for length in (10, 100, 20, 5, 150, 21, 4, 1)]

    results = await asyncio.gather(*start(batcher, *texts))

    assert results == [10, 100, 20, 5, 150, 21, 4, 1]
    assert [[len(text) for text in batch] for batch in batches] == [
        [10, 20, 5], [100, 150], [21], [4], [1],
    ]  # fmt: skip


async def test_items_of_different_groups_do_not_meet() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, group=lambda item: item % 2, max_wait=0)

    await asyncio.gather(*start(batcher, 1, 2, 3, 4))

    assert run.batches == [[1, 3], [2, 4]]


async def test_who_gives_up_while_waiting_is_not_computed() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, max_wait=0)
    run.open.clear()
    first = start(batcher, 1)
    await settle()
    others = start(batcher, 2, 3, 4)
    await settle()

    others[1].cancel()
    await asyncio.wait([others[1]])
    waiting = batcher.waiting
    run.open.set()
    results = await asyncio.gather(*first, others[0], others[2])

    assert waiting == 2
    assert results == [2, 4, 8]
    assert run.batches == [[1], [2, 4]]
    assert others[1].cancelled()


async def test_who_gives_up_within_a_batch_does_not_hurt_the_rest() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, max_wait=0)
    run.open.clear()
    calls = start(batcher, 1, 2, 3)
    await settle()

    calls[1].cancel()
    await asyncio.wait([calls[1]])
    run.open.set()

    assert (await calls[0], await calls[2]) == (2, 6)
    assert await batcher(4) == 8


async def test_when_all_give_up_nothing_runs() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, max_size=4, max_wait=3600)
    calls = start(batcher, 1, 2)
    await settle()  # Two wait, so a batch waits for more.

    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    batcher._full.set()
    await settle()

    assert run.batches == []
    assert batcher._serving is None


async def test_one_item_that_breaks_a_batch_fails_alone() -> None:
    run = Doubling()
    run.poison = {2}
    batcher = MicroBatcher(run, max_wait=0)

    first, second, third = start(batcher, 1, 2, 3)
    await asyncio.wait([first, second, third])

    assert (await first, await third) == (2, 6)
    assert str(second.exception()) == "poison in [2]"
    assert run.batches == [[1, 2, 3], [1], [2], [3]]


async def test_who_gave_up_is_not_tried_again() -> None:
    run = Doubling()
    run.poison = {2}
    run.open.clear()
    batcher = MicroBatcher(run, max_wait=0)
    calls = start(batcher, 1, 2, 3)
    await settle()

    calls[0].cancel()
    await asyncio.wait([calls[0]])
    run.open.set()
    results = await asyncio.gather(*calls[1:], return_exceptions=True)

    assert run.batches == [[1, 2, 3], [2], [3]]
    assert results[1] == 6


async def test_who_gave_up_on_a_call_that_fails_hears_nothing() -> None:
    run = Doubling()
    run.poison = {1}
    run.open.clear()
    batcher = MicroBatcher(run)
    calls = start(batcher, 1)
    await settle()

    calls[0].cancel()
    await asyncio.wait(calls)
    run.open.set()
    await settle()

    assert calls[0].cancelled()
    assert await batcher(2) == 4


async def test_one_caller_too_many_is_refused_at_once() -> None:
    run = Doubling()
    run.open.clear()
    batcher = MicroBatcher(run, model="echo", max_queue=2, max_wait=0)
    running = start(batcher, 1)
    await settle()
    waiting = start(batcher, 2, 3)
    await settle()

    with pytest.raises(OverloadedError, match="2 calls of 'echo' wait already"):
        await batcher(4)

    run.open.set()
    assert await asyncio.gather(*running, *waiting) == [2, 4, 6]


async def test_a_plain_function_runs_in_a_thread_of_its_own() -> None:
    threads: set[str] = set()

    def run(items: list[int]) -> list[int]:
        threads.add(threading.current_thread().name)
        return items

    batcher = MicroBatcher(run, model="echo")
    await asyncio.gather(*start(batcher, 1, 2, 3))
    await batcher(4)
    await batcher.aclose()

    assert threads == {"echo_0"}
    assert not [thread for thread in threading.enumerate() if thread.name == "echo_0"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority")
@pytest.mark.parametrize("nice", [0, 5])
async def test_a_thread_may_step_back_for_the_event_loop(nice: int) -> None:
    def run(items: list[int]) -> list[int]:
        return [os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) for _ in items]

    before = os.getpriority(os.PRIO_PROCESS, 0)
    batcher = MicroBatcher(run, nice=nice)
    inside = await batcher(1)
    await batcher.aclose()

    assert inside == min(19, before + nice)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority")
def test_a_thread_of_a_server_that_is_nice_steps_back_from_there() -> None:
    """Who is not root cannot go below it: the thread would not start."""
    inside: list[int] = []

    def run(items: list[int]) -> list[int]:
        inside.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return items

    async def serve() -> None:
        batcher = MicroBatcher(run, nice=2)
        await batcher(1)
        await batcher.aclose()

    def be_a_nice_server() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 17)
        asyncio.run(serve())

    server = threading.Thread(target=be_a_nice_server)
    server.start()
    server.join()

    assert inside == [19]


async def test_the_event_loop_goes_on_while_a_batch_runs() -> None:
    entered, may_end = threading.Event(), threading.Event()

    def run(items: list[int]) -> list[int]:
        entered.set()
        assert may_end.wait(30)
        return items

    batcher = MicroBatcher(run)
    call = asyncio.create_task(batcher(1))
    await asyncio.to_thread(entered.wait, 30)
    may_end.set()  # This line is reached: the loop was not held up.

    assert await call == 1
    await batcher.aclose()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        pytest.param(lambda items: items[1:], "1 items had 0 results", id="too-few"),
        pytest.param(lambda items: [*items, 1], "1 items had 2 results", id="too-many"),
        pytest.param(lambda items: [next(iter([]))], "StopIteration came out", id="stop-iteration"),
        pytest.param(len, "has no len", id="no-sequence"),
    ],
)
async def test_a_model_that_answers_nonsense_is_an_error(
    run: Callable[[list[int]], Sequence[int]], message: str
) -> None:
    batcher = MicroBatcher(run)

    with pytest.raises((RuntimeError, TypeError), match=message):
        await batcher(1)
    await batcher.aclose()


async def test_a_batch_that_is_torn_down_leaves_nobody_waiting() -> None:
    """Whatever ends the loop's tasks ends the callers, too."""
    run = Doubling()
    run.open.clear()
    batcher = MicroBatcher(run, max_wait=0)
    calls = start(batcher, 1)
    await settle()
    calls += start(batcher, 2)
    await settle()

    assert batcher._serving is not None
    batcher._serving.cancel()
    await asyncio.wait(calls, timeout=30)

    assert all(call.cancelled() for call in calls)


async def test_closing_answers_those_who_wait_and_refuses_others() -> None:
    run = Doubling()
    batcher = MicroBatcher(run, max_size=9, max_wait=3600)
    waiting = start(batcher, 1, 2)
    await settle()

    await batcher.aclose()

    assert await asyncio.gather(*waiting) == [2, 4]
    with pytest.raises(RuntimeError, match="closed"):
        await batcher(3)
    await batcher.aclose()


def test_a_batcher_that_is_idle_belongs_to_no_event_loop() -> None:
    async def run(items: list[int]) -> list[int]:
        return items

    batcher = MicroBatcher(run, max_size=2, max_wait=0.001)

    async def twice() -> list[int]:
        return [*await asyncio.gather(batcher(1), batcher(2)), await batcher(3)]

    assert asyncio.run(twice()) == asyncio.run(twice()) == [1, 2, 3]


async def test_an_observer_is_told_of_every_batch() -> None:
    notes = Notes()
    run = Doubling()
    run.poison = {5}
    batcher = MicroBatcher(run, model="echo", max_wait=0, observer=notes)

    await asyncio.gather(*start(batcher, 1, 2, 3))
    with pytest.raises(ValueError, match="poison"):
        await batcher(5)

    batches: list[BatchFinished] = notes.of(BatchFinished)
    assert [(batch.model, batch.size) for batch in batches] == [("echo", 3), ("echo", 1)]
    assert all(batch.seconds >= 0 for batch in batches)


@pytest.mark.parametrize("nice", [-1, 20, 0.5])
def test_a_wrong_priority_is_named(nice: Any) -> None:
    with pytest.raises(ValueError, match=f"nice must be from 0 to 19, not {nice}"):
        MicroBatcher(list, nice=nice)


@pytest.mark.parametrize(
    "option",
    [
        {"max_size": 0},
        {"max_wait": -1},
        {"max_wait": float("nan")},
        {"max_queue": 0},
        {"spread": 0.5},
    ],
    ids=str,
)
def test_a_wrong_option_is_named(option: dict[str, Any]) -> None:
    ((name, value),) = option.items()

    with pytest.raises(ValueError, match=rf"{name} must be at least \d, not {value}"):
        MicroBatcher(list, **option)
