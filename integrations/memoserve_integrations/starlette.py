"""memoserve for Starlette apps.

Rule: one call before the app serves its first request; order and lifespan follow from it.
"""

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from memoserve import Rule, Store, TelemetryMiddleware
from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from memoserve._rules import RuleBook
from memoserve_integrations._layers import (
    answer_lifespan,
    cache_before,
    check_names,
    check_options,
    living,
)
from memoserve_integrations._metrics import check_path, metrics_page, taken
from memoserve_integrations._routes import Router, has_path, mark, marked_routes

__all__ = ["cached", "install"]

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


def cached(**options: Any) -> Callable[[_Endpoint], _Endpoint]:
    """Mark an endpoint as one whose answers may be reused, wherever it is routed.

    `install` makes a rule of it, with the path and the methods of its route. The endpoint itself
    stays as it is; without `install`, nothing happens.

    Args:
        options: Of `Rule`: `ttl=60`, `ignore=["/user"]`.

    Raises:
        ValueError: They are no options of a rule.
    """
    try:
        Rule("/{model}", **options)  # What is wrong fails here, and not where it is routed.
    except TypeError as error:
        raise ValueError(f"cached({options!r}): {error}") from error

    def marked(endpoint: _Endpoint) -> _Endpoint:
        mark(endpoint, options)
        return endpoint

    return marked


def install(
    app: Starlette,
    *,
    rules: Iterable[Rule] = (),
    store: str | Store = "memory://",
    metrics_path: str | None = "/metrics",
    metrics_token: str | None = None,
    metrics_allow: Iterable[str] | None = None,
    **options: Any,
) -> None:
    """Put the cache in front of an app, and telemetry in front of the cache.

    Middleware that is added afterwards is outside of both, where authentication belongs.

    Args:
        app: A Starlette app that has not served anything yet. Routes may be added until it does.
        rules: As for `CacheMiddleware`; they come before those of endpoints marked by `cached`.
        store: A URL, or a `Store`, which then stays the caller's to close.
        metrics_path: Where Prometheus finds the numbers; None for no telemetry.
        metrics_token: Who sends it (`Authorization: Bearer ...`) may read them. Otherwise it is
            `MEMOSERVE_METRICS_TOKEN` or what is in the file `MEMOSERVE_METRICS_TOKEN_FILE`.
        metrics_allow: Networks whose clients may read them, such as `["10.0.0.0/8"]`. Otherwise
            they are those of `MEMOSERVE_METRICS_ALLOW`. If nobody is named, everybody may.
        options: The other options of `CacheMiddleware`.

    Raises:
        ValueError: A rule or an option is wrong.
        RuntimeError: The app serves already.
        ModuleNotFoundError: Telemetry is wanted without the extra `prometheus`.
    """
    rules = tuple(rules)
    check_names("install()", options)
    options["store"] = store
    check_options(rules, options)
    page = None if metrics_path is None else _page(app, metrics_path, metrics_token, metrics_allow)
    app.add_middleware(_CacheLayer, host=app, rules=rules, options=options, page=page)
    if page is not None:
        app.add_middleware(TelemetryMiddleware)
        # First, since what is mounted at "/" leaves nothing to those behind it.
        app.router.routes.insert(0, page)


def _page(app: Starlette, path: str, token: str | None, allow: Iterable[str] | None) -> Route:
    check_path(path)
    if has_path(app.routes, path):
        raise taken(path)
    metrics: Any = metrics_page(token, allow)  # The types do not say that an ASGI app will do.
    return Route(path, metrics, include_in_schema=False)


class _CacheLayer:
    """The cache, made when all routes are known: as the app has started, or is first asked."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: Starlette,
        rules: tuple[Rule, ...],
        options: dict[str, Any],
        page: Route | None,
    ) -> None:
        self._app = app
        self._host = host
        self._rules = rules
        self._options = options
        self._page = page
        self._cache: ASGIApp | None = None
        self._router: Router | None = None  # Where some requests have to be looked at twice.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._attending(send))
        elif scope["type"] == "http":
            cache = self._open()
            is_theirs = self._router is None or self._router.is_meant(scope)
            await (cache if is_theirs else self._app)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _open(self) -> ASGIApp:
        if self._cache is None:
            routes = self._host.routes
            self._check_page(routes)
            marked = marked_routes(routes)
            rules = (*self._rules, *(each.rule for each in marked))
            if any(each.is_contested for each in marked):
                self._router = Router(routes, RuleBook(rules), marked)
            self._cache = cache_before(self._inner, rules, self._options)
        return self._cache

    def _check_page(self, routes: list[BaseRoute]) -> None:
        """Fail if a route that came after the page's is for its path."""
        page = self._page
        if page is not None and has_path([each for each in routes if each is not page], page.path):
            raise taken(page.path)

    async def _inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = answer_lifespan if scope["type"] == "lifespan" else self._app
        await app(scope, receive, send)

    def _attending(self, send: Send) -> Send:
        """Start the cache when the app has started, which may have added routes, and end it."""
        layers = AsyncExitStack()

        async def attend_and_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await layers.enter_async_context(living(self._open()))
            elif message["type"].startswith("lifespan.shutdown."):
                await layers.aclose()
            await send(message)

        return attend_and_send
