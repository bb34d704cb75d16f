"""Many who ask the same at once: one call of the app, and a live answer for each."""

import asyncio
import contextvars
import logging
import traceback
from collections.abc import Sequence
from typing import Any

import pytest

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import Header, Message, Receive, Scope, Send
from memoserve._events import FollowerJoined, FollowerLeft, RequestFinished
from tests.asgi import JSON, Call, Model, ask, begin, eager_task, http_scope, settle
from tests.middleware.cases import Clock, Notes, cached


async def crowd(
    app: CacheMiddleware, size: int, **scope: Any
) -> "tuple[list[Call], list[asyncio.Task[Call]]]":
    """Have several clients ask the same; they all wait for the app."""
    calls = [Call(http_scope(**scope)) for _ in range(size)]
    tasks = [begin(app, call) for call in calls]
    await settle()
    return calls, tasks


def gated(**options: Any) -> tuple[Model, asyncio.Event]:
    gate = asyncio.Event()
    return Model(gate=gate, **options), gate


async def test_two_hundred_who_ask_at_once_cost_one_call() -> None:
    """bug 33: no stampede on a cold key."""
    model, notes = Model(), Notes()
    app = cached(model, observer=notes)

    calls = await asyncio.gather(*(ask(app) for _ in range(200)))

    assert model.calls == 1
    statuses = [call.cache_status for call in calls]
    assert statuses == ["memoserve; fwd=miss"] + ["memoserve; fwd=miss; collapsed"] * 199
    assert {call.content for call in calls} == {b'{"call":1}'}
    assert [call.header(b"age") for call in calls[:2]] == [None, b"0"]
    assert len(notes.of(FollowerJoined)) == len(notes.of(FollowerLeft)) == 199
    counted = [event.status for event in notes.of(RequestFinished)]
    assert (counted.count("miss"), counted.count("coalesced")) == (1, 199)
    assert all(event.saved > 0 for event in notes.of(RequestFinished) if event.status != "miss")


async def test_without_coalescing_everyone_calls() -> None:
    model, gate = gated()
    app = cached(model, coalesce=False)
    _, tasks = await crowd(app, 5)
    assert model.calls == 5
    gate.set()
    await asyncio.gather(*tasks)

    assert "hit" in (await ask(app)).cache_status


async def test_a_stream_reaches_everyone_while_it_is_made() -> None:
    """bug 22: nothing is held back; who comes late gets all of it, then goes on live."""
    step = asyncio.Event()
    model = Model(chunks=[b"one", b"two"], step=step)
    app = cached(model)
    first, early = Call(http_scope()), Call(http_scope())
    tasks = [begin(app, first), begin(app, early)]
    await first.until(2)
    await early.until(2)

    late = Call(http_scope())
    tasks.append(begin(app, late))
    await late.until(2)
    assert [call.chunks for call in (first, early, late)] == [[b"one"]] * 3
    step.set()
    await asyncio.gather(*tasks)

    assert [call.chunks for call in (first, early, late)] == [[b"one", b"two"]] * 3
    assert model.calls == 1


async def test_the_leader_gets_the_answer_as_it_is_and_followers_without_its_request_id() -> None:
    """bug 16."""
    model, gate = gated(headers=[JSON, (b"x-request-id", b"7")])
    calls, tasks = await crowd(cached(model), 2)

    gate.set()
    await asyncio.gather(*tasks)

    assert [call.header(b"x-request-id") for call in calls] == [b"7", None]


