"""memoserve for Litestar apps.

Rule: Litestar makes the middleware of every route anew, so what all of them must share, the store,
is opened here, and closed when the app shuts down.
"""

from collections.abc import Iterable
from typing import Any

from litestar.config.app import AppConfig
from litestar.handlers import asgi
from litestar.plugins import InitPlugin
from litestar.types import ASGIApp, Receive, Scope, Send

from memoserve import CacheMiddleware, Rule, Store, TelemetryMiddleware
from memoserve.stores import open_store
from memoserve.telemetry.scrape import MetricsApp

__all__ = ["MemoservePlugin"]


class MemoservePlugin(InitPlugin):
    """Put the cache in front of every handler, and telemetry in front of the cache.

    Args:
        rules: As for `CacheMiddleware`.
        store: A URL, or a `Store`, which then stays the caller's to close.
        metrics_path: Where Prometheus finds the numbers; None for no telemetry.
        options: The other options of `CacheMiddleware`.

    Raises:
        ValueError: A rule or an option is wrong.
    """

    def __init__(
        self,
        *,
        rules: Iterable[Rule],
        store: str | Store = "memory://",
        metrics_path: str | None = "/metrics",
        **options: Any,
    ) -> None:
        self._owns_store = isinstance(store, str)
        self._store = open_store(store) if isinstance(store, str) else store
        self._options = {"rules": tuple(rules), "store": self._store, **options}
        self._metrics_path = metrics_path
        self._caches: list[CacheMiddleware] = []

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the layers, the route of the metrics, and what ends with the app."""
        layers: list[Any] = [self._cached]
        if self._metrics_path is not None:
            layers.insert(0, TelemetryMiddleware)
            app_config.route_handlers.append(_metrics_route(self._metrics_path))
        app_config.middleware[:0] = layers
        app_config.on_shutdown.append(self._close)
        return app_config

    def _cached(self, app: ASGIApp) -> ASGIApp:
        cache = CacheMiddleware(app, **self._options)  # type: ignore[arg-type]  # Its own types.
        self._caches.append(cache)
        return cache  # type: ignore[return-value]  # Litestar's scopes are dicts of other names.

    async def _close(self) -> None:
        for cache in self._caches:
            await cache.aclose()
        if self._owns_store:
            await self._store.aclose()


def _metrics_route(path: str) -> Any:
    metrics = MetricsApp()

    @asgi(path, copy_scope=True)
    async def scrape(scope: Scope, receive: Receive, send: Send) -> None:
        await metrics(scope, receive, send)  # type: ignore[arg-type]  # As above.

    return scrape
