"""The observer that feeds OpenTelemetry.

Rule: an event is added up here, at the price of a dictionary entry; the numbers are handed over
when somebody collects. Only to a provider of the application's own each value of a histogram is
recorded as it comes, since its views, limits and exemplars apply to values.
"""

import atexit
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import MeterProvider

from memoserve import telemetry as catalogue
from memoserve._events import (
    BatchFinished,
    BreakerChanged,
    Event,
    FollowerJoined,
    FollowerLeft,
    HttpRequestFinished,
    KeyCollided,
    KeyRefused,
    ModelCalled,
    QueueJoined,
    QueueLeft,
    QueuePassed,
    RequestFinished,
    RequestShed,
    RequestStarted,
    ShadowCompared,
    StoreCalled,
    StoreOpened,
    StoreWritten,
)
from memoserve.stores.memory import MemoryStore
from memoserve.telemetry import Instrument
from memoserve.telemetry._bridge import METER, observe_readings, package_version, recording
from memoserve.telemetry._lag import LoopLag
from memoserve.telemetry._ledger import Histogram, Ledger, Names, Series, Totals
from memoserve.telemetry._requests import Requests
from memoserve.telemetry._surroundings import global_provider, is_push_wanted, workers_directory
from memoserve.telemetry._usage import StoreUsages

if TYPE_CHECKING:
    from opentelemetry.sdk import metrics as sdk

    from memoserve.telemetry._workers import Workers

__all__ = ["OTelObserver", "default_observer", "prepare_default_observer"]

_logger = logging.getLogger("memoserve")


