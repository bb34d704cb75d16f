"""The short way to a hit finds nothing that the long way would not find."""

from collections.abc import Sequence
from typing import Any

import pytest

from memoserve import MemoryStore, Purger
from memoserve._asgi import Header, Message
from memoserve._events import StoreCalled
from tests.asgi import JSON, Call, Model, ask, http_scope
from tests.middleware.cases import Clock, Notes, cached
from tests.middleware.transparency import RemoteStore


@pytest.mark.parametrize("is_observed", [False, True])
async def test_credentials_in_an_iterator_of_headers_are_read_once(*, is_observed: bool) -> None:
    """ASGI calls the headers an iterable, which may have been read up when it is read again."""
    model = Model()
    app = cached(model, observer=Notes() if is_observed else None)
    answers: list[Call] = []

    for token in (b"a", b"b"):
        scope = http_scope(headers=[JSON, (b"authorization", b"Bearer " + token)])
        scope["headers"] = iter(scope["headers"])
        answers.append(await Call(scope).run(app))

    assert [answer.content for answer in answers] == [b'{"call":1}', b'{"call":2}']
    assert {answer.cache_status for answer in answers} == {
        "memoserve; fwd=bypass; detail=credentials"
    }


async def test_the_app_gets_the_headers_that_came_as_an_iterator() -> None:
    seen: list[Sequence[Header]] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(list(scope["headers"]))
        await Model()(scope, _receive, send)

    scope = http_scope(headers=[JSON])
    expected = list(scope["headers"])
    scope["headers"] = (pair for pair in expected)
    await Call(scope).run(cached(app))
    scope["headers"] = tuple(expected)
    await Call(scope).run(cached(app))

    assert seen == [expected, expected]


@pytest.mark.parametrize("names", [(), ("CN=a",)])
async def test_a_chain_of_certificates_that_is_an_iterator_is_a_credential(names: Any) -> None:
    model = Model()
    app = cached(model)
    answers: list[Call] = []

    for pem in ("one", "two"):
        tls = {"client_cert_chain": iter([pem]), "client_cert_name": "".join(names) or None}
        answers.append(await ask(app, extensions={"tls": tls}))

    assert [answer.content for answer in answers] == [b'{"call":1}', b'{"call":2}']


def _writable(content: bytes) -> memoryview:
    return memoryview(bytearray(content))


@pytest.mark.parametrize("kind", [bytearray, _writable])
@pytest.mark.parametrize("body", [b"{}", b"no json"])
async def test_a_body_of_another_type_than_bytes_is_the_same_body(kind: Any, body: bytes) -> None:
    model = Model()
    app = cached(model)

    async def send_as(kind: Any, content: bytes) -> Call:
        call = Call(http_scope(), [content])

        async def receive() -> Message:
            message = await Call.receive(call)
            return {**message, "body": kind(message["body"])}

        await app(call.scope, receive, call.send)
        return call

    await send_as(kind, body)
    await send_as(kind, body)
    answers = [await send_as(kind, body), await send_as(bytes, body)]

    assert [answer.cache_status.split(";")[1] for answer in answers] == [" hit", " hit"]
    assert model.calls == 1


async def test_a_field_of_another_type_than_bytes_is_the_same_field() -> None:
    model = Model()
    app = cached(model)

    answers = [
        await ask(app, headers=[(b"content-type", kind(b"application/json"))])
        for kind in (bytearray, bytearray, bytes)
    ]

    assert [answer.cache_status.split(";")[1] for answer in answers] == [
        " fwd=miss",
        " hit",
        " hit",
    ]


class Counting:
    """A store that is not in memory, and counts how often an answer is looked up."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.answers = 0

    async def get(self, key: str, /) -> bytes | None:
        self.answers += ":tag:" not in key
        return await self._store.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await self._store.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        await self._store.delete(key)

    async def aclose(self) -> None:
        await self._store.aclose()


async def test_what_is_not_fresh_is_looked_up_once() -> None:
    """A stale answer costs one round trip, as a fresh one does."""
    model, clock, store = Model(), Clock(), Counting()
    app = cached(
        model, clock=clock, store=store, store_deadline=30, ttl=10, stale_while_revalidate=100
    )
    await ask(app)
    await ask(app)
    counts: list[int] = []

    for _ in range(2):
        before = store.answers
        assert "hit" in (await ask(app)).cache_status
        counts.append(store.answers - before)
        clock.now += 20

    await app.aclose()
    assert counts == [1, 1]
    assert model.calls == 2  # Not to serve it for fresh: it was refreshed.


@pytest.mark.parametrize(
    "long",
    [
        pytest.param({"headers": [JSON, (b"accept", b"a" * 9_000)]}, id="accept"),
        pytest.param({"query_string": b"a" * 9_000}, id="query"),
        pytest.param({"path": "/v1/" + "a" * 9_000}, id="path"),
        pytest.param({"raw_path": b"/v1/" + b"%61" * 9_000}, id="raw-path"),
    ],
)
async def test_a_request_with_a_long_head_is_not_remembered(long: dict[str, Any]) -> None:
    """Each of the thousands that are remembered is small, whoever makes them up (bug 45)."""
    app = cached(Model(), path="/v1/{rest:path}")

    for _ in range(2):
        await ask(app, **long)
    first, second = [await ask(app) for _ in range(2)]

    assert "miss" in first.cache_status
    assert "hit" in second.cache_status
    assert len(app._shared.spelled._values) == 1


async def test_a_recalled_answer_comes_in_its_chunks_and_unexplained_if_that_is_asked() -> None:
    model = Model(chunks=[b"one", b"two", b"three"])
    app = cached(model, cache_status=False)

    answers = [await ask(app) for _ in range(3)]  # Made, found, recalled.

    assert model.calls == 1
    assert {tuple(answer.chunks) for answer in answers} == {(b"one", b"two", b"three")}
    assert {answer.cache_status for answer in answers} == {""}


async def test_what_is_purged_is_looked_up_no_more_often_than_what_was_never_asked() -> None:
    notes, store = Notes(), RemoteStore()
    app = cached(Model(), store=store, store_deadline=10, observer=notes)

    async def calls_for(body: bytes) -> list[str]:
        notes.events.clear()
        assert "fwd=miss" in (await ask(app, body)).cache_status
        return [event.operation for event in notes.of(StoreCalled)]

    await ask(app)
    await ask(app)  # It is known by its spelling from now on.
    await Purger(store).purge(everything=True)

    assert await calls_for(b"{}") == await calls_for(b"[]") == ["get", "get", "set", "get"]
    await app.aclose()


@pytest.mark.parametrize("change", ["purged", "deleted", "replaced"])
async def test_a_recalled_answer_is_what_the_store_holds(change: str) -> None:
    """bug 38, bug 53: nothing is served from what is remembered alone."""
    model, clock = Model(), Clock()
    store = MemoryStore(clock=clock)
    app, other = cached(model, clock=clock, store=store), cached(model, clock=clock, store=store)
    calls = [await ask(app) for _ in range(3)]
    (known,) = app._shared.spelled._values.values()

    if change == "purged":
        await Purger(store).purge(everything=True)
    else:
        await store.delete(known.key.index)
    if change == "replaced":
        await ask(other)
    calls += [await ask(app), await ask(app)]

    assert [call.content for call in calls] == [b'{"call":1}'] * 3 + [b'{"call":2}'] * 2
    assert model.calls == 2
