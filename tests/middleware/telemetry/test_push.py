"""Metrics on their way to a collector: a real exporter, a real receiver, real bytes between."""

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from memoserve.telemetry import (
    DURATION_BUCKETS,
    HTTP_SERVER_DURATION,
    INSTRUMENTS,
    KEY_COLLISIONS,
    REQUEST_DURATION,
    STORE_DURATION,
    WORKERS,
)
from memoserve.telemetry._push import can_hand_over_totals
from memoserve.telemetry._surroundings import is_push_wanted

# Three requests and a collision, before the first export, and again after it.
PROGRAM = """
from memoserve._events import HttpRequestFinished, KeyCollided, RequestFinished, RequestStarted
from memoserve.telemetry.otel import default_observer, prepare_default_observer
prepare_default_observer()
observer = default_observer()
observer.start()
for _ in range(2):
    for seconds in (0.0001, 0.002, 90.0):
        observer.observe(RequestStarted("sentiment"))
        observer.observe(RequestFinished("sentiment", "", "hit", "ok", seconds, "", 0.5, 1.0))
    observer.observe(KeyCollided("sentiment"))
    observer.observe(HttpRequestFinished("POST", "500", "", "http", "1.1", "500", 0.5))
    observer.flush()
"""


class Receiver:
    """A collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.endpoint = ""

    def metrics(self, number: int) -> dict[str, Any]:
        (resource,) = self.requests[number].resource_metrics
        return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}

    def resource(self, number: int) -> dict[str, str]:
        (resource,) = self.requests[number].resource_metrics
        return {each.key: each.value.string_value for each in resource.resource.attributes}


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/metrics"
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.requests.append(ExportMetricsServiceRequest.FromString(body))
            answer = ExportMetricsServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def push(receiver: Receiver, **variables: str) -> None:
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",  # Only when the program says so.
        **variables,
    }
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=120)


def attributes(point: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in point.attributes}


def test_an_endpoint_in_the_environment_is_all_it_takes() -> None:
    with receiving() as receiver:
        push(receiver, OTEL_SERVICE_NAME="shop", OTEL_EXPORTER_OTLP_COMPRESSION="gzip")

    first, second = receiver.metrics(0), receiver.metrics(1)
    (early,), (late,) = (
        metrics[REQUEST_DURATION.name].histogram.data_points for metrics in (first, second)
    )
    assert attributes(early) == {"model": "sentiment", "cache.status": "hit", "outcome": "ok"}
    assert (early.count, late.count) == (3, 6)
    assert tuple(late.explicit_bounds) == DURATION_BUCKETS
    assert [late.bucket_counts[place] for place in (0, 2, -1)] == [2, 2, 2]
    assert late.sum == pytest.approx(2 * 90.0021)
    assert early.start_time_unix_nano == late.start_time_unix_nano < early.time_unix_nano
    assert second[KEY_COLLISIONS.name].sum.data_points[0].as_int == 2
    assert second[WORKERS.name].sum.data_points[0].as_int == 1
    (http,) = second[HTTP_SERVER_DURATION.name].histogram.data_points
    assert http.count == 2
    assert {each.key: each.value.int_value for each in http.attributes if each.value.int_value} == {
        "http.response.status_code": 500
    }
    assert receiver.resource(0)["service.name"] == "shop"


def test_everything_that_is_pushed_is_in_the_catalogue() -> None:
    units = {instrument.name: instrument.unit for instrument in INSTRUMENTS}

    with receiving() as receiver:
        push(receiver)

    pushed = receiver.metrics(1)
    assert {name: metric.unit for name, metric in pushed.items()}.items() <= units.items()
    assert all(metric.description for metric in pushed.values())
    assert STORE_DURATION.name not in pushed  # There was no call of a store.


def test_every_process_has_a_name_of_its_own() -> None:
    """Else a collector takes the numbers of two workers for one that jumps."""
    with receiving() as receiver:
        push(receiver)
        push(receiver)
        push(receiver, OTEL_RESOURCE_ATTRIBUTES="service.instance.id=given")

    exports = range(len(receiver.requests))
    names = list(dict.fromkeys(receiver.resource(each)["service.instance.id"] for each in exports))
    assert len(names) == 3
    assert names[2] == "given"


def test_differences_are_pushed_where_they_are_preferred() -> None:
    with receiving() as receiver:
        push(receiver, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta")

    counts = [
        receiver.metrics(n)[REQUEST_DURATION.name].histogram.data_points[0].count for n in (0, 1)
    ]
    assert counts == [3, 3]


def test_exponential_buckets_are_pushed_where_they_are_preferred() -> None:
    with receiving() as receiver:
        push(
            receiver,
            OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=(
                "base2_exponential_bucket_histogram"
            ),
        )

    metric = receiver.metrics(1)[REQUEST_DURATION.name]
    assert metric.exponential_histogram.data_points[0].count == 6


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"OTEL_SDK_DISABLED": "true"}, id="disabled"),
        pytest.param({"OTEL_METRICS_EXPORTER": "none"}, id="no-exporter"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, id="empty"),
    ],
)
def test_nothing_is_pushed_where_the_environment_forbids_it(variables: dict[str, str]) -> None:
    with receiving() as receiver:
        push(receiver, **variables)

    assert receiver.requests == []


def test_an_application_that_has_set_a_provider_pushes_for_itself() -> None:
    script = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))
"""
    with receiving() as receiver:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        command = [sys.executable, "-c", script + PROGRAM]
        subprocess.run(command, env=environment, check=True, timeout=120)

    assert receiver.requests == []


def test_a_missing_exporter_is_named_at_the_start() -> None:
    script = f"""
import sys
sys.modules["opentelemetry.exporter.otlp"] = None  # As if it were not installed.
{PROGRAM}"""
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}

    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == 1
    assert run.stderr.strip().endswith("pip install 'memoserve[otlp]'")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({}, True, id="usual"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "CUMULATIVE"}, True, id="case"
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "lowmemory"}, False, id="delta"
        ),
    ],
)
def test_totals_are_handed_over_where_totals_are_asked_for(
    variables: dict[str, str], *, expected: bool
) -> None:
    assert can_hand_over_totals(variables) is expected


def test_the_environment_of_this_test_pushes_nowhere() -> None:
    assert not is_push_wanted()