async def test_what_middleware_outside_does_to_a_message_stays_there() -> None:
    """bug 31: gzip around the cache rewrites the message that it is handed, in place."""
    model, gate = gated()
    inner = cached(model)

    async def gzip(scope: Scope, receive: Receive, send: Send) -> None:
        async def compress(message: Message) -> None:
            if "headers" in message:
                message["headers"].append((b"content-encoding", b"gzip"))
            else:
                message["body"] = b"gzip:" + message["body"]
            await send(message)

        await inner(scope, receive, compress)

    calls = [Call(http_scope()) for _ in range(2)]
    tasks = [begin(gzip, calls[0]), begin(inner, calls[1])]
    await settle()
    gate.set()
    await asyncio.gather(*tasks)
    stored = await ask(inner)

    assert calls[0].content == b'gzip:{"call":1}'
    assert calls[1].content == stored.content == b'{"call":1}'
    assert calls[1].header(b"content-encoding") is None


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"headers": [JSON, (b"set-cookie", b"id=1")]}, id="set-cookie"),
        pytest.param({"headers": [JSON, (b"cache-control", b"private")]}, id="private"),
        pytest.param({"headers": [JSON, (b"cache-control", b"no-store")]}, id="no-store"),
        pytest.param({"headers": [JSON, (b"vary", b"*")]}, id="vary-all"),
        pytest.param({"status": 401}, id="401"),
        pytest.param({"status": 429}, id="429"),
    ],
)
async def test_an_answer_for_one_is_given_to_one(options: dict[str, Any]) -> None:
    """bug 35: the others ask side by side, and so does who comes next (hit-for-miss)."""
    model, gate = gated(**options)
    app = cached(model)
    calls, tasks = await crowd(app, 3)
    assert model.calls == 1
    gate.set()
    await asyncio.gather(*tasks)
    assert len({call.content for call in calls}) == 3

    model.gate = asyncio.Event()
    _, tasks = await crowd(app, 4)
    assert model.calls == 7  # None of the four waits for another.
    model.gate.set()
    await asyncio.gather(*tasks)


async def test_hit_for_miss_is_forgotten() -> None:
    """bug 35: by time, and as soon as an answer can be shared again."""
    model, clock = Model(status=429), Clock()
    app = cached(model, clock=clock)
    await ask(app)
    clock.now += 61

    model.gate = asyncio.Event()
    model.status = 200
    _, tasks = await crowd(app, 4)
    assert model.calls == 2
    model.gate.set()
    await asyncio.gather(*tasks)


async def test_an_answer_that_is_shared_but_not_stored_goes_on_coalescing() -> None:
    """bug 35: unstorable answers serialize nobody."""
    model, gate = gated(status=404)
    app = cached(model)

    for expected in (1, 2):
        _, tasks = await crowd(app, 5)
        gate.set()
        await asyncio.gather(*tasks)
        assert model.calls == expected
        gate.clear()


