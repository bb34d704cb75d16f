"""Rare ways through the cache: each may be gone, and none may harm a request."""

import asyncio

import pytest
from starlette.requests import Request

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import Message, Receive, Scope, Send
from memoserve._entry import Entry, VaryMarker, decode, encode
from memoserve._events import RequestRecord, RequestStarted, StoreOpened
from memoserve._shared import Recent
from tests.asgi import JSON, Call, Model, ask, begin, http_scope, read_all, settle
from tests.middleware.cases import PATH, Notes, cached

START: Message = {"type": "http.response.start", "status": 200, "headers": [JSON]}
GERMAN = (JSON, (b"x-language", b"de"))


class Shelf:
    """A store whose content lies open."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str, /) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.values[key] = value

    async def delete(self, key: str, /) -> None:
        self.values.pop(key, None)

    async def aclose(self) -> None:
        self.values.clear()


@pytest.mark.parametrize("is_learned", [True, False], ids=["learned", "new"])
async def test_a_marker_in_the_place_of_an_answer_leads_nowhere(is_learned: bool) -> None:
    """It is followed once, so two that name each other are no loop (bug 17)."""
    model, store = Model(headers=[JSON, (b"vary", b"x-language")]), Shelf()
    app = cached(model, store=store, store_deadline=5)
    await ask(app, headers=GERMAN)
    replaced = 0
    for key, raw in store.values.items():
        if b"memoserve/" in raw and isinstance(found := decode(raw), Entry):
            store.values[key] = encode(VaryMarker(found.verifier, (b"x-language",)))
            replaced += 1
    assert replaced == 1

    asked = app if is_learned else cached(model, store=store, store_deadline=5)
    call = await ask(asked, headers=GERMAN)

    assert (call.content, call.cache_status) == (b'{"call":2}', "memoserve; fwd=miss")
    assert "hit" in (await ask(asked, headers=GERMAN)).cache_status


class Connection(Call):
    """A call that counts who waits for its client at the same time."""

    waiting = 0
    most_waiting = 0

    async def receive(self) -> Message:
        self.waiting += 1
        self.most_waiting = max(self.waiting, self.most_waiting)
        try:
            return await super().receive()
        finally:
            self.waiting -= 1


async def test_an_app_may_ask_again_and_again_whether_the_client_has_left() -> None:
    """Each time it gives up waiting; only one reads from the connection meanwhile (bug 28)."""
    step = asyncio.Event()
    heard: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        heard.extend([await request.is_disconnected(), await request.is_disconnected()])
        await step.wait()
        heard.append(await request.is_disconnected())
        await send(START)
        await send({"type": "http.response.body", "body": b"{}"})

    call = Connection(http_scope())
    task = begin(cached(app), call)
    await settle()
    assert (heard, call.waiting) == ([False, False], 1)
    call.gone.set()
    await settle()
    step.set()
    await task

    assert heard == [False, False, True]
    assert (call.waiting, call.most_waiting) == (0, 1)


async def test_what_comes_after_the_body_is_no_disconnect() -> None:
    """Some servers and middleware repeat the empty end of a body (bug 21)."""

    class Repeating(Call):
        repeated = 0

        async def receive(self) -> Message:
            if self._read == len(self.body) and self.repeated < 2:
                self.repeated += 1
                return {"type": "http.request", "body": b"", "more_body": False}
            return await super().receive()

    step = asyncio.Event()
    heard: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(receive)
        leaving = asyncio.ensure_future(receive())
        await send(START)
        await step.wait()
        assert not leaving.done()
        await send({"type": "http.response.body", "body": b"{}"})
        heard.append(await leaving)

    call = Repeating(http_scope())
    task = begin(cached(app), call)
    await settle()
    assert call.repeated == 2
    step.set()
    await task

    assert call.content == b"{}"
    assert heard == [{"type": "http.disconnect"}]


async def test_an_observer_of_a_layer_outside_and_of_the_cache_is_told_once() -> None:
    """bug 57."""
    notes = Notes()
    app = cached(Model(), observer=notes)

    for _ in range(2):
        await ask(app, memoserve=RequestRecord(0.0, observers=(notes,)))

    assert len(notes.of(RequestStarted)) == 2
    assert len(notes.of(StoreOpened)) == 1


async def test_who_comes_after_the_store_was_closed_hears_of_the_next_one() -> None:
    notes = Notes()
    app = CacheMiddleware(Model(), rules=[Rule(PATH)])
    await ask(app)
    await app.aclose()

    await ask(app, memoserve=RequestRecord(0.0, observers=(notes,)))
    call = await ask(app)

    (opened,) = notes.of(StoreOpened)
    assert "hit" in call.cache_status
    assert opened.store.usage().entries > 0
    await app.aclose()


async def test_a_closed_store_is_opened_by_the_first_who_stores() -> None:
    """A client that wants a new answer looks nothing up."""
    app = CacheMiddleware(Model(), rules=[Rule(PATH)], client_control="obey")
    await ask(app)
    await app.aclose()

    forced = await ask(app, headers=[JSON, (b"cache-control", b"no-cache")])
    again = await ask(app)

    assert forced.content == again.content == b'{"call":2}'
    assert "hit" in again.cache_status
    await app.aclose()


def test_a_small_memory_forgets_what_was_named_first() -> None:
    """However many are named (bug 45)."""
    recent = Recent[str, int](2)

    for number, name in enumerate(["a", "b", "a", "c"]):
        recent.put(name, number)

    assert [recent.get(name) for name in "abc"] == [2, None, 3]
