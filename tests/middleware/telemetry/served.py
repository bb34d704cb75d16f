"""An app with everything around it, for real servers (`tests.middleware.telemetry.served:app`).

It answers POST /v1/sentiment with the number of the call in its process, GET /metrics with what
memoserve measured, GET /plain with what OpenTelemetry's own exporter would say of this process, and
GET /pid with the process.
"""

import os
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware
from memoserve._asgi import Receive, Scope, Send, respond
from memoserve.telemetry.scrape import MetricsApp

metrics = MetricsApp(max_age=float(os.environ.get("METRICS_MAX_AGE", "0")))
registry = CollectorRegistry()
_provider = MeterProvider([PrometheusMetricReader(registry=registry)], shutdown_on_exit=False)
_plain = _provider.get_meter("plain").create_counter("plain.requests")


async def model(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what is not cached."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["path"] == "/metrics":
        await metrics(scope, receive, send)
    else:
        body = {"/plain": lambda: generate_latest(registry)}.get(
            scope["path"], lambda: str(os.getpid()).encode()
        )()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await respond(send, 200, headers, [body])


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


measured: Any = TelemetryMiddleware(
    CacheMiddleware(model, rules=[Rule("/v1/sentiment", model="sentiment")])
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Count covered requests a second time, as an application with a plain exporter would."""
    if scope.get("path") == "/v1/sentiment":
        _plain.add(1)
    await measured(scope, receive, send)
