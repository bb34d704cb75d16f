"""Leases, on every store that processes share."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import cast

import pytest

from memoserve.stores import Lease, SharedStore, open_store
from memoserve.stores._leases import lease_key
from memoserve.stores.redis import RedisStore
from tests.servers import until

SHARED = ("redis", "cluster", "sentinel", "tiered", "tiered_cluster")


async def opened(request: pytest.FixtureRequest) -> AsyncIterator[SharedStore]:
    store = open_store(request.getfixturevalue(f"{request.param}_url"))
    assert isinstance(store, SharedStore)
    yield store
    await store.aclose()


store = pytest.fixture(params=SHARED)(opened)


@pytest.fixture
def key() -> str:
    return f"leases:{uuid.uuid4().hex}"


async def hearing(store: SharedStore) -> None:
    """Wait until the ends of leases are heard."""

    def is_heard() -> bool:
        with store.await_lease("any") as told:
            return not told.cancelled()

    await until(is_heard)


async def test_one_of_many_has_a_lease(store: SharedStore, key: str) -> None:
    leases = await asyncio.gather(*(store.take_lease(key, f"owner{n}", 10) for n in range(9)))

    assert sum(lease.is_ours for lease in leases) == 1
    assert all(9 < lease.seconds <= 10 for lease in leases)
    assert not any(lease.has_value for lease in leases)


async def test_taking_it_twice_is_having_it(store: SharedStore, key: str) -> None:
    """A client that sends a command again, since no answer came, does not lock itself out."""
    await store.take_lease(key, "me", 10)

    assert (await store.take_lease(key, "me", 20)).is_ours


async def test_a_lease_runs_out_by_itself(store: SharedStore, key: str) -> None:
    """Its owner may have died (bug 37)."""
    await store.take_lease(key, "dead", 0.05)

    async with asyncio.timeout(10):
        while not (lease := await store.take_lease(key, "alive", 10)).is_ours:
            assert lease.seconds <= 0.05
            await asyncio.sleep(0.01)


async def test_a_renewed_lease_runs_on(store: SharedStore, key: str) -> None:
    await store.take_lease(key, "me", 5)

    assert await store.renew_lease(key, "me", 60)

    assert (await store.take_lease(key, "other", 5)).seconds > 50


async def test_only_its_owner_renews_or_ends_a_lease(store: SharedStore, key: str) -> None:
    """bug 37."""
    await store.take_lease(key, "owner", 10)

    assert not await store.renew_lease(key, "other", 10)
    await store.end_lease(key, "other", "failed")

    assert not (await store.take_lease(key, "third", 10)).is_ours


async def test_the_owner_stores_and_gives_back_in_one_step(store: SharedStore, key: str) -> None:
    await store.take_lease(key, "me", 10)

    assert await store.end_lease(key, "me", "stored", b"answer", 60)

    assert await store.get(key) == b"answer"
    assert await store.take_lease(key, "next", 10) == Lease(True, 10, has_value=True)


async def test_an_answer_of_any_size_is_stored_so(store: SharedStore, key: str) -> None:
    """And a new one replaces the old one."""
    large = b"large" * 100_000
    await store.set(key, b"old", 60)
    await store.take_lease(key, "me", 10)

    assert await store.end_lease(key, "me", "stored", large, 60)

    assert await store.get(key) == large


async def test_who_has_lost_the_lease_stores_nothing(store: SharedStore, key: str) -> None:
    """The next owner's answer is newer, or will be (bug 37, bug 38)."""
    await store.take_lease(key, "late", 0.01)
    async with asyncio.timeout(10):
        while not (await store.take_lease(key, "next", 60)).is_ours:  # noqa: ASYNC110  (a server)
            await asyncio.sleep(0.01)

    assert not await store.end_lease(key, "late", "stored", b"late", 60)

    assert await store.get(key) is None
    assert not (await store.take_lease(key, "third", 10)).is_ours