async def test_followers_of_another_language_ask_for_themselves() -> None:
    """bug 36: Vary is learned while they wait, and each language costs one call from then on."""
    calls_of: dict[bytes, int] = {}
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        language = dict(scope["headers"])[b"x-language"]
        calls_of[language] = calls_of.get(language, 0) + 1
        await gate.wait()
        headers = [JSON, (b"vary", b"X-Language")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": language})

    cache = cached(app)
    languages = [b"de", b"en", b"de", b"fr", b"en", b"en"]
    calls = [Call(http_scope(headers=[JSON, (b"x-language", name)])) for name in languages]
    tasks = [begin(cache, call) for call in calls]
    await settle()
    gate.set()
    await asyncio.gather(*tasks)

    assert [call.content for call in calls] == languages
    assert calls_of == {b"de": 1, b"en": 1, b"fr": 1}
    for name in set(languages):
        call = await ask(cache, headers=[JSON, (b"x-language", name)])
        assert (call.content, "hit" in call.cache_status) == (name, True)


async def test_vary_is_found_again_by_a_cache_that_has_not_learned_it() -> None:
    """bug 36: the store knows it, too."""
    from memoserve import MemoryStore

    store = MemoryStore()
    model = Model(headers=[JSON, (b"vary", b"x-language")])
    german = [JSON, (b"x-language", b"de")]
    await ask(cached(model, store=store), headers=german)

    other = cached(model, store=store)
    again = await ask(other, headers=german)
    english = await ask(other, headers=[JSON, (b"x-language", b"en")])

    assert "hit" in again.cache_status
    assert "miss" in english.cache_status


async def test_an_origin_that_is_allowed_alone_keeps_its_answer() -> None:
    """bug 16: Access-Control-Allow-Origin for one origin varies, whether it says so or not."""
    model = Model(headers=[JSON, (b"access-control-allow-origin", b"https://a")])
    app = cached(model)
    await ask(app, headers=[JSON, (b"origin", b"https://a")])

    same = await ask(app, headers=[JSON, (b"origin", b"https://a")])
    other = await ask(app, headers=[JSON, (b"origin", b"https://b")])

    assert "hit" in same.cache_status
    assert "miss" in other.cache_status


async def test_an_app_whose_vary_never_settles_is_asked_directly() -> None:
    gate = asyncio.Event()
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        name = b"x-%d" % calls
        await gate.wait()
        headers = [JSON, (b"vary", name)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"%d" % calls})

    cache = cached(app)
    different = [Call(http_scope(headers=[JSON, *((b"x-%d" % n, b"%d" % i) for n in range(9))]))
                 for i in range(4)]  # fmt: skip
    tasks = [begin(cache, call) for call in different]
    await settle()
    gate.set()
    await asyncio.gather(*tasks)

    assert calls == 4


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param({"error": RuntimeError("down")}, id="raises"),
        pytest.param({"status": 500}, id="500"),
    ],
)
async def test_after_a_failure_one_follower_tries_again(failure: dict[str, Any]) -> None:
    """bug 34: the leader has its failure; the others have one retry between them, no herd."""
    model, gate = gated(**failure)
    calls, tasks = await crowd(cached(model), 10)

    async def mend() -> None:
        model.error, model.status = None, 200

    model.after = mend
    first_gate, model.gate = gate, asyncio.Event()
    first_gate.set()
    await settle()
    assert model.calls == 2
    await mend()
    model.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert model.calls == 2
    if "error" in failure:
        assert isinstance(results[0], RuntimeError)
    else:
        assert calls[0].status == 500
    assert {call.content for call in calls[1:]} == {b'{"call":2}'}


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param({"error": RuntimeError("down")}, id="raises"),
        pytest.param({"status": 502}, id="502"),
    ],
)
async def test_if_the_retry_fails_too_all_get_its_failure(failure: dict[str, Any]) -> None:
    """bug 34: ten who wait for a broken model make two calls, not ten."""
    model, gate = gated(**failure)
    notes = Notes()
    calls, tasks = await crowd(cached(model, observer=notes), 10)

    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert model.calls == 2
    if "error" in failure:
        assert all(isinstance(result, RuntimeError) for result in results)
    else:
        assert {call.status for call in calls} == {502}
        assert calls[-1].cache_status == "memoserve; fwd=miss; fwd-status=502; collapsed"
    assert {event.outcome for event in notes.of(RequestFinished)} == {"error"}


async def test_a_503_with_retry_after_asks_for_no_retry() -> None:
    """bug 34."""
    model, gate = gated(status=503, headers=[JSON, (b"retry-after", b"9")])
    calls, tasks = await crowd(cached(model), 4)

    gate.set()
    await asyncio.gather(*tasks)

    assert model.calls == 1
    assert {(call.status, call.header(b"retry-after")) for call in calls} == {(503, b"9")}


async def test_a_failure_after_the_first_byte_is_everyones() -> None:
    """bug 34, bug 24: each sees what it would have seen without the others."""
    step = asyncio.Event()
    model = Model(chunks=[b"one", b"two"], step=step, late_error=RuntimeError("cut"))
    calls, tasks = await crowd(cached(model), 3)

    step.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(result) for result in results] == ["cut"] * 3
    assert [(call.chunks, call.is_complete) for call in calls] == [([b"one"], False)] * 3


async def test_the_leaders_traceback_is_the_apps() -> None:
    """What a follower has raised before is no part of it."""
    error, step = RuntimeError("cut"), asyncio.Event()
    step.set()
    model, gate = gated(chunks=[b"one", b"two"], step=step, late_error=error)
    (leader, _), tasks = await crowd(cached(model), 2)
    leader.held = asyncio.Event()
    gate.set()
    assert (await asyncio.gather(tasks[1], return_exceptions=True))[0] is error
    assert not tasks[0].done()

    leader.held.set()
    with pytest.raises(RuntimeError, match="cut"):
        await tasks[0]

    places = [place.name for place in traceback.extract_tb(error.__traceback__)]
    assert "_lead" in places
    assert "_follow" not in places


