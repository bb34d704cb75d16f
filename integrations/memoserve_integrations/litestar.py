"""memoserve for Litestar apps.

Rule: Litestar makes the middleware of every route anew, after it has found the route. All of them
lead to one cache, which knows the whole path, and back to the route that the request came from.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from litestar.config.app import AppConfig
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler, asgi
from litestar.plugins import InitPlugin, ReceiveRoutePlugin
from litestar.routes import ASGIRoute, BaseRoute, HTTPRoute

from memoserve import Rule, Store, TelemetryMiddleware
from memoserve._asgi import ASGIApp, Receive, Scope, Send
from memoserve._rules import RuleBook, route_path
from memoserve_integrations._layers import (
    answer_lifespan,
    cache_before,
    check_names,
    check_options,
    living,
)
from memoserve_integrations._metrics import check_path, metrics_page, taken
from memoserve_integrations._openapi import METHODS, RESPONSE_FIELDS, is_covered

__all__ = ["MemoservePlugin"]

_Precedence = tuple[int, ...]

_OPT = "memoserve"  # The key of a handler's `opt`,
_PAGE = "memoserve.page"  # that of the page of metrics,
_ROUTE = "memoserve.route"  # and that of a scope for what follows behind the cache.


class MemoservePlugin(InitPlugin, ReceiveRoutePlugin):
    """Put the cache in front of every handler, and telemetry in front of the cache.

    A handler asks for it by `opt={"memoserve": True}`, or with the options of its `Rule`:
    `opt={"memoserve": {"ttl": 60}}`; the path and the methods are its own. `False` keeps a handler
    out, whatever a rule says. Like every `opt`, it may be a controller's, a router's or the app's.

    What is mounted inside, such as guards and middleware of the handlers, is skipped on a hit.

    Args:
        rules: As for `CacheMiddleware`; they come before those of the handlers.
        store: A URL, or a `Store`, which then stays the caller's to close.
        metrics_path: Where Prometheus finds the numbers; None for no telemetry.
        metrics_token: Who sends it (`Authorization: Bearer ...`) may read them. Otherwise it is
            `MEMOSERVE_METRICS_TOKEN` or what is in the file `MEMOSERVE_METRICS_TOKEN_FILE`.
        metrics_allow: Networks whose clients may read them, such as `["10.0.0.0/8"]`. Otherwise
            they are those of `MEMOSERVE_METRICS_ALLOW`. If nobody is named, everybody may.
        options: The other options of `CacheMiddleware`.

    Raises:
        ValueError: A rule or an option is wrong.
    """

    def __init__(
        self,
        *,
        rules: Iterable[Rule] = (),
        store: str | Store = "memory://",
        metrics_path: str | None = "/metrics",
        metrics_token: str | None = None,
        metrics_allow: Iterable[str] | None = None,
        **options: Any,
    ) -> None:
        check_names("MemoservePlugin()", options)
        self._rules = tuple(rules)
        self._options: dict[str, Any] = {"store": store, **options}
        self._own = RuleBook(self._rules) if self._rules else None
        self._marked: list[tuple[_Precedence, Rule]] = []
        self._all: RuleBook | None = None  # From the first request on.
        self._cache: ASGIApp | None = None
        self._metrics_path: str | None = None
        self._front: ASGIApp = self._enter_cache
        if metrics_path is not None:
            check_path(metrics_path)
            self._metrics_path = "/" + metrics_path.strip("/")  # As Litestar spells it.
            self._page = metrics_page(metrics_token, metrics_allow)
            self._front = TelemetryMiddleware(self._enter_cache)
        check_options(self._rules, self._options)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the layers, the route of the metrics, and what starts and ends with the app."""
        if self._metrics_path is not None:
            app_config.route_handlers.append(_metrics_route(self._metrics_path, self._page))
        config: Any = app_config  # Its types of scopes and messages are not those of other servers.
        config.middleware.insert(0, self._around)
        config.lifespan.append(self._living)
        return app_config

    def _living(self, app: Any) -> AbstractAsyncContextManager[None]:
        del app
        return living(self._front)

    def receive_route(self, route: BaseRoute) -> None:
        """Note which handlers ask to be cached, and document what their answers then say.

        Raises:
            ValueError: A handler's `opt` is no rule, or it is where the metrics are.
            RuntimeError: It comes after the first request.
        """
        if route.path == self._metrics_path and not _is_page(route):
            raise taken(route.path)
        if not isinstance(route, HTTPRoute):
            return
        for handler in route.route_handlers:
            rule = _rule_for(route, handler)
            if rule is not None:
                if self._cache is not None:
                    raise RuntimeError(f"{route.path} asks to be cached after the first request")
                self._marked.append((_precedence(route), rule))
            if rule is not None or self._is_ruled(route, handler):
                self._document(handler)

    def _is_ruled(self, route: HTTPRoute, handler: HTTPRouteHandler) -> bool:
        if self._own is None or handler.opt.get(_OPT) is False:
            return False
        own = self._own
        return any(is_covered(own, method, route.path_format) for method in handler.http_methods)

    def _document(self, handler: HTTPRouteHandler) -> None:
        fields = RESPONSE_FIELDS if self._options.get("cache_status", True) else {}
        said = list(handler.response_headers or ())
        names = {field.name.lower() for field in said}
        handler.response_headers = [
            *said,
            *(
                ResponseHeader(name=name, description=text, documentation_only=True)
                for name, text in fields.items()
                if name.lower() not in names
            ),
        ]

    # One request.

    def _around(self, app: Any) -> ASGIApp:
        """Lead one route's requests into the cache; `_leave_cache` leads them back."""

        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            path = _whole_path(scope) if scope["type"] == "http" else None
            if path is None or self._is_left_out(scope, path):
                await app(scope, receive, send)
            else:
                seen = {**scope, "path": path, "root_path": "", _ROUTE: (app, scope)}
                await self._front(seen, receive, send)

        return enter

    def _is_left_out(self, scope: Scope, path: str) -> bool:
        """Tell whether the handler is none that asked, though its path looks like one that did."""
        self._open()
        wanted = scope["route_handler"].opt.get(_OPT)
        if wanted is not None or self._all is None:
            return wanted is False
        found = self._all.find({"method": scope["method"], "path": path})
        return found is not None and all(found.rule is not rule for rule in self._rules)

    def _open(self) -> ASGIApp:
        """Make the cache, now that all handlers are known."""
        if self._cache is None:
            marked = sorted(self._marked, key=lambda each: each[0])
            rules = (*self._rules, *(rule for _, rule in marked))
            self._all = RuleBook(rules) if rules else None
            self._cache = cache_before(_leave_cache, rules, self._options)
        return self._cache

    async def _enter_cache(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._open()(scope, receive, send)


async def _leave_cache(scope: Scope, receive: Receive, send: Send) -> None:
    """Go on where the request came from, with its path as Litestar had it."""
    if scope["type"] == "lifespan":
        await answer_lifespan(scope, receive, send)
        return
    app, outer = scope[_ROUTE]
    kept = {"path": outer["path"], "root_path": outer.get("root_path", "")}
    await app({**scope, **kept}, receive, send)


def _whole_path(scope: Scope) -> str | None:
    """Return the path after `root_path`; of what is mounted, Litestar says only the rest."""
    if not getattr(scope["route_handler"], "is_mount", False):
        return str(scope["path"])
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return None  # No server leaves it out. What two mounts have in common is no path.
    path = unquote_to_bytes(raw).decode("utf-8", "replace")
    return route_path({"path": path, "root_path": scope.get("root_path", "")})


def _rule_for(route: HTTPRoute, handler: HTTPRouteHandler) -> Rule | None:
    """Return the rule that a handler's `opt` asks for."""
    wanted: Any = handler.opt.get(_OPT)
    methods = METHODS.intersection(map(str, handler.http_methods))
    if wanted is None or wanted is False or not methods:  # A controller's may be meant for others.
        return None
    if wanted is not True and not isinstance(wanted, Mapping):
        raise ValueError(f"opt[{_OPT!r}] must be True, False or options of Rule, not {wanted!r}")
    options: dict[str, Any] = {"methods": methods}
    if wanted is not True:
        options.update(cast("Mapping[str, Any]", wanted))
    try:
        return Rule(_pattern(route), **options)
    except TypeError as error:
        raise ValueError(f"opt[{_OPT!r}] of {route.path}: {error}") from error


def _pattern(route: BaseRoute) -> str:
    """Spell a route's path as a rule does, `{name:path}` for what may have slashes."""
    parts = [
        part if isinstance(part, str) else f"{{{part.name}{':path' * (part.type is Path)}}}"
        for part in route.path_components
    ]
    return "/" + "/".join(parts)


def _precedence(route: BaseRoute) -> _Precedence:
    """Sort routes as Litestar chooses: from left to right, a word before a parameter."""
    return tuple(
        0 if isinstance(part, str) else 2 if part.type is Path else 1
        for part in route.path_components
    )


def _metrics_route(path: str, metrics: ASGIApp) -> Any:
    @asgi(path, copy_scope=True, opt={_PAGE: True})
    async def scrape(scope: Any, receive: Any, send: Any) -> None:
        await metrics(scope, receive, send)

    return scrape


def _is_page(route: BaseRoute) -> bool:
    return isinstance(route, ASGIRoute) and _PAGE in route.route_handler.opt
