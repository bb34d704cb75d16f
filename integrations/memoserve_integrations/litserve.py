"""memoserve for LitServe.

Rule: the cache sits in the processes that speak HTTP, in front of the queue to the workers with
the models: a hit takes no place in it, and no batch waits for it.
"""

from collections.abc import Iterable
from typing import Any

from memoserve import Rule, Store
from memoserve_integrations._mounted import checked_options, layers

__all__ = ["middleware"]


def middleware(
    *,
    rules: Iterable[Rule],
    store: str | Store = "memory://",
    metrics_path: str | None = "/metrics",
    metrics_token: str | None = None,
    metrics_allow: Iterable[str] | None = None,
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """Return what `LitServer(api, middlewares=[...])` takes.

    Put it first: what follows in that list is outside of it, where authentication belongs, and
    LitServe's compression, which it adds itself, is outside in any case.

    Args:
        rules: As for `CacheMiddleware`; the path is the `api_path` of the `LitAPI`.
        store: A URL, or a `Store`. With several `num_api_servers` each has a memory of its own:
            name a Redis, and they ask the model once between them.
        metrics_path: Where Prometheus finds the numbers of all API servers; None for no telemetry.
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
        "middleware()",
        rules=rules,
        store=store,
        metrics_path=metrics_path,
        metrics_token=metrics_token,
        metrics_allow=metrics_allow,
        **options,
    )
    return layers, checked
