"""From the catalogue to instruments of a meter.

Rule: the number of series is bounded here, whatever names come in, and an instrument that is no
histogram costs its event a dictionary entry, since OpenTelemetry reads it only when somebody
collects (a synchronous `add` costs thirty times as much).
"""

import threading
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from memoserve.telemetry import Instrument, Kind

__all__ = ["Names", "Tally", "make_histogram", "make_reading", "make_tally"]

Callback = Callable[[CallbackOptions], Iterable[Observation]]

# Names come from the configuration, so that a hundred are plenty; but a name that got in from
# outside must not make series without end.
_MAX_NAMES = 100
_OTHER = "other"


class Names(dict[str, str]):
    """The values that one attribute has had, and `other` for all that come when it is full."""

    def __missing__(self, name: str) -> str:
        if len(self) >= _MAX_NAMES:
            return _OTHER
        return self.setdefault(name, name)


class Tally:
    """Numbers by attribute values: added to on event loops, read by whoever collects."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = keys
        self._numbers: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def add(self, amount: float, *values: str) -> None:
        """Add to the number of these attribute values, which are in the order of the keys."""
        with self._lock:
            self._numbers[values] = self._numbers.get(values, 0) + amount

    def read(self, _: CallbackOptions) -> Iterable[Observation]:
        """Return every number; a callback of an observable instrument."""
        with self._lock:
            numbers = list(self._numbers.items())
        return [
            Observation(number, dict(zip(self._keys, values, strict=True)))
            for values, number in numbers
        ]


def make_histogram(meter: Meter, instrument: Instrument) -> Histogram:
    """Make a histogram that is recorded as things happen."""
    return meter.create_histogram(
        instrument.name,
        unit=instrument.unit,
        description=instrument.description,
        explicit_bucket_boundaries_advisory=instrument.buckets,
    )


def make_tally(meter: Meter, instrument: Instrument) -> Tally:
    """Make a counter or gauge whose numbers are kept here."""
    tally = Tally(instrument.attributes)
    make_reading(meter, instrument, tally.read)
    return tally


def make_reading(meter: Meter, instrument: Instrument, callback: Callback) -> None:
    """Make a counter or gauge whose numbers are kept elsewhere."""
    makers: dict[Kind, Callable[..., object]] = {
        "counter": meter.create_observable_counter,
        "updown": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }
    makers[instrument.kind](
        instrument.name,
        callbacks=[callback],
        unit=instrument.unit,
        description=instrument.description,
    )