async def test_an_app_that_never_answers_answers_nobody() -> None:
    """bug 23: no response is invented; after one retry all are left as a direct client is."""
    calls = 0

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)

    clients, tasks = await crowd(cached(silent), 3)
    await asyncio.gather(*tasks)

    assert [client.messages for client in clients] == [[], [], []]
    assert calls == 2


@pytest.mark.parametrize("coalesce", [True, False])
async def test_messages_out_of_order_go_where_the_app_sends_them(coalesce: bool) -> None:
    """bug 23: the server says what it thinks of them; nothing of it is stored."""
    order = ["http.response.start", "http.response.body", "http.response.start",
             "http.response.body"]  # fmt: skip

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for kind in order:
            await send({"type": kind, "status": 200, "headers": [], "body": b"x"})

    cache = cached(app, coalesce=coalesce)
    first = await ask(cache)

    assert [message["type"] for message in first.messages] == order


async def test_background_work_of_the_app_keeps_only_the_leader() -> None:
    """The leader's call lasts as long as the app's; followers and the next ones do not wait."""
    done, started = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        await done.wait()

    model, gate = gated(after=work)
    app = cached(model)
    _, (leader, follower) = await crowd(app, 2)
    gate.set()
    await started.wait()
    await follower
    assert not leader.done()
    assert "hit" in (await ask(app)).cache_status
    done.set()
    await leader


async def test_the_leader_learns_what_background_work_raised() -> None:
    async def work() -> None:
        raise RuntimeError("after the answer")

    model, gate = gated(after=work)
    notes = Notes()
    _, tasks = await crowd(cached(model, observer=notes), 2)
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results[0], RuntimeError)
    assert isinstance(results[1], Call)
    assert {event.status for event in notes.of(RequestFinished)} == {"miss", "coalesced"}


context = contextvars.ContextVar("context", default="none")


async def test_the_app_runs_in_the_leaders_context() -> None:
    """bug 29: traces and context variables reach the app."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(context.get())
        await Model()(scope, receive, send)

    context.set("request 7")
    await ask(cached(app))

    assert seen == ["request 7"]


async def watchful(received: list[Message], chunks: Sequence[bytes], step: asyncio.Event) -> Any:
    """Make an app that streams until it hears that the client has left."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        leaving = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for place, chunk in enumerate(chunks):
            waiting = asyncio.create_task(step.wait())
            await asyncio.wait({leaving, waiting}, return_when="FIRST_COMPLETED")
            waiting.cancel()
            if leaving.done():
                received.append(leaving.result())
                return
            more = place < len(chunks) - 1
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
        received.append(await leaving)

    return app


async def test_when_the_last_client_has_left_the_app_hears_it() -> None:
    """bug 28: the leader's leaving alone stops nothing."""
    received: list[Message] = []
    app = cached(await watchful(received, [b"x"], asyncio.Event()))
    (leader, follower), tasks = await crowd(app, 2)

    leader.gone.set()
    await settle()
    assert len(received) == 1
    late = Call(http_scope())
    tasks.append(begin(app, late))
    await settle()
    follower.gone.set()
    await settle()
    assert len(received) == 1
    late.gone.set()
    await asyncio.gather(*tasks)

    assert received[1] == {"type": "http.disconnect"}


async def test_the_leaders_client_leaves_and_the_others_get_the_answer() -> None:
    """bug 28."""
    received: list[Message] = []
    step = asyncio.Event()
    notes = Notes()
    app = cached(await watchful(received, [b"one", b"two"], step), observer=notes)
    (leader, follower), tasks = await crowd(app, 2)

    leader.gone.set()
    await settle()
    step.set()
    await asyncio.gather(*tasks)

    assert follower.content == b"onetwo"
    assert leader.content == b""
    assert "hit" in (await ask(app)).cache_status
    finished = {event.status: event.outcome for event in notes.of(RequestFinished)}
    assert (finished["miss"], finished["coalesced"]) == ("cancelled", "ok")


