"""What telemetry adds to a request, beside what others add: microseconds in one process.

Rule: all arms answer the same request in-process, take turns in short rounds, and are compared by
their fastest round, which the machine's other work has disturbed least. An arm whose packages are
not installed is left out. Figures are CPU time, reported beside the bare app's own.

Run it with `python bench/telemetry.py`.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, MutableMapping
from importlib import metadata
from typing import Any

from prometheus_client import CollectorRegistry

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware
from memoserve.telemetry.otel import OTelObserver

_ROUNDS = 12
_REQUESTS = 1500
_PATH = "/v1/sentiment"
_SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": _PATH,
    "raw_path": _PATH.encode(),
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"bench"), (b"content-type", b"application/json")],
    "client": ("127.0.0.1", 1234),
    "server": ("127.0.0.1", 80),
    "extensions": {},
}

App = Any  # Frameworks type ASGI each in its own way.
Arm = tuple[str, str, App]  # Its name, the name of the arm that it is compared with, the app.


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Answer with a few bytes."""
    del scope
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def cached(observer: OTelObserver | None) -> App:
    """Return the bare app behind the cache, measured or not."""
    app = CacheMiddleware(bare, rules=[Rule(_PATH, model="sentiment")])
    return app if observer is None else TelemetryMiddleware(app, observer=observer)


def memoserve_arms() -> list[Arm]:
    """Return what is ours: numbers kept here, and recorded by a provider of the application's."""
    arms: list[Arm] = [
        ("memoserve, memory hit", "", cached(None)),
        ("+ telemetry", "memoserve, memory hit", cached(OTelObserver())),
    ]
    with contextlib.suppress(ImportError):
        arms.append(("+ telemetry, own SDK provider", arms[0][0], cached(OTelObserver(provider()))))
    return arms


def provider() -> Any:
    """Return a provider that somebody reads."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


def starlette() -> App:
    """Return an app of Starlette's with one route."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def sentiment(_: Any) -> Response:
        return Response(b"{}", media_type="application/json")

    return Starlette(routes=[Route(_PATH, sentiment, methods=["POST"])])


def starlette_arms() -> list[Arm]:
    """Return what others add to Starlette."""
    name = "Starlette"
    arms: list[Arm] = [(name, "", starlette())]
    with contextlib.suppress(ImportError):
        from opentelemetry.instrumentation.asgi import (  # pyright: ignore[reportMissingTypeStubs] - it has none.
            OpenTelemetryMiddleware,
        )
        from opentelemetry.trace import NoOpTracerProvider

        app = OpenTelemetryMiddleware(
            starlette(),
            meter_provider=provider(),
            tracer_provider=NoOpTracerProvider(),
            exclude_spans=["send", "receive"],
        )
        arms.append(("+ opentelemetry-instrumentation-asgi", name, app))
    with contextlib.suppress(ImportError):
        from prometheus_fastapi_instrumentator import Instrumentator

        own = starlette()
        Instrumentator(registry=CollectorRegistry()).instrument(own)
        arms.append(("+ prometheus-fastapi-instrumentator", name, own))
    with contextlib.suppress(ImportError):
        from starlette_exporter import PrometheusMiddleware

        own = starlette()
        own.add_middleware(PrometheusMiddleware, prefix="bench")
        arms.append(("+ starlette-exporter", name, own))
    return arms


def litestar(**options: Any) -> App:
    """Return an app of Litestar's with one route."""
    from litestar import Litestar, post

    @post(_PATH, status_code=200)
    async def sentiment() -> dict[str, str]:
        return {}

    return Litestar([sentiment], logging_config=None, openapi_config=None, **options)


def litestar_arms() -> list[Arm]:
    """Return what Litestar's own plugins add to it."""
    arms: list[Arm] = []
    with contextlib.suppress(ImportError):
        arms.append(("Litestar", "", litestar()))
        from litestar.plugins.prometheus import PrometheusConfig

        app = litestar(middleware=[PrometheusConfig(prefix="bench").middleware])
        arms.append(("+ its PrometheusConfig", "Litestar", app))
    with contextlib.suppress(ImportError):
        from litestar.plugins.opentelemetry import OpenTelemetryConfig, OpenTelemetryPlugin

        config = OpenTelemetryConfig(meter_provider=provider())
        app = litestar(plugins=[OpenTelemetryPlugin(config)])
        arms.append(("+ its OpenTelemetryPlugin", "Litestar", app))
    return arms


async def microseconds(app: App) -> float:
    """Return what a request takes in one round."""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        del message

    started = time.process_time()
    for _ in range(_REQUESTS):
        await app(dict(_SCOPE), receive, send)
    return (time.process_time() - started) / _REQUESTS * 1e6


async def measure(arms: list[Arm]) -> dict[str, float]:
    """Return the fastest round of each arm."""
    best = {name: float("inf") for name, _, _ in arms}
    for _ in range(_ROUNDS):
        for name, _, app in arms:
            best[name] = min(best[name], await microseconds(app))
    return best


def main() -> None:
    """Run the rounds and print the figures."""
    makers: list[Callable[[], list[Arm]]] = [memoserve_arms, starlette_arms, litestar_arms]
    arms: list[Arm] = [("bare app", "", bare)]
    for maker in makers:
        arms += maker()
    best = asyncio.run(measure(arms))
    print(f"opentelemetry-sdk {metadata.version('opentelemetry-sdk')}, µs of CPU per request")
    print(f"{'':40}{'takes':>8}{'adds':>8}")
    for name, beside, _ in arms:
        added = f"{best[name] - best[beside]:8.1f}" if beside else ""
        print(f"{'  ' if beside else ''}{name:{38 if beside else 40}}{best[name]:8.1f}{added}")


if __name__ == "__main__":
    main()
