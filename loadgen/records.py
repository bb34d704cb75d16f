"""What was measured: one row per planned request, in columns of machine numbers.

Rule: three times per request, all of one clock. *Response* (done - due) is what a user who came
when the plan said would have waited, and is the headline; *service* (done - sent) is what the
server and the network took; *lag* (sent - due) is the generator's own fault. Percentiles are exact:
every value is kept, 48 bytes a request, and sorted.
"""

import math
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadgen.outcome import CacheStatus, Outcome

__all__ = ["Records", "Summary", "percentile", "summarize"]

_NAN = math.nan
_RECENT = 400  # Response times that the live view looks back on.


class Records:
    """The measurements of one run; a row that was not sent has a NaN for its times."""

    def __init__(self, rows: int) -> None:
        self.due = array("d", [_NAN]) * rows
        self.sent = array("d", [_NAN]) * rows
        self.done = array("d", [_NAN]) * rows
        self.status = array("h", [0]) * rows  # 0: no answer at all.
        self.outcome = array("b", [Outcome.UNKNOWN]) * rows
        self.ttl = array("d", [_NAN]) * rows  # As the answer's Cache-Status gives it.
        self.dropped = 0
        self.retried = 0
        self.failures: Counter[str] = Counter()
        self.counts: Counter[Outcome] = Counter()
        self.started = 0
        self.recent: deque[float] = deque(maxlen=_RECENT)

    def __len__(self) -> int:
        return len(self.due)

    def send(self, row: int, *, due: float, now: float) -> None:
        """Note that a request goes out."""
        self.due[row] = due
        self.sent[row] = now
        self.started += 1

    def answer(
        self, row: int, *, now: float, status: int, cache: CacheStatus, retried: bool = False
    ) -> None:
        """Note a complete answer, of any status."""
        self.status[row] = status
        self.retried += retried
        if cache.ttl is not None:
            self.ttl[row] = cache.ttl
        self._finish(row, now, cache.outcome)

    def fail(self, row: int, *, now: float, reason: str) -> None:
        """Note that no usable answer came."""
        self.failures[reason] += 1
        self._finish(row, now, Outcome.ERROR)

    def drop(self) -> None:
        """Note that a request was due and could not be sent: too many were in flight."""
        self.dropped += 1

    @property
    def finished(self) -> int:
        """How many requests have ended, well or not."""
        return self.counts.total()

    @property
    def errors(self) -> int:
        """How many of the finished requests have no 2xx answer that can be used."""
        bad = sum(1 for status in self.status if status and not 200 <= status < 300)
        return bad + self.failures.total()

    def rows(self, *outcomes: Outcome) -> list[int]:
        """Return the finished rows, of all outcomes or of some."""
        wanted = frozenset(outcomes or Outcome)
        return [
            row
            for row, done in enumerate(self.done)
            if not math.isnan(done) and self.outcome[row] in wanted
        ]

    def responses(self, rows: Iterable[int]) -> list[float]:
        """Return done - due of some rows, in seconds."""
        return [self.done[row] - self.due[row] for row in rows]

    def services(self, rows: Iterable[int]) -> list[float]:
        """Return done - sent of some rows, in seconds."""
        return [self.done[row] - self.sent[row] for row in rows]

    def lags(self) -> list[float]:
        """Return sent - due of all that was sent, in seconds."""
        pairs = zip(self.sent, self.due, strict=True)
        return [sent - due for sent, due in pairs if not math.isnan(sent)]

    def _finish(self, row: int, now: float, outcome: Outcome) -> None:
        self.done[row] = now
        self.outcome[row] = outcome
        self.counts[outcome] += 1
        self.recent.append(now - self.due[row])


@dataclass(frozen=True, slots=True)
class Summary:
    """Exact percentiles of some durations, in seconds; NaN where there were none."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


def summarize(durations: Iterable[float]) -> Summary:
    """Sort once, read all percentiles."""
    ordered = sorted(durations)
    return Summary(
        len(ordered),
        p50=percentile(ordered, 0.5),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        max=percentile(ordered, 1),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the sorted values do not exceed."""
    if not ordered:
        return _NAN
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
