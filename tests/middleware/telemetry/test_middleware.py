"""The outermost layer: one record for each request, whatever becomes of it."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware
from memoserve._asgi import ASGIApp, Receive, Scope, Send, respond
from memoserve._events import Event, FollowerJoined, Outcome, RequestFinished, RequestRecord
from memoserve.telemetry import (
    BYPASSES,
    MODEL_DURATION,
    REQUEST_ACTIVE,
    REQUEST_DURATION,
    Instrument,
    otel,
)
from memoserve.telemetry._bridge import package_version
from memoserve.telemetry.otel import OTelObserver

Measured = Callable[[Instrument], dict[frozenset[tuple[str, str]], float]]


class Notebook:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.finished: list[RequestFinished] = []

    def observe(self, event: Event, /) -> None:
        if isinstance(event, RequestFinished):
            self.finished.append(event)


async def answer_hit(scope: Scope, receive: Receive, send: Send) -> None:
    """Do as a cache does that has the answer."""
    record = scope["memoserve"]
    record.model, record.status = "sentiment", "hit"
    await respond(send, 200, [(b"content-length", b"2")], [b"ok"])
    record.sent = time.perf_counter()


async def call(app: ASGIApp, scope: Scope | None = None) -> None:
    async def receive() -> Scope:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Scope) -> None:
        pass

    await app({"type": "http"} if scope is None else scope, receive, send)


async def test_a_covered_request_is_reported_once() -> None:
    notebook = Notebook()

    await call(TelemetryMiddleware(answer_hit, observer=notebook))

    (event,) = notebook.finished
    assert (event.model, event.status, event.outcome) == ("sentiment", "hit", "ok")
    assert 0 < event.seconds < 5


async def test_what_no_rule_covers_is_not_reported() -> None:
    notebook = Notebook()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, [], [b"ok"])

    await call(TelemetryMiddleware(app, observer=notebook))

    assert notebook.finished == []


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_other_scopes_pass_through_untouched(kind: str) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": kind}

    await call(TelemetryMiddleware(app, observer=Notebook()), scope)

    assert seen[0] is scope
    assert scope == {"type": kind}


async def test_one_scope_called_twice_is_two_requests() -> None:
    notebook = Notebook()
    app = TelemetryMiddleware(answer_hit, observer=notebook)
    scope: Scope = {"type": "http"}

    await call(app, scope)
    await call(app, scope)

    assert len(notebook.finished) == 2
    assert scope == {"type": "http"}


@pytest.mark.parametrize(
    ("failure", "is_sent", "known", "expected"),
    [
        pytest.param(RuntimeError(), False, "ok", "error", id="raised"),
        pytest.param(asyncio.CancelledError(), False, "ok", "cancelled", id="cancelled"),
        pytest.param(RuntimeError(), True, "ok", "ok", id="raised-after-the-last-byte"),
        pytest.param(OSError(), False, "cancelled", "cancelled", id="a-layer-knew-better"),
    ],
)
async def test_a_failure_passes_through_and_is_the_outcome(
    failure: BaseException, is_sent: bool, known: Outcome, expected: Outcome
) -> None:
    notebook = Notebook()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        record: RequestRecord = scope["memoserve"]
        record.model, record.status, record.outcome = "sentiment", "miss", known
        if is_sent:
            record.sent = time.perf_counter()
        raise failure

    with pytest.raises(type(failure)) as caught:
        await call(TelemetryMiddleware(app, observer=notebook))

    assert caught.value is failure
    assert [event.outcome for event in notebook.finished] == [expected]


async def test_a_request_inside_two_of_us_counts_once() -> None:
    notebook = Notebook()
    inner = TelemetryMiddleware(answer_hit, observer=notebook)

    await call(TelemetryMiddleware(inner, observer=notebook))

    assert len(notebook.finished) == 1


async def test_an_inner_observer_hears_of_an_outer_layers_record() -> None:
    outer, inner = Notebook(), Notebook()
    app = TelemetryMiddleware(answer_hit, observer=inner)

    await call(TelemetryMiddleware(app, observer=outer))

    assert outer.finished == inner.finished
    assert len(inner.finished) == 1


async def test_inside_of_the_cache_it_says_so_and_reports_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would see the misses only, which is a hit ratio of nought."""
    notebook = Notebook()
    app = TelemetryMiddleware(answer_hit, observer=notebook)
    record = RequestRecord(started=0.0, model="sentiment")

    for _ in range(2):
        await call(app, {"type": "http", "memoserve": record})

    assert record.observers == ()
    assert [entry.message for entry in caplog.records] == [
        "TelemetryMiddleware reports nothing: it must be outside the cache"
    ]


