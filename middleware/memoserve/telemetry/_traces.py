"""Spans: one for each covered request, the app's within it.

Rule: where no tracer is configured there is none of this. Nothing that goes wrong with a span
reaches a request.
"""

import logging
import sys
import time
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, TracerProvider

from memoserve._asgi import Scope
from memoserve._events import RequestRecord
from memoserve.telemetry._bridge import METER, package_version

__all__ = ["Traces", "traces"]

_logger = logging.getLogger("memoserve")

_KEY_CHARS = 8  # Enough to find two requests that should have met, too few to guess a body by.


class Traces:
    """Begins and ends spans; it is the `Tracer` of the requests' records."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(METER, package_version())

    def begin(self, record: RequestRecord, scope: Scope) -> "Token[Context] | None":
        """Begin a request's span and make it the current one, until `leave`."""
        try:
            span = self._tracer.start_span(
                f"memoserve {record.model}",
                context=_parent(scope),
                start_time=_nanoseconds(record.started),
            )
            record.span = span
            return context.attach(trace.set_span_in_context(span))
        except Exception:
            _logger.exception("there is no span for a request")
            return None

    def leave(self, token: "Token[Context] | None") -> None:
        """Make that span the current one that was it before."""
        if token is not None:
            context.detach(token)

    def follow(self, record: RequestRecord, leader: RequestRecord) -> None:
        """Say whose call of the app this request shares the answer of."""
        span, other = record.span, leader.span
        if isinstance(span, Span) and isinstance(other, Span):
            span.add_link(other.get_span_context(), {"memoserve.role": "leader"})

    def end(self, record: RequestRecord, ended: float) -> None:
        """End the span with what is known of the request; `ended` is as `record.started` is."""
        span = record.span
        if not isinstance(span, Span):
            return
        try:
            span.set_attributes(_attributes(record))
            if record.outcome == "error":
                span.set_status(Status(StatusCode.ERROR))
            span.end(_nanoseconds(ended))
        except Exception:
            _logger.exception("a request's span is lost")


def traces(provider: TracerProvider | None) -> Traces | None:
    """Return what begins spans: at this provider, else at one of the SDK's that is set globally.

    If the SDK was never imported, nobody can have set one.
    """
    if provider is None:
        provider = trace.get_tracer_provider()
        sdk: Any = sys.modules.get("opentelemetry.sdk.trace")
        if sdk is None or not isinstance(provider, sdk.TracerProvider):
            return None
    return Traces(provider)


def _attributes(record: RequestRecord) -> Mapping[str, str | float]:
    found: dict[str, str | float] = {
        "memoserve.model": record.model,
        "memoserve.rule": record.rule,
        "memoserve.variant": record.variant,
        "memoserve.cache.status": record.status,
        "memoserve.cache.key": record.key.rpartition(":")[2][:_KEY_CHARS],
        "memoserve.outcome": record.outcome,
        "memoserve.bypass.reason": record.reason,
    }
    named: dict[str, str | float] = {name: value for name, value in found.items() if value}
    named["memoserve.store.time"] = record.store_seconds
    named["memoserve.model.time.saved"] = record.saved
    return named


def _parent(scope: Scope) -> Context | None:
    """Return the caller's context, unless there is a span already, of a layer outside."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return propagate.extract(carrier)


def _nanoseconds(moment: float) -> int:
    """Return the Unix time of a moment of `time.perf_counter()`."""
    return time.time_ns() - int((time.perf_counter() - moment) * 1e9)
