"""memoserve for Starlette and FastAPI apps.

Rule: one call before the app serves its first request; order and lifespan follow from it.
"""

from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware
from memoserve.telemetry.scrape import MetricsApp

__all__ = ["install"]


def install(
    app: Starlette,
    *,
    rules: Iterable[Rule],
    metrics_path: str | None = "/metrics",
    **options: Any,
) -> None:
    """Put the cache in front of an app, and telemetry in front of the cache.

    Middleware that is added afterwards is outside of both, where authentication belongs.

    Args:
        app: A Starlette or FastAPI app that has not served anything yet.
        rules: As for `CacheMiddleware`.
        metrics_path: Where Prometheus finds the numbers; None for no telemetry.
        options: The other options of `CacheMiddleware`.

    Raises:
        ValueError: A rule or an option is wrong.
        RuntimeError: The app serves already.
        ModuleNotFoundError: Telemetry is wanted without the extra `prometheus`.
    """
    options["rules"] = tuple(rules)
    CacheMiddleware(app, **options)  # Starlette makes its own, but later: what is wrong fails now.
    app.add_middleware(CacheMiddleware, **options)
    if metrics_path is not None:
        metrics: Any = MetricsApp()  # An ASGI app will do, though the types do not say so.
        app.add_middleware(TelemetryMiddleware)
        app.add_route(metrics_path, metrics, include_in_schema=False)
