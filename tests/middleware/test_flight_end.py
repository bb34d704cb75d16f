"""The end of an answer: whom it reaches, who waits for whom, and what is kept."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from memoserve import MemoryStore
from memoserve._asgi import Message, Receive, Scope, Send
from memoserve._events import ModelCalled, RequestFinished, StoreCalled, StoreWritten
from memoserve._tags import tag_key
from tests.asgi import JSON, Call, Model, ask, begin, http_scope, read_all, settle
from tests.middleware.cases import PATH, Notes, cached


class AtTheEnd(Call):
    """A client whose `send` does something of its own with an answer's last message."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(http_scope())
        self._act = act

    async def send(self, message: Message) -> None:
        await super().send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._act()


def slow() -> tuple[AtTheEnd, asyncio.Event]:
    """Return a client, and what has its last message go out."""
    goes_on = asyncio.Event()
    return AtTheEnd(goes_on.wait), goes_on


async def test_a_leader_that_is_slow_at_the_end_holds_nobody_up() -> None:
    """bug 28: who joins while it reads has all of the answer before it."""
    model = Model(chunks=[b"1", b"2"])
    app = cached(model)
    leader, goes_on = slow()
    task = begin(app, leader)
    await leader.until(3)

    follower = await asyncio.wait_for(ask(app), 5)

    assert follower.chunks == [b"1", b"2"]
    assert follower.cache_status == "memoserve; fwd=miss; collapsed"
    goes_on.set()
    await task
    assert leader.chunks == [b"1", b"2"]
    assert "hit" in (await ask(app)).cache_status
    assert model.calls == 1


async def test_a_leader_that_is_cancelled_at_the_end_takes_nobody_along() -> None:
    app = cached(Model())
    leader, goes_on = slow()
    task = begin(app, leader)
    await leader.until(2)

    task.cancel()
    await settle()
    assert task.cancelled()
    assert (await asyncio.wait_for(ask(app), 5)).content == b'{"call":1}'
    goes_on.set()
    await settle()

    assert len(leader.messages) == 2
    assert "hit" in (await ask(app)).cache_status
    assert not app._shared.aloft
    assert app._shared.budget.used == 0


async def test_what_the_leaders_send_raises_at_the_end_is_the_leaders() -> None:
    """It is not the app's failure: its answer is kept, and the app hears nothing of it."""
    ended: list[str] = []

    async def note() -> None:
        ended.append("well")

    async def fail() -> None:
        raise RuntimeError("no such connection")

    model, notes = Model(after=note), Notes()
    app = cached(model, observer=notes)

    with pytest.raises(RuntimeError, match="no such connection"):
        await AtTheEnd(fail).run(app)

    await settle()
    assert ended == ["well"]
    assert [event.outcome for event in notes.of(ModelCalled)] == ["ok"]
    assert "hit" in (await ask(app)).cache_status


async def test_a_connection_that_breaks_at_the_end_is_a_client_that_left() -> None:
    async def fail() -> None:
        raise ConnectionResetError

    model, notes = Model(), Notes()
    app = cached(model, observer=notes)

    await AtTheEnd(fail).run(app)

    assert [event.outcome for event in notes.of(RequestFinished)] == ["cancelled"]
    assert "hit" in (await ask(app)).cache_status


async def test_a_disconnect_behind_the_last_message_is_not_too_early() -> None:
    """Every server reports one once an answer is complete, to apps that listen meanwhile."""
    heard: list[str] = []

    async def listening(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        ear = asyncio.ensure_future(receive())
        await settle()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})
        heard.append((await ear)["type"])

    notes = Notes()
    leader = AtTheEnd(settle)  # So that the disconnect is heard before `send` returns.
    await leader.run(cached(listening, observer=notes))

    assert heard == ["http.disconnect"]
    (finished,) = notes.of(RequestFinished)
    assert (finished.status, finished.outcome) == ("miss", "ok")


async def test_a_cache_that_is_closed_sends_no_end_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memoserve._shared._DRAIN_SECONDS", 0.01)
    app = cached(Model())
    leader, goes_on = slow()
    task = begin(app, leader)
    await leader.until(2)

    await app.aclose()
    goes_on.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(leader.messages) == 2


async def test_an_answer_that_is_larger_than_the_store_is_an_error_of_the_store() -> None:
    notes = Notes()
    app = cached(Model(chunks=[b"x" * 4_000]), store=MemoryStore(3_000), observer=notes)

    await ask(app)

    assert [event.result for event in notes.of(StoreWritten)] == ["error"]
    assert [event.error for event in notes.of(StoreCalled) if event.operation == "set"][-1:] == [
        "StoreError"
    ]