async def test_an_observer_that_fails_is_logged_and_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def observe(self, event: Event, /) -> None:
            raise RuntimeError("out of paper")

    app = TelemetryMiddleware(answer_hit, observer=Broken())

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client:
        response = await client.get("/")

    assert response.text == "ok"
    assert "an observer failed" in caplog.text


async def test_without_an_observer_everyone_shares_the_default(fresh_process: None) -> None:
    seen: list[RequestRecord] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["memoserve"])

    for telemetry in (TelemetryMiddleware(app), TelemetryMiddleware(app)):
        await call(telemetry)
        await call(telemetry)

    assert {record.observers for record in seen} == {(otel.default_observer(),)}


async def test_a_default_that_cannot_be_made_costs_the_metrics_only(
    fresh_process: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = TelemetryMiddleware(answer_hit)
    # Read at the first request: an entry point that does not exist.
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", None)
    monkeypatch.setenv("OTEL_PYTHON_METER_PROVIDER", "no_such_provider")
    caplog.set_level(logging.ERROR, logger="memoserve")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client:
        responses = [await client.get("/") for _ in range(2)]

    assert [response.text for response in responses] == ["ok", "ok"]
    assert [entry.message for entry in caplog.records if entry.name == "memoserve"] == [
        "there will be no metrics"
    ]


async def test_the_numbers_add_up_around_a_real_cache(
    observer: OTelObserver, measured: Measured
) -> None:
    """Three ask the same at once, two ask it again, one may not share, and one gets an error."""
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        await gate.wait()
        status = 500 if b"boom" in body else 200
        await respond(send, status, [(b"content-type", b"application/json")], [b"{}"])

    class Gatekeeper:
        joined = 0

        def observe(self, event: Event, /) -> None:
            if isinstance(event, FollowerJoined):
                self.joined += 1
                if self.joined == 2:
                    gate.set()

    cached = CacheMiddleware(app, rules=[Rule("/infer", model="sentiment")], observer=Gatekeeper())
    stack = TelemetryMiddleware(cached, observer=observer)
    transport = httpx.ASGITransport(stack)

    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        await asyncio.gather(*(client.post("/infer", json={"text": "a"}) for _ in range(3)))
        await client.post("/infer", json={"text": "a"})
        await client.post(
            "/infer", content=b'{ "text": "a" }', headers={"content-type": "application/json"}
        )
        await client.post("/infer", json={"text": "a"}, headers={"authorization": "Bearer me"})
        await client.post("/infer", json={"text": "boom"})
        await client.get("/elsewhere")
    await cached.aclose()

    counts = {
        (dict(key)["cache.status"], dict(key)["outcome"]): count
        for key, count in measured(REQUEST_DURATION).items()
    }
    assert counts == {
        ("miss", "ok"): 1,
        ("coalesced", "ok"): 2,
        ("hit", "ok"): 2,
        ("bypass", "ok"): 1,
        ("error", "error"): 1,
    }
    assert sum(measured(BYPASSES).values()) == 1
    assert sum(measured(MODEL_DURATION).values()) == 2
    assert sum(measured(REQUEST_ACTIVE).values()) == 0


async def test_no_label_comes_from_a_request(observer: OTelObserver) -> None:
    """Bug 56: paths, methods, models and headers that nobody has heard of."""
    rule = Rule("/v1/models/{model}/infer", models=["sentiment"], methods={"POST", "GET"})
    stack = TelemetryMiddleware(CacheMiddleware(answer_ok, rules=[rule]), observer=observer)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(stack), base_url="http://a"
    ) as client:
        await client.post("/v1/models/sentiment/infer", json={})
        for number in range(1000):
            noise = {"x-variant": f"v{number}", "traceparent": f"00-{number}", "authorization": "a"}
            method = ("POST", "GET", f"FOO{number}")[number % 3]
            await client.request(method, f"/v1/models/m{number}/infer", json={}, headers=noise)
            await client.post(f"/scan/{number}", json={})

    values = {
        value for series in observer.totals().values() for each in series for value in each.values
    }
    assert values <= {
        "sentiment", "other", "miss", "bypass", "ok", "credentials", "stored", "memory", "",
        "model", "variant", "reason", "error.type", "get", "set", package_version(),
        "http.route", "http.response.status_code",
    }  # fmt: skip


