"""The whole app, put together.

Rule: telemetry outermost, so that it times what a client waits for; then the request's name; then
the choice of a variant, which is part of the cache's key; then the cache, so that a hit costs no
queue, no routing, no validation and no model; then admission, so that only misses queue; then
Litestar.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from litestar import Litestar, asgi
from litestar.handlers import ASGIRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin

from memoserve import (
    AdmissionMiddleware,
    CacheMiddleware,
    Store,
    TelemetryMiddleware,
    VariantMiddleware,
)
from memoserve.stores import open_store
from memoserve.telemetry.otel import default_observer
from memoserve.telemetry.scrape import MetricsApp
from reference_app.admin import admin_routes
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
    description="Three language models behind a cache: the field Cache-Status says more.",
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
    store = open_store(settings.store_url)
    inference = Inference(
        partial(loader, settings), settings, observer=default_observer, on_failure=on_load_failure
    )
    litestar: Any = _litestar(inference, settings, store)  # It types each message apart; we do not.
    admitted = AdmissionMiddleware(
        litestar,
        limit=settings.concurrency,
        queue=settings.queue_size,
        deadline=settings.queue_deadline,
    )
    cached = CacheMiddleware(
        admitted, rules=cache_rules(inference, settings), store=store, client_control="obey"
    )
    varied = cached if not settings.canary else _varied(cached, settings)
    return TelemetryMiddleware(RequestIdMiddleware(varied))


def _varied(app: Any, settings: Settings) -> VariantMiddleware:
    return VariantMiddleware(app, variants=settings.shares, sticky=settings.sticky)


def _litestar(inference: Inference, settings: Settings, store: Store) -> Litestar:
    return Litestar(
        [
            *api_routes(inference, settings),
            *admin_routes(store, settings.admin_token),
            *health_routes(inference),
            *page_routes(),
            _metrics_route(),
        ],
        lifespan=[inference.lifespan],
        logging_config=None,  # Whoever runs the server configures logging.
        on_shutdown=[store.aclose],
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
