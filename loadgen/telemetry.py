"""The generator's own metrics, so that a dashboard shows offered load beside what the app did.

Rule: the numbers are the records', a few times a second, in the parent process: a scrape delays no
request. Names: ``loadgen_requests_total``, ``loadgen_response_seconds``, ``loadgen_lag_seconds``,
``loadgen_target_rps``, ``loadgen_inflight``, ``loadgen_hit_ratio_predicted``.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from prometheus_client import CollectorRegistry, start_http_server

from loadgen.outcome import Outcome
from loadgen.plan import Plan
from loadgen.records import Batch, Records
from memoserve.telemetry import DURATION_BUCKETS

__all__ = ["Metrics", "exporting"]

_OTLP_INTERVAL = 5_000  # Milliseconds.


class Metrics:
    """The instruments of one generator."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter("loadgen")
        self._requests = meter.create_counter(
            "loadgen.requests", description="Answers, by model, what the cache did, and status."
        )
        self._response = meter.create_histogram(
            "loadgen.response",
            unit="s",
            description="From when a request was due to its last byte.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._lag = meter.create_histogram(
            "loadgen.lag",
            unit="s",
            description="From when a request was due to when it was sent.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        meter.create_observable_gauge("loadgen.target.rps", [self._target])
        meter.create_observable_gauge("loadgen.inflight", [self._in_flight])
        meter.create_observable_gauge("loadgen.hit.ratio.predicted", [self._promise])
        self._plan: Plan | None = None
        self._records: Records | None = None
        self._predicted: float | None = None

    def begin(self, plan: Plan, records: Records, predicted: float | None) -> None:
        """Show this run from now on."""
        self._plan, self._records, self._predicted = plan, records, predicted

    def take(self, batch: Batch) -> None:
        """Count what has ended."""
        plan = self._plan
        if plan is None:
            return
        due, sent, _, done, status, outcome, _ = batch.columns
        for number, row in enumerate(batch.rows):
            model = {"model": plan.model(row)}
            ended = model | {"outcome": str(Outcome(int(outcome[number])))}
            self._requests.add(1, ended | {"status": str(status[number])})
            self._response.record(done[number] - due[number], ended)
            self._lag.record(sent[number] - due[number], model)

    def _target(self, _options: CallbackOptions) -> Iterable[Observation]:
        if self._plan is not None and not self._plan.is_closed:
            yield Observation(self._plan.arrivals.rate)

    def _in_flight(self, _options: CallbackOptions) -> Iterable[Observation]:
        if self._records is not None:
            yield Observation(self._records.started - self._records.finished)

    def _promise(self, _options: CallbackOptions) -> Iterable[Observation]:
        if self._predicted is not None:
            yield Observation(self._predicted)


@contextmanager
def exporting(*, prometheus_port: int | None, otlp: str | None) -> Generator[Metrics]:
    """Serve the metrics for Prometheus on a port, or push them by OTLP over HTTP, or both.

    Raises:
        OSError: the port is taken.
        ModuleNotFoundError: the OTLP exporter is not installed.
    """
    readers: list[MetricReader] = []
    registry = CollectorRegistry()
    if prometheus_port is not None:
        readers.append(
            PrometheusMetricReader(
                disable_target_info=True, scope_info_enabled=False, registry=registry
            )
        )
    if otlp is not None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415  (an extra)
            OTLPMetricExporter,
        )

        exporter = OTLPMetricExporter(endpoint=otlp)
        readers.append(PeriodicExportingMetricReader(exporter, _OTLP_INTERVAL))
    server = thread = None
    if prometheus_port is not None:
        server, thread = start_http_server(prometheus_port, "127.0.0.1", registry)
    provider = MeterProvider(metric_readers=readers, shutdown_on_exit=False)
    try:
        yield Metrics(provider)
    finally:
        provider.shutdown()
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            thread.join()
