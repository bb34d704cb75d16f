"""The store in Redis, against a real server."""

import asyncio
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.asyncio import Redis

from memoserve import CacheMiddleware, Rule, StoreError
from memoserve._errors import StoreBusyError, StoreRefusedError
from memoserve.stores import _link, open_store
from memoserve.stores._leases import lease_key
from memoserve.stores._servers import close_quietly
from memoserve.stores.redis import RedisStore
from tests.asgi import Model, ask, settle
from tests.redis_servers import running
from tests.redis_servers import until as until_server


async def test_two_processes_with_one_redis_share_answers(redis_url: str) -> None:
    """bug 11: nothing in a key is this process's own."""
    models = Model(), Model()
    one, other = (
        CacheMiddleware(
            model, rules=[Rule("/v1/model")], store=redis_url, namespace="shared", store_deadline=5
        )
        for model in models
    )

    first = await ask(one)
    second = await ask(other)
    await one.aclose()
    await other.aclose()

    assert first.cache_status == "memoserve; fwd=miss"
    assert second.cache_status.startswith("memoserve; hit")
    assert (models[0].calls, models[1].calls) == (1, 0)


async def test_every_key_has_a_time_to_live(redis_url: str) -> None:
    """bug 44."""
    app = CacheMiddleware(
        Model(), rules=[Rule("/v1/model", tags=["a"])], store=redis_url, namespace="ttl",
        store_deadline=5,
    )  # fmt: skip
    await ask(app)
    await app.aclose()

    client: Any = Redis.from_url(redis_url)
    keys = [key async for key in client.scan_iter(match="ttl:*")]
    lives = [await client.pttl(key) for key in keys]
    await client.aclose()

    assert len(keys) == 6
    assert all(milliseconds > 0 for milliseconds in lives)


async def test_a_time_to_live_below_a_second_is_one(redis_url: str) -> None:
    """bug 48: sub-second and huge lifetimes are what they say."""
    store = RedisStore.from_url(redis_url)
    await store.set("brief", b"x", 0.25)
    await store.set("long", b"x", 1e300)

    client: Any = Redis.from_url(redis_url)
    brief, long = await client.pttl("brief"), await client.pttl("long")
    await client.aclose()
    await store.aclose()

    assert 0 < brief <= 250
    assert long > 10**12


@pytest.mark.parametrize("operation", ["get", "get_many", "set", "delete"])
async def test_a_server_that_is_not_there_is_a_store_error(operation: str) -> None:
    """bug 40."""
    store = RedisStore.from_url("redis://127.0.0.1:1/0")
    call: Any = {
        "get": lambda: store.get("k"),
        "get_many": lambda: store.get_many(["k"]),
        "set": lambda: store.set("k", b"v", 1),
        "delete": lambda: store.delete("k"),
    }[operation]

    with pytest.raises(StoreError, match="Connect"):
        await call()

    await store.aclose()


async def test_without_redis_the_app_answers() -> None:
    """bug 40: a service starts and works while Redis is away."""
    app = CacheMiddleware(
        Model(), rules=[Rule("/v1/model")], store="redis://127.0.0.1:1/0", store_deadline=1
    )

    call = await ask(app)
    await app.aclose()

    assert (call.status, call.cache_status) == (200, "memoserve; fwd=miss")


def test_without_redis_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    for name in ("redis", "_redis_urls", "_servers"):
        monkeypatch.delitem(sys.modules, f"memoserve.stores.{name}")

    with pytest.raises(ModuleNotFoundError, match=r"memoserve\[redis\]"):
        open_store("redis://localhost")


async def test_looking_up_nothing_asks_nobody() -> None:
    assert await RedisStore.from_url("redis://127.0.0.1:1/0").get_many([]) == []


async def test_a_server_that_became_read_only_is_looked_for_anew(tmp_path: Path) -> None:
    """Its name may lead to another one by now; what it says is no sign of death (bug 40)."""
    with running(tmp_path) as server:
        store = RedisStore.from_url(server.url)
        await store.set("k", b"v", 60)
        connected = int(server.ask("INFO", "stats")["total_connections_received"])
        server.ask("REPLICAOF", "127.0.0.1", "1")

        with pytest.raises(StoreRefusedError, match="ReadOnly"):
            await store.set("k", b"v", 60)

        server.ask("REPLICAOF", "NO", "ONE")
        await store.set("k", b"v", 60)
        assert int(server.ask("INFO", "stats")["total_connections_received"]) > connected + 2
        await store.aclose()


