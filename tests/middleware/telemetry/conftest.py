"""What the tests of telemetry share: an observer, and what it has measured so far."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from memoserve.telemetry import Instrument, otel
from memoserve.telemetry.otel import OTelObserver

Numbers = dict[frozenset[tuple[str, str]], float]
Measured = Callable[[Instrument], Numbers]


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def observer(provider: MeterProvider) -> OTelObserver:
    return OTelObserver(provider, entry_age=True)


@pytest.fixture
def measured(reader: InMemoryMetricReader) -> Measured:
    """Read an instrument's numbers by their attributes; of histograms, the counts."""

    def read(instrument: Instrument) -> Numbers:
        return {
            frozenset(point.attributes.items()): (
                point.count if hasattr(point, "count") else point.value
            )
            for metric in _metrics(reader)
            if metric.name == instrument.name
            for point in metric.data.data_points
        }

    return read


@pytest.fixture
def made(reader: InMemoryMetricReader) -> Callable[[], dict[str, Any]]:
    """Read all metrics by their names."""
    return lambda: {metric.name: metric for metric in _metrics(reader)}


@pytest.fixture
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the default observer for the length of a test."""
    unwrapped = otel._make_default.__wrapped__
    monkeypatch.setattr(otel, "_make_default", functools.cache(unwrapped))


@pytest.fixture
def global_provider(
    fresh_process: None, provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> MeterProvider:
    """The provider that the application has set, which the API lets nobody take back."""
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", provider)
    return provider


def _metrics(reader: InMemoryMetricReader) -> Iterator[Any]:
    collected = reader.get_metrics_data()
    if collected is not None:
        for resource in collected.resource_metrics:
            for scope in resource.scope_metrics:
                yield from scope.metrics
