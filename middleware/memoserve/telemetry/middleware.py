"""The outermost layer: it measures a request from its arrival to its end.

Rule: whoever finds no record makes one and finishes it, exactly once, however the request ends.
Nothing that goes wrong with metrics reaches a request.
"""

import logging
import time

from memoserve._asgi import ASGIApp, Receive, Scope, Send
from memoserve._events import Observer, RequestRecord
from memoserve.telemetry.otel import default_observer, prepare_default_observer

__all__ = ["TelemetryMiddleware"]

_logger = logging.getLogger("memoserve")


class TelemetryMiddleware:
    """Report every request that a rule of an inner cache covers. Mount it outside the cache.

    Args:
        app: The application, with the other layers around it.
        observer: Who is told; without one, the `default_observer` of this process, which
            decides at the first request whether the application has set a meter provider.

    Raises:
        ModuleNotFoundError: No observer, no provider, and no extra `prometheus` to make one with.
    """

    def __init__(self, app: ASGIApp, *, observer: Observer | None = None) -> None:
        self._app = app
        self._observers: tuple[Observer, ...] | None = None  # Chosen at the first request.
        self._is_misplaced = False
        if observer is None:
            prepare_default_observer()
        else:
            self._observers = (observer,)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._observers is None:
            self._observers = _default_observers()
        outer = scope.get("memoserve")
        if outer is not None:
            self._join(outer, self._observers)
            await self._app(scope, receive, send)
            return
        record = RequestRecord(started=time.perf_counter(), observers=self._observers)
        try:
            # A copy: who calls twice with one scope makes two requests.
            await self._app({**scope, "memoserve": record}, receive, send)
        except BaseException as error:
            record.fail(error)
            raise
        finally:
            record.finish(time.perf_counter())

    def _join(self, record: RequestRecord, observers: tuple[Observer, ...]) -> None:
        """Have our observers told what becomes of a record that is another layer's."""
        missing = tuple(each for each in observers if each not in record.observers)
        if not record.model:
            record.observers += missing
        elif missing and not self._is_misplaced:
            # From in here there are only misses to be seen: better no numbers than those.
            self._is_misplaced = True
            _logger.error("TelemetryMiddleware reports nothing: it must be outside the cache")


def _default_observers() -> tuple[Observer, ...]:
    try:
        return (default_observer(),)
    except Exception:
        _logger.exception("there will be no metrics")
        return ()
