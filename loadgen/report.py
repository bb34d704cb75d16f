"""What a run leaves behind: tables for people, a document for programs.

Rule: a number stands beside the one that it must be compared with, and one that cannot be trusted
is not shown at all.
"""

import math
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from loadgen.catalogue import MODELS
from loadgen.explain import Cause, Explanation
from loadgen.outcome import Outcome
from loadgen.plan import Plan
from loadgen.records import Records, Summary, summarize
from loadgen.runner import Run
from loadgen.verdict import Exit, Finding

__all__ = [
    "VOID",
    "environment",
    "milliseconds",
    "plan_document",
    "print_findings",
    "print_run",
    "ratio",
    "run_document",
    "summary_document",
]

VOID = "void"
_LISTED = 5  # Unexplained misses that are printed; the document has all.


def print_run(console: Console, run: Run, explanation: Explanation, predicted: float) -> None:
    """Print one run: latency by outcome and model, and the hit ratio beside its theory."""
    records = run.records
    console.print(_latency_table(run))
    lag = summarize(records.lags())
    console.print(
        f"sent {records.started:,} of {len(run.plan.rows):,} planned in {run.elapsed:.1f} s; "
        f"lag p50 {milliseconds(lag.p50)}, p99 {milliseconds(lag.p99)} ms; "
        f"generator {run.cpu:.0%} of a core; plan {run.plan.sha256[:12]}, salt "
        f"{run.plan.salt or 'none'}",
        soft_wrap=True,
    )
    expiry = " (without expiry)" if explanation.counts[Cause.EXPIRED] else ""
    console.print(
        f"hit ratio {ratio(explanation.observed)}: {ratio(explanation.achievable)} was achievable, "
        f"{ratio(predicted)} was predicted{expiry}; efficiency {explanation.efficiency:.3f}",
        soft_wrap=True,
    )
    causes = ", ".join(f"{cause} {count:,}" for cause, count in explanation.counts.most_common())
    console.print(f"causes: {causes or 'none'}", soft_wrap=True)
    odd = {"unexplained": explanation.unexplained, "unexpected": explanation.unexpected}
    for what, rows in odd.items():
        for row in rows[:_LISTED]:
            model, item = run.plan.key(row)
            spelling = "respelled" if run.plan.rows.respelled[row] else "plain"
            console.print(f"  {what}: {model} item {item}, {spelling}, request {row}")


def print_findings(console: Console, findings: Sequence[Finding]) -> Exit:
    """Print the verdict and return its exit code."""
    code = max((finding.exit for finding in findings), default=Exit.PASS)
    for finding in findings:
        console.print(f"{finding.exit.name}: {finding.text}", style="bold red", soft_wrap=True)
    if code is Exit.PASS:
        console.print("PASS", style="bold green")
    return code


def milliseconds(seconds: float) -> str:
    """Spell a duration in milliseconds, without the unit."""
    return "–" if math.isnan(seconds) else f"{seconds * 1e3:.1f}"


def ratio(share: float) -> str:
    """Spell a share as a percentage."""
    return "–" if math.isnan(share) else f"{share:.1%}"


def _latency_table(run: Run) -> Table:
    records = run.records
    table = Table("requests", "count", "p50", "p95", "p99", "max", "service p50", title=_TITLE)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("all", *_cells(records, records.rows()), end_section=True)
    for outcome in Outcome:
        if records.counts[outcome]:
            table.add_row(str(outcome), *_cells(records, records.rows(outcome)))
    table.add_section()
    for model in MODELS:
        rows = [row for row in records.rows() if run.plan.rows.models[row] == model]
        if rows:
            table.add_row(model, *_cells(records, rows))
    return table


_TITLE = "response (done − due) and service (done − sent), ms"


def _cells(records: Records, rows: Sequence[int]) -> list[str]:
    response = summarize(records.responses(rows))
    service = summarize(records.services(rows))
    times = (response.p50, response.p95, response.p99, response.max, service.p50)
    return [f"{response.count:,}", *map(milliseconds, times)]


def run_document(run: Run, explanation: Explanation, predicted: float) -> dict[str, Any]:
    """Return everything about a run as JSON values; seconds and shares, null for what is not."""
    records = run.records
    return {
        "plan": plan_document(run.plan),
        "sent": records.started,
        "finished": records.finished,
        "dropped": records.dropped,
        "retried": records.retried,
        "errors": records.errors,
        "failures": dict(records.failures),
        "elapsed": run.elapsed,
        "cpu": run.cpu,
        "interrupted": run.interrupted,
        "response": summary_document(summarize(records.responses(records.rows()))),
        "service": summary_document(summarize(records.services(records.rows()))),
        "lag": summary_document(summarize(records.lags())),
        "outcomes": {
            str(outcome): {
                "count": records.counts[outcome],
                "service": summary_document(summarize(records.services(records.rows(outcome)))),
            }
            for outcome in Outcome
            if records.counts[outcome]
        },
        "hit_ratio": {
            "observed": _number(explanation.observed),
            "achievable": _number(explanation.achievable),
            "predicted": _number(predicted),
            "efficiency": _number(explanation.efficiency),
        },
        "ttl": _number(explanation.ttl),
        "causes": {str(cause): explanation.counts[cause] for cause in Cause},
        "unexplained": [_request_document(run.plan, row) for row in explanation.unexplained],
        "unexpected": [_request_document(run.plan, row) for row in explanation.unexpected],
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return what was to be sent."""
    return {
        "law": str(plan.law),
        "items": plan.law.items,
        "arrivals": str(plan.arrivals),
        "rate": plan.arrivals.rate,
        "duration": plan.duration,
        "mix": dict(plan.mix),
        "spelling": plan.spelling,
        "seed": plan.seed,
        "salt": plan.salt,
        "bypass": plan.bypass,
        "requests": len(plan.rows),
        "sha256": plan.sha256,
    }


def environment() -> dict[str, Any]:
    """Return what the numbers depend on beside the plan."""
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def summary_document(summary: Summary) -> dict[str, float | int | None]:
    """Return percentiles in seconds."""
    return {
        "count": summary.count,
        "p50": _number(summary.p50),
        "p95": _number(summary.p95),
        "p99": _number(summary.p99),
        "max": _number(summary.max),
    }


def _request_document(plan: Plan, row: int) -> dict[str, Any]:
    model, item = plan.key(row)
    return {"request": row, "model": model, "item": item, "respelled": plan.rows.respelled[row]}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON knows no NaN.
