"""memoserve for Django, in front of its ASGI application.

Rule: the layers are around the whole application, so a hit skips all of Django, its middleware
included. What Django makes for one person (answers with `Set-Cookie`, to requests with a cookie) is
never shared, unless a rule says so.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from django.conf import settings
from django.urls import Resolver404, resolve

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware
from memoserve._asgi import ASGIApp, Receive, Scope, Send
from memoserve._rules import route_path
from memoserve_integrations._layers import answer_lifespan, check_names
from memoserve_integrations._metrics import check_path, metrics_page, taken

__all__ = ["install"]


def install(
    application: Callable[..., Awaitable[None]],
    *,
    rules: Iterable[Rule] | None = None,
    **options: Any,
) -> ASGIApp:
    """Return the application with the cache in front of it, and telemetry in front of the cache.

    It has a lifespan, which Django's has not, in which a shared store connects and closes.

    Args:
        application: What `get_asgi_application()` returns, or a router of Channels.
        rules: As for `CacheMiddleware`.
        options: `store`, a URL or a `Store`, which then stays the caller's to close;
            `metrics_path`, where Prometheus finds the numbers, `"/metrics"` or None for no
            telemetry; `metrics_token` and `metrics_allow`, who may read them, otherwise those
            of `MEMOSERVE_METRICS_TOKEN`, `MEMOSERVE_METRICS_TOKEN_FILE` and
            `MEMOSERVE_METRICS_ALLOW`, and everybody if nobody is named; the other options of
            `CacheMiddleware`. Rules and options that are not given are those of
            `settings.MEMOSERVE`, a dict.

    Raises:
        ValueError: A rule or an option is wrong, or there are no rules.
        ModuleNotFoundError: Telemetry is wanted without the extra `prometheus`.
    """
    chosen: dict[str, Any] = {**getattr(settings, "MEMOSERVE", {}), **options}
    if rules is not None:
        chosen["rules"] = rules
    if "rules" not in chosen:
        raise ValueError("no rules are given, and settings.MEMOSERVE has none")
    path: str | None = chosen.pop("metrics_path", "/metrics")
    token, allow = chosen.pop("metrics_token", None), chosen.pop("metrics_allow", None)
    check_names("install()", chosen)
    cache = CacheMiddleware(_with_lifespan(application), **chosen)
    if path is None:
        return cache
    check_path(path)
    if _has_view(path):
        raise taken(path)
    return _with_metrics(TelemetryMiddleware(cache), path, metrics_page(token, allow))


def _has_view(path: str) -> bool:
    """Tell whether a pattern of the URLconf is for this path alone."""
    if not hasattr(settings, "ROOT_URLCONF"):  # A router of Channels does without.
        return False
    try:
        route = resolve(path).route
    except Resolver404:
        return False
    # "metrics" of `path`, "^metrics/?$" of `re_path`; what takes any path takes this one, too.
    return route.strip("^$?/") == path.strip("/")


def _with_lifespan(application: Callable[..., Awaitable[None]]) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        # Django takes no lifespan, and would end the server's at once.
        app = answer_lifespan if scope["type"] == "lifespan" else application
        await app(scope, receive, send)

    return serve


def _with_metrics(app: ASGIApp, path: str, metrics: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        is_scrape = scope["type"] == "http" and route_path(scope) == path
        await (metrics if is_scrape else app)(scope, receive, send)

    return serve
