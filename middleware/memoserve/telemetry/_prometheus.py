"""A meter provider of our own that Prometheus can read.

Rule: nothing here touches prometheus_client's global registry, and no metric can spoil the page
for the others. What leaves this module is a collector of metric families: numbers that several
processes wrote down are folded on that level, behind the same interface.
"""

import logging
from typing import Any

try:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import (
        Gauge,
        Histogram,
        Metric,
        MetricsData,
        ResourceMetrics,
        ScopeMetrics,
        Sum,
    )
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"metrics for Prometheus need {error.name}: pip install 'memoserve[prometheus]'",
        name=error.name,
    ) from error

__all__ = ["GuardedReader", "private_provider"]

_logger = logging.getLogger("memoserve")


class GuardedReader(PrometheusMetricReader):
    """A `PrometheusMetricReader` that leaves out what it cannot translate.

    The exporter raises on an exponential histogram (0.66b2), and then the whole page is lost.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(disable_target_info=True, scope_info_enabled=False, registry=registry)
        self._refused: set[str] = set()

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        kept = MetricsData([self._translatable(part) for part in metrics_data.resource_metrics])
        super()._receive_metrics(  # pyright: ignore[reportUnknownMemberType] - its **kwargs.
            kept, timeout_millis, **kwargs
        )

    def _translatable(self, part: ResourceMetrics) -> ResourceMetrics:
        scopes = [
            ScopeMetrics(
                scope.scope,
                [metric for metric in scope.metrics if self._can_translate(metric)],
                scope.schema_url,
            )
            for scope in part.scope_metrics
        ]
        return ResourceMetrics(part.resource, scopes, part.schema_url)

    def _can_translate(self, metric: Metric) -> bool:
        if isinstance(metric.data, (Sum, Gauge, Histogram)):
            return True
        if metric.name not in self._refused:
            self._refused.add(metric.name)
            kind = type(metric.data).__name__
            _logger.warning("%s is left out: Prometheus text has no %s", metric.name, kind)
        return False


def private_provider() -> tuple[MeterProvider, Collector]:
    """Make a provider, and the collector that shows its metrics and nothing else."""
    registry = CollectorRegistry()
    # Nothing is lost at exit, and a handler for it would keep every provider ever made.
    provider = MeterProvider(metric_readers=[GuardedReader(registry)], shutdown_on_exit=False)
    return provider, registry
