"""One call of the app among all processes that share a Redis.

Each cache here stands for a process: they have nothing in common but the server.
"""

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis

from memoserve import CacheMiddleware, Rule, StoreError, _fill
from memoserve._events import ModelCalled, RequestFinished, StoreWritten
from memoserve._lease import Turn
from memoserve.stores import _listener, open_store
from memoserve.stores._leases import lease_key
from memoserve.stores.guarded import GuardedStore
from tests.asgi import JSON, Call, Model, ask, begin, http_scope
from tests.middleware.cases import Notes
from tests.servers import until

PATH = "/v1/model"


@contextlib.asynccontextmanager
async def processes(
    url: str, *models: Model, lease: float = 10, observer: Any = None, **rule: Any
) -> AsyncGenerator[list[CacheMiddleware]]:
    """Put a cache before each model; they share a Redis, and are listening."""
    namespace = f"turns-{uuid.uuid4().hex[:8]}"
    caches = [
        CacheMiddleware(
            model, rules=[Rule(PATH, **rule)], store=url, namespace=namespace, lease=lease,
            store_deadline=5, observer=observer,
        )
        for model in models
    ]  # fmt: skip
    try:
        for cache in caches:
            await until(functools.partial(is_hearing, cache._shared.store))
        yield caches
    finally:
        for cache in caches:
            await cache.aclose()


def is_hearing(store: GuardedStore) -> bool:
    with store.await_lease("any") as told:
        return not told.cancelled()


def held() -> Model:
    return Model(gate=asyncio.Event())


def release(*models: Model) -> None:
    for model in models:
        assert model.gate is not None
        model.gate.set()


async def waiting_for(url: str, cache: CacheMiddleware) -> None:
    """Wait until another process has marked the one lease that there is."""
    client: Any = Redis.from_url(url)
    pattern = f"{{{cache._shared.options.namespace}:*"

    async with asyncio.timeout(10):
        while True:
            values = [await client.get(key) async for key in client.scan_iter(match=pattern)]
            if any(value and value.endswith(b"+") for value in values):
                break
            await asyncio.sleep(0.01)
    await client.aclose()


async def test_identical_requests_of_several_processes_are_one_call(redis_url: str) -> None:
    """bug 33."""
    models, notes = [held(), held(), held()], Notes()
    async with processes(redis_url, *models, observer=notes) as caches:
        calls = [begin(cache, Call(http_scope())) for cache in caches for _ in range(10)]
        await until(lambda: sum(model.calls for model in models) == 1)
        await waiting_for(redis_url, caches[0])
        release(*models)
        answers = await asyncio.gather(*calls)

    assert sum(model.calls for model in models) == 1
    assert {answer.content for answer in answers} == {b'{"call":1}'}
    statuses = sorted(answer.cache_status for answer in answers)
    assert statuses == ["memoserve; fwd=miss"] + ["memoserve; fwd=miss; collapsed"] * 29
    assert sum(answer.header(b"age") is not None for answer in answers) == 29
    assert len(notes.of(ModelCalled)) == len(notes.of(StoreWritten)) == 1
    finished = notes.of(RequestFinished)
    assert sorted(event.status for event in finished) == ["coalesced"] * 29 + ["miss"]
    (cost,) = {event.saved for event in finished if event.status == "coalesced" and event.age}
    assert cost > 0


async def test_an_answer_that_is_there_when_the_turn_comes_is_served(redis_url: str) -> None:
    """Another process was done between this one's look-up and its turn (bug 33)."""
    first, second = Model(), Model()
    async with processes(redis_url, first, second) as (one, other):
        store: Any = other._shared._store
        look_up = store.get_many_within
        await ask(one)

        async def see_nothing_once(keys: Any, deadline: float) -> list[bytes | None]:
            store.get_many_within = look_up
            return [None] * len(keys)

        store.get_many_within = see_nothing_once
        answer = await ask(other)

    assert (first.calls, second.calls) == (1, 0)
    assert answer.cache_status == "memoserve; fwd=miss; collapsed"


