"""The numbers behind the catalogue, added up in this process.

Rule: an event costs a dictionary entry and a bisection, whoever reads the numbers later and how
often (a synchronous record of OpenTelemetry's costs ten to forty times as much). The number of
series is bounded here, whatever names come in.
"""

import logging
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

from memoserve.telemetry import Instrument

__all__ = ["Histogram", "Ledger", "Names", "Reading", "Series", "Tally", "Totals"]

_logger = logging.getLogger("memoserve")

# Names come from the configuration, so that a hundred are plenty; but a name that got in from
# outside must not make series without end.
_MAX_NAMES = 100
_OTHER = "other"

Values = tuple[str, ...]  # Of an instrument's attributes in their order; an empty one is absent.


class Series(msgspec.Struct, array_like=True, omit_defaults=True):
    """One series: a number, or the buckets and the sum of a histogram."""

    values: Values
    number: float  # Of a histogram the sum.
    counts: list[int] = []  # Of each bucket alone, the one without a bound last.
    is_shared: bool = False  # Every process reads this number in one and the same place.


Totals = dict[str, list[Series]]  # By the instrument's name in the catalogue.
Reading = Callable[[], Iterable[Series]]


class Names(dict[str, str]):
    """The values that one attribute has had, and `other` for all that come when it is full.

    Args:
        begin: Called with each value when it comes for the first time.
        overflow: Called when a value comes that has no place.
    """

    def __init__(self, begin: Callable[[str], None], overflow: Callable[[], None]) -> None:
        super().__init__()
        self._begin = begin
        self._overflow = overflow

    def __missing__(self, name: str) -> str:
        if len(self) >= _MAX_NAMES:
            self._overflow()
            return _OTHER
        self._begin(name)
        return self.setdefault(name, name)


class Tally:
    """The numbers of a counter or of a gauge that goes up and down."""

    __slots__ = ("_lock", "_numbers")

    def __init__(self) -> None:
        self._numbers = defaultdict[Values, float](int)
        self._lock = threading.Lock()

    def add(self, amount: float, values: Values) -> None:
        """Add to the number of these attribute values."""
        with self._lock:
            self._numbers[values] += amount

    def read(self) -> list[Series]:
        """Return every number."""
        with self._lock:
            return [Series(values, number) for values, number in self._numbers.items()]


class Histogram:
    """Counts by bucket, and their sum.

    Attributes:
        record_too: Called with each value and its attributes, too.
    """

    __slots__ = ("_bounds", "_lock", "_series", "record_too")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.record_too: Callable[[float, Values], None] | None = None
        self._bounds = bounds
        self._series: dict[Values, Series] = {}
        self._lock = threading.Lock()

    def record(self, value: float, values: Values) -> None:
        """Count a value; a bucket holds what is at most its bound."""
        with self._lock:
            series = self._series.get(values)
            if series is None:
                counts = [0] * (len(self._bounds) + 1)
                series = self._series[values] = Series(values, 0.0, counts)
            series.counts[bisect_left(self._bounds, value)] += 1
            series.number += value
        if self.record_too is not None:
            self.record_too(value, values)

    def read(self) -> list[Series]:
        """Return every series as it is at this moment."""
        with self._lock:
            return [
                Series(series.values, series.number, series.counts.copy())
                for series in self._series.values()
            ]


class Ledger:
    """All instruments of one process that are fed, and their numbers."""

    def __init__(self) -> None:
        self.readings: dict[Instrument, Reading] = {}
        self._failed: set[str] = set()

    def tally(self, instrument: Instrument) -> Tally:
        """Begin a counter or gauge whose numbers are kept here."""
        tally = Tally()
        self.readings[instrument] = tally.read
        return tally

    def histogram(self, instrument: Instrument) -> Histogram:
        """Begin a histogram."""
        histogram = Histogram(instrument.buckets)
        self.readings[instrument] = histogram.read
        return histogram

    def reading(self, instrument: Instrument, read: Reading) -> None:
        """Begin a counter or gauge whose numbers are kept elsewhere."""
        self.readings[instrument] = read

    def read(self, instrument: Instrument) -> list[Series]:
        """Return an instrument's numbers: none, and a line in the log, if that fails."""
        try:
            return list(self.readings[instrument]())
        except Exception:
            if instrument.name not in self._failed:
                self._failed.add(instrument.name)
                _logger.exception("%s cannot be read; this is logged once", instrument.name)
            return []

    def totals(self) -> Totals:
        """Return the numbers of all instruments that have any."""
        read = ((instrument.name, self.read(instrument)) for instrument in self.readings)
        return {name: series for name, series in read if series}