@pytest.mark.parametrize(("there", "kept"), [(b"newer", b"newer"), (None, b"late")])
async def test_a_late_answer_replaces_nothing(
    store: SharedStore, key: str, there: bytes | None, kept: bytes
) -> None:
    """Nobody has the lease any more, but somebody may have had it since (bug 38)."""
    if there is not None:
        await store.set(key, there, 60)

    is_kept = await store.end_lease(key, "late", "stored", b"late", 60)

    assert is_kept == (there is None)
    assert await store.get(key) == kept


@pytest.mark.parametrize("end", ["stored", "unstored", "failed"])
async def test_who_waits_hears_how_it_ends(store: SharedStore, key: str, end: str) -> None:
    """Each of them, and of no other key's lease (bug 34)."""
    await hearing(store)
    await store.take_lease(key, "owner", 10)
    with (
        store.await_lease(key) as first,
        store.await_lease(key) as second,
        store.await_lease(f"{key}x") as other,
    ):
        await store.take_lease(key, "waiting", 10)
        value = b"answer" if end == "stored" else b""

        await store.end_lease(key, "owner", end, value, 60)  # type: ignore[arg-type]

        await asyncio.wait([first, second], timeout=10)
        assert (first.result(), second.result()) == (end, end)
        assert not other.done()


async def test_what_nobody_waits_for_is_not_told(redis_url: str, key: str) -> None:
    """Otherwise every miss of every process would wake all processes (bug 44)."""
    store = cast("RedisStore", open_store(redis_url))
    await hearing(store)
    await store.take_lease(key, "owner", 10)
    with store.await_lease(key) as unheard:
        await store.end_lease(key, "owner", "failed")
        await store.take_lease(f"{key}2", "owner", 10)
        with store.await_lease(f"{key}2") as told:
            await store.take_lease(f"{key}2", "waiting", 10)
            await store.end_lease(f"{key}2", "owner", "failed")
            await asyncio.wait_for(told, 10)

        assert not unheard.done()
    await store.aclose()


async def test_where_ends_are_not_heard_that_is_said(key: str) -> None:
    """So whoever waits tries for the lease now and then."""
    store = cast("RedisStore", open_store("redis://127.0.0.1:1/0"))

    with store.await_lease(key) as told:
        assert told.cancelled()

    await store.aclose()


async def test_a_lost_connection_wakes_who_waits(redis_url: str, key: str) -> None:
    store = cast("RedisStore", open_store(redis_url))
    await hearing(store)
    with store.await_lease(key) as told:
        await store.link().execute("CLIENT", "KILL", "TYPE", "pubsub")

        await asyncio.wait([told], timeout=10)
        assert told.cancelled()
    await store.aclose()


async def test_nonsense_on_the_channel_is_not_heard(redis_url: str, key: str) -> None:
    store = cast("RedisStore", open_store(redis_url))
    await hearing(store)
    with store.await_lease(key) as told:
        publish = store.link().execute
        await publish("PUBLISH", "memoserve:leases", f"nonsense {key}")
        await publish("PUBLISH", "memoserve:leases", b"\xff\xfe")
        await publish("PUBLISH", "memoserve:leases", f"failed {key}")

        assert await asyncio.wait_for(told, 10) == "failed"
    await store.aclose()


async def test_a_lease_is_not_in_the_place_of_its_answer(redis_url: str, key: str) -> None:
    """bug 37: a lock's value was once read as an entry."""
    store = cast("RedisStore", open_store(redis_url))
    await store.take_lease(key, "me", 10)

    assert await store.get(key) is None
    assert await store.link().execute("PTTL", lease_key(key)) > 0
    await store.aclose()


async def test_scripts_that_the_server_has_forgotten_are_sent_again(
    redis_url: str, key: str
) -> None:
    """As after a restart or a failover."""
    store = cast("RedisStore", open_store(redis_url))
    await store.link().execute("SCRIPT", "FLUSH")

    assert (await store.take_lease(key, "me", 10)).is_ours
    await store.aclose()
