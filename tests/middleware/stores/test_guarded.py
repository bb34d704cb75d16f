"""A store that cannot harm a request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest

from memoserve import MemoryStore
from memoserve.stores.guarded import GuardedStore, Operation


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


async def test_a_failure_is_logged_once_until_the_store_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first says what it is; a thousand more would say nothing new (bug 40)."""
    store = Plain(error=ConnectionError("refused"))
    guarded = GuardedStore(store, 5, Reports())

    await guarded.get("a")
    await guarded.get("a")
    await guarded.set("a", b"1", 1)
    assert len(caplog.records) == 1
    store.error = None
    await guarded.get("a")
    store.error = OSError("gone")
    await guarded.get("a")

    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "ConnectionError('refused')" in caplog.records[0].getMessage()
    assert "OSError('gone')" in caplog.records[1].getMessage()


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
