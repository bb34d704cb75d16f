"""Requests of several kinds for one resource, crossing each other."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from memoserve import CacheMiddleware, MemoryStore, Purger, Rule, StoredResponse
from memoserve._asgi import Header, Message, Receive, Scope, Send
from tests.asgi import JSON, Call, Model, ask, begin, settle
from tests.middleware.cases import Clock
from tests.middleware.cases import cached as cached_model
from tests.middleware.origin import ETAG, PATH, Cached, Gate, Origin, cached, control, scope_of
from tests.middleware.transparency import RemoteStore
from tests.servers import until

REFRESHED = control(b"max-age=5, stale-while-revalidate=60")


async def stale(origin: Origin, **options: Any) -> Cached:
    """Have an answer stored, and let it become stale."""
    cache = cached(origin, **options)
    await cache.get()
    cache.clock.now += 10
    return cache


@pytest.mark.parametrize(
    ("method", "field"),
    [
        pytest.param("HEAD", (b"x-a", b"1"), id="head"),
        pytest.param("GET", (b"range", b"bytes=0-0"), id="range"),
        pytest.param("GET", (b"if-none-match", b'"mine"'), id="condition"),
    ],
)
async def test_a_refresh_asks_for_the_whole_answer(method: str, field: Header) -> None:
    """Whatever the client wants of it whose request began the refresh (bug 30, bug 39)."""
    cache = await stale(Origin([REFRESHED]))

    await cache.get(field, method=method)
    await settle()
    hit = await cache.get()

    refresh = cache.origin.seen[1]
    assert (refresh["method"], (hit.content, hit.cache_status)) == (
        "GET", (b"2", "memoserve; hit; ttl=5"),
    )  # fmt: skip
    assert field[0] not in dict(refresh["headers"]) or field[0] == b"x-a"


async def test_who_shares_an_answer_gets_no_field_that_is_kept_back() -> None:
    """RFC 9111 §5.2.2.7, before anything is stored (bug 16)."""
    model = Model(
        headers=[JSON, control(b'max-age=10, private="x-account"'), (b"x-account", b"alice")],
        gate=asyncio.Event(),
    )
    app = cached_model(model)
    calls = [Call(scope_of("POST")) for _ in range(2)]
    for call in calls:
        call.scope["path"] = "/v1/model"
    tasks = [begin(app, call) for call in calls]
    await settle()
    assert model.gate is not None
    model.gate.set()
    await asyncio.gather(*tasks)

    assert [call.header(b"x-account") for call in calls] == [b"alice", None]


@pytest.mark.parametrize("change", ["purge", "request"])
async def test_who_asks_after_a_change_does_not_share_what_began_before(change: str) -> None:
    """bug 38."""
    gate = Gate()
    cache = cached(Origin())
    store = MemoryStore()
    cache.app = CacheMiddleware(
        _by_method(gate, cache.origin),
        rules=[Rule(PATH, methods={"GET"}, ttl=60)],
        store=store,
    )
    before, after = Call(scope_of(), (b"",)), Call(scope_of(), (b"",))
    tasks = [begin(cache.app, before)]
    await settle()

    if change == "purge":
        await Purger(store).purge(everything=True)
    else:
        await cache.get(method="PUT")
    tasks.append(begin(cache.app, after))
    await settle()
    gate.start.set_result(None)
    gate.end.set_result(None)
    await asyncio.gather(*tasks)

    assert (before.content, after.content) == (b"1", b"2")


def _by_method(get: Callable[..., Any], other: Callable[..., Any]) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (get if scope["method"] == "GET" else other)(scope, receive, send)

    return app


class Forgetful(RemoteStore):
    """A store that cannot be written to for a while."""

    is_broken = False

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        if self.is_broken:
            raise OSError("read only")
        await super().set(key, value, ttl)


async def test_a_change_that_the_store_is_not_told_of_is_known_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the store is told when it listens again (bug 40, bug 53)."""
    monkeypatch.setattr("memoserve._shared._LATER", 0.001)
    store = Forgetful()
    origin = Origin([control(b"max-age=60")])
    app = CacheMiddleware(
        origin, rules=[Rule(PATH, methods={"GET"}, ttl=None)], store=store, store_deadline=10
    )
    get: dict[str, Any] = {"path": PATH, "method": "GET", "headers": []}
    first = [(await ask(app, b"", **get)).content for _ in range(2)]

    store.is_broken = True
    await ask(app, b"", path=PATH, method="PUT")
    second = (await ask(app, b"", **get)).content
    store.is_broken = False
    await until(lambda: not app._shared.unpurged)
    other = CacheMiddleware(
        origin, rules=[Rule(PATH, methods={"GET"}, ttl=None)], store=store, store_deadline=10
    )
    third = (await ask(other, b"", **get)).content

    assert first == [b"1", b"1"]
    assert (second, third) == (b"3", b"4")


