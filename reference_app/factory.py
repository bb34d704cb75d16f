"""The whole app, put together.

Rule: telemetry outermost, so that it times what a client waits for; then the request's name; then
the cache, so that a hit costs no routing, no validation and no model; then Litestar.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from litestar import Litestar, asgi
from litestar.handlers import ASGIRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin

from memoserve import CacheMiddleware
from memoserve.telemetry.middleware import TelemetryMiddleware
from memoserve.telemetry.scrape import MetricsApp
from reference_app.api import api_routes
from reference_app.caching import cache_rules
from reference_app.health import health_routes
from reference_app.inference import Inference, Loader, load_models
from reference_app.page import page_routes
from reference_app.problems import problem_details
from reference_app.request_id import ASGIApp, RequestIdMiddleware
from reference_app.settings import Settings

__all__ = ["create_app"]

_OPENAPI = OpenAPIConfig(
    title="memoserve reference app",
    version="1",
    description="Three small language models behind a response cache: see `Cache-Status`.",
    path="/schema",
    # Litestar's pages for people load their scripts from a CDN; this app must work without one.
    render_plugins=[JsonRenderPlugin(), YamlRenderPlugin()],
)


def create_app(
    settings: Settings,
    *,
    loader: Loader = load_models,
    on_load_failure: Callable[[Exception], None] | None = None,
) -> ASGIApp:
    """Return the ASGI app; it loads the models when its lifespan starts.

    Args:
        settings: What the operator chose.
        loader: Returns the models; called once, in a thread.
        on_load_failure: Told of the exception that ended loading.

    Raises:
        ValueError: If the store's URL is wrong.
    """
    inference = Inference(partial(loader, settings), on_failure=on_load_failure)
    litestar: Any = _litestar(inference, settings)  # It types each message apart; we do not.
    cached = CacheMiddleware(
        litestar,
        rules=cache_rules(inference, settings),
        store=settings.store_url,
        client_control="obey",
    )
    return TelemetryMiddleware(RequestIdMiddleware(cached))


def _litestar(inference: Inference, settings: Settings) -> Litestar:
    return Litestar(
        [
            *api_routes(inference, settings),
            *health_routes(inference),
            *page_routes(),
            _metrics_route(),
        ],
        lifespan=[inference.lifespan],
        logging_config=None,  # Whoever runs the server configures logging.
        openapi_config=_OPENAPI,
        plugins=[problem_details()],
        request_max_body_size=settings.max_body_bytes,
    )


def _metrics_route() -> ASGIRouteHandler:
    metrics_app = MetricsApp()

    @asgi("/metrics", copy_scope=True)
    async def metrics(scope: Any, receive: Any, send: Any) -> None:
        await metrics_app(scope, receive, send)

    return metrics