async def test_with_finish_the_cache_is_filled_although_all_have_left() -> None:
    received: list[Message] = []
    step = asyncio.Event()
    app = cached(await watchful(received, [b"one", b"two"], step), finish=True)
    (leader,), tasks = await crowd(app, 1)

    leader.gone.set()
    await settle()
    step.set()
    await asyncio.gather(*tasks)

    assert "hit" in (await ask(app)).cache_status
    assert received[1] == {"type": "http.disconnect"}


async def test_a_connection_that_breaks_is_a_client_that_left() -> None:
    """bug 28: an OSError from `send` ends one client's part, not the others'."""
    model, gate = gated()
    notes = Notes()
    calls, tasks = await crowd(cached(model, observer=notes), 3)
    calls[0].broken = calls[1].broken = ConnectionResetError()

    gate.set()
    await asyncio.gather(*tasks)

    assert calls[2].content == b'{"call":1}'
    outcomes = sorted(event.outcome for event in notes.of(RequestFinished))
    assert outcomes == ["cancelled", "cancelled", "ok"]


async def test_the_app_hears_from_send_that_its_only_client_has_left() -> None:
    """ASGI 2.4: a server raises an OSError; the app must not generate for nobody."""
    step = asyncio.Event()
    model = Model(chunks=[b"1", b"2", b"3"], step=step)
    app = cached(model)
    (call,), (task,) = await crowd(app, 1)
    call.broken = ConnectionResetError("gone")

    step.set()
    with pytest.raises(ConnectionResetError, match="gone"):
        await task

    assert "miss" in (await ask(app)).cache_status


async def test_a_leader_that_is_cancelled_takes_nobody_along() -> None:
    """bug 28: servers cancel, and so do middlewares with timeouts."""
    model, gate = gated()
    calls, tasks = await crowd(cached(model), 3)

    tasks[0].cancel()
    await settle()
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert [call.content for call in calls[1:]] == [b'{"call":1}'] * 2
    assert model.calls == 1


async def test_a_receive_that_is_broken_counts_as_left() -> None:
    received: list[Message] = []
    app = cached(await watchful(received, [b"x"], asyncio.Event()))

    class Torn(Call):
        async def receive(self) -> Message:
            if self._read:
                raise RuntimeError("no such connection")
            return await super().receive()

    await Torn(http_scope()).run(app)

    assert received[1] == {"type": "http.disconnect"}


async def test_a_lone_client_holds_the_app_back() -> None:
    """A slow reader of a long answer must not make it pile up in memory."""
    model = Model(chunks=[b"1", b"2", b"3"])
    app = cached(model)
    call = Call(http_scope(), held=asyncio.Event())
    task = begin(app, call)
    await settle()
    assert call.held is not None
    assert [message["type"] for message in call.messages] == ["http.response.start"]
    call.held.set()
    await task

    assert call.chunks == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("fields", "returned"),
    [
        pytest.param([], [], id="stream"),
        pytest.param([(b"Content-Length", b"1")], ["start"], id="of-stated-length"),
    ],
)
async def test_only_the_start_of_a_stream_is_waited_for(
    fields: list[Header], returned: list[str]
) -> None:
    """Where the length is stated, the next message says when the client has taken the first."""
    said: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": fields})
        said.append("start")
        await send({"type": "http.response.body", "body": b"x"})
        said.append("body")

    call = Call(http_scope(), held=asyncio.Event())
    task = begin(cached(app), call)
    await settle()
    assert call.held is not None
    assert (len(call.messages), said) == (1, returned)

    call.held.set()
    await task

    assert (call.content, said) == (b"x", ["start", "body"])