async def test_when_the_owner_dies_one_other_takes_over(redis_url: str) -> None:
    """The lease runs out, and all have the answer of the second call (bug 34, bug 37)."""
    models = [held(), held(), held()]
    async with processes(redis_url, *models, lease=0.3) as (dying, *others):
        doomed = begin(dying, Call(http_scope()))
        await until(lambda: models[0].calls == 1)
        calls = [begin(cache, Call(http_scope())) for cache in others for _ in range(5)]
        await waiting_for(redis_url, dying)
        # As SIGKILL would: no renewal any more, and no word.
        for task in asyncio.all_tasks():
            if "Turn._renew" in repr(task):
                task.cancel()
        await until(lambda: sum(model.calls for model in models[1:]) == 1)
        release(*models[1:])
        answers = await asyncio.gather(*calls)
        release(models[0])
        await doomed

    assert sum(model.calls for model in models[1:]) == 1
    assert {answer.status for answer in answers} == {200}


async def test_a_long_generation_keeps_its_lease(redis_url: str) -> None:
    """It is renewed for as long as the app needs, and nobody asks beside it."""
    models = [held(), held()]
    async with processes(redis_url, *models, lease=0.15) as (one, other):
        calls = [begin(one, Call(http_scope()))]
        await until(lambda: models[0].calls == 1)
        calls.append(begin(other, Call(http_scope())))
        await waiting_for(redis_url, one)
        await asyncio.sleep(0.6)  # Four times the lease.

        release(*models)
        await asyncio.gather(*calls)

    assert [model.calls for model in models] == [1, 0]


@pytest.mark.parametrize(
    ("headers", "rule"),
    [
        pytest.param([JSON, (b"cache-control", b"private")], {}, id="for-one-client"),
        pytest.param([JSON], {"min_cost": 60}, id="not-worth-storing"),
    ],
)
async def test_an_answer_that_is_not_stored_lets_all_go_at_once(
    redis_url: str, headers: Any, rule: Any
) -> None:
    """Nobody waits for a second time, either (bug 35)."""
    models = [Model(headers=headers, gate=asyncio.Event()) for _ in range(3)]
    async with processes(redis_url, *models, **rule) as caches:
        calls = [begin(caches[0], Call(http_scope()))]
        await until(lambda: models[0].calls == 1)
        calls += [begin(cache, Call(http_scope())) for cache in caches[1:]]
        await waiting_for(redis_url, caches[0])
        release(models[0])

        await until(lambda: [model.calls for model in models] == [1, 1, 1])
        release(*models)
        answers = await asyncio.gather(*calls)
        again = await asyncio.gather(*(ask(cache) for cache in caches))

    assert {answer.status for answer in (*answers, *again)} == {200}
    assert [model.calls for model in models] == [2, 2, 2]


async def test_after_a_failure_one_other_asks_again(redis_url: str) -> None:
    """Neither all of them nor none (bug 34)."""
    failing = Model(status=500, gate=asyncio.Event())
    models = [failing, held(), held()]
    async with processes(redis_url, *models) as caches:
        calls = [begin(caches[0], Call(http_scope()))]
        await until(lambda: failing.calls == 1)
        calls += [begin(cache, Call(http_scope())) for cache in caches[1:]]
        await waiting_for(redis_url, caches[0])

        release(failing)
        await until(lambda: sum(model.calls for model in models[1:]) == 1)
        await waiting_for(redis_url, caches[0])
        release(*models)
        answers = await asyncio.gather(*calls)

    assert [answer.status for answer in answers] == [500, 200, 200]
    assert sum(model.calls for model in models[1:]) == 1


