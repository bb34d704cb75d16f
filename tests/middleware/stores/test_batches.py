"""Lookups that travel together."""

import asyncio
from collections.abc import Sequence

import pytest

from memoserve._errors import StoreBusyError, StoreError, StoreRefusedError
from memoserve.stores import _batches
from memoserve.stores._batches import Lookups
from tests.asgi import settle


class Far:
    """Answers batches: a key's own name, upper case."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def fetch(self, keys: Sequence[str]) -> list[str | StoreError]:
        self.batches.append(list(keys))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [StoreRefusedError("moved") if key == "lost" else key.upper() for key in keys]


async def test_lookups_of_one_iteration_travel_in_one_batch() -> None:
    """And each key once, however many ask for it."""
    far = Far()
    lookups = Lookups(far.fetch)

    async def look_up(*keys: str) -> list[str]:
        return await lookups.look_up(keys)

    found = list(await asyncio.gather(look_up("a", "tag"), look_up("b", "tag"), look_up("a")))

    assert far.batches == [["a", "tag", "b"]]
    assert found == [["A", "TAG"], ["B", "TAG"], ["A"]]


async def test_a_lookup_does_not_wait_for_others() -> None:
    """It leaves in the next iteration, and a second one does not wait for the first's return."""
    far = Far()
    far.gate.clear()
    lookups = Lookups(far.fetch)

    first = lookups.look_up(["a"])
    await settle()
    second = lookups.look_up(["b"])
    await settle()

    assert far.batches == [["a"], ["b"]]
    far.gate.set()
    assert (await first, await second) == (["A"], ["B"])


async def test_while_all_lanes_are_busy_lookups_collect() -> None:
    """So a slow store is asked less often, not more (bug 44)."""
    far = Far()
    far.gate.clear()
    lookups = Lookups(far.fetch)
    waiting = []
    for number in range(10):
        waiting.append(lookups.look_up([f"k{number}"]))
        await settle()

    assert [len(batch) for batch in far.batches] == [1] * _batches._LANES
    far.gate.set()
    found = await asyncio.gather(*waiting)

    assert found == [[f"K{number}"] for number in range(10)]
    assert [len(batch) for batch in far.batches] == [1] * _batches._LANES + [10 - _batches._LANES]


async def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """bug 44."""
    monkeypatch.setattr(_batches, "_KEYS_AT_ONCE", 10)
    far = Far()
    lookups = Lookups(far.fetch)

    found = await asyncio.gather(*(lookups.look_up([f"a{n}", f"b{n}"]) for n in range(12)))

    assert found == [[f"A{n}", f"B{n}"] for n in range(12)]
    assert [len(batch) for batch in far.batches] == [10, 10, 4]


async def test_who_gives_up_takes_no_batch_along() -> None:
    """The others have their answers (bug 41)."""
    far = Far()
    far.gate.clear()
    lookups = Lookups(far.fetch)
    patient, impatient = lookups.look_up(["a"]), lookups.look_up(["b"])
    await settle()

    impatient.cancel()
    far.gate.set()

    assert await patient == ["A"]
    assert far.batches == [["a", "b"]]


async def test_who_gave_up_while_waiting_is_not_asked_for() -> None:
    far = Far()
    lookups = Lookups(far.fetch)

    lookups.look_up(["a"]).cancel()
    await settle()

    assert far.batches == []
    assert await lookups.look_up(["b"]) == ["B"]


async def test_a_batch_that_fails_fails_for_each_who_waits() -> None:
    far = Far()
    far.error = StoreRefusedError("LOADING")
    lookups = Lookups(far.fetch)

    results = await asyncio.gather(
        lookups.look_up(["a"]), lookups.look_up(["b"]), return_exceptions=True
    )

    assert [type(result) for result in results] == [StoreRefusedError] * 2
    assert results[0] is not results[1]


async def test_whatever_is_raised_is_a_store_error() -> None:
    far = Far()
    far.error = IndexError("a client's own fault")

    with pytest.raises(StoreError, match="own fault"):
        await Lookups(far.fetch).look_up(["a"])


async def test_a_key_that_fails_fails_for_those_alone_who_asked_for_it() -> None:
    """One node of a Cluster is gone; the others are not (bug 43)."""
    lookups = Lookups(Far().fetch)

    good, bad = await asyncio.gather(
        lookups.look_up(["a"]), lookups.look_up(["b", "lost"]), return_exceptions=True
    )

    assert good == ["A"]
    assert isinstance(bad, StoreRefusedError)


async def test_too_many_who_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batches, "_MOST_WAITING", 2)
    lookups = Lookups(Far().fetch)
    waiting = [lookups.look_up(["a"]), lookups.look_up(["b"])]

    with pytest.raises(StoreBusyError):
        lookups.look_up(["c"])

    assert await asyncio.gather(*waiting) == [["A"], ["B"]]


async def test_closing_ends_what_is_under_way() -> None:
    """Who waits is told; nobody is cancelled."""
    far = Far()
    far.gate.clear()
    lookups = Lookups(far.fetch)
    waiting = lookups.look_up(["a"])
    await settle()

    await lookups.aclose()

    with pytest.raises(StoreError, match="closed"):
        await waiting