async def test_a_slow_client_holds_the_others_back_only_past_the_window() -> None:
    """Past `max_response_bytes` the buffer is a window; nobody is cut off, nobody may join."""
    step = asyncio.Event()
    step.set()
    chunks = [b"%d" % n * 4 for n in range(10)]
    model = Model(chunks=chunks, step=step)
    app = cached(model, max_response_bytes=10)
    slow, quick = Call(http_scope(), held=asyncio.Event()), Call(http_scope())
    tasks = [begin(app, slow), begin(app, quick)]
    await settle()
    assert slow.held is not None
    assert 3 <= len(quick.chunks) <= 5
    assert app._shared.budget.used <= 20

    late = begin(app, Call(http_scope()))
    await settle()
    assert model.calls == 2
    slow.held.set()
    await asyncio.gather(*tasks, late)

    assert slow.chunks == quick.chunks == chunks
    assert app._shared.budget.used == 0


async def test_all_flights_together_stay_within_their_limit() -> None:
    step = asyncio.Event()
    model = Model(chunks=[b"x" * 40, b"y" * 40, b"z"], step=step)
    app = cached(model, flight_max_bytes=60)
    one = begin(app, Call(http_scope(), [b"[1]"]))
    two = begin(app, Call(http_scope(), [b"[2]"]))
    await settle()

    step.set()
    calls = await asyncio.gather(one, two)

    assert {call.content for call in calls} == {b"x" * 40 + b"y" * 40 + b"z"}
    assert app._shared.budget.used == 0


def extension(*names: str) -> dict[str, Any]:
    return {"extensions": {name: {} for name in names}}


async def sent_by(app: Any, messages: Sequence[Message], size: int, **scope: Any) -> list[Call]:
    gate = asyncio.Event()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        for message in messages:
            await send(message)

    calls, tasks = await crowd(app(inner), size, **scope)
    gate.set()
    await asyncio.gather(*tasks)
    return calls


START: Message = {"type": "http.response.start", "status": 200, "headers": []}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_fields_may_be_any_kind_of_bytes(kind: type[Any], size: int) -> None:
    """Servers take them, so whoever the cache is put in front of may go on sending them."""
    fields = [(b"content-length", b"1"), (b"vary", b"accept"), (b"x-kind", b"y")]
    start = {**START, "headers": [(kind(name), kind(value)) for name, value in fields]}
    calls = await sent_by(cached, [start, {"type": "http.response.body", "body": b"x"}], size)

    assert [(call.content, call.header(b"x-kind")) for call in calls] == [(b"x", b"y")] * size


async def test_files_that_the_server_sends_reach_everyone() -> None:
    """bug 26: `pathsend` ends a response; it is shared, and not stored."""
    pathsend = {"type": "http.response.pathsend", "path": "/etc/hostname"}
    calls = await sent_by(cached, [START, pathsend], 2, **extension("http.response.pathsend"))

    assert [call.messages[-1] for call in calls] == [pathsend] * 2


async def test_trailers_end_a_response() -> None:
    """bug 26."""
    messages = [
        {**START, "trailers": True},
        {"type": "http.response.body", "body": b"x"},
        {"type": "http.response.trailers", "headers": [(b"a", b"1")], "more_trailers": True},
        {"type": "http.response.trailers", "headers": [(b"b", b"2")]},
    ]
    calls = await sent_by(cached, messages, 2, **extension("http.response.trailers"))

    assert [call.messages[1:] for call in calls] == [messages[1:]] * 2


async def test_hints_and_pushes_are_for_the_leader() -> None:
    """bug 26: and they come before the response, as they must."""
    hint = {"type": "http.response.early_hint", "links": [b"</a.css>"]}
    messages = [hint, START, {"type": "http.response.body", "body": b"x"}]
    calls = await sent_by(cached, messages, 2, **extension("http.response.early_hint"))

    assert calls[0].messages[0] == hint
    assert [len(call.messages) for call in calls] == [3, 2]


async def test_a_hint_for_a_leader_that_has_left_is_waited_for_by_nobody() -> None:
    """bug 26, bug 28: the app goes on, and who is left gets the answer."""
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await send({"type": "http.response.early_hint", "links": [b"</a.css>"]})
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})

    calls, (leader, follower) = await crowd(cached(app), 2, **extension("http.response.early_hint"))
    leader.cancel()
    await settle()

    gate.set()
    await asyncio.wait_for(follower, 5)

    assert (len(calls[1].messages), calls[1].content) == (2, b"x")


