"""Pushing to a collector, as the standard variables ask for it (`OTEL_EXPORTER_OTLP_ENDPOINT`).

Rule: this happens only where the application has set up no OpenTelemetry of its own. Histograms
are handed over whole, once for each export; where the variables ask for what totals cannot give
(differences, exponential buckets), each value is recorded instead.
"""

import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

try:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Histogram,
        HistogramDataPoint,
        Metric,
        MetricExporter,
        MetricsData,
        PeriodicExportingMetricReader,
        ResourceMetrics,
        ScopeMetrics,
    )
    from opentelemetry.sdk.resources import Resource
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but to push metrics there needs {error.name}: "
        "pip install 'memoserve[otlp]'",
        name=error.name,
    ) from error

from memoserve.telemetry import Instrument
from memoserve.telemetry._bridge import METER, attributes_of
from memoserve.telemetry._ledger import Ledger

__all__ = ["TotalsReader", "can_hand_over_totals", "pushing_provider"]

_PREFERENCES = {
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
}


def can_hand_over_totals(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether totals in the catalogue's buckets are what the variables ask for."""
    return all(environ.get(name, usual).lower() == usual for name, usual in _PREFERENCES.items())


def pushing_provider(ledger: Ledger, *, totals: bool) -> MeterProvider:
    """Make a provider that pushes by OTLP over HTTP, with the histograms of the ledger if told to.

    What is pushed by one process is its own: each names itself by `service.instance.id`.
    """
    exporter = OTLPMetricExporter()
    reader = TotalsReader(exporter, ledger) if totals else PeriodicExportingMetricReader(exporter)
    # What the operator has set (OTEL_RESOURCE_ATTRIBUTES) wins over an id that we make up.
    own = Resource({"service.instance.id": str(uuid.uuid4())})
    return MeterProvider([reader], resource=own.merge(Resource.create()))


class TotalsReader(PeriodicExportingMetricReader):
    """Adds the histograms of a ledger to what is exported.

    They come beside the counters of the same meter, so that there must be one of those.
    """

    def __init__(self, exporter: MetricExporter, ledger: Ledger, **options: Any) -> None:
        self._ledger = ledger
        self._started = time.time_ns()
        super().__init__(exporter, **options)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        extended = MetricsData([self._extended(part) for part in metrics_data.resource_metrics])
        super()._receive_metrics(  # pyright: ignore[reportUnknownMemberType] - its **kwargs.
            extended, timeout_millis, **kwargs
        )

    def _extended(self, part: ResourceMetrics) -> ResourceMetrics:
        scopes = [
            ScopeMetrics(scope.scope, [*scope.metrics, *self._histograms()], scope.schema_url)
            if scope.scope.name == METER
            else scope
            for scope in part.scope_metrics
        ]
        return ResourceMetrics(part.resource, scopes, part.schema_url)

    def _histograms(self) -> list[Metric]:
        histograms = [each for each in self._ledger.readings if each.kind == "histogram"]
        return [metric for each in histograms if (metric := self._metric(each)) is not None]

    def _metric(self, instrument: Instrument) -> Metric | None:
        now = time.time_ns()
        points = [
            HistogramDataPoint(
                attributes=attributes_of(instrument, series.values),
                start_time_unix_nano=self._started,
                time_unix_nano=now,
                count=sum(series.counts),
                sum=series.number,
                bucket_counts=series.counts,
                explicit_bounds=instrument.buckets,
                # Optional in OTLP; of all the time since the start they would say little.
                min=None,  # type: ignore[arg-type] # The class does not know that.
                max=None,  # type: ignore[arg-type] # Nor here.
            )
            for series in self._ledger.read(instrument)
        ]
        whole = Histogram(points, AggregationTemporality.CUMULATIVE)
        return (
            Metric(instrument.name, instrument.description, instrument.unit, whole)
            if points
            else None
        )
