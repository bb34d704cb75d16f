"""The store in Redis, against a real server."""

import sys
from typing import Any

import pytest
from redis.asyncio import Redis

from memoserve import CacheMiddleware, Rule, StoreError
from memoserve.stores import open_store
from memoserve.stores.redis import RedisStore
from tests.asgi import Model, ask


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