async def test_a_change_that_no_store_hears_of_for_minutes_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and nothing grows for ever (bug 45)."""
    monkeypatch.setattr("memoserve._shared._LATER", 0.0)
    store = Forgetful()
    store.is_broken = True
    rules = [Rule(PATH, methods={"GET"}, ttl=None)]
    app = CacheMiddleware(Origin(), rules=rules, store=store, store_deadline=10)

    for _ in range(2):
        await ask(app, b"", path=PATH, method="PUT")
    await until(lambda: not app._shared.unpurged)

    assert "it is forgotten" in caplog.text


async def test_two_schemes_are_two_resources() -> None:
    """A redirect to https is no answer to who has come by it (RFC 9111 §2, bug 2)."""
    cache = cached(Origin([control(b"max-age=5")]))
    await cache.get(scheme="http")

    assert (await cache.get(scheme="https")).content == b"2"


async def test_authorization_binds_though_the_service_counts_other_credentials() -> None:
    """RFC 9111 §3.5 (bug 14)."""
    cache = cached(Origin([control(b"max-age=5")]), credentials=["x-team"])
    await cache.get((b"authorization", b"Bearer a"))

    assert (await cache.get((b"authorization", b"Bearer b"))).content == b"2"


async def test_what_is_recalled_heeds_a_field_that_is_known_to_matter_by_now() -> None:
    """The spelling of the first answer's request did not have it (bug 36)."""
    model = Model()
    app = cached_model(model, client_control="obey")
    for _ in range(2):
        await ask(app)
    model.headers = [JSON, (b"vary", b"x-lang")]
    model.status = 404
    await ask(app, headers=[JSON, (b"cache-control", b"no-cache")])

    german = await ask(app, headers=[JSON, (b"x-lang", b"de")])

    assert german.content == b'{"call":3}'


@pytest.mark.parametrize(
    ("methods", "status", "headers", "expected"),
    [
        pytest.param({"HEAD"}, 200, [(b"content-length", b"1234")], b"1234", id="heads-own"),
        pytest.param({"GET", "HEAD"}, 204, [], None, id="no-content"),
        pytest.param({"GET", "HEAD"}, 200, [], b"1", id="unstated"),
    ],
)
async def test_a_head_says_the_length_that_a_get_would(
    methods: set[str], status: int, headers: list[Header], expected: bytes | None
) -> None:
    """RFC 9110 §8.6 (bug 30)."""

    class Plain(Origin):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def send_less(message: Message) -> None:
                if message["type"] == "http.response.body" and status == 204:
                    message = {**message, "body": b""}
                await send(message)

            await super().__call__(scope, receive, send_less)

    cache = cached(Plain([control(b"max-age=5"), *headers], status), methods=methods)
    await cache.get(method="HEAD" if "GET" not in methods else "GET")

    head = await cache.get(method="HEAD")

    assert head.cache_status == "memoserve; hit; ttl=5"
    assert head.header(b"content-length") == expected


async def test_admit_does_not_override_no_cache() -> None:
    """RFC 9111 §5.2.2.4 (bug 51)."""

    def admit(_: StoredResponse) -> float:
        return 60.0

    cache = cached(Origin([control(b"no-cache"), ETAG]), admit=admit)
    await cache.get()
    await cache.get()

    assert cache.origin.asked(b"if-none-match") == [None, b'"1"']


@pytest.mark.parametrize("argument", [b'"x', b'" "', b'","', b""])
async def test_a_malformed_private_is_a_private(argument: bytes) -> None:
    """It does not narrow what it says (bug 51)."""
    cache = cached(Origin([control(b"max-age=5, private=" + argument)]))
    await cache.get()

    assert (await cache.get()).content == b"2"


async def test_nobody_waits_for_a_client_that_reads_slowly() -> None:
    """Neither a HEAD, nor a part, nor a condition of another client (bug 28)."""
    cache = cached(Origin([control(b"max-age=5")]))
    slow = Call(scope_of(), (b"",))
    hold = asyncio.Event()

    async def send_slowly(message: Message) -> None:
        if message["type"] == "http.response.body":
            await hold.wait()

    task = asyncio.create_task(cache.app(slow.scope, slow.receive, send_slowly))
    await settle()

    async with asyncio.timeout(5):
        head = await cache.get(method="HEAD")
        part = await cache.get((b"range", b"bytes=0-0"))
    hold.set()
    await task

    assert (head.status, part.status) == (200, 200)


