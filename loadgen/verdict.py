"""The verdict: thresholds, and the exit code that a script can act on.

Rule: a run is judged on what it can show. A generator that could not keep its own schedule refuses
to speak of the server (*invalid*); where only its clock was off, latency is void and the rest
stands. A cache is judged by what was achievable with exactly this traffic, never by a bare hit
ratio.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from loadgen.explain import Cause, Explanation
from loadgen.expressions import Expression
from loadgen.figures import figure
from loadgen.records import summarize
from loadgen.runner import Run

__all__ = [
    "CHECKS",
    "Exit",
    "Finding",
    "Thresholds",
    "judge",
    "judge_cache",
    "judge_delivery",
    "lag_findings",
    "thresholds_beside",
]

_LAG_FLOOR = 0.010  # Seconds: under this, a late p99 is the scheduler of the machine.
_LAG_SHARE = 0.10  # Of the median response.
_CPU_LIMIT = 0.9  # Of one core: beyond it the generator measures itself.
_DELIVERED = 0.99

CHECKS = ("delivery", "answers", "generator", "efficiency", "unexplained", "unexpected", "metrics")


class Exit(IntEnum):
    """Exit codes; the greater one of two findings is the more fundamental one."""

    PASS = 0
    FAILED = 1  # A threshold.
    USAGE = 2
    INVALID = 3  # The generator was saturated: nothing is known about the server.
    UNREACHABLE = 4  # No target, or more than half of the answers unusable.
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a cache must reach, unless an expression says otherwise."""

    efficiency: float = 0.98
    unexplained: float = 0
    unexpected: float = 0
    errors: float = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason not to pass, in one sentence."""

    exit: Exit
    text: str
    check: str = "delivery"  # One of CHECKS, or the text of an expression.


def thresholds_beside(expressions: Sequence[Expression]) -> Thresholds:
    """Return the usual thresholds without those that an expression speaks of itself."""
    named = {metric.name for expression in expressions for metric in expression.metrics}
    thresholds = Thresholds()
    if named & {"efficiency", "hit_efficiency", "hit_ratio", "achievable"}:
        thresholds = replace(thresholds, efficiency=0.0)
    if named & {"errors", "error_rate"}:
        thresholds = replace(thresholds, errors=float("inf"))
    for name in named & {"unexplained", "unexpected"}:
        thresholds = replace(thresholds, **{name: float("inf")})
    return thresholds


def judge(
    run: Run,
    explanation: Explanation,
    thresholds: Thresholds,
    *,
    cold: bool,
    expressions: Sequence[Expression] = (),
) -> list[Finding]:
    """Judge one run on everything: delivery, lag, errors, cache, and what the user asks for."""
    if run.interrupted:
        return [Finding(Exit.INTERRUPTED, "the figures cover what was sent")]
    return [
        *judge_delivery(run, thresholds),
        *(Finding(Exit.INVALID, text, "generator") for text in lag_findings(run)),
        *judge_cache(explanation, thresholds, cold=cold),
        *_broken(run, explanation, expressions),
    ]


def _broken(
    run: Run, explanation: Explanation, expressions: Sequence[Expression]
) -> Iterator[Finding]:
    for expression in expressions:
        failure = expression.failure(lambda metric: figure(run, explanation, metric))
        if failure is not None:
            yield Finding(Exit.FAILED, failure, expression.text)


def lag_findings(run: Run) -> list[str]:
    """Say why the latencies of a run cannot be trusted; empty: they can."""
    findings: list[str] = []
    if not run.plan.is_closed:  # There nothing is due.
        lag = summarize(run.records.lags())
        response = summarize(run.records.responses(run.records.rows()))
        limit = max(_LAG_FLOOR, _LAG_SHARE * response.p50)
        if lag.p99 > limit:
            findings.append(
                f"the generator lagged: p99 {lag.p99 * 1e3:.1f} ms, over {limit * 1e3:.1f} ms"
            )
    if run.cpu > _CPU_LIMIT:
        findings.append(f"the generator was saturated: {run.cpu:.0%} of a core")
    return findings


def judge_delivery(run: Run, thresholds: Thresholds) -> Iterator[Finding]:
    """Judge whether the plan was sent and whether answers came back."""
    records = run.records
    if records.dropped:
        yield Finding(
            Exit.INVALID,
            f"{_many(records.dropped, 'request')} of the plan not sent: too many were in flight",
        )
    elif not run.plan.is_closed and records.started < _DELIVERED * len(run.plan.rows):
        yield Finding(
            Exit.INVALID, f"only {records.started} of {len(run.plan.rows)} requests were sent"
        )
    most = records.errors > records.finished / 2
    if records.errors > (0 if most else thresholds.errors):
        yield Finding(
            Exit.UNREACHABLE if most else Exit.FAILED,
            f"{records.errors} of {_many(records.finished, 'request')} got no usable answer: "
            f"{_reasons(run)}",
            "answers",
        )


def judge_cache(
    explanation: Explanation, thresholds: Thresholds, *, cold: bool
) -> Iterator[Finding]:
    """Judge a cache by what it could have reached.

    Args:
        explanation: the replay of the run.
        thresholds: what it must reach.
        cold: whether nothing but the run itself can have filled the cache.
    """
    counts = explanation.counts
    if counts and counts[Cause.UNKNOWN] == counts.total():
        yield Finding(
            Exit.FAILED,
            "the server sends no Cache-Status or X-Cache: nothing can be said about its cache",
            "efficiency",
        )
        return
    if explanation.efficiency < thresholds.efficiency:
        yield Finding(
            Exit.FAILED,
            f"hit ratio {explanation.observed:.1%} of {explanation.achievable:.1%} achievable: "
            f"efficiency {explanation.efficiency:.3f}, under {thresholds.efficiency:g}",
            "efficiency",
        )
    if len(explanation.unexplained) > thresholds.unexplained:
        yield Finding(
            Exit.FAILED,
            f"{_many(len(explanation.unexplained), 'unexplained miss', 'unexplained misses')}: "
            "asked before, still fresh, and yet not answered from the cache",
            "unexplained",
        )
    if cold and len(explanation.unexpected) > thresholds.unexpected:
        yield Finding(
            Exit.FAILED,
            f"{_many(len(explanation.unexpected), 'answer')} from the cache to what nobody had "
            "asked before: different requests share a key",
            "unexpected",
        )


def _reasons(run: Run) -> str:
    reasons = run.records.failures.copy()
    for status in run.records.status:
        if status and not 200 <= status < 300:
            reasons[f"status {status}"] += 1
    return ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))


def _many(count: int, one: str, more: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"
