"""Purging one question, on every store."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from memoserve import CacheMiddleware, MemoryStore, Purger, Rule, Store
from memoserve._asgi import Receive, Scope, Send, respond
from memoserve._curl import sent_to
from memoserve._keyed import CacheSettings, keyed
from memoserve._tags import purge_mark
from memoserve.stores import open_store
from memoserve.stores.tiered import TieredStore
from tests.asgi import JSON, Call, Model, ask, begin, http_scope, settle
from tests.servers import until

RULE = Rule("/v1/model", tags=["news"])
BOUND = 1.0  # Seconds within which every host has to know.


class Hosts:
    """Two hosts with a cache each, a model each, and one store; a third host purges."""

    def __init__(self, open_one: Callable[[], Store], rule: Rule = RULE) -> None:
        self.namespace = f"purge-{uuid.uuid4().hex[:8]}"
        self.models = Model(), Model()
        self.stores = [open_one() for _ in range(3)]
        self.caches = [
            CacheMiddleware(
                model, rules=[rule], store=store, namespace=self.namespace, store_deadline=30
            )
            for model, store in zip(self.models, self.stores, strict=False)
        ]
        self.purger = Purger(self.stores[2], self.namespace)

    async def key(self, body: bytes = b"{}") -> str:
        """Find out the key as `memoserve key` does."""
        headers = [(name.decode(), value.decode()) for name, value in (JSON,)]
        sent = sent_to("http://test/v1/model", method="POST", headers=headers, body=body)
        found = await keyed(sent, CacheSettings(rules=(RULE,), namespace=self.namespace))
        return found.md5

    async def hear(self) -> None:
        """Let a second pass where memory is in front, which learns of the purge meanwhile."""
        if isinstance(self.stores[0], TieredStore):
            await asyncio.sleep(BOUND)

    async def aclose(self) -> None:
        for cache in self.caches:
            await cache.aclose()
        for store in self.stores:
            await store.aclose()


@pytest.fixture(params=["memory", "redis", "cluster", "sentinel", "tiered", "tiered_cluster"])
async def hosts(request: pytest.FixtureRequest) -> AsyncIterator[Hosts]:
    if request.param == "memory":
        store = MemoryStore()
        made = Hosts(lambda: store)
    else:
        url = request.getfixturevalue(f"{request.param}_url")
        made = Hosts(lambda: open_store(url))
    yield made
    await made.aclose()


async def is_hit(
    cache: CacheMiddleware, body: bytes = b"{}", *headers: tuple[bytes, bytes]
) -> bool:
    scope = http_scope(headers=(JSON, *headers))
    return "hit" in (await Call(scope, [body]).run(cache)).cache_status


async def test_one_question_is_purged_on_all_hosts_and_no_other(hosts: Hosts) -> None:
    """Within a second (bug 53)."""
    for cache in hosts.caches:
        for body in (b"{}", b"[]"):
            await is_hit(cache, body)
            assert await is_hit(cache, body)

    await hosts.purger.purge(key=await hosts.key())
    await hosts.hear()

    assert [await is_hit(cache, b"[]") for cache in hosts.caches] == [True, True]
    assert not await is_hit(hosts.caches[0])
    assert await is_hit(hosts.caches[1])  # What the first has asked anew.


async def test_a_purge_by_key_beats_a_fill_under_way_on_another_host(hosts: Hosts) -> None:
    """bug 38."""
    model = hosts.models[0]
    model.gate = asyncio.Event()
    first = begin(hosts.caches[0], Call(http_scope()))
    await until(lambda: model.calls)

    await hosts.purger.purge(key=f"{hosts.namespace}:{await hosts.key()}")
    model.gate.set()
    await first
    await until(lambda: not hosts.caches[0]._shared.flights)

    assert not await is_hit(hosts.caches[1])
    assert await is_hit(hosts.caches[0])


@pytest.mark.parametrize(
    ("rule", "tags"),
    [
        pytest.param(RULE, (), id="key"),
        pytest.param(Rule("/v1/model", tags=lambda _body, _answer: ["a"]), ("a",), id="computed"),
    ],
)
async def test_a_purge_beats_a_fill_that_has_not_heard_of_it(
    tiered_url: str, rule: Rule, tags: tuple[str, ...]
) -> None:
    """What is in memory before Redis may be a second old (bug 38)."""
    hosts = Hosts(lambda: open_store(tiered_url), rule)
    store, model = hosts.stores[0], hosts.models[0]
    assert isinstance(store, TieredStore)
    store._back.track(lambda _keys: None)  # It is told, and takes no notice.
    try:
        await store.connect()
        await until(lambda: store._back.listen().is_current)
        await is_hit(hosts.caches[0], b"[]")
        model.gate = asyncio.Event()
        first = begin(hosts.caches[0], Call(http_scope()))
        await until(lambda: model.calls == 2)
        assert store.look_up([purge_mark(hosts.namespace)])

        await hosts.purger.purge(tags=tags, key=None if tags else await hosts.key())
        model.gate.set()
        await first
        await until(lambda: not hosts.caches[0]._shared.flights)

        assert not await is_hit(hosts.caches[1])
    finally:
        await hosts.aclose()


async def test_purges_of_others_meanwhile_do_not_keep_an_answer_from_being_stored(
    hosts: Hosts,
) -> None:
    model = hosts.models[0]
    model.gate = asyncio.Event()
    first = begin(hosts.caches[0], Call(http_scope()))
    await until(lambda: model.calls)

    await hosts.purger.purge(tags=["other"])
    await hosts.purger.purge(key=await hosts.key(b"[]"))
    model.gate.set()
    await first
    await until(lambda: not hosts.caches[0]._shared.flights)

    assert await is_hit(hosts.caches[1])


async def test_all_variants_of_a_question_go_with_it(hosts: Hosts) -> None:
    """They lie under keys that nobody but their readers knows (bug 53)."""
    languages = [(b"accept-language", value) for value in (b"de", b"fr")]
    for model in hosts.models:
        model.headers = (JSON, (b"vary", b"Accept-Language"))
    for cache, language in itertools.product(hosts.caches, languages):
        await is_hit(cache, b"{}", language)
        assert await is_hit(cache, b"{}", language)

    await hosts.purger.purge(key=await hosts.key())
    await hosts.hear()

    for language in languages:
        assert not await is_hit(hosts.caches[0], b"{}", language)
        assert await is_hit(hosts.caches[1], b"{}", language)


@pytest.mark.parametrize("is_known", [False, True], ids=["first-answer", "known-to-vary"])
async def test_a_purge_by_key_beats_a_fill_that_varies(hosts: Hosts, *, is_known: bool) -> None:
    """bug 36, bug 38."""
    model, other = hosts.models
    model.headers = other.headers = (JSON, (b"vary", b"Accept-Language"))
    german = (b"accept-language", b"de")
    if is_known:
        await is_hit(hosts.caches[0], b"{}", (b"accept-language", b"fr"))
    calls = model.calls
    model.gate = asyncio.Event()
    first = begin(hosts.caches[0], Call(http_scope(headers=(JSON, german))))
    await until(lambda: model.calls > calls)

    await hosts.purger.purge(key=await hosts.key())
    model.gate.set()
    await first
    await until(lambda: not hosts.caches[0]._shared.flights)

    assert not await is_hit(hosts.caches[1], b"{}", german)
    assert await is_hit(hosts.caches[0], b"{}", german)


class Lagging:
    """A store with memory in front of it that never hears of what others change."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._near: dict[str, bytes] = {}

    def look_up(self, keys: Sequence[str], /) -> list[bytes | None]:
        found = [self._near.get(key) for key in keys]
        return [] if None in found else found

    async def get(self, key: str, /) -> bytes | None:
        value = await self._store.get(key)
        if value is not None:
            self._near[key] = value
        return value

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self._near.pop(key, None)
        await self._store.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        self._near.pop(key, None)
        await self._store.delete(key)

    async def aclose(self) -> None:
        """Nothing is held."""