async def test_a_condition_of_one_client_does_not_end_sharing() -> None:
    """A browser's reload is no reason to ask the app for everyone (bug 35)."""
    cache = cached(Origin([control(b"max-age=5"), ETAG]))
    await cache.get((b"if-none-match", b'"1"'))
    calls = [Call(scope_of(), (b"",)) for _ in range(10)]

    await asyncio.gather(*(begin(cache.app, call) for call in calls))

    assert len(cache.origin.seen) == 2


@pytest.mark.parametrize(
    ("method", "field", "options"),
    [
        pytest.param("HEAD", (b"x-a", b"1"), {}, id="head"),
        pytest.param("GET", (b"if-none-match", b'"x"'), {}, id="condition"),
        pytest.param("GET", (b"x-a", b"1"), {"coalesce": False}, id="alone"),
    ],
)
@pytest.mark.parametrize("failure", ["raises", "500"])
async def test_a_stale_answer_stands_in_for_every_kind_of_call(
    method: str, field: Header, options: dict[str, Any], failure: str
) -> None:
    """RFC 5861 §4."""
    cache = await stale(Origin([control(b"max-age=5, stale-if-error=60")]), **options)
    cache.origin.is_failing = failure == "raises"
    cache.origin.status = 500

    call = await cache.get(field, method=method)

    assert (call.status, call.cache_status) == (200, "memoserve; hit; ttl=-5")


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_fields_may_come_as_an_iterator(method: str) -> None:
    """ASGI asks for an iterable; it is read once, and sent whole."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = iter([(b"x-a", b"1")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"1"})

    rule = Rule(PATH, methods={"GET"}, coalesce=False)

    call = await ask(CacheMiddleware(app, rules=[rule]), b"", path=PATH, method=method)

    assert call.header(b"x-a") == b"1"


async def test_a_call_that_never_begins_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shutdown while the store is asked for tokens ends the client's wait."""
    monkeypatch.setattr("memoserve._shared._DRAIN_SECONDS", 0.01)

    class Stuck(RemoteStore):
        async def set(self, key: str, value: bytes, ttl: float, /) -> None:
            await asyncio.Event().wait()

    app = CacheMiddleware(
        Origin(), rules=[Rule(PATH, methods={"GET"})], store=Stuck(), store_deadline=1000
    )
    task = begin(app, Call(scope_of(), (b"",)))
    await settle()

    await app.aclose()

    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("path", ["/a?b", "/日", "/\udcff", "/a#b"])
async def test_a_change_of_an_odd_path_goes_through(path: str) -> None:
    """bug 53."""
    cache = cached(Origin([(b"location", b"#done"), (b"content-location", b"http://test")]))
    await cache.get(path="/")

    change = Call(scope_of("PUT"), (b"",))
    change.scope["path"] = path
    await change.run(cache.app)

    assert change.status == 200


async def test_an_age_from_upstream_is_told_to_who_shares() -> None:
    """RFC 9111 §4.2.3 (bug 55)."""
    clock = Clock()
    model = Model(headers=[JSON, (b"age", b"5")], gate=asyncio.Event())
    app = cached_model(model, clock=clock)
    calls = [Call(scope_of("POST")) for _ in range(2)]
    for call in calls:
        call.scope["path"] = "/v1/model"
    tasks = [begin(app, call) for call in calls]
    await settle()
    assert model.gate is not None
    model.gate.set()
    await asyncio.gather(*tasks)

    assert calls[1].header(b"age") == b"5"


async def test_an_app_that_has_sent_all_bytes_and_does_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For longer than a moment: its last message is on its way, as a rule."""
    monkeypatch.setattr("memoserve._flight._LONGEST_KEEPING", 0.01)
    model = Model(
        headers=[control(b"max-age=5"), (b"content-length", b"1")],
        chunks=(b"1", b""),
        step=asyncio.Event(),
    )
    app = CacheMiddleware(model, rules=[Rule(PATH, methods={"GET", "HEAD"}, ttl=None)])
    task = begin(app, Call(scope_of(), (b"",)))
    await settle()

    head = asyncio.create_task(ask(app, b"", path=PATH, method="HEAD", headers=[]))
    async with asyncio.timeout(5):
        while model.calls < 2:
            await settle()
    assert model.step is not None
    model.step.set()
    await task
    await head

    assert model.calls == 2
