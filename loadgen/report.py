"""What a run shows people: tables and sentences on a terminal.

Rule: a number stands beside the one that it must be compared with, and one that cannot be trusted
is not shown at all.
"""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from loadgen.explain import Cause, Explanation
from loadgen.outcome import Outcome
from loadgen.records import summarize
from loadgen.runner import Run
from loadgen.theory import predict_by_bytes
from loadgen.verdict import Exit, Finding

__all__ = ["VOID", "milliseconds", "print_findings", "print_run", "ratio"]

VOID = "void"
_LISTED = 5  # Unexplained misses that are printed; the document has all.


def print_run(console: Console, run: Run, explanation: Explanation, predicted: float) -> None:
    """Print one run: latency by outcome and model, and the hit ratio beside its theory."""
    records = run.records
    console.print(_latency_table(run))
    lag = summarize(records.lags())
    paced = (
        "a closed loop: who would have come while others waited is missing from these times; "
        if run.plan.is_closed
        else f"lag p50 {milliseconds(lag.p50)}, p99 {milliseconds(lag.p99)} ms; "
    )
    console.print(
        f"sent {records.started:,} of {len(run.plan.rows):,} planned in {run.elapsed:.1f} s, "
        f"{records.finished / run.elapsed:,.0f} answers a second; {paced}"
        f"generator {run.cpu:.0%} of a core; plan {run.plan.sha256[:12]}, salt "
        f"{run.plan.salt or 'none'}",
        soft_wrap=True,
    )
    if not run.plan.is_closed:
        console.print(_WORDS, style="dim", soft_wrap=True)
    expiry = " (without expiry)" if explanation.counts[Cause.EXPIRED] else ""
    console.print(
        f"hit ratio {ratio(explanation.observed)}: {ratio(explanation.achievable)} was achievable, "
        f"{ratio(predicted)} was predicted{expiry}; efficiency {explanation.efficiency:.3f}",
        soft_wrap=True,
    )
    if run.plan.spelling:
        raw = ratio(predict_by_bytes(run.plan))
        console.print(f"keyed by the bytes of the body, {raw} would have been predicted")
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
    names = ["count", "p50", "p95", "p99", "max", "service p50"]
    if records.streamed:
        names.append("first byte p50")
    table = Table("requests", *names, title=_TITLE)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("all", *_cells(run, records.rows()), end_section=True)
    for outcome in Outcome:
        if records.counts[outcome]:
            table.add_row(str(outcome), *_cells(run, records.rows(outcome)))
    table.add_section()
    for model in run.plan.models:
        rows = [row for row in records.rows() if run.plan.model(row) == model]
        if rows:
            table.add_row(model, *_cells(run, rows))
    return table


_TITLE = "response (done − due) and service (done − sent), ms"
_WORDS = (
    "Response is what a user felt who came when the plan says, waiting for the generator included; "
    "service is the server's part, lag the generator's."
)


def _cells(run: Run, rows: Sequence[int]) -> list[str]:
    records = run.records
    response = summarize(records.responses(rows))
    service = summarize(records.services(rows))
    times = [response.p50, response.p95, response.p99, response.max, service.p50]
    if records.streamed:
        times.append(summarize(records.first_bytes(rows)).p50)
    return [f"{response.count:,}", *map(milliseconds, times)]