async def test_a_plain_answer_is_counted_once() -> None:
    notes = Notes()
    app = cached(Model(), observer=notes)

    await ask(app)
    written = [event.operation for event in notes.of(StoreCalled) if event.operation == "set"]

    assert [event.result for event in notes.of(StoreWritten)] == ["stored"]
    assert [event.outcome for event in notes.of(ModelCalled)] == ["ok"]
    tokens = 4  # Of everything, rule, model and purges, made at the first fill.
    assert len(written) == tokens + 1


async def test_what_follows_an_end_that_nobody_asked_for_goes_nowhere() -> None:
    """A refresh has no client that could say what it thinks of it."""
    calls = 0

    async def talkative(_scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % calls})
        if calls == 2:
            await send({"type": "http.response.body", "body": b"more"})

    app = cached(talkative, ttl=10, stale_while_revalidate=100)
    clock: Any = app._shared.options.clock
    await ask(app)
    clock.now += 11
    assert (await ask(app)).content == b"1"
    await settle()

    assert (await ask(app)).content == b"2"


@pytest.mark.parametrize(
    "end",
    [
        [{"type": "http.response.pathsend", "path": "/x"}],
        [
            {"type": "http.response.body", "body": b"x"},
            {"type": "http.response.trailers", "headers": [], "more_trailers": False},
        ],
        [
            {"type": "http.response.debug", "info": {}},
            {"type": "http.response.body", "body": b"x"},
        ],
    ],
    ids=["a-file", "trailers", "debug"],
)
async def test_what_cannot_be_replayed_is_not_kept(end: list[Message]) -> None:
    calls = 0

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await receive()
        has_trailers = end[-1]["type"] == "http.response.trailers"
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send({**start, "trailers": True} if has_trailers else start)
        for message in end:
            await send(message)

    notes = Notes()
    cache = cached(app, observer=notes)
    for _ in range(2):
        await ask(cache)

    assert calls == 2
    assert [event.result for event in notes.of(StoreWritten)] == ["uncacheable"] * 2


