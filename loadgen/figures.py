"""The figures of a run by the names that thresholds use.

Rule: each is computed from all the requests that its selectors leave, never from a sample. A figure
of nothing is NaN.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from loadgen.explain import Explanation
from loadgen.expressions import Metric
from loadgen.outcome import Outcome
from loadgen.records import Records, percentile
from loadgen.runner import Run

__all__ = ["OUTCOMES", "figure", "selected", "speed_up"]

_OUTCOMES = {str(outcome): outcome for outcome in Outcome}
OUTCOMES = frozenset(_OUTCOMES)


def figure(run: Run, explanation: Explanation, metric: Metric) -> float:
    """Return one figure; seconds, shares or counts."""
    latency = metric.latency
    if latency is not None:
        kind, part = latency
        values = sorted(_durations(run.records, kind, selected(run, metric)))
        match part:
            case "mean":
                return math.fsum(values) / len(values) if values else math.nan
            case "max":
                return percentile(values, 1)
            case _:
                return percentile(values, float(part))
    return _SCALARS[metric.name](run, explanation)


_SCALARS: Mapping[str, Callable[[Run, Explanation], float]] = {
    "achievable": lambda _, explanation: explanation.achievable,
    "coalesced": lambda run, _: run.records.counts[Outcome.COALESCED],
    "dropped": lambda run, _: run.records.dropped,
    "efficiency": lambda _, explanation: explanation.efficiency,
    "error_rate": lambda run, _: run.records.errors / max(1, run.records.finished),
    "errors": lambda run, _: run.records.errors,
    "hit_efficiency": lambda _, explanation: explanation.efficiency,
    "hit_ratio": lambda _, explanation: explanation.observed,
    "rps": lambda run, _: run.records.finished / run.elapsed,
    "speedup": lambda run, _: speed_up(run),
    "unexpected": lambda _, explanation: len(explanation.unexpected),
    "unexplained": lambda _, explanation: len(explanation.unexplained),
}


def selected(run: Run, metric: Metric) -> Sequence[int]:
    """Return the finished requests that a metric speaks of."""
    outcomes = [_OUTCOMES[word] for word in metric.selectors if word in _OUTCOMES]
    models = [word for word in metric.selectors if word not in _OUTCOMES]
    rows = run.records.rows(*outcomes)
    if models:
        rows = [row for row in rows if run.plan.model(row) in models]
    if metric.after:
        begin = run.started + metric.after
        rows = [row for row in rows if run.records.due[row] >= begin]
    return rows


def speed_up(run: Run) -> float:
    """Return the median service time of a miss by that of a hit; NaN where one is missing."""
    miss, hit = (
        percentile(sorted(run.records.services(run.records.rows(outcome))), 0.5)
        for outcome in (Outcome.MISS, Outcome.HIT)
    )
    return miss / hit if hit else math.nan


def _durations(records: Records, kind: str, rows: Sequence[int]) -> Sequence[float]:
    match kind:
        case "service":
            return records.services(rows)
        case "lag":
            return records.lags(rows)
        case "first_byte":
            return records.first_bytes(rows)
        case _:
            return records.responses(rows)
