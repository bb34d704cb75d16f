"""memoserve for the ingress of a Ray Serve application.

Rule: the app travels to its replicas with the options alone; each replica makes its own layers
there. One Redis makes one cache of them, on however many machines they are.
"""

from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette

from memoserve import Rule
from memoserve_integrations._metrics import taken
from memoserve_integrations._mounted import checked_options, layers
from memoserve_integrations._routes import has_path

__all__ = ["install"]


def install(
    app: Starlette,
    *,
    rules: Iterable[Rule],
    store: str = "memory://",
    metrics_path: str | None = "/metrics",
    metrics_token: str | None = None,
    metrics_allow: Iterable[str] | None = None,
    **options: Any,
) -> None:
    """Put the cache in front of an app that `serve.ingress` is given, and telemetry before that.

    Middleware that is added afterwards is outside of both, where authentication belongs.

    Args:
        app: A FastAPI or Starlette app. Call this before `@serve.ingress(app)` copies it.
        rules: As for `CacheMiddleware`; paths follow the `route_prefix`.
        store: A URL: what is connected here cannot travel. In memory each replica has its own
            answers; a Redis is one cache for all replicas, which ask the model once between them.
        metrics_path: Where Prometheus finds the numbers; None for no telemetry. A request reaches
            any of the replicas: with `MEMOSERVE_METRICS_DIR` in their `runtime_env` those of one
            machine add up their numbers, and OTLP tells those of all.
        metrics_token: Who sends it (`Authorization: Bearer ...`) may read them. Otherwise it is
            `MEMOSERVE_METRICS_TOKEN` or what is in the file `MEMOSERVE_METRICS_TOKEN_FILE`.
        metrics_allow: Networks whose clients may read them, such as `["10.0.0.0/8"]`. Otherwise
            they are those of `MEMOSERVE_METRICS_ALLOW`. If nobody is named, everybody may.
        options: The other options of `CacheMiddleware`.

    Raises:
        ValueError: A rule or an option is wrong.
        ModuleNotFoundError: Telemetry is wanted without the extra `prometheus`.
    """
    if not isinstance(store, str):  # pyright: ignore[reportUnnecessaryIsInstance] - for the untyped.
        raise ValueError(f"store must be a URL, since replicas open it themselves, not {store!r}")
    checked = checked_options(
        "install()",
        rules=rules,
        store=store,
        metrics_path=metrics_path,
        metrics_token=metrics_token,
        metrics_allow=metrics_allow,
        **options,
    )
    if metrics_path is not None and has_path(app.routes, metrics_path):
        raise taken(metrics_path)
    made: Any = layers  # Starlette calls it, as it would a class.
    app.add_middleware(made, **checked)
