"""The outermost layer: it measures a request from its arrival to its end.

Rule: whoever finds no record makes one and finishes it, exactly once, however the request ends.
Nothing that goes wrong with metrics reaches a request.
"""

import asyncio
import importlib
import logging
import time
from typing import TYPE_CHECKING

from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from memoserve._events import Observer, RequestRecord, Tracer
from memoserve.telemetry._http import HttpTimer
from memoserve.telemetry._traces import traces
from memoserve.telemetry.otel import OTelObserver, default_observer, prepare_default_observer

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from memoserve.telemetry._server import MetricsServer

__all__ = ["TelemetryMiddleware"]

_logger = logging.getLogger("memoserve")


class TelemetryMiddleware:
    """Report every request that a rule of an inner cache covers. Mount it outside the cache.

    Args:
        app: The application, with the other layers around it.
        observer: Who is told; without one, the `default_observer` of this process, which
            decides when the application has started, or at the first request, whether it has set
            a meter provider.
        tracer_provider: Where a span for each covered request goes, the app's within it; without
            one, to the SDK's provider that the application has set globally, if any.
        http_duration: Measure `http.server.request.duration`, too: every HTTP request, whether a
            rule covers it or not. Leave it off where an instrumentation of the server or of the
            framework does so already.
        metrics_port: Serve the metrics there, under any path, apart from the application.
        metrics_host: On which address; `"0.0.0.0"` for all.

    Attributes:
        metrics: What listens on `metrics_port`, once the application has started.

    Raises:
        ValueError: A port without an observer that has metrics to show, or an impossible one.
        ModuleNotFoundError: The environment or `metrics_port` asks for what an extra brings.
    """

    metrics: "MetricsServer | None" = None

    def __init__(
        self,
        app: ASGIApp,
        *,
        observer: Observer | None = None,
        tracer_provider: "TracerProvider | None" = None,
        http_duration: bool = False,
        metrics_port: int | None = None,
        metrics_host: str = "127.0.0.1",
    ) -> None:
        self._app = HttpTimer(app) if http_duration else app
        self._observer = observer
        self._observers: tuple[Observer, ...] | None = None  # Known from the start on.
        self._is_misplaced = False
        self._tracer_provider = tracer_provider
        self._tracer: Tracer | None = None
        self._port = metrics_port
        self._host = metrics_host
        if observer is None:
            prepare_default_observer()
        if metrics_port is not None:
            _check_port(metrics_port, observer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                send = self._attending(send)
            await self._app(scope, receive, send)
            return
        observers = self._observers
        if observers is None:
            observers = self._start()
        outer = scope.get("memoserve")
        if outer is not None:
            self._join(outer, observers)
            await self._app(scope, receive, send)
            return
        record = RequestRecord(time.perf_counter(), observers)
        record.tracer = self._tracer
        try:  # `with record`, spelled out: this is what every hit waits for.
            # A copy: who calls twice with one scope makes two requests.
            await self._app({**scope, "memoserve": record}, receive, send)
        except BaseException as error:
            record.fail(error)
            raise
        finally:
            record.finish(time.perf_counter())

    def _attending(self, send: Send) -> Send:
        """Begin when the application has started, and leave nothing unsaid when it has ended."""

        async def attend_and_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._start()
            elif message["type"].startswith("lifespan.shutdown."):
                await asyncio.to_thread(self._flush)
            await send(message)

        return attend_and_send

    def _start(self) -> tuple[Observer, ...]:
        if self._observers is None:
            self._tracer = traces(self._tracer_provider)
            self._observers = self._started()
        return self._observers

    def _started(self) -> tuple[Observer, ...]:
        try:
            observer = self._observer or default_observer()
            if isinstance(observer, OTelObserver):
                observer.start()
                self._serve(observer)
        except Exception:
            _logger.exception("there will be no metrics")
            return ()
        return (observer,)

    def _serve(self, observer: OTelObserver) -> None:
        if self._port is None:
            return
        from memoserve.telemetry._server import MetricsServer  # noqa: PLC0415 - an extra.

        try:
            self.metrics = MetricsServer(observer, self._host, self._port)
        except OSError:
            _logger.exception("there are no metrics on port %d", self._port)

    def _flush(self) -> None:
        for observer in self._observers or ():
            if isinstance(observer, OTelObserver):
                try:
                    observer.flush()
                except Exception:
                    _logger.exception("the last metrics are lost")

    def _join(self, record: RequestRecord, observers: tuple[Observer, ...]) -> None:
        """Have our observers told what becomes of a record that is another layer's."""
        missing = tuple(each for each in observers if each not in record.observers)
        if not record.model:
            record.observers += missing
            record.tracer = record.tracer or self._tracer
        elif missing and not self._is_misplaced:
            # From in here there are only misses to be seen: better no numbers than those.
            self._is_misplaced = True
            _logger.error("TelemetryMiddleware reports nothing: it must be outside the cache")


def _check_port(port: int, observer: Observer | None) -> None:
    if not 0 <= port <= 65_535:
        raise ValueError(f"metrics_port must be a port, not {port!r}")
    if observer is not None and not isinstance(observer, OTelObserver):
        raise ValueError(f"metrics_port needs an OTelObserver, not {observer!r}")
    importlib.import_module("memoserve.telemetry._server")  # To miss an extra now, not later.
