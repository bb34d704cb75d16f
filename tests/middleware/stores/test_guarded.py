"""A store that cannot harm a request."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Generator, Sequence

import pytest

from memoserve import MemoryStore, Store, StoreError
from memoserve._errors import StoreBusyError, StoreRefusedError
from memoserve.stores import Lease, LeaseEnd
from memoserve.stores import guarded as guarded_module
from memoserve.stores.guarded import GuardedStore, Operation
from tests.asgi import settle
from tests.servers import until


class Plain:
    """A store without `get_many`, which works, fails, or hangs."""

    def __init__(self, *, error: Exception | None = None, hangs: bool = False) -> None:
        self.kept = {"a": b"1", "b": b"2"}
        self.error = error
        self.hangs = hangs
        self.arrived = asyncio.Event()

    async def answer(self) -> None:
        self.arrived.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def get(self, key: str, /) -> bytes | None:
        await self.answer()
        return self.kept.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await self.answer()
        self.kept[key] = value

    async def delete(self, key: str, /) -> None:
        await self.answer()
        self.kept.pop(key, None)

    async def aclose(self) -> None:
        await self.answer()


class Reports:
    """What a guarded store has reported."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.seconds: list[float] = []

    def __call__(self, operation: Operation, seconds: float, error: str) -> None:
        self.calls.append((operation, error))
        self.seconds.append(seconds)


Calls = dict[str, tuple[Callable[[GuardedStore], Awaitable[object]], str, object, object]]
CALLS: Calls = {  # The call, its operation, what it returns where all is well, and where it is not.
    "get": (lambda store: store.get("a"), "get", b"1", None),
    "get-absent": (lambda store: store.get("x"), "get", None, None),
    "get-many": (
        lambda store: store.get_many(["b", "x", "a"]), "get", [b"2", None, b"1"], [None] * 3,
    ),
    "set": (lambda store: store.set("a", b"3", 1), "set", True, False),
    "delete": (lambda store: store.delete("a"), "delete", True, False),
}  # fmt: skip
every_call = pytest.mark.parametrize(
    ("call", "operation", "good", "bad"), CALLS.values(), ids=CALLS.keys()
)


@every_call
@pytest.mark.parametrize("deadline", [5.0, None])
async def test_a_store_that_works_is_passed_on(
    call: Callable[[GuardedStore], Awaitable[object]],
    operation: str,
    good: object,
    bad: object,
    deadline: float | None,
) -> None:
    reports = Reports()

    assert await call(GuardedStore(Plain(), deadline, reports)) == good

    assert reports.calls == [(operation, "")]
    assert 0 <= reports.seconds[0] < 5


@every_call
@pytest.mark.parametrize(
    "error", [ConnectionError("refused"), ValueError("odd"), MemoryError(), RecursionError()]
)
async def test_a_store_that_fails_is_a_miss(
    call: Callable[[GuardedStore], Awaitable[object]],
    operation: str,
    good: object,
    bad: object,
    error: Exception,
) -> None:
    """Whatever it raises, and the report has the error's name (bug 40)."""
    reports = Reports()

    assert await call(GuardedStore(Plain(error=error), 5, reports)) == bad

    assert reports.calls == [(operation, type(error).__name__)]


@every_call
async def test_a_store_that_hangs_is_given_up(
    call: Callable[[GuardedStore], Awaitable[object]], operation: str, good: object, bad: object
) -> None:
    """After its deadline and not much later (bug 40)."""
    reports = Reports()

    async with asyncio.timeout(5):
        assert await call(GuardedStore(Plain(hangs=True), 0.01, reports)) == bad

    assert reports.calls == [(operation, "TimeoutError")]
    assert reports.seconds[0] >= 0.01


async def test_writes_and_deletions_do_arrive() -> None:
    store = MemoryStore()
    guarded = GuardedStore(store, 5, Reports())

    await guarded.set("a", b"1", 60)
    await guarded.set("b", b"2", 60)
    await guarded.delete("a")

    assert await store.get_many("ab") == [None, b"2"]


async def test_many_keys_are_looked_up_at_once_where_a_store_can() -> None:
    asked: list[Sequence[str]] = []

    class Batching(MemoryStore):
        async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
            asked.append(keys)
            return await super().get_many(keys)

    store = Batching()
    await store.set("a", b"1", 60)

    assert await GuardedStore(store, 5, Reports()).get_many(["a", "b"]) == [b"1", None]
    assert asked == [["a", "b"]]


async def test_one_key_that_fails_is_a_miss_for_all() -> None:
    class HalfBroken(Plain):
        async def get(self, key: str, /) -> bytes | None:
            if key == "b":
                raise ConnectionError
            return await super().get(key)

    reports = Reports()

    assert await GuardedStore(HalfBroken(), 5, reports).get_many(["a", "b"]) == [None, None]
    assert reports.calls == [("get", "ConnectionError")]


