"""What the beginning and the end of each request add to.

Rule: one lock and one entry for each of the two, since every hit waits for them. Whatever follows
from these numbers (how many requests are under way) is reckoned when somebody reads it.
"""

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

from memoserve.telemetry._ledger import Series, Values

__all__ = ["Requests"]


class _Kind:
    """The requests that ended with the same attributes."""

    __slots__ = ("counts", "saved", "seconds")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.seconds = 0.0
        self.saved = 0.0


class Requests:
    """Counts requests as they begin and by how they ended, with their durations.

    Args:
        bounds: Of the durations' buckets, in seconds.

    Attributes:
        record_too: Called with each duration and its attributes, too.
    """

    __slots__ = ("_bounds", "_kinds", "_lock", "_started", "record_too")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.record_too: Callable[[float, Values], None] | None = None
        self._bounds = bounds
        self._started = defaultdict[str, int](int)  # By model.
        self._kinds: dict[Values, _Kind] = {}
        self._lock = threading.Lock()

    def start(self, model: str) -> None:
        """Count a request of a model."""
        with self._lock:
            self._started[model] += 1

    def finish(self, values: Values, seconds: float, saved: float) -> None:
        """Count how it ended: its attributes, of which the model is the first, and its duration.

        `saved` are the seconds of the model that it cost another request, if it cost this one none.
        """
        with self._lock:
            kind = self._kinds.get(values)
            if kind is None:
                kind = self._kinds[values] = _Kind(len(self._bounds) + 1)
            kind.counts[bisect_left(self._bounds, seconds)] += 1
            kind.seconds += seconds
            kind.saved += saved
        if self.record_too is not None:
            self.record_too(seconds, values)

    def durations(self) -> list[Series]:
        """Return the histogram of the requests that have ended."""
        with self._lock:
            return [
                Series(values, kind.seconds, kind.counts.copy())
                for values, kind in self._kinds.items()
            ]

    def active(self) -> list[Series]:
        """Return how many requests of each model are under way."""
        with self._lock:
            numbers = dict(self._started)
            for (model, *_), kind in self._kinds.items():
                numbers[model] = numbers.get(model, 0) - sum(kind.counts)
        return [Series((model,), number) for model, number in numbers.items()]

    def saved(self) -> list[Series]:
        """Return the seconds of each model that were saved; 0 from its first request on."""
        with self._lock:
            numbers = dict.fromkeys(self._started, 0.0)
            for (model, *_), kind in self._kinds.items():
                numbers[model] = numbers.get(model, 0.0) + kind.saved
        return [Series((model,), number) for model, number in numbers.items()]