class OTelObserver:
    """Feed the instruments of the catalogue from events.

    Whatever else happens to the numbers, `memoserve.telemetry.scrape` can show them to Prometheus,
    those of all workers of a server together. They also go to the given provider, else to the
    SDK's provider that the application has set globally, else to a collector if
    `OTEL_EXPORTER_OTLP_ENDPOINT` names one.

    Args:
        meter_provider: The provider, which no other `OTelObserver` reports to.
        entry_age: Measure `memoserve.entry.age`, too.
        directory: Where the workers of one server, and nobody else, write their numbers down for
            each other; `""` for not at all. By default `MEMOSERVE_METRICS_DIR`; without that, a
            folder in shared memory where it is certain that this is a worker of uvicorn,
            gunicorn, granian or hypercorn.

    Attributes:
        workers: The numbers of all workers; None where this process is the only one.

    Raises:
        ValueError: Another observer reports to this provider; each number would be there twice.
    """

    workers: "Workers | None" = None

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
        *,
        entry_age: bool = False,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        self._directory = directory
        self._starting = threading.Lock()
        self._has_started = self._is_bridged = False
        self._pushing: sdk.MeterProvider | None = None
        self._stores = StoreUsages()
        self._lag = LoopLag()
        self._ledger = Ledger()
        self._breakers: dict[str, str] = {}
        self._histograms: dict[Instrument, Histogram | Requests] = {}
        self._begin_requests()
        self._begin_histograms(entry_age=entry_age)
        self._begin_tallies()
        self._begin_readings()
        self._models = self._names(catalogue.MODEL, self._begin_model)
        self._variants = self._names(catalogue.VARIANT)
        self._reasons = self._names(catalogue.REASON)
        self._errors = self._names(catalogue.ERROR_TYPE)
        self._routes = self._names(catalogue.HTTP_ROUTE)
        self._statuses = self._names(catalogue.HTTP_STATUS)
        provider = meter_provider or global_provider()
        if provider is not None:
            _register(provider, self)
            self._bridge(provider, has_histograms=True)
        self._handlers: dict[type, Callable[[Any], None]] = {
            HttpRequestFinished: self._on_http_request_finished,
            ModelCalled: self._on_model_called,
            StoreWritten: self._on_store_written,
            StoreCalled: self._on_store_called,
            StoreOpened: self._on_store_opened,
            FollowerJoined: self._on_follower_joined,
            FollowerLeft: self._on_follower_left,
            KeyCollided: self._on_key_collided,
            KeyRefused: self._on_key_refused,
            BreakerChanged: self._on_breaker_changed,
            ShadowCompared: self._on_shadow_compared,
            QueueJoined: self._on_queue_joined,
            QueueLeft: self._on_queue_left,
            QueuePassed: self._on_queue_passed,
            RequestShed: self._on_request_shed,
            BatchFinished: self._on_batch_finished,
        }

    def observe(self, event: Event, /) -> None:
        """Take note of one event; of a kind that is unknown here, nothing."""
        if type(event) is RequestFinished:  # Every hit waits for these two.
            model = self._models[event.model]
            variant = self._variants[event.variant] if event.variant else ""
            values = (model, variant, event.status, event.outcome)
            self._requests.finish(values, event.seconds, event.saved)
            if event.status == "bypass":
                self._bypasses.add(1, (model, self._reasons[event.reason]))
            if self._entry_age is not None and event.age is not None:
                self._entry_age.record(event.age, (model,))
        elif type(event) is RequestStarted:
            loop = self._lag.loop
            if loop is None or loop.is_closed():  # As `watch` itself asks; seldom it need be.
                self._lag.watch()
            self._requests.start(self._models[event.model])
        elif (handler := self._handlers.get(type(event))) is not None:
            handler(event)

    def start(self) -> None:
        """Join the other workers of this server, and push if the environment asks for it.

        It happens once, when the first request comes or the lifespan starts: by then a server
        has forked its workers, and an application has set its provider.
        """
        with self._starting:
            if not self._has_started:
                self._has_started = True
                self._push()
                self._join_workers()

    def totals(self) -> Totals:
        """Return what this process has counted."""
        return self._ledger.totals()

    def flush(self) -> None:
        """Leave nothing unsaid: this process may end."""
        if self.workers is not None:
            self.workers.flush()
        if self._pushing is not None:
            self._pushing.force_flush()

    def _push(self) -> None:
        if not self._is_bridged and is_push_wanted():
            push = _push_module()
            totals = push.can_hand_over_totals()
            provider = push.pushing_provider(self._ledger, totals=totals)
            self._bridge(provider, has_histograms=not totals)
            self._pushing = provider

    def _join_workers(self) -> None:
        directory = workers_directory(self._directory)
        if directory is None:
            return
        if directory in _joined:
            _logger.warning("a second observer in %s shows this process alone", directory)
            return
        _joined.add(directory)
        try:
            from memoserve.telemetry._workers import Workers  # noqa: PLC0415 - POSIX only.

            self.workers = Workers(directory, self.totals)
        except (OSError, ImportError):
            _logger.exception("the workers' metrics cannot be added up in %s", directory)
            return
        atexit.register(self.workers.flush)

    def _bridge(self, provider: MeterProvider, *, has_histograms: bool) -> None:
        """Let an OpenTelemetry provider have all numbers."""
        self._is_bridged = True
        meter = provider.get_meter(METER, package_version())
        observe_readings(self._ledger, meter)
        if has_histograms:
            for instrument, histogram in self._histograms.items():
                histogram.record_too = recording(meter, instrument)

    def _histogram(self, instrument: Instrument) -> Histogram:
        self._histograms[instrument] = histogram = self._ledger.histogram(instrument)
        return histogram

    def _begin_requests(self) -> None:
        self._requests = requests = Requests(catalogue.REQUEST_DURATION.buckets)
        self._histograms[catalogue.REQUEST_DURATION] = requests
        self._ledger.reading(catalogue.REQUEST_DURATION, requests.durations)
        self._ledger.reading(catalogue.REQUEST_ACTIVE, requests.active)
        self._ledger.reading(catalogue.MODEL_TIME_SAVED, requests.saved)

    def _begin_histograms(self, *, entry_age: bool) -> None:
        self._model_duration = self._histogram(catalogue.MODEL_DURATION)
        self._store_duration = self._histogram(catalogue.STORE_DURATION)
        self._queue_duration = self._histogram(catalogue.QUEUE_DURATION)
        self._batch_size = self._histogram(catalogue.BATCH_SIZE)
        self._batch_duration = self._histogram(catalogue.BATCH_DURATION)
        self._http_duration = self._histogram(catalogue.HTTP_SERVER_DURATION)
        self._entry_age = self._histogram(catalogue.ENTRY_AGE) if entry_age else None

    def _begin_tallies(self) -> None:
        tally = self._ledger.tally
        self._bypasses = tally(catalogue.BYPASSES)
        self._waiters = tally(catalogue.FLIGHT_WAITERS)
        self._collisions = tally(catalogue.KEY_COLLISIONS)
        self._refusals = tally(catalogue.KEY_REFUSALS)
        self._store_writes = tally(catalogue.STORE_WRITES)
        self._store_errors = tally(catalogue.STORE_ERRORS)
        self._overflows = tally(catalogue.LABEL_OVERFLOWS)
        self._transitions = tally(catalogue.BREAKER_TRANSITIONS)
        self._comparisons = tally(catalogue.SHADOW_COMPARISONS)
        self._queued = tally(catalogue.QUEUE_LENGTH)
        self._shed = tally(catalogue.QUEUE_SHED)

    def _begin_readings(self) -> None:
        reading, stores, build = self._ledger.reading, self._stores, Series((package_version(),), 1)
        reading(catalogue.STORE_USAGE, stores.reading(lambda usage: usage.bytes))
        reading(catalogue.STORE_LIMIT, stores.reading(lambda usage: usage.limit))
        reading(catalogue.STORE_ENTRIES, stores.reading(lambda usage: usage.entries))
        reading(catalogue.STORE_EVICTIONS, stores.reading(lambda usage: usage.evictions))
        reading(catalogue.EVENT_LOOP_LAG, self._read_lag)
        reading(catalogue.BREAKER_OPEN, self._read_breakers)
        reading(catalogue.WORKERS, lambda: [Series((), 1)])
        reading(catalogue.BUILD_INFO, lambda: [build])

    def _names(self, key: str, begin: Callable[[str], None] = lambda _: None) -> Names:
        self._overflows.add(0, (key,))
        return Names(begin, lambda: self._overflows.add(1, (key,)))

    def _begin_model(self, model: str) -> None:
        """Begin at nothing what grows seldom: of a first 1, Prometheus would see no increase."""
        seldom = (self._collisions, self._refusals, self._shed)
        for tally in (*seldom, self._waiters, self._queued):
            tally.add(0, (model,))

    def _on_http_request_finished(self, event: HttpRequestFinished) -> None:
        values = (
            event.method,
            self._statuses[event.status] if event.status else "",
            self._routes[event.route] if event.route else "",
            event.scheme,
            event.version,
            self._errors[event.error] if event.error else "",
        )
        self._http_duration.record(event.seconds, values)

    def _on_model_called(self, event: ModelCalled) -> None:
        self._model_duration.record(event.seconds, (self._models[event.model], event.outcome))

    def _on_store_written(self, event: StoreWritten) -> None:
        self._store_writes.add(1, (self._models[event.model], event.result))

    def _on_store_called(self, event: StoreCalled) -> None:
        error = self._errors[event.error] if event.error else ""
        if error:
            self._store_errors.add(1, (event.operation, error))
        self._store_duration.record(event.seconds, (event.operation, error))

    def _on_store_opened(self, event: StoreOpened) -> None:
        self.start()  # A cache tells of its store with its first request.
        self._stores.add(event.store)
        if not isinstance(event.store, MemoryStore):  # Before all others there is a breaker.
            self._breakers.setdefault("store", "closed")
            self._transitions.add(0, ("store", "open"))

    def _on_breaker_changed(self, event: BreakerChanged) -> None:
        self._breakers[event.breaker] = event.state
        self._transitions.add(1, (event.breaker, event.state))

    def _on_follower_joined(self, event: FollowerJoined) -> None:
        self._waiters.add(1, (self._models[event.model],))

    def _on_follower_left(self, event: FollowerLeft) -> None:
        self._waiters.add(-1, (self._models[event.model],))

    def _on_key_collided(self, event: KeyCollided) -> None:
        self._collisions.add(1, (self._models[event.model],))

    def _on_key_refused(self, event: KeyRefused) -> None:
        self._refusals.add(1, (self._models[event.model],))

    def _on_shadow_compared(self, event: ShadowCompared) -> None:
        self._comparisons.add(1, (self._models[event.model], event.result))

    def _on_queue_joined(self, event: QueueJoined) -> None:
        self._queued.add(1, (self._models[event.model],))

    def _on_queue_left(self, event: QueueLeft) -> None:
        self._queued.add(-1, (self._models[event.model],))

    def _on_queue_passed(self, event: QueuePassed) -> None:
        self._queue_duration.record(event.seconds, (self._models[event.model],))

    def _on_request_shed(self, event: RequestShed) -> None:
        self._shed.add(1, (self._models[event.model],))

    def _on_batch_finished(self, event: BatchFinished) -> None:
        model = (self._models[event.model],)
        self._batch_size.record(event.size, model)
        self._batch_duration.record(event.seconds, model)

    def _read_breakers(self) -> list[Series]:
        # Half open, what is behind it is still left alone but by one call that tries.
        states = list(self._breakers.items())
        return [Series((breaker,), int(state != "closed")) for breaker, state in states]

    def _read_lag(self) -> list[Series]:
        seconds = self._lag.seconds()
        return [] if seconds is None else [Series((), seconds)]


