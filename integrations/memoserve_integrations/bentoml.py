"""memoserve for the services of BentoML.

Rule: the cache sits in the process that answers HTTP, in front of the service's methods; BentoML's
own metrics, traces and access log are in front of it and see hits, too.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from memoserve import Rule, Store
from memoserve_integrations._mounted import checked_options, layers

__all__ = ["install"]


class _Service(Protocol):
    """As much of `bentoml.Service` as is needed, so that its package is not."""

    def add_asgi_middleware(self, middleware_cls: Any, **options: Any) -> None: ...


def install(
    service: _Service,
    *,
    rules: Iterable[Rule],
    store: str | Store = "memory://",
    metrics_path: str | None = "/memoserve/metrics",
    metrics_token: str | None = None,
    metrics_allow: Iterable[str] | None = None,
    **options: Any,
) -> None:
    """Put the cache in front of a service, and telemetry in front of the cache.

    ASGI middleware that is added afterwards is inside of both.

    Args:
        service: What `@bentoml.service` made of a class.
        rules: As for `CacheMiddleware`; the path is an API's `route`, or `/` and its name.
        store: A URL, or a `Store`. With several `workers` each has a memory of its own: name a
            Redis, and they ask the model once between them.
        metrics_path: Where Prometheus finds the numbers, beside BentoML's own `/metrics`; None for
            no telemetry.
        metrics_token: Who sends it (`Authorization: Bearer ...`) may read them. Otherwise it is
            `MEMOSERVE_METRICS_TOKEN` or what is in the file `MEMOSERVE_METRICS_TOKEN_FILE`.
        metrics_allow: Networks whose clients may read them, such as `["10.0.0.0/8"]`. Otherwise
            they are those of `MEMOSERVE_METRICS_ALLOW`. If nobody is named, everybody may.
        options: The other options of `CacheMiddleware`.

    Raises:
        ValueError: A rule or an option is wrong.
        ModuleNotFoundError: Telemetry is wanted without the extra `prometheus`.
    """
    checked = checked_options(
        "install()",
        rules=rules,
        store=store,
        metrics_path=metrics_path,
        metrics_token=metrics_token,
        metrics_allow=metrics_allow,
        **options,
    )
    service.add_asgi_middleware(layers, **checked)  # Starlette calls it, as it would a class.