async def test_after_two_failures_everyone_asks(redis_url: str) -> None:
    """Who always fails does not make the others wait for each other (bug 34)."""
    models = [Model(status=500, gate=asyncio.Event()) for _ in range(4)]
    async with processes(redis_url, *models) as caches:
        calls = [begin(caches[0], Call(http_scope()))]
        await until(lambda: models[0].calls == 1)
        calls += [begin(cache, Call(http_scope())) for cache in caches[1:]]
        await waiting_for(redis_url, caches[0])
        release(*models)
        answers = await asyncio.gather(*calls)

    assert {answer.status for answer in answers} == {500}
    assert [model.calls for model in models] == [1, 1, 1, 1]


@pytest.mark.parametrize("coalesce", ["process", False])
async def test_a_rule_may_keep_to_its_process(redis_url: str, coalesce: Any) -> None:
    models = [held(), held()]
    async with processes(redis_url, *models, coalesce=coalesce) as caches:
        calls = [begin(cache, Call(http_scope())) for cache in caches]
        await until(lambda: [model.calls for model in models] == [1, 1])
        release(*models)
        await asyncio.gather(*calls)


async def test_a_stale_answer_is_refreshed_by_one_process(redis_url: str) -> None:
    """However many processes serve it meanwhile (bug 39)."""
    models = [Model(), held(), held()]
    rule = {"ttl": 0.05, "stale_while_revalidate": 60}
    async with processes(redis_url, *models, **rule) as (one, *others):
        await ask(one)
        await asyncio.sleep(0.06)

        answers = [await ask(cache) for cache in others for _ in range(3)]
        await until(lambda: sum(model.calls for model in models[1:]) == 1)
        await waiting_for(redis_url, one)
        release(*models[1:])

    assert all("hit; ttl=-" in answer.cache_status for answer in answers)
    assert sum(model.calls for model in models[1:]) == 1


async def test_without_redis_nobody_waits() -> None:
    """bug 40."""
    models = [Model(), Model()]
    caches = [
        CacheMiddleware(model, rules=[Rule(PATH)], store="redis://127.0.0.1:1/0")
        for model in models
    ]

    answers = await asyncio.gather(*(ask(cache) for cache in caches))
    for cache in caches:
        await cache.aclose()

    assert {answer.status for answer in answers} == {200}


async def test_a_lease_of_the_dead_has_a_time_to_live(redis_url: str) -> None:
    """bug 37, bug 44."""
    model = held()
    async with processes(redis_url, model, lease=7) as (cache,):
        call = begin(cache, Call(http_scope()))
        await until(lambda: model.calls == 1)
        client: Any = Redis.from_url(redis_url)
        pattern = f"{{{cache._shared.options.namespace}:*"
        (key,) = [key async for key in client.scan_iter(match=pattern)]

        assert 0 < await client.pttl(key) <= 7000
        assert key.decode() == lease_key(key.decode()[1:].partition("}")[0])
        release(model)
        await call
        assert not await client.exists(key)
        await client.aclose()


async def test_a_lease_that_is_evicted_is_tried_for_before_it_would_have_run_out(
    redis_url: str,
) -> None:
    """A full Redis says nothing when it evicts (bug 37, bug 53)."""
    models = [held(), held()]
    async with processes(redis_url, *models, lease=600) as (one, other):
        calls = [begin(one, Call(http_scope()))]
        await until(lambda: models[0].calls == 1)
        calls.append(begin(other, Call(http_scope())))
        await waiting_for(redis_url, one)
        client: Any = Redis.from_url(redis_url)
        pattern = f"{{{one._shared.options.namespace}:*"
        await client.delete(*[key async for key in client.scan_iter(match=pattern)])
        await until(lambda: models[1].calls == 1)
        release(*models)
        answers = await asyncio.gather(*calls)
        await client.aclose()

    assert {answer.status for answer in answers} == {200}


def test_a_lease_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="lease must be positive, not 0"):
        CacheMiddleware(Model(), rules=[Rule(PATH)], lease=0)


