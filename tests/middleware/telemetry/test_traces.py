"""Spans around covered requests, on the real SDK."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware
from memoserve._asgi import Receive, Scope, Send
from memoserve._events import Event, FollowerJoined, RequestRecord
from memoserve.telemetry._traces import Traces, traces
from memoserve.telemetry.otel import OTelObserver
from tests.asgi import JSON, Model, ask

Spans = Callable[[], list[ReadableSpan]]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Spans:
    """The spans that have ended, in the order in which they did."""
    return lambda: list(exporter.get_finished_spans())


class TracedModel(Model):
    """An app that makes a span of its own, as an instrumented one does."""

    def __init__(self, provider: TracerProvider, **options: Any) -> None:
        super().__init__(**options)
        self._tracer = provider.get_tracer("app")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._tracer.start_as_current_span("app"):
            await super().__call__(scope, receive, send)


def traced(app: Any, provider: TracerProvider, **rule: Any) -> TelemetryMiddleware:
    cached = CacheMiddleware(app, rules=[Rule("/v1/model", model="sentiment", **rule)])
    return TelemetryMiddleware(cached, observer=OTelObserver(), tracer_provider=provider)


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


async def test_a_covered_request_is_a_span_and_the_apps_is_its_child(
    provider: TracerProvider, spans: Spans
) -> None:
    stack = traced(TracedModel(provider), provider)

    await ask(stack)
    await ask(stack)

    app, miss, hit = spans()
    assert [app.name, miss.name, hit.name] == ["app", *["memoserve sentiment"] * 2]
    assert app.parent is not None
    assert app.parent.span_id == miss.context.span_id
    assert miss.start_time <= app.start_time  # type: ignore[operator] # Both have begun.
    assert [span.attributes["memoserve.cache.status"] for span in (miss, hit)] == ["miss", "hit"]  # type: ignore[index] # They have some.


async def test_a_span_tells_what_the_cache_knows(provider: TracerProvider, spans: Spans) -> None:
    """Bug 18: of the key it tells as much as finds it again, and of the body nothing."""
    stack = traced(Model(), provider)

    await ask(stack, b'{"text": "a secret"}')
    await ask(stack, b'{"text": "a secret"}')
    await ask(stack, headers=[JSON, (b"authorization", b"Bearer secret")])

    miss, hit, bypass = (dict(span.attributes or {}) for span in spans())
    assert set(miss) == {
        "memoserve.model", "memoserve.rule", "memoserve.cache.status", "memoserve.cache.key",
        "memoserve.outcome", "memoserve.store.time", "memoserve.model.time.saved",
    }  # fmt: skip
    assert miss["memoserve.cache.key"] == hit["memoserve.cache.key"]
    assert len(str(miss["memoserve.cache.key"])) == 8
    assert int(str(miss["memoserve.cache.key"]), 16) >= 0
    assert miss["memoserve.store.time"] > 0  # type: ignore[operator] # It is a number.
    assert bypass["memoserve.bypass.reason"] == "credentials"
    assert "memoserve.cache.key" not in bypass
    assert "secret" not in str([miss, hit, bypass])


async def test_a_follower_links_to_the_leaders_span(provider: TracerProvider, spans: Spans) -> None:
    gate = asyncio.Event()

    class Gatekeeper:
        def observe(self, event: Event, /) -> None:
            if isinstance(event, FollowerJoined):
                gate.set()

    cached = CacheMiddleware(
        TracedModel(provider, gate=gate), rules=[Rule("/v1/model")], observer=Gatekeeper()
    )
    stack = TelemetryMiddleware(cached, observer=OTelObserver(), tracer_provider=provider)

    await asyncio.gather(ask(stack), ask(stack))

    requests = named(spans(), "memoserve /v1/model")
    status = {str((span.attributes or {})["memoserve.cache.status"]): span for span in requests}
    (link,) = status["coalesced"].links
    assert link.context.span_id == status["miss"].context.span_id
    assert status["miss"].links == ()
    assert len(named(spans(), "app")) == 1


async def test_the_callers_trace_goes_on(provider: TracerProvider, spans: Spans) -> None:
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await ask(traced(Model(), provider), headers=[JSON, (b"traceparent", parent)])

    (span,) = spans()
    assert span.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert span.parent is not None
    assert span.parent.span_id == 0xB7AD6B7169203331


async def test_a_span_of_a_layer_outside_is_the_parent(
    provider: TracerProvider, spans: Spans
) -> None:
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    with provider.get_tracer("server").start_as_current_span("server") as server:
        await ask(traced(Model(), provider), headers=[JSON, (b"traceparent", parent)])
        current = trace.get_current_span()

    inner, _ = spans()
    assert inner.parent is not None
    assert inner.parent.span_id == server.get_span_context().span_id
    assert current is server


async def test_what_no_rule_covers_has_no_span(provider: TracerProvider, spans: Spans) -> None:
    await ask(traced(Model(), provider), path="/elsewhere")

    assert spans() == []


async def test_a_failure_is_a_span_with_an_error(provider: TracerProvider, spans: Spans) -> None:
    with pytest.raises(RuntimeError):
        await ask(traced(Model(error=RuntimeError("no")), provider))

    (span,) = spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["memoserve.outcome"] == "error"


async def test_a_refresh_behind_a_stale_answer_is_within_its_span(
    provider: TracerProvider, spans: Spans
) -> None:
    now = 1000.0
    rule = Rule("/v1/model", ttl=10, stale_while_revalidate=100)
    cached = CacheMiddleware(TracedModel(provider), rules=[rule], clock=lambda: now)
    stack = TelemetryMiddleware(cached, observer=OTelObserver(), tracer_provider=provider)
    await ask(stack)
    now = 1050.0

    await ask(stack)
    await cached.aclose()

    stale = named(spans(), "memoserve /v1/model")[1]
    refreshing = named(spans(), "app")[1]
    assert (stale.attributes or {})["memoserve.cache.status"] == "stale"
    assert refreshing.parent is not None
    assert refreshing.parent.span_id == stale.context.span_id


async def test_an_inner_layer_traces_what_an_outer_one_does_not(
    provider: TracerProvider, spans: Spans
) -> None:
    inner = traced(Model(), provider)

    await ask(TelemetryMiddleware(inner, observer=OTelObserver()))

    assert len(spans()) == 1


async def test_without_a_tracer_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RequestRecord] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["memoserve"])
        await Model()(scope, receive, send)

    await ask(TelemetryMiddleware(app, observer=OTelObserver()))

    assert seen[0].tracer is None
    assert traces(None) is None


def test_the_applications_tracer_is_used(
    monkeypatch: pytest.MonkeyPatch, provider: TracerProvider
) -> None:
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)

    assert isinstance(traces(None), Traces)


async def test_a_processor_that_fails_harms_no_request(
    provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("out of paper")

    provider.add_span_processor(Broken())
    caplog.set_level(logging.ERROR, logger="memoserve")

    call = await ask(traced(Model(), provider))

    assert call.status == 200
    assert "a request's span is lost" in caplog.text


async def test_a_span_that_cannot_begin_harms_no_request(
    provider: TracerProvider, caplog: pytest.LogCaptureFixture, spans: Spans
) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Span, parent_context: Any = None) -> None:
            raise RuntimeError("no pen")

    provider.add_span_processor(Broken())
    stack = traced(Model(), provider)

    calls = await asyncio.gather(ask(stack), ask(stack))

    assert [call.status for call in calls] == [200, 200]
    assert "there is no span for a request" in caplog.text
    assert spans() == []
