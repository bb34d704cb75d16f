"""memoserve for FastAPI apps.

Rule: what `install` for Starlette does, and the OpenAPI document says which answers come from the
cache.
"""

import re
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI

from memoserve import Rule, Store
from memoserve._rules import RuleBook
from memoserve_integrations import starlette
from memoserve_integrations._openapi import RESPONSE_FIELDS, is_covered
from memoserve_integrations._routes import marked_routes
from memoserve_integrations.starlette import cached

__all__ = ["cached", "install"]


def install(
    app: FastAPI,
    *,
    rules: Iterable[Rule] = (),
    store: str | Store = "memory://",
    metrics_path: str | None = "/metrics",
    metrics_token: str | None = None,
    metrics_allow: Iterable[str] | None = None,
    **options: Any,
) -> None:
    """Put the cache in front of an app, and telemetry in front of the cache.

    Middleware that is added afterwards is outside of both, where authentication belongs: a hit
    skips the dependencies of a route.

    Args:
        app: A FastAPI app that has not served anything yet. Routes may be added until it does.
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
    starlette.install(
        app,
        rules=rules,
        store=store,
        metrics_path=metrics_path,
        metrics_token=metrics_token,
        metrics_allow=metrics_allow,
        **options,
    )
    if options.get("cache_status", True):
        _document(app, rules)


def _document(app: FastAPI, rules: tuple[Rule, ...]) -> None:
    """Have the OpenAPI document name the fields that covered answers have."""
    generate = app.openapi
    own = RuleBook(rules) if rules else None

    def openapi() -> dict[str, Any]:
        document = generate()
        marked = {
            (re.sub(r":\w+}", "}", each.rule.path), method)
            for each in marked_routes(app.routes)
            for method in each.rule.methods
        }
        for path, operations in document.get("paths", {}).items():
            for name, operation in operations.items():
                method = name.upper()
                is_own = own is not None and is_covered(own, method, path)
                if is_own or (path, method) in marked:
                    _add_fields(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way.


def _add_fields(operation: dict[str, Any]) -> None:
    for status, response in operation.get("responses", {}).items():
        if status.startswith("2"):
            fields = response.setdefault("headers", {})
            for name, text in RESPONSE_FIELDS.items():
                schema = {"type": "integer" if name == "Age" else "string"}
                fields.setdefault(name, {"description": text, "schema": schema})
