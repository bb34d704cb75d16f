"""The store in memory: exact, bounded, and free of what is over."""

import asyncio
import sys
import threading
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from memoserve import MemoryStore, StoreError


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def size_of(key: str, value: bytes) -> int:
    """Return what one entry counts for."""
    store = MemoryStore()
    await store.set(key, value, 1)
    return store.usage().bytes


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_store_without_room_is_refused(max_bytes: int) -> None:
    with pytest.raises(ValueError, match=f"not {max_bytes}"):
        MemoryStore(max_bytes)


async def test_usage_counts_keys_values_and_what_keeping_them_costs() -> None:
    store = MemoryStore(10_000)
    empty = store.usage()

    await store.set("key", b"value", 60)

    assert (empty.name, empty.bytes, empty.limit, empty.entries) == ("memory", 0, 10_000, 0)
    assert store.usage().entries == 1
    assert store.usage().bytes - await size_of("", b"") == len("key") + len(b"value")


async def test_the_least_recently_used_goes_first() -> None:
    """What was read or written again is used, what was only looked for is not (bug 45)."""
    store = MemoryStore(3 * await size_of("a", b"1"))
    for key in "abc":
        await store.set(key, b"1", 60)
    await store.get("a")
    await store.get("x")

    await store.set("b", b"2", 60)
    await store.set("d", b"1", 60)

    assert await store.get_many("abcd") == [b"1", b"2", None, b"1"]
    assert store.usage().evictions == 1


async def test_a_large_value_evicts_as_many_as_it_needs() -> None:
    small = await size_of("a", b"1")
    store = MemoryStore(4 * small)
    for key in "abcd":
        await store.set(key, b"1", 60)

    await store.set("e", b"1" * (small + 1), 60)  # Twice as large as each of them.

    assert await store.get_many("abcd") == [None, None, b"1", b"1"]
    assert store.usage().bytes == 4 * small
    assert store.usage().evictions == 2


async def test_a_value_larger_than_the_store_is_refused_and_evicts_nobody() -> None:
    """The value that it was to replace is gone all the same: it is no longer true."""
    store = MemoryStore(2 * await size_of("a", b"1"))
    await store.set("a", b"1", 60)
    await store.set("b", b"1", 60)

    with pytest.raises(StoreError, match="more than the store's"):
        await store.set("a", bytes(10_000), 60)

    assert await store.get_many("ab") == [None, b"1"]
    assert store.usage().evictions == 0


async def test_a_value_as_large_as_the_store_fits() -> None:
    store = MemoryStore(await size_of("a", bytes(1000)))

    await store.set("a", bytes(1000), 60)

    assert await store.get("a") == bytes(1000)


@pytest.mark.parametrize(
    ("ttl", "passed", "expected"),
    [
        pytest.param(10.0, 9.999, b"v", id="just-before"),
        pytest.param(10.0, 10.0, None, id="at-its-end"),
        pytest.param(0.25, 0.2, b"v", id="below-a-second"),
        pytest.param(0.25, 0.25, None, id="below-a-second-over"),
        pytest.param(0.0, 0.0, None, id="zero"),
        pytest.param(-5.0, 0.0, None, id="negative"),
        pytest.param(1e300, 1e9, b"v", id="huge"),
        pytest.param(float("inf"), 1e9, b"v", id="infinite"),
    ],
)
async def test_nothing_is_returned_past_its_ttl(
    ttl: float, passed: float, expected: bytes | None
) -> None:
    """Swept or not (bug 48)."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    await store.set("a", b"v", ttl)

    clock.now += passed

    assert await store.get("a") == expected
    assert await store.get_many(["a"]) == [expected]


async def test_what_is_over_is_freed_unasked_within_two_seconds() -> None:
    """bug 45: not only when somebody looks it up again."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    for number in range(100):
        await store.set(f"brief{number}", b"v", 1.5 + number / 200)
    await store.set("long", b"v", 60)

    clock.now += 1.4
    store.sweep()
    assert store.usage().entries == 101
    clock.now += 2.6
    store.sweep()

    assert store.usage().entries == 1
    assert store.usage().bytes == await size_of("long", b"v")
    assert store.usage().evictions == 0


async def test_a_sweep_spares_what_was_set_anew() -> None:
    """And what was set anew goes when its own time is up."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    await store.set("a", b"old", 1)
    await store.set("a", b"new", 10)

    clock.now += 5
    store.sweep()
    kept = await store.get("a")
    clock.now += 10
    store.sweep()

    assert kept == b"new"
    assert store.usage().entries == 0


class Timers:
    """Takes the place of a loop's `call_later`, and fires when a test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.waiting: list[asyncio.TimerHandle] = []
        self.delays: list[float] = []
        patch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        handle = asyncio.TimerHandle(loop.time() + delay, callback, (), loop)
        self.waiting.append(handle)
        self.delays.append(delay)
        return handle

    def fire(self) -> None:
        for handle in [self.waiting.pop(0) for _ in list(self.waiting)]:
            if not handle.cancelled():
                handle._run()


