"""Memory in front of Redis: as quick as the one, as true as the other."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from memoserve import CacheMiddleware, Purger, Rule
from memoserve._errors import StoreError
from memoserve.stores import open_store
from memoserve.stores.tiered import TieredStore
from tests.asgi import Model, ask
from tests.redis_servers import RedisServer, running
from tests.servers import until

BOUND = 1.0  # Seconds, within which every change is seen.


def tiered(url: str, namespace: str = "tiered") -> TieredStore:
    store = open_store(f"tiered+{url}")
    assert isinstance(store, TieredStore)
    store.join(namespace, None)
    return store


@pytest.fixture
def key() -> str:
    return f"tiered:{uuid.uuid4().hex}"


@pytest.fixture
async def stores(redis_url: str) -> AsyncIterator[tuple[TieredStore, TieredStore]]:
    """As two processes have them."""
    one, other = tiered(redis_url), tiered(redis_url)
    yield one, other
    await one.aclose()
    await other.aclose()


async def in_memory(store: TieredStore, key: str) -> None:
    """Look it up until memory has it."""
    async with asyncio.timeout(10):
        while not store.look_up((key,)):
            await store.get(key)
            await asyncio.sleep(0.005)


async def test_what_was_looked_up_is_in_memory(
    stores: tuple[TieredStore, TieredStore], key: str
) -> None:
    one, _ = stores
    await one.set(key, b"value", 60)
    assert one.look_up((key,)) == []

    await in_memory(one, key)

    assert one.look_up((key,)) == [b"value"]
    assert one.look_up((key, f"{key}x")) == []  # Memory does not know that there is none.
    assert await one.get_many((key, f"{key}x")) == [b"value", None]
    assert one.usage().entries == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda store, key: store.set(key, b"new", 60), id="set"),
        pytest.param(lambda store, key: store.delete(key), id="delete"),
        pytest.param(
            lambda store, key: store.end_lease(key, "me", "stored", b"new", 60), id="lease"
        ),
    ],
)
async def test_a_change_is_seen_at_once_by_who_makes_it(
    stores: tuple[TieredStore, TieredStore],
    key: str,
    change: Callable[[TieredStore, str], Any],
) -> None:
    one, _ = stores
    await one.set(key, b"old", 60)
    await in_memory(one, key)
    await one.take_lease(key, "me", 10)

    await change(one, key)

    assert one.look_up((key,)) in ([], [b"new"])
    assert await one.get(key) in {None, b"new"}


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "{key}", "x", "PX", "60000"),
        ("DEL", "{key}"),
        ("PEXPIRE", "{key}", "1"),
        ("FLUSHALL",),
    ],
    ids=["overwritten", "deleted", "ran-out", "flushed"],
)
async def test_a_change_by_anyone_is_seen_by_all(
    stores: tuple[TieredStore, TieredStore],
    redis_url: str,
    key: str,
    command: Sequence[str],
) -> None:
    """By other software, too, and by the server itself (bug 53)."""
    one, other = stores
    await one.set(key, b"value", 60)
    await in_memory(one, key)
    await in_memory(other, key)
    client: Any = Redis.from_url(redis_url)

    await client.execute_command(*(word.format(key=key) for word in command))

    await client.aclose()
    for store in stores:
        async with asyncio.timeout(10):
            while await store.get(key) == b"value":  # noqa: ASYNC110  (the server's time)
                await asyncio.sleep(0.005)
        assert await store.get(key) is None


async def test_a_purge_on_one_host_is_seen_by_the_other(redis_url: str) -> None:
    """Within a second, and answers made meanwhile are purged with the rest (bug 53)."""
    namespace = f"purge-{uuid.uuid4().hex[:8]}"
    models = Model(), Model()
    caches = [
        CacheMiddleware(
            model, rules=[Rule("/v1/model", tags=["news"])], store=f"tiered+{redis_url}",
            namespace=namespace, store_deadline=5,
        )
        for model in models
    ]  # fmt: skip
    await ask(caches[0])
    for cache in caches:
        await until_near(cache)
    assert [model.calls for model in models] == [1, 0]

    purging = open_store(redis_url)
    await Purger(purging, namespace).purge(tags=["news"])
    await asyncio.sleep(BOUND)
    answers = [await ask(cache) for cache in caches]

    assert all("hit" not in answers[n].cache_status for n in (0,))
    assert answers[0].content == answers[1].content == b'{"call":2}'
    for cache in caches:
        await cache.aclose()
    await purging.aclose()


async def until_near(cache: CacheMiddleware) -> None:
    async with asyncio.timeout(10):
        while True:
            answer = await ask(cache)
            assert "hit" in answer.cache_status
            store = cache._shared._store
            assert isinstance(store, TieredStore)
            if store.usage().entries >= 5:
                return
            await asyncio.sleep(0.005)


async def test_what_changed_while_it_was_looked_up_is_not_kept(redis_url: str, key: str) -> None:
    """The news may come before the old value does (bug 38)."""
    store = tiered(redis_url)
    await store.set(key, b"old", 60)
    await in_memory(store, key)
    other = open_store(redis_url)
    await other.delete(key)
    await until(lambda: store.look_up((key,)) == [])
    back = store._back.open_many
    await store._back.set(key, b"old", 60)

    async def be_overtaken(keys: Sequence[str], deadline: float | None = None) -> Any:
        found = await back(keys, deadline)
        await other.set(key, b"new", 60)
        await asyncio.sleep(0.1)  # Until the news has come.
        return found

    async def be_flushed(keys: Sequence[str], deadline: float | None = None) -> Any:
        found = await back(keys, deadline)
        store._forget(None)
        return found

    store._back.open_many = be_overtaken  # type: ignore[method-assign]  # As a slow network does.
    assert await store.get(key) == b"old"

    assert store.look_up((key,)) == []
    store._back.open_many = be_flushed  # type: ignore[method-assign]
    assert await store.get(key) == b"new"
    assert store.look_up((key,)) == []
    store._back.open_many = back  # type: ignore[method-assign]
    assert await store.get(key) == b"new"
    await store.aclose()
    await other.aclose()


async def test_a_lost_connection_empties_memory(redis_url: str, key: str) -> None:
    """Nobody would tell what changes meanwhile."""
    store = tiered(redis_url)
    await store.set(key, b"value", 60)
    await in_memory(store, key)

    await store._back.link().execute("CLIENT", "KILL", "TYPE", "pubsub")

    await until(lambda: store.usage().entries == 0)
    assert store.look_up((key,)) == []
    await in_memory(store, key)  # And then it is listening again.
    await store.aclose()


async def test_memory_is_not_believed_while_the_server_is_silent(tmp_path: Path, key: str) -> None:
    """A connection that nothing comes over may be dead (bug 40)."""
    with running(tmp_path) as server:
        store = tiered(server.url)
        await store.set(key, b"value", 60)
        await in_memory(store, key)

        server.signal(signal.SIGSTOP)
        await until(lambda: store.look_up((key,)) == [])
        await until(lambda: store.usage().entries == 0)
        server.signal(signal.SIGCONT)

        await in_memory(store, key)
        await store.aclose()


async def test_a_server_that_is_gone_is_not_in_memory_either(tmp_path: Path, key: str) -> None:
    server = RedisServer(tmp_path)
    store = tiered(server.url)
    await store.set(key, b"value", 60)
    await in_memory(store, key)

    server.kill()

    await until(lambda: store.usage().entries == 0)
    with pytest.raises(StoreError):
        await store.get(key)
    server.start()
    try:
        await store.set(key, b"new", 60)
        await in_memory(store, key)
        assert store.look_up((key,)) == [b"new"]
    finally:
        await store.aclose()
        server.kill()


async def test_what_is_larger_than_memory_stays_in_redis(redis_url: str, key: str) -> None:
    store = open_store(f"tiered+{redis_url}?max_bytes=100kb")
    assert isinstance(store, TieredStore)
    await store.set(key, b"x" * 200_000, 60)

    for _ in range(3):
        assert await store.get(key) == b"x" * 200_000

    assert store.usage().entries == 0
    assert store.usage().limit == 102_400
    await store.aclose()


async def test_reconnecting_empties_memory(redis_url: str, key: str) -> None:
    store = tiered(redis_url)
    await store.set(key, b"value", 60)
    await in_memory(store, key)
    await store.ping(5)

    await store.reconnect()

    assert store.usage().entries == 0
    assert await store.get(key) == b"value"
    await store.aclose()


def test_memory_before_replicas_is_refused() -> None:
    """They may be behind what the primaries tell."""
    with pytest.raises(ValueError, match="read_from_replicas"):
        open_store("tiered+redis+cluster://localhost?read_from_replicas=yes")


@pytest.mark.parametrize("url", ["tiered+memory://", "tiered+", "tiered+memcached://host"])
def test_memory_before_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be a URL"):
        open_store(url)


async def test_looking_up_nothing_asks_nobody() -> None:
    assert await tiered("redis://127.0.0.1:1/0").get_many([]) == []


async def test_when_other_servers_have_the_keys_memory_is_emptied(redis_url: str, key: str) -> None:
    """Those that were listened to no longer know of all changes (bug 43)."""
    store = tiered(redis_url)
    await store.set(key, b"value", 60)
    await in_memory(store, key)

    store._back.link().servers.shape = lambda: "another"  # type: ignore[method-assign]

    await until(lambda: store.usage().entries == 0)
    await in_memory(store, key)
    await store.aclose()