async def test_an_extension_that_we_do_not_know_is_not_shared() -> None:
    """bug 26: whatever it sends, only who asked for it gets it."""
    zero_copy = {"type": "http.response.zerocopysend", "file": 3}
    calls = await sent_by(cached, [START, zero_copy], 2, **extension("http.response.zerocopysend"))

    assert [call.messages[-1] for call in calls] == [zero_copy] * 2


async def test_who_sends_a_validator_asks_alone() -> None:
    """bug 30: a 304 says nothing to those who have no copy."""
    model, gate = gated(status=304)
    conditional = http_scope(headers=[JSON, (b"if-none-match", b'"x"')])
    app = cached(model)
    tasks = [begin(app, Call(conditional)), begin(app, Call(http_scope()))]
    await settle()
    assert model.calls == 2
    gate.set()
    await asyncio.gather(*tasks)


async def test_a_refresh_that_a_client_demands_joins_nobody() -> None:
    model, gate = gated()
    app = cached(model, client_control="obey")
    forced = http_scope(headers=[JSON, (b"cache-control", b"no-cache")])
    tasks = [begin(app, Call(http_scope())), begin(app, Call(forced))]
    await settle()
    assert model.calls == 2
    gate.set()
    await asyncio.gather(*tasks)


async def test_of_two_calls_at_a_time_the_answer_that_ends_last_is_kept() -> None:
    model, gate = gated()
    app = cached(model, client_control="obey")
    first = begin(app, Call(http_scope()))
    await settle()
    model.gate = None

    forced = await ask(app, headers=[JSON, (b"cache-control", b"no-cache")])
    gate.set()
    await first

    assert forced.content == b'{"call":2}'
    assert (await ask(app)).content == b'{"call":1}'


async def test_a_stale_answer_is_sent_at_once_and_replaced_behind() -> None:
    """bug 39: one refresh, which outlives the request that began it."""
    model, clock, notes = Model(), Clock(), Notes()
    app = cached(model, clock=clock, ttl=10, stale_while_revalidate=20, observer=notes)
    await ask(app)
    clock.now += 15
    model.gate = asyncio.Event()

    stale = [await ask(app) for _ in range(5)]
    assert {call.cache_status for call in stale} == {"memoserve; hit; ttl=-5"}
    assert {call.content for call in stale} == {b'{"call":1}'}
    await settle()
    assert model.calls == 2
    model.gate.set()
    await settle()
    fresh = await ask(app)

    assert (fresh.content, fresh.cache_status) == (b'{"call":2}', "memoserve; hit; ttl=10")
    statuses = [event.status for event in notes.of(RequestFinished)]
    assert statuses == ["miss", "stale", "stale", "stale", "stale", "stale", "hit"]


async def test_past_the_window_a_stale_answer_is_no_answer() -> None:
    clock = Clock()
    app = cached(Model(), clock=clock, ttl=10, stale_while_revalidate=20)
    await ask(app)
    clock.now += 30

    assert (await ask(app)).content == b'{"call":2}'


async def test_refreshes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """bug 39."""
    monkeypatch.setattr("memoserve._upstream._MAX_REFRESHES", 2)
    model, clock = Model(), Clock()
    app = cached(model, clock=clock, ttl=10, stale_while_revalidate=20)
    bodies = [b"[%d]" % n for n in range(4)]
    for body in bodies:
        await ask(app, body)
    clock.now += 15
    model.gate = asyncio.Event()

    for body in bodies:
        assert "ttl=-5" in (await ask(app, body)).cache_status
    await settle()
    assert model.calls == 6
    model.gate.set()
    await app.aclose()


async def test_a_refresh_that_fails_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, clock = Model(), Clock()
    app = cached(model, clock=clock, ttl=10, stale_while_revalidate=20)
    await ask(app)
    clock.now += 15
    model.error = RuntimeError("down")

    for _ in range(2):
        assert "ttl=-5" in (await ask(app)).cache_status
        await settle()

    assert model.calls == 3
    assert "could not be refreshed" in caplog.text


