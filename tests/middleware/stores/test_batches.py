"""Lookups that travel together."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from memoserve._errors import StoreBusyError, StoreError, StoreRefusedError
from memoserve.stores import _batches
from memoserve.stores._batches import Found, Lookups
from memoserve.stores._seal import Opened
from tests.asgi import settle


def opened(key: str) -> Opened:
    """What `Far` has under each key: its name, upper case."""
    return Opened(key.upper().encode(), 1.0, key.startswith("large"))


async def fetch_apart(where: Opened) -> Opened:
    return Opened(b"from " + where.value, 2.0, is_elsewhere=False)


def lookups_in(far: "Far") -> Lookups:
    return Lookups(far.fetch, fetch_apart)


class Far:
    """Answers batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def fetch(self, keys: Sequence[str]) -> list[Found]:
        self.batches.append(list(keys))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [StoreRefusedError("moved") if key == "lost" else opened(key) for key in keys]


async def test_lookups_of_one_iteration_travel_in_one_batch() -> None:
    """And each key once, however many ask for it."""
    far = Far()
    lookups = lookups_in(far)

    async def look_up(*keys: str) -> list[bytes | None]:
        return await lookups.look_up(keys)

    found = list(await asyncio.gather(look_up("a", "tag"), look_up("b", "tag"), look_up("a")))

    assert far.batches == [["a", "tag", "b"]]
    assert found == [[b"A", b"TAG"], [b"B", b"TAG"], [b"A"]]


async def test_a_lookup_does_not_wait_for_others() -> None:
    """It leaves in the next iteration, and a second one does not wait for the first's return."""
    far = Far()
    far.gate.clear()
    lookups = lookups_in(far)

    first = lookups.look_up(["a"])
    await settle()
    second = lookups.look_up(["b"])
    await settle()

    assert far.batches == [["a"], ["b"]]
    far.gate.set()
    assert (await first, await second) == ([b"A"], [b"B"])


async def test_while_all_lanes_are_busy_lookups_collect() -> None:
    """So a slow store is asked less often, not more (bug 44)."""
    far = Far()
    far.gate.clear()
    lookups = lookups_in(far)
    waiting = []
    for number in range(10):
        waiting.append(lookups.look_up([f"k{number}"]))
        await settle()

    assert [len(batch) for batch in far.batches] == [1] * _batches._LANES
    far.gate.set()
    found = await asyncio.gather(*waiting)

    assert found == [[b"K%d" % number] for number in range(10)]
    assert [len(batch) for batch in far.batches] == [1] * _batches._LANES + [10 - _batches._LANES]


async def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """bug 44."""
    monkeypatch.setattr(_batches, "_KEYS_AT_ONCE", 10)
    far = Far()
    lookups = lookups_in(far)

    found = await asyncio.gather(*(lookups.look_up([f"a{n}", f"b{n}"]) for n in range(12)))

    assert found == [[b"A%d" % n, b"B%d" % n] for n in range(12)]
    assert [len(batch) for batch in far.batches] == [10, 10, 4]


async def test_who_gives_up_takes_no_batch_along() -> None:
    """The others have their answers (bug 41)."""
    far = Far()
    far.gate.clear()
    lookups = lookups_in(far)
    patient, impatient = lookups.look_up(["a"]), lookups.look_up(["b"])
    await settle()

    impatient.cancel()
    far.gate.set()

    assert await patient == [b"A"]
    assert far.batches == [["a", "b"]]


async def test_who_gave_up_while_waiting_is_not_asked_for() -> None:
    far = Far()
    lookups = lookups_in(far)

    lookups.look_up(["a"]).cancel()
    await settle()

    assert far.batches == []
    assert await lookups.look_up(["b"]) == [b"B"]


async def test_a_batch_that_fails_fails_for_each_who_waits() -> None:
    far = Far()
    far.error = StoreRefusedError("LOADING")
    lookups = lookups_in(far)

    results = await asyncio.gather(
        lookups.look_up(["a"]), lookups.look_up(["b"]), return_exceptions=True
    )

    assert [type(result) for result in results] == [StoreRefusedError] * 2
    assert results[0] is not results[1]


async def test_whatever_is_raised_is_a_store_error() -> None:
    far = Far()
    far.error = IndexError("a client's own fault")

    with pytest.raises(StoreError, match="own fault"):
        await lookups_in(far).look_up(["a"])


async def test_a_key_that_fails_fails_for_those_alone_who_asked_for_it() -> None:
    """One node of a Cluster is gone; the others are not (bug 43)."""
    lookups = lookups_in(Far())

    good, bad = await asyncio.gather(
        lookups.look_up(["a"]), lookups.look_up(["b", "lost"]), return_exceptions=True
    )

    assert good == [b"A"]
    assert isinstance(bad, StoreRefusedError)


