"""The observer that feeds OpenTelemetry.

Rule: a memory hit costs one synchronous record. Only histograms are recorded as events come;
everything else is a plain number, which a callback hands over when somebody collects.
"""

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from memoserve import telemetry as catalogue
from memoserve._events import (
    Event,
    FollowerJoined,
    FollowerLeft,
    KeyCollided,
    KeyRefused,
    ModelCalled,
    RequestFinished,
    RequestStarted,
    StoreCalled,
    StoreOpened,
    StoreWritten,
)
from memoserve.telemetry._instruments import Names, make_histogram, make_reading, make_tally
from memoserve.telemetry._lag import LoopLag
from memoserve.telemetry._usage import StoreUsages

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

__all__ = ["OTelObserver", "default_observer", "prepare_default_observer"]


class OTelObserver:
    """Feed the instruments of the catalogue from events.

    It reports to the given provider, else to the SDK's provider that the application has set
    globally, else to a private one, which `memoserve.telemetry.scrape` can show to Prometheus.

    Args:
        meter_provider: The provider, which no other `OTelObserver` reports to.
        entry_age: Record `memoserve.entry.age`, too: a second record for each reuse.

    Attributes:
        registry: Where the private provider's metrics are read; None if it is another's.

    Raises:
        ValueError: Another observer reports to this provider; each number would be there twice.
        ModuleNotFoundError: There is no provider and no extra `prometheus` to make one with.
    """

    registry: "Collector | None" = None

    def __init__(
        self, meter_provider: MeterProvider | None = None, *, entry_age: bool = False
    ) -> None:
        provider = meter_provider or _global_provider() or self._own_provider()
        if provider in _observers:
            raise ValueError(f"{provider!r} has an OTelObserver already: give all layers that one")
        _observers[provider] = self
        self._models = Names()
        self._variants = Names()
        self._reasons = Names()
        self._errors = Names()
        self._stores = StoreUsages()
        self._lag = LoopLag()
        meter = provider.get_meter("memoserve", _version())
        self._make_histograms(meter, entry_age=entry_age)
        self._make_tallies(meter)
        self._make_readings(meter)
        self._handlers: dict[type, Callable[[Any], None]] = {
            RequestStarted: self._on_request_started,
            RequestFinished: self._on_request_finished,
            ModelCalled: self._on_model_called,
            StoreWritten: self._on_store_written,
            StoreCalled: self._on_store_called,
            StoreOpened: self._on_store_opened,
            FollowerJoined: self._on_follower_joined,
            FollowerLeft: self._on_follower_left,
            KeyCollided: self._on_key_collided,
            KeyRefused: self._on_key_refused,
        }

    def observe(self, event: Event, /) -> None:
        """Take note of one event; of a kind that is unknown here, nothing."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _own_provider(self) -> MeterProvider:
        provider, self.registry = _private_provider_maker()()
        return provider

    def _make_histograms(self, meter: Meter, *, entry_age: bool) -> None:
        self._request_duration = make_histogram(meter, catalogue.REQUEST_DURATION)
        self._model_duration = make_histogram(meter, catalogue.MODEL_DURATION)
        self._store_duration = make_histogram(meter, catalogue.STORE_DURATION)
        self._entry_age = make_histogram(meter, catalogue.ENTRY_AGE) if entry_age else None

    def _make_tallies(self, meter: Meter) -> None:
        self._time_saved = make_tally(meter, catalogue.MODEL_TIME_SAVED)
        self._bypasses = make_tally(meter, catalogue.BYPASSES)
        self._active = make_tally(meter, catalogue.REQUEST_ACTIVE)
        self._waiters = make_tally(meter, catalogue.FLIGHT_WAITERS)
        self._collisions = make_tally(meter, catalogue.KEY_COLLISIONS)
        self._refusals = make_tally(meter, catalogue.KEY_REFUSALS)
        self._store_writes = make_tally(meter, catalogue.STORE_WRITES)
        self._store_errors = make_tally(meter, catalogue.STORE_ERRORS)

    def _make_readings(self, meter: Meter) -> None:
        stores = self._stores
        make_reading(meter, catalogue.STORE_USAGE, stores.reading(lambda usage: usage.bytes))
        make_reading(meter, catalogue.STORE_LIMIT, stores.reading(lambda usage: usage.limit))
        make_reading(meter, catalogue.STORE_ENTRIES, stores.reading(lambda usage: usage.entries))
        make_reading(
            meter, catalogue.STORE_EVICTIONS, stores.reading(lambda usage: usage.evictions)
        )
        make_reading(meter, catalogue.EVENT_LOOP_LAG, self._read_lag)
        make_reading(meter, catalogue.WORKERS, lambda _: [Observation(1)])
        build = {catalogue.VERSION: _version()}
        make_reading(meter, catalogue.BUILD_INFO, lambda _: [Observation(1, build)])

    def _on_request_started(self, event: RequestStarted) -> None:
        self._lag.watch()
        self._active.add(1, self._models[event.model])

    def _on_request_finished(self, event: RequestFinished) -> None:
        model = self._models[event.model]
        self._active.add(-1, model)
        attributes = {
            catalogue.MODEL: model,
            catalogue.CACHE_STATUS: event.status,
            catalogue.OUTCOME: event.outcome,
        }
        if event.variant:  # Each attribute costs, and to Prometheus absent and empty are one.
            attributes[catalogue.VARIANT] = self._variants[event.variant]
        self._request_duration.record(event.seconds, attributes)
        if event.status == "bypass":
            self._bypasses.add(1, model, self._reasons[event.reason])
        if event.saved:
            self._time_saved.add(event.saved, model)
        if self._entry_age is not None and event.age is not None:
            self._entry_age.record(event.age, {catalogue.MODEL: model})

    def _on_model_called(self, event: ModelCalled) -> None:
        model = self._models[event.model]
        self._model_duration.record(
            event.seconds, {catalogue.MODEL: model, catalogue.OUTCOME: event.outcome}
        )

    def _on_store_written(self, event: StoreWritten) -> None:
        self._store_writes.add(1, self._models[event.model], event.result)

    def _on_store_called(self, event: StoreCalled) -> None:
        attributes: dict[str, str] = {catalogue.OPERATION: event.operation}
        if event.error:
            error = self._errors[event.error]
            attributes[catalogue.ERROR_TYPE] = error
            self._store_errors.add(1, event.operation, error)
        self._store_duration.record(event.seconds, attributes)

    def _on_store_opened(self, event: StoreOpened) -> None:
        self._stores.add(event.store)

    def _on_follower_joined(self, event: FollowerJoined) -> None:
        self._waiters.add(1, self._models[event.model])

    def _on_follower_left(self, event: FollowerLeft) -> None:
        self._waiters.add(-1, self._models[event.model])

    def _on_key_collided(self, event: KeyCollided) -> None:
        self._collisions.add(1, self._models[event.model])

    def _on_key_refused(self, event: KeyRefused) -> None:
        self._refusals.add(1, self._models[event.model])

    def _read_lag(self, _: CallbackOptions) -> Iterable[Observation]:
        seconds = self._lag.seconds()
        return [] if seconds is None else [Observation(seconds)]


_observers: weakref.WeakKeyDictionary[MeterProvider, OTelObserver] = weakref.WeakKeyDictionary()
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
        ModuleNotFoundError: As for `OTelObserver`.
    """
    if _global_provider() is None:
        _private_provider_maker()


@functools.cache
def _make_default() -> OTelObserver:
    provider = _global_provider()
    if provider is not None and provider in _observers:
        return _observers[provider]
    return OTelObserver(provider)


def _global_provider() -> MeterProvider | None:
    """Return what the application has set, if that is the SDK's: the API alone measures nothing.

    If the SDK was never imported, nobody can have made such a provider.
    """
    provider = metrics.get_meter_provider()
    sdk: Any = sys.modules.get("opentelemetry.sdk.metrics")
    return provider if sdk is not None and isinstance(provider, sdk.MeterProvider) else None


def _private_provider_maker() -> "Callable[[], tuple[MeterProvider, Collector]]":
    from memoserve.telemetry._prometheus import private_provider  # noqa: PLC0415 - an extra.

    return private_provider


def _version() -> str:
    try:
        return metadata.version("memoserve")
    except metadata.PackageNotFoundError:  # Run from a checkout that was never installed.
        return "unknown"