async def test_a_connection_that_was_closed_while_idle_is_replaced(tmp_path: Path) -> None:
    """Nobody has a miss for it."""
    with running(tmp_path) as server:
        store = RedisStore.from_url(server.url)
        await store.set("k", b"v", 60)
        assert await store.get("k") == b"v"

        server.ask("CLIENT", "KILL", "TYPE", "normal")

        assert await store.get("k") == b"v"
        await store.aclose()


async def test_caches_with_one_store_have_one_secret(redis_url: str) -> None:
    store = RedisStore.from_url(redis_url)
    store.join("a", b"0123456789abcdef")
    store.join("b", None)
    store.join("c", b"0123456789abcdef")

    with pytest.raises(ValueError, match="one secret"):
        store.join("d", b"fedcba9876543210")


async def test_without_the_secret_nothing_can_be_read_or_written(redis_url: str) -> None:
    """Who can write to Redis cannot write answers (bug 17)."""
    ours, theirs = RedisStore.from_url(redis_url), RedisStore.from_url(redis_url)
    ours.join("ns", b"0123456789abcdef")
    await theirs.set("ns:forged", b"forged", 60)
    await ours.set("ns:true", b"true", 60)

    assert await ours.get_many(["ns:forged", "ns:true"]) == [None, b"true"]
    assert await theirs.get("ns:true") is None
    assert await ours.add("ns:forged", b"ours", 60) == b"ours"
    assert await ours.get("ns:forged") == b"ours"
    await ours.aclose()
    await theirs.aclose()


