"""The catalogue, and its spelling in Prometheus."""

import subprocess
import sys

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from memoserve.telemetry import (
    BATCH_SIZE,
    BUILD_INFO,
    DURATION_BUCKETS,
    ENTRY_AGE,
    HTTP_BUCKETS,
    HTTP_SERVER_DURATION,
    HTTP_STATUS,
    INSTRUMENTS,
    MODEL_TIME_SAVED,
    REQUEST_DURATION,
    STORE_USAGE,
    Instrument,
    prometheus_label,
    prometheus_names,
)
from memoserve.telemetry._bridge import observe_readings, recording
from memoserve.telemetry._exposition import families, render
from memoserve.telemetry._ledger import Ledger


def test_every_instrument_is_listed_once_and_explained() -> None:
    names = [instrument.name for instrument in INSTRUMENTS]

    assert len(set(names)) == len(names)
    assert [name for name in names if not name.startswith("memoserve.")] == [
        "http.server.request.duration"
    ]
    assert all(instrument.description.endswith(".") for instrument in INSTRUMENTS)


def test_buckets_belong_to_histograms_and_rise() -> None:
    for instrument in INSTRUMENTS:
        assert bool(instrument.buckets) == (instrument.kind == "histogram")
        assert list(instrument.buckets) == sorted(set(instrument.buckets))


def test_durations_can_tell_a_cache_hit_from_a_long_generation() -> None:
    durations = [each for each in INSTRUMENTS if each.name.endswith(".duration")]

    assert {each.buckets for each in durations} == {DURATION_BUCKETS, HTTP_BUCKETS}
    assert [each for each in durations if each.buckets == HTTP_BUCKETS] == [HTTP_SERVER_DURATION]
    assert (DURATION_BUCKETS[0], DURATION_BUCKETS[-1]) == (0.0005, 60.0)


@pytest.mark.parametrize(
    ("instrument", "names"),
    [
        pytest.param(
            REQUEST_DURATION,
            (
                "memoserve_request_duration_seconds_bucket",
                "memoserve_request_duration_seconds_count",
                "memoserve_request_duration_seconds_sum",
            ),
            id="histogram",
        ),
        pytest.param(MODEL_TIME_SAVED, ("memoserve_model_time_saved_seconds_total",), id="counter"),
        pytest.param(STORE_USAGE, ("memoserve_store_usage_bytes",), id="bytes"),
        pytest.param(BUILD_INFO, ("memoserve_build_info",), id="dimensionless"),
    ],
)
def test_prometheus_spells_a_name(instrument: Instrument, names: tuple[str, ...]) -> None:
    assert prometheus_names(instrument) == names


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda each: each.name)
def test_prometheus_exporter_agrees_on_every_name_and_label(instrument: Instrument) -> None:
    """OpenTelemetry's exporter and our own page, which need not know of each other."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(
        disable_target_info=True, scope_info_enabled=False, registry=registry
    )
    provider = MeterProvider([reader], shutdown_on_exit=False)
    ledger = Ledger()
    values = tuple("200" if key == HTTP_STATUS else "x" for key in instrument.attributes)
    if instrument.kind == "histogram":
        ledger.histogram(instrument).record(1, values)
        recording(provider.get_meter("test"), instrument)(1, values)
    else:
        ledger.tally(instrument).add(1, values)
        observe_readings(ledger, provider.get_meter("test"))

    theirs = _samples(generate_latest(registry))
    ours = _samples(render([families(ledger.totals())]))

    assert ours == theirs
    assert {name for name, _, _ in ours} == set(prometheus_names(instrument))
    labels = {label for _, labels, _ in ours for label, _ in labels} - {"le"}
    assert labels == {prometheus_label(key) for key in instrument.attributes}


def _samples(page: bytes) -> list[tuple[str, frozenset[tuple[str, str]], float]]:
    return [
        (sample.name, frozenset(_numbered(sample.labels).items()), sample.value)
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    ]


def _numbered(labels: dict[str, str]) -> dict[str, str]:
    """Bounds may be spelled `1` or `1.0`."""
    return {name: str(float(value)) if name == "le" else value for name, value in labels.items()}


def test_what_is_opt_in_says_so() -> None:
    assert [each for each in INSTRUMENTS if each.is_opt_in] == [
        ENTRY_AGE,
        HTTP_SERVER_DURATION,
    ]
    assert not BATCH_SIZE.is_opt_in


def test_the_catalogue_needs_no_opentelemetry() -> None:
    script = "import memoserve.telemetry, sys; print([m for m in sys.modules if 'opentel' in m])"

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


def test_the_observer_needs_the_api_only() -> None:
    script = """
import sys, memoserve.telemetry.middleware
print([m for m in sys.modules if m.startswith(("opentelemetry.sdk", "prometheus_client"))])
"""

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
