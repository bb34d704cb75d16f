"""Who gets a turn, who waits, who is sent away, and what becomes of those who leave."""

import asyncio
import json
from typing import Any

import pytest

from memoserve import AdmissionMiddleware
from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from memoserve._events import QueueJoined, QueueLeft, QueuePassed, RequestShed
from tests.asgi import Call, Model, ask, begin, http_scope, read_all, settle
from tests.middleware.cases import PATH, Notes, cached


class Desk:
    """An app that a test lets answer, one request after the other."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.active = 0
        self.most = 0
        self.turns = asyncio.Semaphore(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            self.bodies.append(await read_all(receive))
            await self.turns.acquire()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})
        finally:
            self.active -= 1


def admitting(app: ASGIApp, **options: Any) -> AdmissionMiddleware:
    """Put admission with one turn before an app, which is one model."""
    chosen = {"limit": 1, "queue": 10, "deadline": 60.0, "model": lambda _scope: "model"}
    return AdmissionMiddleware(app, **{**chosen, **options})


def call(body: bytes = b"{}", **scope: Any) -> Call:
    return Call(http_scope(**scope), [body])


async def open_desk(desk: Desk, tasks: "list[asyncio.Task[Call]]") -> list[Call]:
    for _ in tasks:
        desk.turns.release()
    return list(await asyncio.wait_for(asyncio.gather(*tasks), 30))


async def test_no_more_than_the_limit_run_at_once_and_the_rest_in_order() -> None:
    desk = Desk()
    app = admitting(desk, limit=2)
    tasks = [begin(app, call(b"%d" % number)) for number in range(6)]
    await settle()

    started = list(desk.bodies)
    calls = await open_desk(desk, tasks)

    assert started == [b"0", b"1"]
    assert desk.bodies == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert desk.most == 2
    assert [each.status for each in calls] == [200] * 6


async def test_a_full_queue_sends_away_at_once_and_says_when_to_come_again() -> None:
    desk = Desk()
    app = admitting(desk, queue=1)
    tasks = [begin(app, call()) for _ in range(2)]
    await settle()

    shed = await ask(app)

    assert shed.status == 503
    assert shed.header(b"retry-after") == b"1"
    assert shed.header(b"content-type") == b"application/problem+json"
    assert shed.header(b"content-length") == b"%d" % len(shed.content)
    assert json.loads(shed.content)["detail"].startswith("too many requests wait for 'model'")
    assert len(desk.bodies) == 1
    assert [each.status for each in await open_desk(desk, tasks)] == [200, 200]


async def test_without_a_queue_nobody_waits() -> None:
    desk = Desk()
    app = admitting(desk, queue=0)
    tasks = [begin(app, call())]
    await settle()

    assert (await ask(app)).status == 503
    await open_desk(desk, tasks)
    desk.turns.release()
    assert (await ask(app)).status == 200


async def test_whose_turn_does_not_come_in_time_is_sent_away() -> None:
    desk = Desk()
    app = admitting(desk, deadline=0.001)
    tasks = [begin(app, call(b"first"))]
    await settle()

    late = await asyncio.wait_for(ask(app, b"late"), 30)
    desk.turns.release()
    await open_desk(desk, tasks)
    after = await ask(app, b"after")

    assert late.status == 503
    assert (after.status, desk.bodies) == (200, [b"first", b"after"])


async def test_each_model_has_its_own_turns() -> None:
    desk = Desk()
    app = admitting(desk, queue=0, model=lambda scope: str(scope["path"]))
    tasks = [begin(app, call(path="/a")), begin(app, call(path="/b"))]
    await settle()

    shed = await ask(app, path="/a")

    assert len(desk.bodies) == 2
    assert shed.status == 503
    await open_desk(desk, tasks)


async def test_limits_may_differ_and_a_model_without_one_passes() -> None:
    desk = Desk()
    app = admitting(desk, queue=0, limit={"/a": 1, "/b": 2}, model=lambda scope: str(scope["path"]))
    paths = ["/a", "/a", "/b", "/b", "/b", "/c", "/c", "/c"]
    tasks = [begin(app, call(path=path)) for path in paths]
    await settle()
    calls = await open_desk(desk, tasks)

    assert [each.status for each in calls] == [200, 503, 200, 200, 503, 200, 200, 200]


@pytest.mark.parametrize("model", [None, lambda _scope: ""], ids=["no-cache", "no-name"])
async def test_what_is_no_model_passes_untouched(model: Any) -> None:
    desk = Desk()
    app = admitting(desk, queue=0, model=model)
    tasks = [begin(app, call()) for _ in range(3)]
    await settle()

    assert desk.most == 3
    await open_desk(desk, tasks)


async def test_other_protocols_pass_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        await admitting(app)({"type": kind}, Call({}).receive, Call({}).send)

    assert seen == ["lifespan", "websocket"]


async def test_names_without_end_share_one_queue() -> None:
    """A name may come from a client; memory must not grow with them."""
    app = admitting(Model(), model=lambda scope: str(scope["path"]))

    for number in range(150):
        assert (await ask(app, path=f"/{number}")).status == 200

    assert len(app._turns) == 101
    assert "other" in app._turns


async def test_who_leaves_the_line_costs_no_inference() -> None:
    desk = Desk()
    app = admitting(desk)
    first, leaver, last = (call(body) for body in (b"first", b"leaver", b"last"))
    tasks = [begin(app, each) for each in (first, leaver, last)]
    await settle()

    leaver.gone.set()
    await asyncio.wait_for(tasks[1], 30)
    await open_desk(desk, [tasks[0], tasks[2]])

    assert leaver.messages == []
    assert desk.bodies == [b"first", b"last"]


async def test_a_request_that_is_cancelled_leaves_the_line() -> None:
    desk = Desk()
    app = admitting(desk)
    tasks = [begin(app, call(body)) for body in (b"first", b"cancelled", b"last")]
    await settle()

    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    await open_desk(desk, [tasks[0], tasks[2]])

    assert desk.bodies == [b"first", b"last"]


async def test_a_turn_that_comes_too_late_goes_to_the_next() -> None:
    """The turn and the departure in one iteration of the loop: nobody loses a turn by that."""
    desk = Desk()
    app = admitting(desk)
    first, leaver, last = (call(body) for body in (b"first", b"leaver", b"last"))
    tasks = [begin(app, each) for each in (first, leaver, last)]
    await settle()

    leaver.gone.set()
    desk.turns.release()
    desk.turns.release()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)

    assert (first.status, last.status) == (200, 200)
    assert desk.active == 0
    assert (await asyncio.wait_for(ask(admitting(Model())), 30)).status == 200


async def test_a_handed_on_turn_is_not_lost() -> None:
    from memoserve.admission import _Turns

    turns = _Turns("model", 1, 2)
    assert turns.take()
    first, second = turns.join(), turns.join()
    assert first is not None
    assert second is not None

    turns.end(0.1)
    turns.leave(first)

    assert second.done()
    assert not turns.take()
    turns.end(0.1)
    assert turns.take()


async def test_who_comes_while_others_wait_does_not_overtake_them() -> None:
    from memoserve.admission import _Turns

    turns = _Turns("model", 1, 2)
    assert turns.take()
    waiting = turns.join()
    assert waiting is not None

    assert not turns.take()


@pytest.mark.parametrize("pieces", [[b"ab"], [b"a", b"b"], [b"a", b"", b"b"]], ids=str)
async def test_the_app_reads_the_whole_body_after_waiting(pieces: list[bytes]) -> None:
    desk = Desk()
    app = admitting(desk)
    tasks = [begin(app, call(b"first")), begin(app, Call(http_scope(), pieces))]
    await settle()

    await open_desk(desk, tasks)

    assert desk.bodies == [b"first", b"ab"]


async def test_a_body_in_pieces_is_not_read_ahead() -> None:
    """Back-pressure reaches an upload while it waits: one piece is kept, not all of them."""
    desk = Desk()
    app = admitting(desk)
    upload = Call(http_scope(), [b"a"] * 10)
    tasks = [begin(app, call()), begin(app, upload)]
    await settle()

    read_while_waiting = upload._read
    await open_desk(desk, tasks)

    assert read_while_waiting == 1
    assert desk.bodies[1] == b"a" * 10


async def test_a_body_that_comes_after_the_turn_is_read_once() -> None:
    has_come = asyncio.Event()
    upload = call(b"late")

    async def receive_late() -> Message:
        await has_come.wait()
        return await upload.receive()

    desk = Desk()
    app = admitting(desk)
    first = begin(app, call(b"first"))
    await settle()
    waiting = asyncio.ensure_future(app(upload.scope, receive_late, upload.send))
    await settle()
    desk.turns.release()
    await first
    has_come.set()
    desk.turns.release()
    await asyncio.wait_for(waiting, 30)

    assert desk.bodies == [b"first", b"late"]


async def test_after_waiting_the_app_hears_that_its_client_has_left() -> None:
    heard: list[str] = []

    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(receive)
        heard.append((await receive())["type"])
        heard.append((await receive())["type"])

    desk = Desk()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (desk if scope["path"] == "/desk" else listening)(scope, receive, send)

    admission = admitting(app)
    first, second = begin(admission, call(path="/desk")), call()
    waiting = begin(admission, second)
    await settle()
    desk.turns.release()
    await first
    await settle()
    second.gone.set()
    await asyncio.wait_for(waiting, 30)

    assert heard == ["http.disconnect", "http.disconnect"]


async def test_a_connection_that_breaks_while_waiting_breaks_in_the_app() -> None:
    async def broken() -> Message:
        raise OSError("reset by peer")

    desk = Desk()
    app = admitting(desk)
    first = begin(app, call())
    await settle()
    waiting = asyncio.ensure_future(app(http_scope(), broken, call().send))
    await settle()
    await open_desk(desk, [first])

    with pytest.raises(OSError, match="reset"):
        await asyncio.wait_for(waiting, 30)
    desk.turns.release()
    assert (await ask(app)).status == 200


async def test_an_app_that_raises_gives_its_turn_back() -> None:
    app = admitting(Model(error=RuntimeError("broken")), queue=0)

    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            await ask(app)


async def test_advice_follows_from_the_line_and_from_what_answers_take() -> None:
    from memoserve.admission import _Turns

    turns = _Turns("model", 2, 10)
    assert turns.advice == 1
    assert turns.take()
    turns.end(3.0)
    assert turns.advice == 3
    for _ in range(2):
        assert turns.take()
    for _ in range(4):
        turns.join()
    assert turns.advice == 9
    turns.end(3_000.0)
    assert turns.advice == 60


async def test_hits_never_queue() -> None:
    desk = Desk()
    app = cached(AdmissionMiddleware(desk, limit=1, queue=0, deadline=1))
    desk.turns.release()
    await ask(app, b'{"a": 1}')
    busy = [begin(app, call(b'{"a": 2}'))]
    await settle()

    hit = await ask(app, b'{"a":1}')
    shed = await ask(app, b'{"a": 3}')

    assert "; hit" in hit.cache_status
    assert (shed.status, shed.header(b"retry-after")) == (503, b"1")
    await open_desk(desk, busy)


async def test_a_crowd_with_one_question_takes_one_turn() -> None:
    desk = Desk()
    app = cached(AdmissionMiddleware(desk, limit=1, queue=0, deadline=1))
    tasks = [begin(app, call()) for _ in range(20)]
    await settle()

    calls = await open_desk(desk, tasks)

    assert desk.bodies == [b"{}"]
    assert {each.status for each in calls} == {200}


async def test_observers_hear_of_queues() -> None:
    """The cache's observer and the layer's own; one that is both hears once."""
    notes, own = Notes(), Notes()
    desk = Desk()
    admission = AdmissionMiddleware(desk, limit=1, queue=1, deadline=60, observer=own)
    app = cached(admission, observer=notes, model="m")
    tasks = [begin(app, call(b'{"a": %d}' % number)) for number in range(3)]
    await settle()
    await open_desk(desk, tasks)

    for told in (notes, own):
        assert told.of(QueueJoined) == [QueueJoined("m")]
        assert told.of(QueueLeft) == [QueueLeft("m")]
        assert told.of(RequestShed) == [RequestShed("m")]
        assert [passed.model for passed in told.of(QueuePassed)] == ["m", "m"]
        assert told.of(QueuePassed)[0].seconds == 0
        assert told.of(QueuePassed)[1].seconds > 0


async def test_an_observer_that_is_known_already_hears_once() -> None:
    notes = Notes()
    app = cached(
        AdmissionMiddleware(Model(), limit=1, queue=1, deadline=60, observer=notes), observer=notes
    )

    await ask(app)

    assert len(notes.of(QueuePassed)) == 1


async def test_three_times_the_load_is_answered_or_refused_within_bounds() -> None:
    """Ninety at once for ten turns and twenty places: thirty are answered, no more wait."""
    desk = Desk()
    app = admitting(desk, limit=10, queue=20)
    tasks = [begin(app, call(path=PATH)) for _ in range(90)]
    await settle()

    calls = await open_desk(desk, tasks)

    statuses = [each.status for each in calls]
    assert (statuses.count(200), statuses.count(503)) == (30, 60)
    assert desk.most == 10
    assert desk.active == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"limit": 0}, "limit must be at least 1, not 0"),
        ({"limit": {"a": 1, "b": 0}}, "limit must be at least 1"),
        ({"queue": -1}, "queue must not be negative, not -1"),
        ({"deadline": 0}, "deadline must be a positive number of seconds, not 0"),
        ({"deadline": float("inf")}, "deadline must be a positive number"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        admitting(Model(), **option)
