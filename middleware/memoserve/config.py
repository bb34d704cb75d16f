"""The whole stack from `memoserve.toml` and the environment.

Rule: what is wrong is said when the stack is made, all of it at once, each with the file and line
or the variable that says it; no request ever meets a wrong value.
"""

import contextlib
import logging
import os
from collections.abc import Generator, Iterable, Mapping

from msgspec import Struct

from memoserve._asgi import ASGIApp, Receive, Scope, Send
from memoserve._cache import CacheMiddleware
from memoserve._config_file import AdmissionTable, MetricsTable, VariantsTable
from memoserve._config_load import Configuration, load
from memoserve._config_metrics import metrics_page
from memoserve._config_secrets import masked, says_a_secret_of
from memoserve._config_values import app_named, place_in
from memoserve._errors import ConfigError
from memoserve._rules import Rule, route_path
from memoserve.admission import AdmissionMiddleware
from memoserve.telemetry.middleware import TelemetryMiddleware
from memoserve.variants import VariantMiddleware

__all__ = ["Configuration", "Memoserve", "Stack", "create_app", "load", "stack"]

_logger = logging.getLogger("memoserve")


class Memoserve:
    """Everything that the configuration asks for, around an app.

    From outside to inside: telemetry, the choice of a variant, the cache, admission; the second
    and the last where they are configured. Its numbers are at `/memoserve/metrics`, for this
    machine, or for whoever has the token.

    Args:
        app: The application.
        config: The file, instead of the one that `MEMOSERVE_CONFIG` names, or `memoserve.toml`
            in the working directory. What `MEMOSERVE_*` say wins over it.
        rules: What is cached where the configuration has no rules.

    Raises:
        ConfigError: Something in there cannot be; a `ValueError`, too.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        config: str | os.PathLike[str] | None = None,
        rules: Iterable[Rule] = (),
    ) -> None:
        try:
            made = stack(load(config, rules=rules), app)
        except ConfigError as error:
            # Servers may take an exception here for an app without a lifespan, and say nothing.
            _logger.critical("the configuration cannot be used:\n%s", error)
            raise
        self._stack = made.app
        self._cache = made.cache
        self._page = made.page
        self._path = made.path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = self._path
        if (
            path is not None
            and scope["type"] == "http"
            and scope["path"].endswith(path)  # The cheap half of what the next line tells.
            and route_path(scope) == path
        ):
            await self._page(scope, receive, send)
        else:
            await self._stack(scope, receive, send)

    async def aclose(self) -> None:
        """Do what the end of the ASGI lifespan does, where there is none."""
        await self._cache.aclose()


def create_app(environ: Mapping[str, str] = os.environ) -> Memoserve:
    """Return `Memoserve` around the app that `MEMOSERVE_APP` names, for servers to call.

    `MEMOSERVE_APP=service:app uvicorn --factory memoserve.config:create_app` mounts it without an
    edit of the service; `service:create_app()` has a factory called.

    Raises:
        ConfigError: There is no such app, or the configuration cannot be used.
    """
    name = environ.get("MEMOSERVE_APP", "")
    try:
        app = app_named(name)
    except ValueError as error:
        raise ConfigError(f"MEMOSERVE_APP: {error}") from error
    return Memoserve(app)


class Stack(Struct, frozen=True):
    """The layers of one configuration, and what is reached beside them."""

    app: ASGIApp
    cache: CacheMiddleware
    page: ASGIApp  # Answers scrapes.
    path: str | None  # Where.


def stack(configuration: Configuration, app: ASGIApp) -> Stack:
    """Put the layers around an app.

    Raises:
        ConfigError: One of them refuses what the configuration says.
    """
    admission = configuration.table(AdmissionTable)
    variants = configuration.table(VariantsTable)
    metrics = configuration.table(MetricsTable) or MetricsTable()
    if admission is not None:
        with _blaming(configuration, "admission"):
            app = AdmissionMiddleware(
                app, limit=admission.limit, queue=admission.queue, deadline=admission.deadline
            )
    with _blaming(configuration, ""):
        cache = CacheMiddleware(app, rules=configuration.rules, **configuration.cache)
    outer: ASGIApp = cache
    if variants is not None:
        with _blaming(configuration, "variants"):
            outer = _varied(cache, variants)
    if not metrics.enabled:
        return Stack(outer, cache, outer, None)
    with _blaming(configuration, "metrics"):
        return _measured(outer, cache, metrics)


def _measured(app: ASGIApp, cache: CacheMiddleware, table: MetricsTable) -> Stack:
    outer = TelemetryMiddleware(
        app,
        http_duration=table.http_duration,
        metrics_port=table.port,
        metrics_host=table.host,
    )
    if table.path == "none":
        return Stack(outer, cache, outer, None)
    return Stack(outer, cache, metrics_page(table), table.path)


def _varied(app: ASGIApp, table: VariantsTable) -> ASGIApp:
    header = None if table.header == "none" else table.header
    return VariantMiddleware(app, variants=table.shares, sticky=table.sticky, header=header)


@contextlib.contextmanager
def _blaming(configuration: Configuration, section: str) -> Generator[None]:
    """Say of what a layer refuses where it was said."""
    keys = configuration.keys_of(section)
    try:
        yield
    except (ValueError, ModuleNotFoundError) as error:
        message = str(error)
        place = place_in(message.removeprefix(f"{section}_"), keys)
        store = keys.get("store")
        if store is not None:  # Whatever else the cache may refuse has to do with it.
            place = place or store.place
            if says_a_secret_of(store.value, message):
                hint = "special characters of a password are written as %40, %2F and so on"
                message = f"store cannot be {masked(store.value)!r}; {hint}"
        place = place or configuration.sections.get(section, configuration.file)
        # Not `from error`: a traceback would show what is hidden here.
        raise ConfigError(f"{place}: {message}") from None