async def test_a_store_sweeps_itself_while_it_holds_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One timer at a time, none for an empty store, and a new one when it fills again (bug 45)."""
    clock, timers = Clock(), Timers(monkeypatch)
    store = MemoryStore(clock=clock)

    await store.set("a", b"v", 1)
    await store.set("b", b"v", 1)
    assert len(timers.waiting) == 1
    timers.fire()
    assert (store.usage().entries, len(timers.waiting)) == (2, 1)
    clock.now += 2
    timers.fire()
    assert (store.usage().entries, len(timers.waiting)) == (0, 0)
    await store.set("c", b"v", 1)

    assert len(timers.waiting) == 1
    assert set(timers.delays) == {1.0}


async def test_a_real_timer_frees_what_is_over() -> None:
    """On the loop's own clock, with nobody asking (bug 45)."""
    freed = asyncio.Event()

    class Watched(MemoryStore):
        def sweep(self) -> bool:
            freed.set()
            return super().sweep()

    clock = Clock()
    store = Watched(clock=clock)
    await store.set("a", b"v", 1)

    clock.now += 10
    await asyncio.wait_for(freed.wait(), 5)

    assert store.usage().entries == 0
    await store.aclose()


def test_a_timer_of_a_closed_loop_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a store that outlives a loop, as in tests and scripts, would sweep no more (bug 42)."""
    clock = Clock()
    store = MemoryStore(clock=clock)

    async def fill_and_sweep() -> tuple[int, int]:
        timers = Timers(monkeypatch)
        await store.set("b", b"v", 1)
        armed = len(timers.waiting)
        clock.now += 5
        timers.fire()
        return armed, store.usage().entries

    asyncio.run(store.set("a", b"v", 1))

    assert asyncio.run(fill_and_sweep()) == (1, 0)


async def test_a_closed_store_holds_nothing_and_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timers = Timers(monkeypatch)
    store = MemoryStore()
    await store.set("a", b"v", 60)

    await store.aclose()
    await store.aclose()

    assert (store.usage().entries, store.usage().bytes) == (0, 0)
    assert [handle.cancelled() for handle in timers.waiting] == [True]
    assert await store.get("a") is None


async def test_one_key_written_for_ever_takes_the_room_of_one() -> None:
    """Nothing is left behind of values that were replaced (bug 44, bug 45)."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    tracemalloc.start()
    try:
        for number in range(100_000):
            clock.now += 0.001
            await store.set("key", b"%d" % number, 3600)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 50_000
    assert store.usage().entries == 1


async def test_deleted_and_evicted_keys_leave_nothing_behind() -> None:
    """Every request of a load test may bring a new key (bug 45)."""
    store = MemoryStore(100 * await size_of("memoserve:0000000", b"v"))
    tracemalloc.start()
    try:
        for number in range(50_000):
            await store.set(f"memoserve:{number:07}", b"v", 3600)
            if number % 3 == 0:
                await store.delete(f"memoserve:{number:07}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 250_000
    assert store.usage().entries <= 100


async def test_an_entry_costs_no_more_than_it_is_counted_for() -> None:
    """So `max_bytes` is what the store takes: at most 500 bytes beside key and value (bug 45)."""
    count, value = 100_000, 100
    store = MemoryStore(10**9)
    tracemalloc.start()
    try:
        for number in range(count):
            await store.set(f"memoserve:{number:032x}", number.to_bytes(value, "big"), 300)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert store.usage().entries == count
    assert held <= store.usage().bytes
    assert held / count - len("memoserve:") - 32 - value <= 500


async def test_unique_traffic_costs_microseconds() -> None:
    """A full store that evicts at every write is no slower than one that has room (bug 47)."""
    room = await size_of("memoserve:0000000", b"v")
    full, roomy = MemoryStore(10_000 * room), MemoryStore(10**9)

    async def seconds(store: MemoryStore) -> float:
        started = time.process_time()
        for number in range(40_000):
            await store.set(f"memoserve:{number:07}", b"v", 300)
        return time.process_time() - started

    evicting, keeping = await seconds(full), await seconds(roomy)

    assert full.usage().evictions == 30_000
    assert evicting < 10 * keeping + 0.1
    assert evicting / 40_000 < 100e-6


def test_loops_in_several_threads_may_share_a_store() -> None:
    """Every byte is accounted for afterwards, and no value is another key's (bug 42)."""
    store = MemoryStore(200_000)
    wrong: list[Any] = []
    start = threading.Barrier(2)

    async def hammer(seed: int) -> None:
        start.wait()
        for number in range(20_000):
            key = f"key{(number * seed) % 400}"
            value = await store.get(key)
            if value is not None and value.rstrip(b".") != key.encode():
                wrong.append((key, value))
            await store.set(key, key.encode() + b"." * (number % 700), 1 + number % 3)
            if number % 11 == 0:
                await store.delete(key)
            if number % 97 == 0:
                store.sweep()

    def run(seed: int) -> None:
        try:
            asyncio.run(hammer(seed))
        except Exception as error:  # noqa: BLE001  (a thread's exception would be lost)
            wrong.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(seed,)) for seed in (7, 13)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert wrong == []
    overhead = asyncio.run(size_of("", b""))
    held = sum(len(key) + len(value) + overhead for key, (value, _) in store._entries.items())
    assert store.usage().bytes == held <= 200_000