async def test_a_purge_by_key_beats_a_fill_whose_memory_has_not_heard_of_it() -> None:
    """bug 38: with memory in front, what a fill asks at its end is asked of the store behind."""
    store, model = MemoryStore(), Model()
    cache = CacheMiddleware(model, rules=[RULE], store=Lagging(store), store_deadline=60)
    sent = sent_to("http://test/v1/model", method="POST", headers=_TYPE, body=b"{}")
    key = (await keyed(sent, CacheSettings(rules=(RULE,)))).md5
    await ask(cache, b"[]")  # So that there are tokens.
    model.gate = asyncio.Event()
    first = begin(cache, Call(http_scope()))
    await until(lambda: model.calls == 2)

    await Purger(store).purge(key=key)
    model.gate.set()
    await first

    assert "hit" not in (await ask(cache)).cache_status
    assert "hit" in (await ask(cache)).cache_status


# Every order in which the steps of a fill and of a purge can happen.


class Stepping:
    """A store whose every call waits for its turn in a schedule, as one of two parties."""

    def __init__(self, store: MemoryStore, name: str, schedule: list[str], log: list[str]) -> None:
        self._store = store
        self._name = name
        self._schedule = schedule
        self._log = log

    async def get(self, key: str, /) -> bytes | None:
        await self._turn()
        return await self._store.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await self._turn()
        await self._store.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        await self._turn()
        await self._store.delete(key)

    async def get_many(self, keys: list[str], /) -> list[bytes | None]:
        await self._turn()
        return self._store.look_up(keys)

    async def add(self, key: str, value: bytes, ttl: float, /) -> bytes:
        await self._turn()
        return await self._store.add(key, value, ttl)

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _turn(self) -> None:
        while self._schedule and self._schedule[0] != self._name:  # noqa: ASYNC110  (turns, not time)
            await asyncio.sleep(0)
        del self._schedule[:1]
        self._log.append(self._name)