_observers: weakref.WeakKeyDictionary[MeterProvider, OTelObserver] = weakref.WeakKeyDictionary()
_joined: set[Path] = set()  # Directories that an observer of this process writes to.
_default_lock = threading.Lock()


def default_observer() -> OTelObserver:
    """Return the one observer of this process for whoever was given none.

    The first call decides which provider it reports to; see `OTelObserver`.
    """
    with _default_lock:
        return _make_default()


def prepare_default_observer() -> None:
    """Import now what `default_observer` may need, which takes tens of milliseconds.

    The choice of a provider is left to the first request, since applications set theirs late.

    Raises:
        ModuleNotFoundError: The environment wants metrics pushed, and the extra `otlp` is missing.
    """
    if global_provider() is None and is_push_wanted():
        _push_module()


@functools.cache
def _make_default() -> OTelObserver:
    provider = global_provider()
    if provider is not None and provider in _observers:
        return _observers[provider]
    return OTelObserver(provider)


def _register(provider: MeterProvider, observer: OTelObserver) -> None:
    if provider in _observers:
        raise ValueError(f"{provider!r} has an OTelObserver already: give all layers that one")
    _observers[provider] = observer


def _push_module() -> ModuleType:
    from memoserve.telemetry import _push  # noqa: PLC0415 - an extra.

    return _push
