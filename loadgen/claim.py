"""What is usually claimed of a cache before models on CPUs, beside what was measured.

Rule: the claim stands beside the figure that it is about, met or not; and since a percentile of
everything is a miss's as soon as a few per cent miss, hits, misses and everything stand apart.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rich.table import Table

from loadgen.outcome import Outcome
from loadgen.prove import Arm, Proof
from loadgen.records import Summary, summarize
from loadgen.report import VOID, milliseconds, ratio

__all__ = ["claim_sentence", "claim_table"]

# Of DistilBERT and T5-small on CPUs at 70 to 80 % hits, in ms; the last row is the quotient.
_WITHOUT, _WITH, _FASTER = ("200–500", "800–1,500"), ("5–20", "30–50"), ("10–25 ×", "15–30 ×")
_NONE = ("", "")
_CLAIMED_RATIO = "70–80 %"

_QUICK = (Outcome.HIT, Outcome.STALE)  # Who shares a miss has waited for it as well.


class _Row(NamedTuple):
    """A part of an arm's requests."""

    name: str
    summary: Summary
    is_void: bool
    claim: tuple[str, str]

    @property
    def cells(self) -> tuple[str, ...]:
        times = (self.summary.p50, self.summary.p95, self.summary.p99)
        shown = [VOID] * 3 if self.is_void else map(milliseconds, times)
        return (self.name, f"{self.summary.count:,}", *shown, *self.claim)


def claim_table(proof: Proof) -> Table | None:
    """Return the table; None if the arms that it compares were not measured."""
    without, warm = proof.arms.get("no cache"), proof.arms.get("warm Zipf")
    if without is None or warm is None:
        return None
    table = Table(title="response, ms, beside what is usually claimed")
    table.add_column("requests")
    for name in ("count", "p50", "p95", "p99", "claimed p95", "claimed p99"):
        table.add_column(name, justify="right")
    base = _part("no cache", without, (), _WITHOUT)
    table.add_row(*base.cells)
    for name in ("cold Zipf", "warm Zipf"):
        if name in proof.arms:
            table.add_section()
            for cells in _lines(name, proof.arms[name], base):
                table.add_row(*cells)
    return table


def claim_sentence(proof: Proof) -> str | None:
    """Say how the ratio of hits compares; None if that was not measured."""
    cold, warm = (proof.arms.get(name) for name in ("cold Zipf", "warm Zipf"))
    if cold is None or warm is None:
        return None
    return (
        f"Hits were {_ratios(cold)} from cold and {_ratios(warm)} once warm; {_CLAIMED_RATIO} are "
        "usually claimed, which is a number of the traffic, not of the cache."
    )


def _ratios(arm: Arm) -> str:
    found = arm.explanation
    return f"{ratio(found.observed)} (of {ratio(found.achievable)} achievable)"


def _lines(name: str, arm: Arm, base: _Row) -> Iterator[tuple[str, ...]]:
    parts = list(_parts(name, arm))
    yield from (part.cells for part in parts)
    yield from (_quotients(base, part) for part in parts if part.claim is _WITH)


def _parts(name: str, arm: Arm) -> Iterator[_Row]:
    yield _part(f"{name}, hits", arm, _QUICK, _WITH)
    yield _part(f"{name}, misses", arm, tuple(set(Outcome) - set(_QUICK)), _NONE)
    yield _part(f"{name}, all", arm, (), _WITH)


def _part(name: str, arm: Arm, outcomes: tuple[Outcome, ...], claim: tuple[str, str]) -> _Row:
    records = arm.run.records
    return _Row(name, summarize(records.responses(records.rows(*outcomes))), bool(arm.void), claim)


def _quotients(base: _Row, row: _Row) -> tuple[str, ...]:
    is_void = base.is_void or row.is_void
    pairs = (
        (base.summary.p50, row.summary.p50),
        (base.summary.p95, row.summary.p95),
        (base.summary.p99, row.summary.p99),
    )
    shown = [VOID if is_void else f"{before / after:.1f} ×" for before, after in pairs]
    return (f"no cache / {row.name}", "", *shown, *_FASTER)