async def test_too_much_to_write_is_refused(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a single value of any size is not too much (bug 41)."""
    store = RedisStore.from_url(redis_url)
    monkeypatch.setattr(_link, "_MOST_BYTES", 10)

    results = await asyncio.gather(
        store.set("a", b"x" * 20, 60), store.set("b", b"x" * 20, 60), return_exceptions=True
    )

    assert results[0] is None
    assert isinstance(results[1], StoreBusyError)
    await store.aclose()


async def test_reconnecting_ends_what_is_under_way(redis_url: str) -> None:
    """Who waits for it is told; nobody is cancelled."""
    store = RedisStore.from_url(redis_url)
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    waiting = asyncio.ensure_future(store.link().run(hang()))
    await begun.wait()
    await store.reconnect()

    with pytest.raises(StoreError, match="reconnected"):
        await waiting


async def test_a_write_goes_on_when_nobody_waits_for_it(redis_url: str) -> None:
    """A deadline ends the waiting alone (bug 41)."""
    store = RedisStore.from_url(redis_url)
    finish, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await finish.wait()
        done.set()

    waiting = asyncio.ensure_future(store.link().run(work()))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    finish.set()

    await asyncio.wait_for(done.wait(), 5)
    await store.aclose()


async def test_a_lease_that_comes_too_late_is_given_back(redis_url: str) -> None:
    """Or else those who ask next would wait for it to run out (bug 37)."""
    store = RedisStore.from_url(redis_url)
    take = store.link().leases.take
    finish = asyncio.Event()

    async def take_late(*arguments: Any) -> Any:
        await finish.wait()
        return await take(*arguments)

    link: Any = store.link()
    link.leases.take = take_late  # As a slow server does.
    waiting = asyncio.ensure_future(store.take_lease("late", "me", 60))
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    finish.set()
    link.leases.take = take

    async with asyncio.timeout(10):
        while not (await store.take_lease("late", "other", 60)).is_ours:  # noqa: ASYNC110  (a server)
            await asyncio.sleep(0.01)
    await store.aclose()


async def test_a_lease_that_cannot_be_taken_is_a_refusal(redis_url: str) -> None:
    store = RedisStore.from_url(redis_url)
    await store.link().execute("HSET", lease_key("hash"), "field", "value")

    with pytest.raises(StoreRefusedError, match="WRONGTYPE"):
        await store.take_lease("hash", "me", 60)

    await store.link().execute("DEL", lease_key("hash"))
    await store.aclose()


async def test_a_large_value_that_was_evicted_is_not_there(redis_url: str) -> None:
    """What points to it may have stayed (bug 53)."""
    store = RedisStore.from_url(redis_url)
    await store.set("large", b"x" * 300_000, 60)
    client: Any = Redis.from_url(redis_url)
    pieces = [key async for key in client.scan_iter(match="large:*")]
    await client.aclose()

    await store.link().execute("DEL", *pieces)

    assert len(pieces) == 1
    assert await store.get("large") is None
    await store.aclose()


@pytest.mark.parametrize("size", [10, 70_000, 300_000])
async def test_values_of_any_size_are_compressed_by_option(redis_url: str, size: int) -> None:
    store = RedisStore.from_url(f"{redis_url}?compress=zlib")

    await store.set("packed", b"x" * size, 60)

    assert await store.get("packed") == b"x" * size
    await store.aclose()


def test_each_event_loop_has_connections_of_its_own(redis_url: str) -> None:
    """bug 42."""
    store = RedisStore.from_url(redis_url)

    async def use(value: bytes) -> bytes | None:
        await store.set("loops", value, 60)
        found = await store.get("loops")
        await store.aclose()
        return found

    assert asyncio.run(use(b"first")) == b"first"
    assert asyncio.run(use(b"second")) == b"second"


async def test_a_cluster_that_is_not_there_is_a_store_error() -> None:
    """And it is looked for again the next time (bug 40, bug 43)."""
    store = RedisStore.from_url("redis+cluster://127.0.0.1:1")

    for _ in range(2):
        with pytest.raises(StoreError):
            await store.get("k")
    with pytest.raises(StoreError):
        await store.ping(1)
    results = await asyncio.gather(store.delete("a"), store.delete("b"), return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)

    await store.aclose()


@pytest.mark.parametrize("shape", ["cluster", "sentinel"])
async def test_replicas_are_read_where_that_is_asked(
    request: pytest.FixtureRequest, shape: str
) -> None:
    """By their own count: the primaries alone would answer as well."""
    url = str(request.getfixturevalue(f"{shape}_url"))
    ports = [int(host.partition(":")[2]) for host in urlsplit(url).netloc.split(",")]
    replicas = {"cluster": replicas_by_cluster, "sentinel": replicas_by_sentinel}[shape](ports)
    store = RedisStore.from_url(f"{url}{'&' if '?' in url else '?'}read_from_replicas=yes")
    await store.set("replicated", b"value", 60)
    before = lookups_of(replicas)

    async with asyncio.timeout(10):
        while await store.get("replicated") != b"value" or lookups_of(replicas) == before:  # noqa: ASYNC110  (a server)
            await asyncio.sleep(0.01)
    await store.aclose()


def replicas_by_sentinel(ports: list[int]) -> list[int]:
    found = ask_server(ports[0], "SENTINEL", "REPLICAS", "mymaster")
    return [int(dict(zip(each[::2], each[1::2], strict=True))[b"port"]) for each in found]


def replicas_by_cluster(ports: list[int]) -> list[int]:
    """Wait until all have heard of the replicas: in a Cluster that is new they have not yet."""
    for port in ports:
        until_server(lambda: all(len(each) > 3 for each in ask_server(port, "CLUSTER", "SLOTS")))  # noqa: B023  (it is called here)
    return [int(each[3][1]) for each in ask_server(ports[0], "CLUSTER", "SLOTS")]


def lookups_of(ports: list[int]) -> int:
    """Return how many lookups clients have made there."""
    stats = [ask_server(port, "INFO", "commandstats") for port in ports]
    names = ("cmdstat_get", "cmdstat_mget")
    return sum(int(each[name]["calls"]) for each in stats for name in names if name in each)


def ask_server(port: int, *command: Any) -> Any:
    client: Any = redis.Redis(port=port, protocol=2)
    with closing(client):
        return client.execute_command(*command)


async def test_a_cache_connects_when_its_app_starts(redis_url: str) -> None:
    """The first requests find it connected; one that is away delays the start a little (bug 40)."""
    for url in (redis_url, f"tiered+{redis_url}", "redis://127.0.0.1:1/0", "memory://"):
        app = CacheMiddleware(lifespan_app, rules=[Rule("/v1/model")], store=url)
        messages = ["lifespan.startup", "lifespan.shutdown"]
        sent: list[str] = []

        async def receive(messages: list[str] = messages) -> Any:
            return {"type": messages.pop(0)}

        async def send(message: Any, sent: list[str] = sent) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)

        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def lifespan_app(scope: Any, receive: Any, send: Any) -> None:
    for _ in range(2):
        await send({"type": f"{(await receive())['type']}.complete"})


async def test_what_breaks_while_it_is_closed_does_no_harm() -> None:
    async def fail() -> None:
        raise ConnectionResetError

    await close_quietly(fail())