def test_a_namespace_with_braces_is_refused() -> None:
    """Redis Cluster would put all its keys on one server (bug 43)."""
    with pytest.raises(ValueError, match=r"no braces, unlike '\{a\}'"):
        CacheMiddleware(Model(), rules=[Rule(PATH)], namespace="{a}")


async def test_where_ends_are_not_heard_the_lease_is_tried_for(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Now and then, not all the time (bug 44)."""
    models = [held(), held()]
    async with processes(redis_url, *models) as (one, other):
        monkeypatch.setattr(_listener, "_CURRENT_SECONDS", 0.0)
        calls = [begin(one, Call(http_scope()))]
        await until(lambda: models[0].calls == 1)
        calls.append(begin(other, Call(http_scope())))
        await waiting_for(redis_url, one)
        release(*models)
        answers = await asyncio.gather(*calls)

    assert [model.calls for model in models] == [1, 0]
    assert answers[1].cache_status == "memoserve; fwd=miss; collapsed"


@pytest.mark.parametrize("turns", [1, 4])
async def test_who_cannot_find_what_was_stored_asks_the_app(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """It was purged, or varies on what this client sent."""
    monkeypatch.setattr(_fill, "_MOST_TURNS", turns)
    models = [held(), Model()]
    async with processes(redis_url, *models) as (one, other):
        store: Any = other._shared._store

        async def see_nothing(keys: Any, deadline: float) -> list[bytes | None]:
            return [None] * len(keys)

        store.get_many_within = see_nothing
        calls = [begin(one, Call(http_scope()))]
        await until(lambda: models[0].calls == 1)
        calls.append(begin(other, Call(http_scope())))
        await waiting_for(redis_url, one)
        release(models[0])
        answers = await asyncio.gather(*calls)

    assert [answer.status for answer in answers] == [200, 200]
    assert [model.calls for model in models] == [1, 1]


async def test_an_answer_that_varies_is_stored_under_another_key(redis_url: str) -> None:
    """The lease is that of the question, and ends all the same (bug 36)."""
    headers = [JSON, (b"vary", b"x-plan")]
    models = [Model(headers=headers, gate=asyncio.Event()) for _ in range(2)]
    async with processes(redis_url, *models) as (one, other):
        calls = [begin(one, Call(http_scope(headers=[JSON, (b"x-plan", b"a")])))]
        await until(lambda: models[0].calls == 1)
        calls.append(begin(other, Call(http_scope(headers=[JSON, (b"x-plan", b"a")]))))
        await waiting_for(redis_url, one)
        release(*models)
        answers = await asyncio.gather(*calls)

    assert {answer.content for answer in answers} == {b'{"call":1}'}
    assert [model.calls for model in models] == [1, 0]


async def test_a_turn_that_the_store_cannot_give_is_taken(redis_url: str) -> None:
    """The answer is stored all the same, and nothing of the turn is left behind (bug 40)."""
    store: Any = open_store(redis_url)
    guarded = GuardedStore(store, 5, lambda *_: None)
    turn = Turn(guarded, f"turn:{uuid.uuid4().hex}", 60)
    take = store.take_lease

    async def take_unheard(key: str, owner: str, seconds: float) -> None:
        await take(key, owner, seconds)
        raise StoreError("the connection broke off")

    store.take_lease = take_unheard

    assert await turn.come() == "ask"
    assert await turn.store(turn.key, b"answer", 60)

    assert await store.get(turn.key) == b"answer"
    assert (await take(turn.key, "next", 60)).is_ours
    await store.aclose()


async def test_who_has_no_turn_stores_as_ever(redis_url: str) -> None:
    """Another's answer could not be stored, and this one could."""
    store = open_store(redis_url)
    guarded = GuardedStore(store, 5, lambda *_: None)
    turn = Turn(guarded, f"turn:{uuid.uuid4().hex}", 10)

    assert await turn.store(turn.key, b"answer", 60)

    assert await store.get(turn.key) == b"answer"
    await store.aclose()
