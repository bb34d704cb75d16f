"""The catalogue, and its spelling in Prometheus."""

import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from memoserve.telemetry import (
    BATCH_SIZE,
    BUILD_INFO,
    DURATION_BUCKETS,
    ENTRY_AGE,
    INSTRUMENTS,
    MODEL_TIME_SAVED,
    NOT_YET_FED,
    REQUEST_DURATION,
    STORE_USAGE,
    Instrument,
    prometheus_label,
    prometheus_names,
)
from memoserve.telemetry._instruments import make_histogram, make_tally
from memoserve.telemetry._prometheus import private_provider
from memoserve.telemetry.scrape import render


def test_every_instrument_is_listed_once_and_explained() -> None:
    names = [instrument.name for instrument in INSTRUMENTS]

    assert len(set(names)) == len(names)
    assert all(name.startswith("memoserve.") for name in names)
    assert all(instrument.description.endswith(".") for instrument in INSTRUMENTS)
    assert set(NOT_YET_FED) < set(INSTRUMENTS)


def test_buckets_belong_to_histograms_and_rise() -> None:
    for instrument in INSTRUMENTS:
        assert bool(instrument.buckets) == (instrument.kind == "histogram")
        assert list(instrument.buckets) == sorted(set(instrument.buckets))


def test_durations_can_tell_a_cache_hit_from_a_long_generation() -> None:
    durations = [each for each in INSTRUMENTS if each.name.endswith(".duration")]

    assert {each.buckets for each in durations} == {DURATION_BUCKETS}
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
    provider, registry = private_provider()
    meter = provider.get_meter("test")
    if instrument.kind == "histogram":
        make_histogram(meter, instrument).record(1, dict.fromkeys(instrument.attributes, "x"))
    else:
        make_tally(meter, instrument).add(1, *["x"] * len(instrument.attributes))

    families = text_string_to_metric_families(render(registry).body.decode())

    samples = [sample for family in families for sample in family.samples]
    labels = {label for sample in samples for label in sample.labels} - {"le"}
    assert {sample.name for sample in samples} == set(prometheus_names(instrument))
    assert labels == {prometheus_label(key) for key in instrument.attributes}


def test_what_is_opt_in_says_so() -> None:
    assert [each for each in INSTRUMENTS if each.is_opt_in] == [ENTRY_AGE]
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
