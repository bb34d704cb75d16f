"""From the ledger to instruments of an OpenTelemetry meter.

Rule: OpenTelemetry reads counters and gauges when somebody collects. Only a histogram can be
handed over in no other way than value by value; whoever owns the reader can do better (`_push`).
"""

from collections.abc import Callable, Iterable
from importlib import metadata

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from memoserve.telemetry import HTTP_STATUS, Instrument, Kind
from memoserve.telemetry._ledger import Ledger, Values

__all__ = ["METER", "Record", "attributes_of", "observe_readings", "package_version", "recording"]

METER = "memoserve"

Record = Callable[[float, Values], None]


def attributes_of(instrument: Instrument, values: Values) -> dict[str, str | int]:
    """Return a series' attributes; each costs, and to Prometheus absent and empty are one."""
    named = zip(instrument.attributes, values, strict=False)  # A reading may have fewer.
    found: dict[str, str | int] = {key: value for key, value in named if value}
    status = found.get(HTTP_STATUS)
    if isinstance(status, str) and status.isdigit():
        found[HTTP_STATUS] = int(status)
    return found


def observe_readings(ledger: Ledger, meter: Meter) -> None:
    """Let a meter's provider read all counters and gauges of a ledger."""
    makers: dict[Kind, Callable[..., object]] = {
        "counter": meter.create_observable_counter,
        "updown": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }
    for instrument in ledger.readings:
        if instrument.kind != "histogram":
            makers[instrument.kind](
                instrument.name,
                callbacks=[_callback(ledger, instrument)],
                unit=instrument.unit,
                description=instrument.description,
            )


def _callback(
    ledger: Ledger, instrument: Instrument
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(series.number, attributes_of(instrument, series.values))
            for series in ledger.read(instrument)
        ]

    return observe


def recording(meter: Meter, instrument: Instrument) -> Record:
    """Make an OpenTelemetry histogram; what is returned records one value in it.

    Views, exemplars and limits of the provider apply.
    """
    histogram = meter.create_histogram(
        instrument.name,
        unit=instrument.unit,
        description=instrument.description,
        explicit_bucket_boundaries_advisory=instrument.buckets,
    )

    def record(value: float, values: Values) -> None:
        histogram.record(value, attributes_of(instrument, values))

    return record


def package_version() -> str:
    """Return the version of memoserve that runs."""
    try:
        return metadata.version("memoserve")
    except metadata.PackageNotFoundError:  # Run from a checkout that was never installed.
        return "unknown"