async def test_a_refresh_hears_that_nobody_waits_when_it_is_done() -> None:
    received: list[Message] = []
    step, clock = asyncio.Event(), Clock()
    step.set()
    app = cached(
        await watchful(received, [b"x"], step), clock=clock, ttl=10, stale_while_revalidate=20
    )
    await ask(app)
    clock.now += 15
    await ask(app)
    await settle()

    assert [message["type"] for message in received[2:]] == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param({"error": RuntimeError("down")}, id="raises"),
        pytest.param({"status": 503}, id="503"),
        pytest.param({"status": 503, "headers": [(b"retry-after", b"9")]}, id="come-again"),
    ],
)
async def test_a_stale_answer_replaces_a_failure(
    failure: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 5861 §4, for the leader and for those who wait with it."""
    model, clock = Model(), Clock()
    app = cached(model, clock=clock, ttl=10, stale_if_error=60)
    await ask(app)
    clock.now += 30
    for name, value in failure.items():
        setattr(model, name, value)
    model.gate = asyncio.Event()
    calls, tasks = await crowd(app, 3)

    model.gate.set()
    await asyncio.gather(*tasks)
    clock.now += 60
    failed = await asyncio.gather(ask(app), return_exceptions=True)

    assert {(call.status, call.content) for call in calls} == {(200, b'{"call":1}')}
    assert {call.cache_status for call in calls} == {"memoserve; hit; ttl=-20"}
    assert "a stale answer is sent" in caplog.text
    assert isinstance(failed[0], RuntimeError) or getattr(failed[0], "status", 0) == 503


async def test_an_answer_that_can_be_had_is_better_than_a_stale_one() -> None:
    clock = Clock()
    app = cached(Model(), clock=clock, ttl=10, stale_if_error=60)
    await ask(app)
    clock.now += 30

    assert (await ask(app)).content == b'{"call":2}'


async def test_requests_from_two_event_loops_share_one_cache() -> None:
    """bug 42: a flight belongs to its loop, the store and the counters to all."""
    model = Model()
    app = CacheMiddleware(model, rules=[Rule("/{rest:path}")])

    async def hammer() -> set[bytes]:
        calls = await asyncio.gather(
            *(ask(app, b"[%d]" % (n % 7)) for n in range(300)), return_exceptions=True
        )
        return {call.content if isinstance(call, Call) else b"!" for call in calls}

    one, other = await asyncio.gather(
        asyncio.to_thread(asyncio.run, hammer()), asyncio.to_thread(asyncio.run, hammer())
    )

    assert b"!" not in one | other
    assert model.calls <= 14
    assert app._shared.budget.used == 0


async def test_tasks_may_begin_where_they_are_made() -> None:
    """Eager tasks (Python 3.12): the app is called at once, and may have ended by then."""
    asyncio.get_running_loop().set_task_factory(eager_task)
    clock, model = Clock(), Model()
    app = cached(model, clock=clock, ttl=10, stale_while_revalidate=60)

    calls = [await ask(app)]
    clock.now += 20
    calls += [await ask(app), await ask(app)]

    assert [call.content for call in calls] == [b'{"call":1}', b'{"call":1}', b'{"call":2}']
    assert ["fwd=miss" in call.cache_status for call in calls] == [True, False, False]
    assert app._shared._tasks == set()


async def test_clients_that_have_left_already_are_found_out_at_once() -> None:
    """bug 28: with eager tasks, while the app begins to ask."""
    asyncio.get_running_loop().set_task_factory(eager_task)
    received: list[Message] = []
    step = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await step.wait()
        received.append(await receive())

    calls, tasks = await crowd(cached(app), 3)
    for call in calls:
        call.gone.set()
    step.set()
    await asyncio.gather(*tasks)

    assert received[1] == {"type": "http.disconnect"}


async def test_nothing_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Flights, tasks and budget are empty when all have their answers."""
    caplog.set_level(logging.WARNING)
    model = Model()
    app = cached(model)

    await asyncio.gather(*(ask(app, b"[%d]" % (n % 5)) for n in range(50)))
    await settle()

    assert not app._shared.flights
    assert not app._shared._tasks
    assert app._shared.budget.used == 0
    assert not caplog.records