async def answer_ok(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await respond(send, 200, [(b"content-length", b"2")], [b"ok"])


async def lifespan(app: ASGIApp, *messages: str) -> list[str]:
    """Let an app live that sends these messages."""
    sent: list[str] = []

    async def receive() -> Scope:
        raise AssertionError

    async def send(message: Scope) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "messages": messages}, receive, send)
    return sent


async def living(scope: Scope, receive: Receive, send: Send) -> None:
    for message in scope["messages"]:
        await send({"type": message})


async def scoped(scope: Scope, receive: Receive, send: Send) -> None:
    await (living if scope["type"] == "lifespan" else answer_hit)(scope, receive, send)


class Attended(OTelObserver):
    """Notes what it is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def start(self) -> None:
        self.seen.append("start")
        super().start()

    def flush(self) -> None:
        self.seen.append("flush")
        super().flush()


async def test_an_application_that_starts_and_ends_is_attended() -> None:
    observer = Attended()
    app = TelemetryMiddleware(living, observer=observer)
    messages = ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    sent = await lifespan(app, *messages)

    assert sent == messages
    assert observer.seen == ["start", "flush"]


async def test_a_request_before_the_start_starts_it_once() -> None:
    observer = Attended()
    app = TelemetryMiddleware(scoped, observer=observer)

    await call(app)
    await lifespan(app, "lifespan.startup.complete")

    assert observer.seen == ["start"]


async def test_an_application_that_cannot_start_has_no_metrics() -> None:
    observer = Attended()

    await lifespan(TelemetryMiddleware(living, observer=observer), "lifespan.startup.failed")

    assert observer.seen == []


async def test_what_cannot_be_flushed_is_said_and_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(OTelObserver):
        def flush(self) -> None:
            raise OSError("no space")

    for observer in (Full(), Notebook()):
        app = TelemetryMiddleware(living, observer=observer)
        sent = await lifespan(app, "lifespan.startup.complete", "lifespan.shutdown.complete")
        assert len(sent) == 2

    assert [entry.message for entry in caplog.records] == ["the last metrics are lost"]


async def test_metrics_have_a_port_of_their_own(observer: OTelObserver) -> None:
    app = TelemetryMiddleware(answer_hit, observer=observer, metrics_port=0)
    await call(app)
    assert app.metrics is not None

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.metrics.port}") as client:
        page = await client.get("/metrics")
        head = await client.head("/metrics")
        again = await client.get(
            "/any/path", headers={"accept": "application/openmetrics-text; version=1.0.0"}
        )
        refused = await client.post("/metrics")
    app.metrics.close()

    assert 'memoserve_request_duration_seconds_count{cache_status="hit"' in page.text
    assert (head.status_code, head.content) == (200, b"")
    assert again.text.endswith("# EOF\n")
    assert refused.status_code == 501


async def test_a_port_that_is_taken_costs_the_port_and_no_metrics(
    observer: OTelObserver, caplog: pytest.LogCaptureFixture, measured: Measured
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await call(TelemetryMiddleware(answer_hit, observer=observer, metrics_port=port))

    assert f"there are no metrics on port {port}" in caplog.text
    assert sum(measured(REQUEST_DURATION).values()) == 1


async def test_workers_share_a_port(tmp_path: Path) -> None:
    observers = [OTelObserver(directory=tmp_path / str(number)) for number in range(2)]
    first = TelemetryMiddleware(answer_hit, observer=observers[0], metrics_port=0)
    await call(first)
    assert first.metrics is not None
    second = TelemetryMiddleware(answer_hit, observer=observers[1], metrics_port=first.metrics.port)

    await call(second)

    assert second.metrics is not None
    for each in (first, second):
        each.metrics.close()  # type: ignore[union-attr] # It was asserted.
    for observer in observers:
        assert observer.workers is not None
        observer.workers.close()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({"metrics_port": 65_536}, "must be a port, not 65536", id="no-port"),
        pytest.param(
            {"metrics_port": 1, "observer": Notebook()}, "needs an OTelObserver", id="no-metrics"
        ),
    ],
)
def test_a_port_without_metrics_is_refused(options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TelemetryMiddleware(answer_hit, **options)
