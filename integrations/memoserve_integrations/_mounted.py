"""All layers as one: for hosts that make their middleware themselves, in processes of their own.

Rule: what is wrong fails where it is said, and everything that cannot travel to another process,
connections, threads and numbers, is made where the requests arrive.
"""

from collections.abc import Iterable
from typing import Any

from memoserve import CacheMiddleware, Rule, Store, TelemetryMiddleware
from memoserve._asgi import ASGIApp, Receive, Scope, Send
from memoserve._rules import route_path
from memoserve_integrations._layers import check_names
from memoserve_integrations._metrics import check_path, metrics_page, readers

__all__ = ["checked_options", "layers"]


def checked_options(
    function: str,
    *,
    rules: Iterable[Rule],
    store: str | Store,
    metrics_path: str | None,
    metrics_token: str | None,
    metrics_allow: Iterable[str] | None,
    **options: Any,
) -> dict[str, Any]:
    """Return the options of `layers`, which a host is to be given with it.

    Raises:
        ValueError: One of them is wrong.
    """
    check_names(function, options)
    options |= {"rules": tuple(rules), "store": store}
    CacheMiddleware(_nothing, **options)
    if metrics_path is None:
        return {**options, "metrics_path": None}
    check_path(metrics_path)
    # What the environment says here travels along: it may say nothing over there.
    found = readers(metrics_token, metrics_allow)
    of_page = {"metrics_token": found.token, "metrics_allow": found.allow}
    return {**options, "metrics_path": metrics_path, **of_page}


def layers(
    app: ASGIApp,
    *,
    metrics_path: str | None,
    metrics_token: str | None = None,
    metrics_allow: Iterable[str] | None = None,
    **options: Any,
) -> ASGIApp:
    """Put the cache in front of an app, telemetry in front of the cache, and the page beside it."""
    cache = CacheMiddleware(app, **options)
    if metrics_path is None:
        return cache
    metrics = metrics_page(metrics_token, metrics_allow)

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and route_path(scope) == metrics_path
        await (metrics if is_page else cache)(scope, receive, send)

    return TelemetryMiddleware(choose)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand for the app that is not there yet."""
