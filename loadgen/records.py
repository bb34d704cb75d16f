"""What was measured: one row per planned request, in columns of machine numbers.

Rule: all times are of one clock. *Response* (done - due) is what a user who came when the plan said
would have waited, and is the headline; *service* (done - sent) is what the server and the network
took; *lag* (sent - due) is the generator's own fault; *first byte* is when the body began.
Percentiles are exact: every value is kept, 60 bytes a request, and sorted.
"""

import math
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.outcome import REUSE, CacheStatus, Outcome

__all__ = ["Batch", "Records", "Summary", "percentile", "summarize"]

_NAN = math.nan
_RECENT = 400  # Answers that the live view looks back on.
_COLUMNS = ("due", "sent", "first", "done", "status", "outcome", "ttl")


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows that have ended since the last batch, on their way between processes."""

    rows: "array[int]"
    columns: tuple[Any, ...]  # Arrays, in the order of `_COLUMNS`.
    started: int
    dropped: int
    retried: int
    streamed: int
    failures: "Counter[str]"


class Records:
    """The measurements of one run; a row that was not sent has a NaN for its times.

    Args:
        rows: how many requests are planned.
        journal: keep a list of what has ended, for `take`.
    """

    def __init__(self, rows: int, *, journal: bool = False) -> None:
        self.due = array("d", [_NAN]) * rows
        self.sent = array("d", [_NAN]) * rows
        self.first = array("d", [_NAN]) * rows  # First byte of the body.
        self.done = array("d", [_NAN]) * rows
        self.status = array("h", [0]) * rows  # 0: no answer at all.
        self.outcome = array("b", [Outcome.UNKNOWN]) * rows
        self.ttl = array("d", [_NAN]) * rows  # As the answer's Cache-Status gives it.
        self.dropped = 0
        self.retried = 0
        self.streamed = 0  # Answers that are event streams.
        self.failures: Counter[str] = Counter()
        self.counts: Counter[Outcome] = Counter()
        self.started = 0
        self.recent: deque[float] = deque(maxlen=_RECENT)
        self.recent_hits: deque[float] = deque(maxlen=_RECENT)
        self.recent_misses: deque[float] = deque(maxlen=_RECENT)
        self._journal = array("q") if journal else None

    def __len__(self) -> int:
        return len(self.due)

    def send(self, row: int, *, due: float, now: float) -> None:
        """Note that a request goes out."""
        self.due[row] = due
        self.sent[row] = now
        self.started += 1

    def answer(
        self,
        row: int,
        *,
        now: float,
        status: int,
        cache: CacheStatus,
        first: float | None = None,
        retried: bool = False,
        streamed: bool = False,
    ) -> None:
        """Note a complete answer, of any status."""
        self.status[row] = status
        self.retried += retried
        self.streamed += streamed
        if first is not None:
            self.first[row] = first
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

    def take(self) -> Batch:
        """Return what has ended since the last call; the records must keep a journal."""
        rows, self._journal = self._journal or array("q"), array("q")
        columns = tuple(_chosen(getattr(self, name), rows) for name in _COLUMNS)
        failures, self.failures = self.failures, Counter()
        return Batch(
            rows, columns, self.started, self.dropped, self.retried, self.streamed, failures
        )

    def put(self, batch: Batch) -> None:
        """Take over the rows of a batch; the counters are the caller's, who knows all workers."""
        for name, values in zip(_COLUMNS, batch.columns, strict=True):
            column = getattr(self, name)
            for row, value in zip(batch.rows, values, strict=True):
                column[row] = value
        self.failures.update(batch.failures)
        for row in batch.rows:
            self._count(row)

    @property
    def finished(self) -> int:
        """How many requests have ended, well or not."""
        return self.counts.total()

    @property
    def errors(self) -> int:
        """How many of the finished requests have no 2xx answer that can be used."""
        bad = sum(1 for status in self.status if status and not 200 <= status < 300)
        return bad + self.failures.total()

    @property
    def observed(self) -> float:
        """Share of the finished requests that the cache answered."""
        return sum(self.counts[outcome] for outcome in REUSE) / max(1, self.finished)

    def rows(self, *outcomes: Outcome) -> list[int]:
        """Return the finished rows, of all outcomes or of some."""
        wanted = frozenset(outcomes or Outcome)
        return [
            row
            for row, done in enumerate(self.done)
            if done == done and self.outcome[row] in wanted  # noqa: PLR0124  (not NaN, fast)
        ]

    def responses(self, rows: Iterable[int]) -> list[float]:
        """Return done - due of some rows, in seconds."""
        return [self.done[row] - self.due[row] for row in rows]

    def services(self, rows: Iterable[int]) -> list[float]:
        """Return done - sent of some rows, in seconds."""
        return [self.done[row] - self.sent[row] for row in rows]

    def first_bytes(self, rows: Iterable[int]) -> list[float]:
        """Return first byte - due of those rows that had one, in seconds."""
        pairs = ((self.first[row], self.due[row]) for row in rows)
        return [first - due for first, due in pairs if not math.isnan(first)]

    def lags(self, rows: Iterable[int] | None = None) -> list[float]:
        """Return sent - due of all that was sent, or of some, in seconds."""
        chosen = range(len(self)) if rows is None else rows
        pairs = ((self.sent[row], self.due[row]) for row in chosen)
        return [sent - due for sent, due in pairs if not math.isnan(sent)]

    def _finish(self, row: int, now: float, outcome: Outcome) -> None:
        self.done[row] = now
        self.outcome[row] = outcome
        self._count(row)

    def _count(self, row: int) -> None:
        outcome = Outcome(self.outcome[row])
        self.counts[outcome] += 1
        if self._journal is not None:
            self._journal.append(row)
        response = self.done[row] - self.due[row]
        self.recent.append(response)
        if outcome is Outcome.HIT:
            self.recent_hits.append(response)
        elif outcome is Outcome.MISS:
            self.recent_misses.append(response)


def _chosen(column: Any, rows: Iterable[int]) -> Any:
    chosen = column[:0]  # Of the same type.
    chosen.extend(column[row] for row in rows)
    return chosen


@dataclass(frozen=True, slots=True)
class Summary:
    """Exact percentiles of some durations, in seconds; NaN where there were none."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float


def summarize(durations: Iterable[float]) -> Summary:
    """Sort once, read all percentiles."""
    ordered = sorted(durations)
    return Summary(
        len(ordered),
        mean=math.fsum(ordered) / len(ordered) if ordered else _NAN,
        p50=percentile(ordered, 0.5),
        p90=percentile(ordered, 0.9),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        p999=percentile(ordered, 0.999),
        max=percentile(ordered, 1),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the sorted values do not exceed."""
    if not ordered:
        return _NAN
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
