"""memoserve for Quart apps.

Rule: the layers are around the whole app, so a hit skips all of it, `before_request` included; the
metrics are a route of the app, which `before_request` can protect.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from quart import Quart, Response, request

from memoserve import CacheMiddleware, Rule, Store, TelemetryMiddleware
from memoserve.telemetry.scrape import MetricsApp
from memoserve_integrations._layers import check_names
from memoserve_integrations._metrics import check_path, metrics_page, taken

__all__ = ["install"]


def install(
    app: Quart,
    *,
    rules: Iterable[Rule],
    store: str | Store = "memory://",
    metrics_path: str | None = "/metrics",
    metrics_token: str | None = None,
    metrics_allow: Iterable[str] | None = None,
    **options: Any,
) -> None:
    """Put the cache in front of an app, and telemetry in front of the cache.

    What wraps `app.asgi_app` afterwards is outside of both, where authentication belongs.

    Args:
        app: A Quart app that has not served anything yet.
        rules: As for `CacheMiddleware`.
        store: A URL, or a `Store`, which then stays the caller's to close.
        metrics_path: Where Prometheus finds the numbers; None for no telemetry.
        metrics_token: Who sends it (`Authorization: Bearer ...`) may read them. Otherwise it is
            `MEMOSERVE_METRICS_TOKEN` or what is in the file `MEMOSERVE_METRICS_TOKEN_FILE`.
        metrics_allow: Networks whose clients may read them, such as `["10.0.0.0/8"]`. Otherwise
            they are those of `MEMOSERVE_METRICS_ALLOW`. If nobody is named, everybody may.
        options: The other options of `CacheMiddleware`.

    Raises:
        ValueError: A rule or an option is wrong.
        ModuleNotFoundError: Telemetry is wanted without the extra `prometheus`.
    """
    check_names("install()", options)
    host: Any = app  # Quart types each message apart.
    layers: Any = CacheMiddleware(host.asgi_app, rules=rules, store=store, **options)
    if metrics_path is not None:
        check_path(metrics_path)
        if any(rule.rule == metrics_path for rule in app.url_map.iter_rules()):
            raise taken(metrics_path)
        layers = TelemetryMiddleware(layers)
        view = _MetricsView(metrics_page(metrics_token, metrics_allow))
        app.add_url_rule(metrics_path, "memoserve_metrics", view.show)
    host.asgi_app = layers


class _MetricsView:
    def __init__(self, metrics: MetricsApp) -> None:
        self._metrics = metrics

    async def show(self) -> Response:
        page = await asyncio.to_thread(
            self._metrics.answer,
            request.method,
            request.remote_addr or "",
            authorization=request.headers.get("authorization", "").encode(),
            accept=request.headers.get("accept", "").encode(),
        )
        headers = {name.decode(): value.decode() for name, value in page.headers}
        return Response(page.body, page.status, headers)
