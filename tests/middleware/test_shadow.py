"""Shadow mode: the app answers as if nothing were in front of it; the cache says what it knew."""

import asyncio
from typing import Any

import pytest

from memoserve import CacheMiddleware, MemoryStore, Rule, TelemetryMiddleware
from memoserve._events import (
    ModelCalled,
    RequestFinished,
    ShadowCompared,
    StoreCalled,
    StoreWritten,
)
from memoserve.telemetry.otel import OTelObserver
from tests.asgi import JSON, Call, Model, ask, begin, http_scope, settle
from tests.middleware.cases import PATH, Clock, Notes, cached
from tests.middleware.transparency import RemoteStore


def shadowed(model: Any, notes: Notes, **options: Any) -> CacheMiddleware:
    return cached(model, mode="shadow", observer=notes, **options)


def results(notes: Notes) -> list[str]:
    return [event.result for event in notes.of(ShadowCompared)]


async def test_every_request_is_the_apps_and_none_is_changed() -> None:
    model, notes = Model(headers=[JSON, (b"x-request-id", b"7")]), Notes()
    app = shadowed(model, notes)

    answers = [await ask(app) for _ in range(3)]

    assert [answer.content for answer in answers] == [b'{"call":1}', b'{"call":2}', b'{"call":3}']
    assert {answer.cache_status for answer in answers} == {"memoserve; fwd=bypass; detail=shadow"}
    assert {answer.header(b"age") for answer in answers} == {None}
    assert {answer.header(b"x-request-id") for answer in answers} == {b"7"}


async def test_what_would_have_been_a_hit_is_compared() -> None:
    """The first answer is what the cache would have given until its time is up."""
    model, notes, clock = Model(chunks=[b'{"a": 1, "b": 2}']), Notes(), Clock()
    app = shadowed(model, notes, clock=clock, ttl=10)

    await ask(app)
    model.chunks = [b'{"b":2,', b'"a":1}']
    await ask(app, b"{ }")
    model.chunks = [b'{"a":1,"b":3}']
    await ask(app)
    clock.now += 10
    await ask(app)
    await ask(app)

    assert results(notes) == ["equal", "different", "equal"]
    assert [event.result for event in notes.of(StoreWritten)] == ["stored", "stored"]


async def test_what_would_have_been_a_hit_asks_the_store_once() -> None:
    notes = Notes()
    app = shadowed(Model(), notes, store=RemoteStore(), store_deadline=10)
    await ask(app)
    notes.events.clear()

    await ask(app)
    await app.aclose()

    assert [event.operation for event in notes.of(StoreCalled)] == ["get"]


@pytest.mark.parametrize(
    ("change", "result"),
    [
        pytest.param({"status": 201}, "different", id="status"),
        pytest.param({"headers": [(b"content-type", b"text/html")]}, "different", id="type"),
        pytest.param({"headers": [JSON, (b"x-trace", b"2")]}, "equal", id="other-field"),
        pytest.param({"headers": [JSON, (b"content-encoding", b"br")]}, "different", id="encoding"),
        pytest.param({"chunks": [b'{"a":1,', b'"a":1}']}, "equal", id="chunks-of-no-value"),
        pytest.param({"chunks": [b'{"a":1,"a": 1}']}, "different", id="no-value"),
    ],
)
async def test_equal_is_what_no_client_could_tell_apart(
    change: dict[str, Any], result: str
) -> None:
    model, notes = Model(chunks=[b'{"a":1,"a":1}']), Notes()
    app = shadowed(model, notes)
    await ask(app)

    for name, value in change.items():
        setattr(model, name, value)
    await ask(app)

    assert results(notes) == [result]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"headers": [JSON, (b"if-none-match", b'"1"')]}, id="conditional"),
        pytest.param({"headers": [(b"range", b"bytes=0-1")]}, id="range"),
        pytest.param({"method": "HEAD"}, id="head"),
    ],
)
async def test_half_an_answer_is_not_compared(request_: dict[str, Any]) -> None:
    model, notes = Model(), Notes()
    app = shadowed(model, notes, methods={"GET"})
    await ask(app, b"", method="GET")

    await ask(app, b"", **{"method": "GET", **request_})

    assert (model.calls, results(notes)) == (2, [])


async def test_an_answer_that_did_not_end_is_not_compared() -> None:
    model, notes = Model(), Notes()
    app = shadowed(model, notes)
    await ask(app)

    model.chunks, model.late_error = [b"[", b"]"], RuntimeError("half way")
    with pytest.raises(RuntimeError, match="half way"):
        await ask(app)
    model.chunks, model.late_error = [b"x" * 100], None
    model.headers = [JSON, (b"content-length", b"200")]
    await ask(app)

    assert results(notes) == []
    assert [event.outcome for event in notes.of(RequestFinished)] == ["ok", "error", "ok"]


async def test_each_request_is_one_bypass_and_one_call() -> None:
    """A failure of the app stays a bypass that failed, as without a cache."""
    model, notes = Model(), Notes()
    app = shadowed(model, notes)
    await ask(app)
    await ask(app)
    model.error = RuntimeError("down")

    with pytest.raises(RuntimeError, match="down"):
        await ask(app)

    finished = notes.of(RequestFinished)
    assert [(each.status, each.reason, each.outcome) for each in finished] == [
        ("bypass", "shadow", "ok"),
        ("bypass", "shadow", "ok"),
        ("bypass", "shadow", "error"),
    ]
    assert len(notes.of(ModelCalled)) == 3


