"""Files for other tools: each request as CSV, the latencies as an HdrHistogram plot file.

Rule: exact values. The ``.hgrm`` format is a text of percentiles, so a sorted list writes it as
well as a histogram, without its rounding.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from typing import TextIO

from loadgen.explain import Cause, Explanation
from loadgen.outcome import Outcome
from loadgen.records import percentile
from loadgen.runner import Run

__all__ = ["write_csv", "write_hgrm"]

_FIELDS = (
    "request", "model", "item", "respelled", "due", "sent", "first_byte", "done", "status",
    "outcome", "cause",
)  # fmt: skip
_TICKS_PER_HALF = 5  # Percentiles between 50 and 75, 75 and 87.5 and so on, as HdrHistogram does.


def write_csv(run: Run, explanation: Explanation, file: TextIO) -> None:
    """Write one line per planned request; seconds from the start of the run, empty: it had none."""
    records, plan = run.records, run.plan
    writer = csv.writer(file)
    writer.writerow(_FIELDS)
    for row in range(len(plan.rows)):
        sent, cause = not math.isnan(records.sent[row]), explanation.causes[row]
        moments = (records.due[row], records.sent[row], records.first[row], records.done[row])
        writer.writerow([
            row,
            plan.model(row),
            plan.rows.items[row],
            plan.rows.respelled[row],
            *(_moment(moment, run.started) for moment in moments),
            records.status[row] or "",
            Outcome(records.outcome[row]) if sent and cause >= 0 else "",
            Cause(cause) if cause >= 0 else "",
        ])  # fmt: skip


def _moment(moment: float, started: float) -> str:
    return "" if math.isnan(moment) else f"{moment - started:.6f}"


def write_hgrm(run: Run, file: TextIO) -> None:
    """Write the percentiles of the response times in ms, as the HdrHistogram plotter reads them."""
    ordered = sorted(run.records.responses(run.records.rows()))
    file.write("       Value     Percentile TotalCount 1/(1-Percentile)\n\n")
    for share in _shares(len(ordered)):
        value, rank = percentile(ordered, share), max(1, math.ceil(share * len(ordered)))
        tail = f" {1 / (1 - share):14.2f}" if share < 1 else ""
        file.write(f"{value * 1e3:12.3f} {share:14.12f} {rank:10d}{tail}\n")
    file.write(_footer(ordered))


def _shares(count: int) -> Iterator[float]:
    share, half = 0.0, 1.0
    while count and (1 - share) * count >= 1:
        yield share
        share += half / 2 / _TICKS_PER_HALF
        if 1 - share <= half / 2 + 1e-12:
            half /= 2
    if count:
        yield 1.0


def _footer(ordered: Sequence[float]) -> str:
    count = len(ordered)
    mean = math.fsum(ordered) / count if count else 0.0
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in ordered) / count) if count else 0.0
    highest = ordered[-1] if ordered else 0.0
    return (
        f"#[Mean    = {mean * 1e3:12.3f}, StdDeviation   = {deviation * 1e3:12.3f}]\n"
        f"#[Max     = {highest * 1e3:12.3f}, Total count    = {count:12d}]\n"
    )
