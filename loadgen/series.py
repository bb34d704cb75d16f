"""What plots are drawn from: a run over time, by percentile, by rank.

Rule: everything is counted from all requests; a point is a slice of time, and no smoothing hides
what happened in it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from loadgen.explain import Cause, Explanation
from loadgen.outcome import Outcome
from loadgen.plan import Plan
from loadgen.records import Records, percentile
from loadgen.runner import Run
from loadgen.theory import Forecast

__all__ = ["number", "run_series"]

_SLICES = 60
_SHORTEST = 0.1  # Seconds of a slice.
_NINES = 5  # The percentile curve ends at 99.999 %, if there are so many requests.
_BINS = 40  # Of ranks, on a logarithmic axis.


def run_series(run: Run, explanation: Explanation, forecast: Sequence[Forecast]) -> dict[str, Any]:
    """Return the points of all plots as JSON values; seconds, shares and counts."""
    records = run.records
    width = max(_SHORTEST, run.elapsed / _SLICES)
    count = max(1, math.ceil(run.elapsed / width))
    return {
        "slice": width,
        "time": [round((number + 1) * width, 6) for number in range(count)],
        **_rates(run, width, count),
        **_latencies(run, width, count),
        **_ratios(run, explanation, width, count),
        "predicted": {
            "time": [point.at for point in forecast],
            "ratio": [point.expected for point in forecast],
            "low": [max(0.0, point.expected - 2 * point.deviation) for point in forecast],
            "high": [min(1.0, point.expected + 2 * point.deviation) for point in forecast],
        },
        "percentiles": {
            "all": _curve(records.responses(records.rows())),
            "hit": _curve(records.responses(records.rows(Outcome.HIT, Outcome.STALE))),
            "miss": _curve(records.responses(records.rows(Outcome.MISS))),
        },
        "ranks": _ranks(run.plan, records),
    }


def _slices(moments: Iterable[float], run: Run, width: float, count: int) -> list[int]:
    slots = [0] * count
    for moment in moments:
        if not math.isnan(moment):
            slots[_slot(moment, run, width, count)] += 1
    return slots


def _slot(moment: float, run: Run, width: float, count: int) -> int:
    return min(max(int((moment - run.started) / width), 0), count - 1)


def _rates(run: Run, width: float, count: int) -> dict[str, Any]:
    records = run.records
    planned = () if run.plan.is_closed else (run.started + due for due in run.plan.rows.due)
    columns = {
        "offered": _slices(planned, run, width, count),
        "sent": _slices(records.sent, run, width, count),
        "done": _slices(records.done, run, width, count),
    }
    in_flight, level = list[int](), 0
    for sent, done in zip(columns["sent"], columns["done"], strict=True):
        level += sent - done
        in_flight.append(level)
    rates = {name: [round(n / width, 3) for n in slots] for name, slots in columns.items()}
    return {**rates, "in_flight": in_flight}


def _latencies(run: Run, width: float, count: int) -> dict[str, Any]:
    records = run.records
    responses: list[list[float]] = [[] for _ in range(count)]
    lags: list[list[float]] = [[] for _ in range(count)]
    for row in records.rows():
        slot = _slot(records.due[row], run, width, count)
        responses[slot].append(records.done[row] - records.due[row])
        lags[slot].append(records.sent[row] - records.due[row])
    for values in (*responses, *lags):
        values.sort()
    return {
        "p50": [number(percentile(values, 0.5)) for values in responses],
        "p95": [number(percentile(values, 0.95)) for values in responses],
        "p99": [number(percentile(values, 0.99)) for values in responses],
        "lag_p50": [number(percentile(values, 0.5)) for values in lags],
        "lag_max": [number(percentile(values, 1)) for values in lags],
    }


def _ratios(run: Run, explanation: Explanation, width: float, count: int) -> dict[str, Any]:
    """Return the hit ratio so far, observed and achievable, and the causes in each slice."""
    records, reuse = run.records, frozenset({Cause.HIT, Cause.STALE, Cause.COALESCED})
    asked, reused, achieved = [0] * count, [0] * count, [0] * count
    causes: dict[Cause, list[int]] = {cause: [0] * count for cause in explanation.counts}
    for row in explanation.rows:
        slot = _slot(records.due[row], run, width, count)
        cause = Cause(explanation.causes[row])
        causes[cause][slot] += 1
        asked[slot] += 1
        reused[slot] += cause in reuse
        achieved[slot] += explanation.achieved[row]
    return {
        "observed": _so_far(reused, asked),
        "achievable": _so_far(achieved, asked),
        "causes": {str(cause): slots for cause, slots in causes.items()},
    }


def _so_far(part: Sequence[int], whole: Sequence[int]) -> list[float | None]:
    ratios: list[float | None] = []
    some = total = 0
    for a, b in zip(part, whole, strict=True):
        some, total = some + a, total + b
        ratios.append(some / total if total else None)
    return ratios


def _curve(values: Iterable[float]) -> list[list[float]]:
    """Return (share, seconds) at shares that are evenly spaced by their number of nines."""
    ordered = sorted(values)
    if not ordered:
        return []
    shares = [0.0]
    steps = 12  # Per nine.
    shares += [1 - 10 ** (-step / steps) for step in range(1, _NINES * steps + 1)]
    known = [share for share in shares if (1 - share) * len(ordered) >= 1 or share == 0]
    return [[round(share, 7), percentile(ordered, share)] for share in known]


def _ranks(plan: Plan, records: Records) -> dict[str, Any]:
    """Return how often ranks were asked and how often the law would have, binned by log(rank)."""
    counts = Counter(plan.rows.items[row] for row in records.rows())
    items, total = plan.law.items, counts.total()
    edges = sorted({round(items ** (step / _BINS)) for step in range(_BINS + 1)} | {1, items + 1})
    middle, observed, expected = list[float](), list[float](), list[float]()
    for low, high in pairwise(edges):
        ranks = range(low - 1, high - 1)
        shown = ranks if len(ranks) <= 200 else ranks[:: len(ranks) // 200]
        probability = sum(map(plan.law.probability, shown)) / len(shown)
        middle.append(math.sqrt(low * max(low, high - 1)))
        observed.append(sum(counts[rank] for rank in ranks) / len(ranks))
        expected.append(probability * total)
    return {"rank": middle, "observed": observed, "expected": expected}


def number(value: float) -> float | None:
    """Return a JSON number; JSON knows no NaN."""
    return value if math.isfinite(value) else None