async def test_too_many_who_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batches, "_MOST_WAITING", 2)
    lookups = lookups_in(Far())
    waiting = [lookups.look_up(["a"]), lookups.look_up(["b"])]

    with pytest.raises(StoreBusyError):
        lookups.look_up(["c"])

    assert await asyncio.gather(*waiting) == [[b"A"], [b"B"]]


async def test_closing_ends_what_is_under_way() -> None:
    """Who waits is told; nobody is cancelled."""
    far = Far()
    far.gate.clear()
    lookups = lookups_in(far)
    waiting = lookups.look_up(["a"])
    await settle()

    await lookups.aclose()

    with pytest.raises(StoreError, match="closed"):
        await waiting


async def test_a_large_value_holds_up_nobody_else() -> None:
    """Whoever asked for it has it a little later."""
    fetching = asyncio.Event()

    async def fetch_slowly(where: Opened) -> Opened:
        await fetching.wait()
        return await fetch_apart(where)

    lookups = Lookups(Far().fetch, fetch_slowly)
    large, small = lookups.look_up(["large", "a"]), lookups.look_up(["a"])

    assert await small == [b"A"]
    assert not large.done()
    fetching.set()
    assert await large == [b"from LARGE", b"A"]


async def test_a_large_value_that_cannot_be_had_is_an_error() -> None:
    async def fail(_: Opened) -> Opened:
        raise StoreError("gone")

    with pytest.raises(StoreError, match="gone"):
        await Lookups(Far().fetch, fail).look_up(["large"])


async def test_a_large_value_is_given_up_with_its_deadline() -> None:
    """And with the store: who waits is told, nobody is cancelled."""

    async def hang(_: Opened) -> Opened:
        await asyncio.Event().wait()
        raise AssertionError

    lookups = Lookups(Far().fetch, hang)

    with pytest.raises(TimeoutError):
        await lookups.look_up(["large"], 0.01)
    waiting = lookups.look_up(["large"])
    await settle()
    await lookups.aclose()
    with pytest.raises(StoreError, match="closed"):
        await waiting


async def test_times_are_told_to_who_wants_them() -> None:
    found = await lookups_in(Far()).open(["a", "large"])

    assert found == [opened("a"), Opened(b"from LARGE", 2.0, is_elsewhere=False)]


async def test_those_who_came_together_share_a_deadline() -> None:
    """Each gets an error of its own, and the answer that comes late harms nobody (bug 41)."""
    far = Far()
    far.gate.clear()
    lookups = lookups_in(far)
    early = [lookups.look_up([key], 0.01) for key in "ab"]
    patient = lookups.look_up(["c"], 60)

    results = await asyncio.gather(*early, return_exceptions=True)
    far.gate.set()

    assert [type(result) for result in results] == [TimeoutError] * 2
    assert await patient == [b"C"]


async def test_closing_ends_who_waits_for_a_lane() -> None:
    far = Far()
    far.gate.clear()
    lookups = lookups_in(far)
    for number in range(_batches._LANES):
        lookups.look_up([f"k{number}"]).add_done_callback(lambda done: done.exception())
        await settle()
    waiting = lookups.look_up(["a"])

    await lookups.aclose()

    with pytest.raises(StoreError, match="closed"):
        await waiting


async def test_a_busy_loop_does_not_make_an_answer_late() -> None:
    """Nor, when it had not come by then, does the wait last for ever (bug 41)."""
    far = Far()
    lookups = lookups_in(far)
    prompt = lookups.look_up(["a"], 0.06)
    far.gate.clear()
    late = lookups.look_up(["b"], 0.05)

    time.sleep(0.2)  # noqa: ASYNC251  (the app's sin, whose effect is tested)
    far.gate.set()
    assert await prompt == [b"A"]
    assert await late == [b"B"]
    far.gate.clear()
    with pytest.raises(TimeoutError):
        await lookups.look_up(["c"], 0.01)
    far.gate.set()


async def test_who_gave_up_a_large_value_is_not_given_it() -> None:
    fetching = asyncio.Event()

    async def fetch_slowly(where: Opened) -> Opened:
        await fetching.wait()
        return await fetch_apart(where)

    lookups = Lookups(Far().fetch, fetch_slowly)
    waiting = lookups.look_up(["large"])
    await settle()

    waiting.cancel()
    fetching.set()
    await settle()

    assert waiting.cancelled()
    assert not lookups._tasks


async def test_a_deadline_is_for_those_who_wait_yet() -> None:
    far = Far()
    far.gate.clear()
    lookups = lookups_in(far)
    gone, waiting = lookups.look_up(["a"], 0.01), lookups.look_up(["b"], 0.01)

    gone.cancel()

    with pytest.raises(TimeoutError):
        await waiting
    far.gate.set()