async def test_a_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first says what it is; a thousand more would say nothing new (bug 40)."""
    store = Plain(error=ConnectionError("refused"))
    guarded = GuardedStore(store, 5, Reports())

    await guarded.get("a")
    await guarded.get("a")
    store.error = None
    await guarded.get("a")
    store.error = OSError("gone")
    await guarded.get("a")

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "ConnectionError('refused')" in caplog.records[0].getMessage()


async def test_no_key_and_no_value_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """bug 18."""
    guarded = GuardedStore(Plain(error=ConnectionError("refused")), 5, Reports())

    await guarded.set("n:s3cret", b"s3cret", 1)

    assert "s3cret" not in caplog.text


async def test_a_call_that_is_cancelled_is_cancelled_and_says_nothing_of_the_store(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither that it failed nor that it works again (bug 57)."""
    store, reports = Plain(error=ConnectionError("refused")), Reports()
    guarded = GuardedStore(store, 5, reports)
    await guarded.get("a")
    store.hangs = True
    store.arrived.clear()

    waiting = asyncio.ensure_future(guarded.get("a"))
    await store.arrived.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    store.hangs = False
    await guarded.get("a")

    assert reports.calls == [("get", "ConnectionError")] * 2
    assert len(caplog.records) == 1


class Shared(MemoryStore):
    """A store that can be asked whether it is alive."""

    def __init__(self) -> None:
        super().__init__()
        self.pings = 0
        self.reconnections = 0
        self.error: Exception | None = None  # Of every call.
        self.is_dead = False  # To pings.
        self.hangs = False
        self.gate: asyncio.Event | None = None  # For pings to wait for.

    def join(self, namespace: str, secret: bytes | None, /) -> None:
        raise AssertionError

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return await super().get_many(keys)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        if self.error is not None:
            raise self.error
        await super().set(key, value, ttl)

    async def ping(self, deadline: float, /) -> None:
        self.pings += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.is_dead:
            raise ConnectionError("dead")

    async def connect(self) -> None:
        raise AssertionError

    async def get_many_within(self, keys: Sequence[str], deadline: float, /) -> list[bytes | None]:
        async with asyncio.timeout(deadline):
            return await self.get_many(keys)

    async def reconnect(self) -> None:
        self.reconnections += 1

    async def take_lease(self, key: str, owner: str, seconds: float, /) -> Lease:
        if self.error is not None:
            raise self.error
        return Lease(is_ours=True, seconds=seconds, has_value=False)

    async def renew_lease(self, key: str, owner: str, seconds: float, /) -> bool:
        if self.error is not None:
            raise self.error
        return True

    async def end_lease(
        self, key: str, owner: str, end: LeaseEnd, value: bytes = b"", ttl: float = 0.0, /
    ) -> bool:
        if self.error is not None:
            raise self.error
        return bool(value)

    @contextlib.contextmanager
    def await_lease(self, key: str, /) -> Generator[asyncio.Future[LeaseEnd]]:
        yield asyncio.get_running_loop().create_future()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_module, "_PAUSE_SECONDS", 0.001)


def breaking(store: Store, deadline: float = 5) -> tuple[GuardedStore, list[str], Reports]:
    states: list[str] = []
    reports = Reports()
    return GuardedStore(store, deadline, reports, states.append), states, reports


async def test_after_one_timeout_nobody_waits_again() -> None:
    """Not even once more, while a probe finds out what it was (bug 40, bug 41)."""
    store = Shared()
    store.hangs, store.gate = True, asyncio.Event()
    guarded, states, reports = breaking(store, 0.01)

    await guarded.get_many(["a"])
    found = await guarded.get_many(["a"])

    assert (found, guarded.state, states) == ([None], "half_open", ["half_open"])
    assert reports.calls == [("get", "TimeoutError")]
    assert await guarded.set("a", b"1", 1) is False
    await guarded.aclose()


