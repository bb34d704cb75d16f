"""What a run leaves to programs: one JSON document, described by ``run.schema.json``.

Rule: the document is enough to draw the report and to compare two runs again, on another machine,
without the requests themselves. Seconds and shares; null for what is not.
"""

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from loadgen.explain import Cause, Explanation
from loadgen.figures import speed_up
from loadgen.outcome import Outcome
from loadgen.plan import Plan
from loadgen.records import Summary, summarize
from loadgen.runner import Run
from loadgen.series import number, run_series
from loadgen.theory import CacheModel, Forecast
from loadgen.verdict import Exit, Finding

__all__ = ["SCHEMA", "SCHEMA_FILE", "run_document", "sealed", "summary_document"]

SCHEMA = "memoserve.loadgen/2"  # Bump the number when a field changes its meaning.
SCHEMA_FILE = Path(__file__).with_name("run.schema.json")
_LISTED = 1000  # Unexplained misses by name.


def run_document(
    run: Run,
    explanation: Explanation,
    predicted: float,
    forecast: Sequence[Forecast] = (),
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return everything about a run as JSON values."""
    return {
        "plan": plan_document(run.plan),
        **_delivery(run),
        **_latencies(run),
        **_reuse(explanation, predicted),
        "speedup": number(speed_up(run)),
        **_misses(run.plan, explanation),
        "warnings": list(warnings),
        "series": run_series(run, explanation, forecast),
    }


def sealed(document: Mapping[str, Any], findings: Sequence[Finding], code: Exit) -> dict[str, Any]:
    """Return a document with its schema, its verdict and what it was measured with."""
    return {
        "schema": SCHEMA,
        "environment": _environment(),
        "verdict": {"exit": int(code), "findings": [finding.text for finding in findings]},
        **document,
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return what was to be sent."""
    return {
        "law": str(plan.law),
        "items": plan.law.items,
        "arrivals": str(plan.arrivals),
        "rate": number(plan.arrivals.rate),
        "duration": plan.duration,
        "mix": dict(plan.shares),
        "spelling": plan.spelling,
        "churn": None if plan.churn is None else str(plan.churn),
        "seed": plan.seed,
        "salt": plan.salt,
        "bypass": plan.bypass,
        "requests": len(plan.rows),
        "sha256": plan.sha256,
    }


def summary_document(summary: Summary) -> dict[str, float | int | None]:
    """Return percentiles in seconds."""
    return {
        "count": summary.count,
        "mean": number(summary.mean),
        "p50": number(summary.p50),
        "p90": number(summary.p90),
        "p95": number(summary.p95),
        "p99": number(summary.p99),
        "p99.9": number(summary.p999),
        "max": number(summary.max),
    }


def cache_model(explanation: Explanation) -> CacheModel:
    """Return the model that a run was replayed through."""
    return CacheModel(explanation.ttl, explanation.capacity)


def _delivery(run: Run) -> dict[str, Any]:
    """Return what was sent and came back."""
    records = run.records
    return {
        "sent": records.started,
        "finished": records.finished,
        "dropped": records.dropped,
        "retried": records.retried,
        "streamed": records.streamed,
        "errors": records.errors,
        "failures": dict(records.failures),
        "elapsed": run.elapsed,
        "rps": records.finished / run.elapsed,
        "cpu": run.cpu,
        "workers": run.workers,
        "interrupted": run.interrupted,
    }


def _latencies(run: Run) -> dict[str, Any]:
    """Return how long it took, all in all, by outcome and by model."""
    records, rows = run.records, run.records.rows()
    return {
        "response": summary_document(summarize(records.responses(rows))),
        "service": summary_document(summarize(records.services(rows))),
        "first_byte": summary_document(summarize(records.first_bytes(rows))),
        "lag": summary_document(summarize(records.lags())),
        "outcomes": {
            str(outcome): _group(run, records.rows(outcome))
            for outcome in Outcome
            if records.counts[outcome]
        },
        "models": {
            model: _group(run, asked)
            for model in run.plan.models
            if (asked := [row for row in rows if run.plan.model(row) == model])
        },
    }


def _reuse(explanation: Explanation, predicted: float) -> dict[str, Any]:
    """Return what the cache did of what it could have done."""
    return {
        "hit_ratio": {
            "observed": number(explanation.observed),
            "achievable": number(explanation.achievable),
            "predicted": number(predicted),
            "efficiency": number(explanation.efficiency),
        },
        "cache": {"ttl": number(explanation.ttl), "capacity": explanation.capacity},
    }


def _misses(plan: Plan, explanation: Explanation) -> dict[str, Any]:
    """Return why misses were misses, and which of them nobody can explain."""
    return {
        "causes": {str(cause): explanation.counts[cause] for cause in Cause},
        "unexplained_count": len(explanation.unexplained),
        "unexplained": _named(plan, explanation.unexplained),
        "unexpected_count": len(explanation.unexpected),
        "unexpected": _named(plan, explanation.unexpected),
    }


def _group(run: Run, rows: Sequence[int]) -> dict[str, Any]:
    return {
        "count": len(rows),
        "response": summary_document(summarize(run.records.responses(rows))),
        "service": summary_document(summarize(run.records.services(rows))),
    }


def _named(plan: Plan, rows: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "request": row,
            "model": plan.model(row),
            "item": plan.rows.items[row],
            "respelled": bool(plan.rows.respelled[row]),
        }
        for row in rows[:_LISTED]
    ]


def _environment() -> dict[str, Any]:
    return {
        "command": shlex.join(_command()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in ("httpx", "httpcore")},
    }


def _command() -> list[str]:
    program = Path(sys.argv[0])
    # Python puts the path of a file in the place of `-m loadgen`.
    as_module = program.parts[-2:] == ("loadgen", "__main__.py")
    return ["python", "-m", "loadgen", *sys.argv[1:]] if as_module else sys.argv
