"""`http.server.request.duration`: asked for, and by the letter of the semantic conventions."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware, VariantMiddleware
from memoserve._asgi import ASGIApp, Receive, Scope, Send, respond
from memoserve._events import Event, HttpRequestFinished, RequestRecord
from memoserve.telemetry import HTTP_BUCKETS, HTTP_SERVER_DURATION
from memoserve.telemetry._bridge import attributes_of
from memoserve.telemetry.otel import OTelObserver
from memoserve.telemetry.scrape import MetricsApp


class Notebook:
    """An observer that keeps what it is told of HTTP."""

    def __init__(self) -> None:
        self.finished: list[HttpRequestFinished] = []

    def observe(self, event: Event, /) -> None:
        if isinstance(event, HttpRequestFinished):
            self.finished.append(event)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await respond(send, scope.get("status", 200), [(b"content-length", b"2")], [b"o", b"k"])


async def call(app: ASGIApp, **scope: Any) -> None:
    async def receive() -> Scope:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Scope) -> None:
        pass

    usual = {"type": "http", "method": "POST", "path": "/x", "headers": [], "http_version": "1.1"}
    await app({**usual, **scope}, receive, send)


async def timed(app: ASGIApp, **scope: Any) -> HttpRequestFinished:
    """Return what is told of one request."""
    notebook = Notebook()
    await call(TelemetryMiddleware(app, observer=notebook, http_duration=True), **scope)
    (event,) = notebook.finished
    return event


async def test_a_covered_request_has_its_rules_pattern_and_never_its_path() -> None:
    """Bug 56."""
    cache = CacheMiddleware(answer, rules=[Rule("/v1/models/{model}/infer", models=["a"])])

    first = await timed(cache, path="/v1/models/a/infer")
    hit = await timed(cache, path="/v1/models/a/infer")
    await cache.aclose()

    assert first.seconds > 0
    for event in (first, hit):
        assert event.route == "/v1/models/{model}/infer"
        assert (event.method, event.status, event.error) == ("POST", "200", "")
        assert (event.scheme, event.version) == ("http", "1.1")


async def test_what_no_rule_covers_is_timed_without_a_route() -> None:
    event = await timed(answer, method="GET", scheme="https", http_version="2", status=404)

    assert (event.method, event.status, event.route) == ("GET", "404", "")
    assert (event.scheme, event.version, event.error) == ("https", "2", "")


async def test_words_out_of_a_request_are_none_of_ours() -> None:
    """Bug 56."""
    event = await timed(answer, method="BREW", scheme="coffee", http_version="0.9", status=799)

    assert (event.method, event.scheme) == ("_OTHER", "_OTHER")
    assert (event.version, event.status) == ("", "")


@pytest.mark.parametrize(
    ("failure", "is_begun", "expected"),
    [
        pytest.param(None, True, "503", id="status"),
        pytest.param(RuntimeError(), False, "RuntimeError", id="raised"),
        pytest.param(RuntimeError(), True, "RuntimeError", id="raised-halfway"),
        pytest.param(asyncio.CancelledError(), False, "CancelledError", id="cancelled"),
        pytest.param(None, False, "_OTHER", id="no-answer"),
    ],
)
async def test_a_failure_has_a_type(
    failure: BaseException | None, is_begun: bool, expected: str
) -> None:
    notebook = Notebook()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if is_begun:
            await send({"type": "http.response.start", "status": 503, "headers": []})
        if failure is not None:
            raise failure

    await asyncio.gather(
        call(TelemetryMiddleware(app, observer=notebook, http_duration=True)),
        return_exceptions=True,
    )

    assert [event.error for event in notebook.finished] == [expected]
    assert [event.status for event in notebook.finished] == ["503" if is_begun else ""]


async def test_what_comes_after_the_last_byte_counts_no_more() -> None:
    """Neither the time of background tasks nor their failure."""
    sent: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, [], [b"ok"])
        sent.append(time.perf_counter() - scope["memoserve"].started)
        while time.perf_counter() - scope["memoserve"].started < 2 * sent[0] + 0.001:
            pass
        raise RuntimeError

    notebook = Notebook()
    with pytest.raises(RuntimeError):
        await call(TelemetryMiddleware(app, observer=notebook, http_duration=True))

    (event,) = notebook.finished
    assert event.error == ""
    assert 0 < event.seconds <= sent[0]


async def test_nobody_is_told_who_has_not_asked() -> None:
    notebook = Notebook()

    await call(TelemetryMiddleware(answer, observer=notebook))

    assert notebook.finished == []


async def test_a_request_inside_two_of_us_is_timed_once() -> None:
    notebook = Notebook()
    inner = TelemetryMiddleware(answer, observer=notebook, http_duration=True)

    await call(TelemetryMiddleware(inner, observer=notebook, http_duration=True))

    assert len(notebook.finished) == 1


async def test_it_is_timed_where_another_layer_has_made_the_record() -> None:
    notebook = Notebook()
    telemetry = TelemetryMiddleware(answer, observer=notebook, http_duration=True)

    await call(VariantMiddleware(telemetry, variants={"a": 1}))

    assert len(notebook.finished) == 1


async def test_inside_of_the_cache_nothing_is_timed() -> None:
    notebook = Notebook()
    record = RequestRecord(started=0.0, observers=(notebook,), model="sentiment")

    telemetry = TelemetryMiddleware(answer, observer=notebook, http_duration=True)
    await call(telemetry, memoserve=record)

    assert notebook.finished == []


async def test_other_scopes_pass_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    for kind in ("websocket", "lifespan"):
        await call(TelemetryMiddleware(app, observer=Notebook(), http_duration=True), type=kind)

    assert seen == ["websocket", "lifespan"]


async def test_prometheus_and_opentelemetry_have_it(
    observer: OTelObserver, made: Callable[[], dict[str, Any]]
) -> None:
    """The status is a number to OpenTelemetry, and the buckets are those that it advises."""
    cache = CacheMiddleware(answer, rules=[Rule("/v1/sentiment")])
    app = TelemetryMiddleware(cache, observer=observer, http_duration=True)
    metrics = MetricsApp(observer, max_age=0)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client:
        for _ in range(2):
            await client.post("/v1/sentiment", json={"text": "a"})
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(metrics), base_url="http://a"
    ) as client:
        page = (await client.get("/metrics")).text
    await cache.aclose()

    (point,) = made()[HTTP_SERVER_DURATION.name].data.data_points
    assert point.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/v1/sentiment",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
    }
    assert (point.count, tuple(point.explicit_bounds)) == (2, HTTP_BUCKETS)
    assert (
        'http_server_request_duration_seconds_count{http_request_method="POST",'
        'http_response_status_code="200",http_route="/v1/sentiment",'
        'network_protocol_version="1.1",url_scheme="http"} 2' in page
    )


def test_a_status_without_a_place_stays_a_word() -> None:
    values = ("GET", "other", "", "http", "1.1", "")

    assert attributes_of(HTTP_SERVER_DURATION, values)["http.response.status_code"] == "other"


@pytest.mark.parametrize("kind", ["early_hint", "push"])
async def test_what_comes_before_the_answer_is_not_its_end(kind: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": f"http.response.{kind}", "links": [], "path": "/", "headers": []})
        raise RuntimeError("down")

    notebook = Notebook()
    with pytest.raises(RuntimeError, match="down"):
        await call(TelemetryMiddleware(app, observer=notebook, http_duration=True))

    assert [(event.status, event.error) for event in notebook.finished] == [("", "RuntimeError")]