KEYS = st.sampled_from(["a", "b", "cc", "dddd", "é"])
LIMIT = 2500


class AgainstADict(RuleBasedStateMachine):
    """A store does what a dict in order of use does, whatever is done in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.store = MemoryStore(LIMIT, clock=self.clock)
        self.model: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self.evictions = 0
        self.overhead: int = self.runner.run(size_of("", b""))

    def used(self) -> int:
        return sum(self.overhead + len(key) + len(v) for key, (v, _) in self.model.items())

    @rule(key=KEYS, length=st.integers(0, LIMIT), quarters=st.integers(-1, 40))
    def set(self, key: str, length: int, quarters: int) -> None:
        value, ttl = bytes(length), quarters / 4
        self.model.pop(key, None)
        if self.overhead + len(key) + length > LIMIT:
            with pytest.raises(StoreError):
                self.runner.run(self.store.set(key, value, ttl))
            return
        while self.used() + self.overhead + len(key) + length > LIMIT:
            self.model.popitem(last=False)
            self.evictions += 1
        self.model[key] = (value, self.clock.now + ttl)
        self.runner.run(self.store.set(key, value, ttl))

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert self.runner.run(self.store.get(key)) == self.expected(key)

    @rule(keys=st.lists(KEYS))
    def get_many(self, keys: list[str]) -> None:
        assert self.runner.run(self.store.get_many(keys)) == [self.expected(key) for key in keys]

    def expected(self, key: str) -> bytes | None:
        value, expires = self.model.get(key, (b"", 0.0))
        if expires <= self.clock.now:
            return None
        self.model.move_to_end(key)
        return value

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.model.pop(key, None)
        self.runner.run(self.store.delete(key))

    @rule(quarters=st.integers(1, 20))
    def let_time_pass(self, quarters: int) -> None:
        self.clock.now += quarters / 4

    @rule()
    def sweep(self) -> None:
        self.store.sweep()
        for key, (_, expires) in list(self.model.items()):
            # What has expired may go early, found by way of a value that it has replaced.
            is_found = expires <= self.clock.now and key not in self.store._entries
            if int(expires) + 1 <= self.clock.now or is_found:
                del self.model[key]

    @rule()
    def close(self) -> None:
        self.model.clear()
        self.runner.run(self.store.aclose())

    @invariant()
    def counts_exactly(self) -> None:
        usage = self.store.usage()
        assert (usage.bytes, usage.entries) == (self.used(), len(self.model))
        assert usage.evictions == self.evictions
        assert usage.bytes <= LIMIT

    def teardown(self) -> None:
        with suppress(RuntimeError):
            self.runner.close()


AgainstADict.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstADict = AgainstADict.TestCase


async def test_many_that_expire_at_once_are_freed_by_and_by() -> None:
    """No sweep holds up the event loop for long; each goes on where the last one ended (bug 45)."""
    clock = [0.0]
    store = MemoryStore(clock=lambda: clock[0])
    for number in range(2_500):
        await store.set(f"k{number}", b"", 5)
    clock[0] = 10

    rounds = [store.sweep() for _ in range(3)]

    assert rounds == [False, False, True]
    assert store.usage().entries == 0
    assert store.usage().bytes == 0


async def test_references_to_what_is_gone_stay_bounded() -> None:
    """Under a flood of unique keys the lists of expiries do not outgrow the entries (bug 45)."""
    clock = [0.0]
    store = MemoryStore(max_bytes=100_000, clock=lambda: clock[0])
    for number in range(20_000):
        clock[0] += 0.001
        await store.set(f"k{number}", b"", 3600)

    assert store._references == sum(map(len, store._buckets.values()))
    assert store._references <= 2 * store.usage().entries + 2_050