async def test_nobody_waits_for_anybody() -> None:
    model, notes = Model(gate=asyncio.Event()), Notes()
    app = shadowed(model, notes)
    tasks = [begin(app, Call(http_scope())) for _ in range(3)]

    await settle()
    calls = model.calls
    assert model.gate is not None
    model.gate.set()
    answers = await asyncio.gather(*tasks)

    assert calls == 3
    assert {answer.content for answer in answers} == {b'{"call":1}', b'{"call":2}', b'{"call":3}'}


async def test_what_the_cache_would_not_look_at_keeps_its_reason() -> None:
    model, notes = Model(), Notes()
    app = shadowed(model, notes)

    answer = await ask(app, headers=[JSON, (b"authorization", b"Bearer a")])

    assert answer.cache_status == "memoserve; fwd=bypass; detail=credentials"
    assert [event.reason for event in notes.of(RequestFinished)] == ["credentials"]


async def test_a_live_cache_has_what_its_shadow_has_stored() -> None:
    """Switching it on begins with a warm store."""
    model, store = Model(), MemoryStore()
    await ask(CacheMiddleware(model, rules=[Rule(PATH)], store=store, mode="shadow"))

    live = await ask(CacheMiddleware(model, rules=[Rule(PATH)], store=store))

    assert live.cache_status.startswith("memoserve; hit")


async def test_the_metrics_tell_how_often_it_would_have_been_right() -> None:
    observer = OTelObserver(directory="")
    model = Model(chunks=[b"1"])
    cache = CacheMiddleware(model, rules=[Rule(PATH)], mode="shadow")
    app = TelemetryMiddleware(cache, observer=observer)

    for body in (b"1", b"1", b"2"):
        model.chunks = [body]
        await ask(app)

    (equal, different) = observer.totals()["memoserve.shadow.comparisons"]
    assert (equal.values, equal.number) == ((PATH, "equal"), 1)
    assert (different.values, different.number) == ((PATH, "different"), 1)
    (bypasses,) = observer.totals()["memoserve.bypasses"]
    assert (bypasses.values, bypasses.number) == ((PATH, "shadow"), 3)


def test_there_are_two_modes() -> None:
    with pytest.raises(ValueError, match="mode must be 'live' or 'shadow', not 'dark'"):
        CacheMiddleware(Model(), rules=[Rule(PATH)], mode="dark")  # type: ignore[arg-type] # Wrong.


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"headers": [(b"if-none-match", b'"2"')]}, id="conditional"),
        pytest.param({"headers": [(b"range", b"bytes=0-")]}, id="range"),
        pytest.param({"method": "HEAD"}, id="head"),
    ],
)
async def test_what_the_cache_would_have_answered_is_not_stored_anew(
    request_: dict[str, Any],
) -> None:
    """Else an answer would be younger than the one that clients would have had."""
    model, notes, clock = Model(), Notes(), Clock()
    app = shadowed(model, notes, clock=clock, methods={"GET", "HEAD"}, ttl=10)
    usual: dict[str, Any] = {"method": "GET", "headers": []}
    await ask(app, b"", **usual)
    clock.now += 9

    await ask(app, b"", **{**usual, **request_})
    clock.now += 9
    await ask(app, b"", **usual)

    assert results(notes) == []
    assert [event.result for event in notes.of(StoreWritten)] == ["stored", "stored"]


@pytest.mark.parametrize("mode", ["live", "shadow"])
async def test_a_range_is_nothing_to_store(mode: Any) -> None:
    """Not even where the app sends all of it."""
    model, notes = Model(), Notes()
    app = cached(model, mode=mode, observer=notes, methods={"GET"})

    await ask(app, b"", method="GET", headers=[(b"range", b"bytes=0-")])

    assert notes.of(StoreWritten) == []


@pytest.mark.parametrize("mode", ["live", "shadow"])
async def test_what_a_client_asks_of_the_cache_counts_as_it_would(mode: Any) -> None:
    """Where the cache obeys: no-cache is answered by the app, and its answer stored."""
    model, notes = Model(), Notes()
    app = cached(model, mode=mode, observer=notes, client_control="obey")
    fresh = (JSON, (b"cache-control", b"no-cache"))
    only = (JSON, (b"cache-control", b"only-if-cached"))

    await ask(app, b"1", headers=only)
    stored = [len(notes.of(StoreWritten))]
    for headers in ((JSON,), fresh):
        await ask(app, headers=headers)
        stored.append(len(notes.of(StoreWritten)))

    assert stored == [0, 1, 2]
    assert results(notes) == []


async def test_a_large_answer_is_compared_by_its_bytes() -> None:
    """To parse megabytes would hold up the event loop, and with it all other clients (bug 42)."""
    small, large = b"[1,%b]", b"[1,%b" + b" " * 1_000 + b"]"
    model, notes = Model(), Notes()
    app = shadowed(model, notes, max_canonical_bytes=100)
    for number, shape in enumerate((small, large)):
        for spelling in (b"2", b" 2", b" 2"):
            model.chunks = [shape % spelling]
            await ask(app, b"%d" % number)

    assert results(notes) == ["equal", "equal", "different", "different"]


async def test_answers_that_are_kept_for_the_store_take_their_part_of_the_room() -> None:
    """Of `flight_max_bytes`, as a live cache's do; beyond it they are sent, and not stored."""
    model, notes = Model(chunks=[b"x" * 600, b"x" * 600, b"x" * 600]), Notes()
    app = shadowed(model, notes, flight_max_bytes=1_000)

    answer = await ask(app)
    again = await ask(app)

    assert [len(each.content) for each in (answer, again)] == [1_800, 1_800]
    assert again.cache_status.endswith("detail=shadow")
    assert [event.result for event in notes.of(StoreWritten)] == ["too_large", "too_large"]
    assert app._shared.budget.used == 0