async def run_in_order(order: list[str], *, vary: bool) -> tuple[list[str], bool]:
    """Fill and purge at once; return what happened, and whether the answer is there in the end."""
    log: list[str] = []
    store = MemoryStore()
    headers = [JSON, (b"vary", b"accept-language")] if vary else [JSON]

    async def model(scope: Scope, receive: Receive, send: Send) -> None:
        log.append("app")
        await respond(send, 200, list(headers), [b"1"])

    async def fill() -> None:
        await ask(cache)
        await settle()
        schedule[:] = [name for name in schedule if name != "fill"]

    async def purge() -> None:
        await Purger(Stepping(store, "purge", schedule, log)).purge(key=found.md5)
        schedule[:] = [name for name in schedule if name != "purge"]

    sent = sent_to("http://test/v1/model", method="POST", headers=_TYPE, body=b"{}")
    found = await keyed(sent, CacheSettings(rules=(RULE,)))
    schedule: list[str] = []
    cache = CacheMiddleware(
        model, rules=[RULE], store=Stepping(store, "fill", schedule, log), store_deadline=60
    )
    await ask(cache, b"[]")  # So that there are tokens.
    log.clear()
    schedule[:] = order
    await asyncio.gather(fill(), purge())
    happened = log.copy()
    schedule.clear()
    is_there = "hit" in (await ask(cache)).cache_status
    await cache.aclose()
    return happened, is_there


_TYPE = [("content-type", "application/json")]
_STEPS = 7  # Of a fill at the most: look-ups, tokens, writes, what is asked afterwards.


@pytest.mark.parametrize("vary", [False, True], ids=["plain", "varying"])
async def test_in_every_order_of_steps_a_purge_wins_over_what_was_asked_before(
    *, vary: bool
) -> None:
    """bug 38."""
    lost, kept = 0, 0
    for places in itertools.combinations(range(_STEPS + 3), 3):
        order = ["purge" if place in places else "fill" for place in range(_STEPS + 3)]
        happened, is_there = await run_in_order(order, vary=vary)
        if happened.index("app") < happened.index("purge"):
            assert not is_there, happened
            lost += 1
        kept += is_there

    assert lost > 10
    assert kept > 0