async def test_a_store_that_was_only_busy_is_back_after_one_probe(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The breaker never opened (bug 41)."""
    store = Shared()
    store.hangs = True
    guarded, states, _ = breaking(store, 0.01)

    await guarded.get_many(["a"])
    store.hangs = False
    await until(lambda: guarded.state == "closed")

    assert states == ["half_open", "closed"]
    assert (store.pings, store.reconnections) == (1, 0)
    assert await guarded.set("a", b"1", 60)
    assert await guarded.get_many(["a"]) == [b"1"]
    assert "works again" not in caplog.text


async def test_after_three_failures_in_a_row_the_store_is_probed() -> None:
    """A failure that comes at once costs little, and one alone says little (bug 41)."""
    store = Shared()
    store.is_dead = True
    guarded, states, _ = breaking(store)
    store.error = ConnectionError("reset")
    await guarded.get_many(["a"])
    await guarded.get_many(["a"])
    store.error = None
    await guarded.get_many(["a"])
    store.error = ConnectionError("reset")

    await guarded.get_many(["a"])
    await guarded.get_many(["a"])
    assert guarded.state == "closed"
    await guarded.get_many(["a"])

    assert states == ["half_open"]
    await guarded.aclose()


async def test_a_dead_store_is_probed_behind_the_scenes_until_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No request is the probe, and old connections are not trusted (bug 41)."""
    store = Shared()
    store.is_dead, store.error = True, TimeoutError("late")
    guarded, states, reports = breaking(store)
    await guarded.get_many(["a"])
    await until(lambda: states.count("open") >= 3)

    assert await guarded.get_many(["a"]) == [None]
    store.is_dead, store.error = False, None
    await until(lambda: guarded.state == "closed")

    assert states[:4] == ["half_open", "open", "half_open", "open"]
    assert store.reconnections == states.count("open")
    assert len(reports.calls) == 1
    assert "works again" in caplog.text
    assert await guarded.get_many(["a"]) == [None]
    assert len(reports.calls) == 2


@pytest.mark.parametrize(
    ("error", "is_read", "state"),
    [
        pytest.param(StoreBusyError("full pool"), True, "closed", id="busy"),
        pytest.param(StoreBusyError("full pool"), False, "closed", id="busy-write"),
        pytest.param(StoreRefusedError("OOM"), False, "closed", id="full"),
        pytest.param(StoreRefusedError("LOADING"), True, "half_open", id="loading"),
        pytest.param(StoreError("reset"), False, "half_open", id="write-fails"),
    ],
)
async def test_only_what_looks_dead_is_probed(error: Exception, is_read: bool, state: str) -> None:
    """A busy pool is no dead server, nor is one that answers that it is full (bug 41)."""
    store = Shared()
    store.error, store.gate = error, asyncio.Event()
    guarded, _, _ = breaking(store)

    for _ in range(5):
        await (guarded.get_many(["a"]) if is_read else guarded.set("a", b"1", 1))

    assert guarded.state == state
    await guarded.aclose()


async def test_a_plain_store_is_probed_by_a_lookup() -> None:
    store = Plain(hangs=True)
    guarded, states, _ = breaking(store, 0.01)

    await guarded.get("a")
    await until(lambda: "open" in states)
    store.hangs = False
    await until(lambda: guarded.state == "closed")

    assert await guarded.get("a") == b"1"


async def test_a_plain_store_that_fails_at_once_is_probed_by_a_lookup() -> None:
    store = Plain(error=TimeoutError("late"))
    guarded, states, _ = breaking(store)

    await guarded.get("a")
    await until(lambda: "open" in states)
    store.error = None
    await until(lambda: guarded.state == "closed")

    assert await guarded.get("a") == b"1"


async def test_a_store_without_a_deadline_is_never_taken_for_dead() -> None:
    reports = Reports()
    guarded = GuardedStore(Plain(error=ValueError()), None, reports)

    for _ in range(9):
        await guarded.get("a")

    assert len(reports.calls) == 9


def test_a_probe_is_taken_up_in_another_event_loop() -> None:
    """The first loop ended with the probe (bug 42)."""
    store = Shared()
    store.hangs, store.is_dead = True, True
    guarded, states, _ = breaking(store, 0.01)
    asyncio.run(guarded.get_many(["a"]))
    store.hangs = store.is_dead = False

    async def ask_until_it_works() -> None:
        await guarded.get_many(["a"])
        await until(lambda: guarded.state == "closed")

    asyncio.run(ask_until_it_works())

    assert states[-1] == "closed"


async def test_a_busy_loop_does_not_make_a_store_late() -> None:
    """What had come while something else held the loop up counts (bug 41)."""
    loop = asyncio.get_running_loop()

    class Prompt(MemoryStore):
        async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
            reader, writer = socket.socketpair()
            with reader, writer:
                reader.setblocking(False)
                arriving = loop.create_task(loop.sock_recv(reader, 1))
                await asyncio.sleep(0)
                writer.send(b"1")
                time.sleep(0.1)  # noqa: ASYNC251  (the app's sin, whose effect is tested)
                return [await arriving]

    guarded, states, reports = breaking(Prompt(), 0.05)

    assert await guarded.get_many(["a"]) == [b"1"]
    assert (states, reports.calls) == ([], [("get", "")])


async def test_a_token_is_added_to_a_plain_store_in_two_steps() -> None:
    guarded, _, _ = breaking(Plain())

    assert await guarded.add("a", b"9", 60) == b"1"
    assert await guarded.add("c", b"9", 60) == b"9"
    assert await guarded.get("c") == b"9"


async def test_leases_are_passed_on() -> None:
    guarded, _, reports = breaking(Shared())

    assert guarded.has_leases
    assert await guarded.take_lease("k", "me", 5) == Lease(True, 5, False)
    assert await guarded.renew_lease("k", "me", 5)
    assert await guarded.end_lease("k", "me", "stored", b"v", 5)
    with guarded.await_lease("k") as told:
        assert not told.done()
    assert reports.calls == [("lease", ""), ("lease", ""), ("set", "")]


async def test_a_store_that_fails_gives_no_lease() -> None:
    """And nobody waits to hear of one."""
    store = Shared()
    store.error, store.gate = StoreError("gone"), asyncio.Event()
    guarded, _, _ = breaking(store)

    assert await guarded.take_lease("k", "me", 5) is None
    assert await guarded.renew_lease("k", "me", 5) is False
    assert await guarded.end_lease("k", "me", "failed") is False

    assert not guarded.has_leases
    with guarded.await_lease("k") as told:
        assert told.cancelled()
    await guarded.aclose()


async def test_a_store_of_one_process_has_no_leases() -> None:
    guarded, _, reports = breaking(MemoryStore())

    assert not guarded.has_leases
    assert await guarded.take_lease("k", "me", 5) is None
    assert await guarded.renew_lease("k", "me", 5) is False
    assert await guarded.end_lease("k", "me", "failed") is False
    assert reports.calls == []


async def test_who_waits_for_a_lease_is_woken_when_the_store_seems_dead() -> None:
    """It tells of no end any more, and so long as a lease runs nobody should wait (bug 40)."""
    store = Shared()
    guarded, _, _ = breaking(store, 0.01)
    with guarded.await_lease("k") as told:
        store.hangs, store.gate = True, asyncio.Event()

        await guarded.get_many(["a"])
        await asyncio.wait([told], timeout=5)

        assert told.cancelled()
    await guarded.aclose()


async def test_leases_that_may_have_been_given_are_given_back_when_the_store_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for them to run out; and no more than so many are remembered (bug 37)."""
    monkeypatch.setattr(guarded_module, "_MOST_ORPHANS", 1)
    ended: list[tuple[str, str, str]] = []

    class Noting(Shared):
        async def end_lease(
            self, key: str, owner: str, end: LeaseEnd, value: bytes = b"", ttl: float = 0.0, /
        ) -> bool:
            ended.append((key, owner, end))
            return False

    store = Noting()
    guarded, _, _ = breaking(store)
    store.error = TimeoutError("late")
    await guarded.take_lease("k", "me", 5)
    await guarded.take_lease("beyond", "me", 5)
    store.error = None

    await until(lambda: guarded.state == "closed")

    assert ended == [("k", "me", "failed")]


async def test_a_lease_whose_end_is_refused_is_ended_when_that_is_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that takes no writes for a while, full or a replica, keeps it (bug 37, bug 53)."""
    monkeypatch.setattr(guarded_module, "_PAUSE_SECONDS", 0.0)
    ended: list[str] = []

    class Refusing(Shared):
        async def end_lease(
            self, key: str, owner: str, end: LeaseEnd, value: bytes = b"", ttl: float = 0.0, /
        ) -> bool:
            ended.append(end)
            if len(ended) < 4:
                raise StoreRefusedError("READONLY")
            return False

    guarded, _, _ = breaking(Refusing())

    assert not await guarded.end_lease("k", "me", "stored", b"v", 5)
    await until(lambda: len(ended) == 4)
    await settle()

    assert ended == ["stored", "failed", "failed", "failed"]
    await guarded.aclose()


async def test_a_lease_whose_end_was_not_heard_is_ended_again() -> None:
    """One failure is no sign of death, but those who wait must not wait for nothing (bug 37)."""
    ended: list[str] = []

    class Noting(Shared):
        async def end_lease(
            self, key: str, owner: str, end: LeaseEnd, value: bytes = b"", ttl: float = 0.0, /
        ) -> bool:
            ended.append(end)
            if len(ended) == 1:
                raise StoreError("the connection broke off")
            return False

    guarded, states, _ = breaking(Noting())

    assert not await guarded.end_lease("k", "me", "stored", b"v", 5)
    await until(lambda: len(ended) == 2)

    assert ended == ["stored", "failed"]
    assert states == []
    await guarded.aclose()