async def test_a_failure_is_withheld_from_a_leader_that_still_reads_a_hint() -> None:
    """What is known when a hint goes out is not known of what follows it."""
    hint = {"type": "http.response.early_hint", "links": []}
    is_read, goes_on, fails = asyncio.Event(), asyncio.Event(), False

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if fails:
            await send(hint)
            await is_read.wait()
        await send({"type": "http.response.start", "status": 500 if fails else 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    class SlowAtHints(Call):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if message == hint:
                is_read.set()
                await goes_on.wait()

    cache = cached(app, ttl=10, stale_if_error=100)
    clock: Any = cache._shared.options.clock
    await ask(cache)
    clock.now, fails = clock.now + 11, True
    extensions: Scope = {"http.response.early_hint": {}}
    leader, follower = (kind(http_scope(extensions=extensions)) for kind in (SlowAtHints, Call))
    tasks = [begin(cache, call) for call in (leader, follower)]
    await settle()

    goes_on.set()
    await asyncio.gather(*tasks)

    assert leader.messages[0] == hint
    assert [call.cache_status for call in (leader, follower)] == ["memoserve; hit; ttl=-1"] * 2
    assert leader.content == follower.content == b"x"


class Stalling(Call):
    """A client whose last message does not go out before `let_go` is set."""

    def __init__(self) -> None:
        super().__init__(http_scope())
        self.let_go = asyncio.Event()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await self.let_go.wait()
        await super().send(message)


async def test_nothing_is_sent_for_a_leader_that_was_cancelled() -> None:
    model, notes = Model(), Notes()
    app, call = cached(model, observer=notes), Stalling()
    task = begin(app, call)
    await settle()

    task.cancel()
    await settle()

    assert task.cancelled()
    assert (len(app._shared.flights), app._shared.budget.used) == (0, 0)
    assert [event.result for event in notes.of(StoreWritten)] == ["stored"]
    assert "hit" in (await ask(app)).cache_status
    call.let_go.set()
    await settle()
    assert [message["type"] for message in call.messages] == ["http.response.start"]


async def test_an_app_goes_on_when_its_stalled_client_has_left() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        leaving = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await Model()(scope, no_body, send)
        ended.append("sent")
        await leaving
        ended.append("heard")

    notes = Notes()
    cache, call = cached(app, observer=notes), Stalling()
    task = begin(cache, call)
    await settle()

    call.gone.set()
    await settle()
    seen, stored = [*ended], [event.result for event in notes.of(StoreWritten)]
    call.let_go.set()
    await task

    assert (seen, stored) == (["sent", "heard"], ["stored"])


async def no_body() -> Message:
    return {"type": "http.request", "body": b""}


async def test_two_slow_clients_do_not_keep_an_answer_from_being_stored() -> None:
    model = Model()
    app, first, second = cached(model), Stalling(), Stalling()
    tasks = [begin(app, first)]
    await settle()
    tasks.append(begin(app, second))
    await settle()

    third = await ask(app)

    first.let_go.set()
    second.let_go.set()
    await asyncio.gather(*tasks)
    assert "hit" in third.cache_status


async def test_all_messages_of_a_leader_go_out_in_its_own_context() -> None:
    variable = contextvars.ContextVar[str]("variable")
    cache = cached(Model(chunks=[b"one", b"two"]))

    async def outside(scope: Scope, receive: Receive, send: Send) -> None:
        tokens: list[contextvars.Token[str]] = []

        async def mark_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                tokens.append(variable.set("sending"))
            elif not message.get("more_body", False):
                variable.reset(tokens.pop())
            await send(message)

        await cache(scope, receive, mark_and_send)

    call = Call(http_scope())
    await call.run(outside)

    assert call.content == b"onetwo"


async def test_a_timeout_of_the_app_does_not_cut_a_slow_leader_off() -> None:
    expired = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(receive)
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        sending = asyncio.ensure_future(
            send({"type": "http.response.body", "body": b"{}", "more_body": False})
        )
        await expired.wait()
        sending.cancel()

    notes = Notes()
    call = Stalling()
    task = begin(cached(app, observer=notes), call)
    await settle()
    expired.set()
    await settle()
    call.let_go.set()
    await task

    assert call.is_complete
    assert [event.outcome for event in notes.of(RequestFinished)] == ["ok"]


async def test_a_purge_before_a_second_try_does_not_outdate_it() -> None:
    gate, calls = asyncio.Event(), 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await gate.wait()
            raise RuntimeError
        await Model()(scope, receive, send)

    cache = cached(app)
    first, second = Call(http_scope()), Call(http_scope())
    tasks = [begin(cache, first)]
    await settle()
    tasks.append(begin(cache, second))
    await settle()
    await cache._shared.purge([tag_key(cache._shared.options.namespace, "rule", PATH)])
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert "hit" in (await ask(cache)).cache_status
    assert calls == 2


async def test_who_asks_during_a_second_try_after_a_purge_joins_it() -> None:
    gates, calls = [asyncio.Event(), asyncio.Event()], 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await gates[0].wait()
            raise RuntimeError
        await gates[1].wait()
        await Model()(scope, receive, send)

    cache = cached(app)
    tasks = [begin(cache, Call(http_scope()))]
    await settle()
    tasks.append(begin(cache, Call(http_scope())))
    await settle()
    await cache._shared.purge([tag_key(cache._shared.options.namespace, "rule", PATH)])
    gates[0].set()
    await settle()
    tasks.append(begin(cache, Call(http_scope())))
    await settle()
    gates[1].set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert calls == 2


async def test_an_app_that_polls_for_a_disconnect_piles_nothing_up() -> None:
    held: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(receive)
        for _ in range(1_000):  # As Starlette's `Request.is_disconnected` does.
            poll = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            poll.cancel()
            with pytest.raises(asyncio.CancelledError):
                await poll
        (flight,) = cache._shared.flights.values()
        held.append(len(flight._moved))
        await Model()(scope, no_body, send)

    cache = cached(app)
    await ask(cache)

    assert held == [0]


async def test_a_send_that_was_cancelled_from_outside_does_not_end_the_app() -> None:
    """Such as one that waits for something that another task cancels."""
    ended: list[str] = []

    async def after() -> None:
        ended.append("app")

    notes = Notes()
    cache = cached(Model(after=after), observer=notes)
    call = Call(http_scope())

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise asyncio.CancelledError
        await call.send(message)

    with pytest.raises(asyncio.CancelledError):
        await cache(call.scope, call.receive, send)
    await settle()

    assert ended == ["app"]
    assert [event.result for event in notes.of(StoreWritten)] == ["stored"]
