"""One set of numbers from those of several processes.

Rule: what is counted stays counted when its process has ended; what is measured at a moment
(`updown`, `gauge`) ends with it. What all processes read in one and the same place is taken once.
"""

from collections.abc import Iterable

from memoserve.telemetry import INSTRUMENTS, Kind
from memoserve.telemetry._ledger import Series, Totals, Values

__all__ = ["fold", "lasting"]

_KINDS: dict[str, Kind] = {instrument.name: instrument.kind for instrument in INSTRUMENTS}


def fold(parts: Iterable[Totals]) -> Totals:
    """Return the numbers of several processes as one; unknown instruments are left out."""
    folded: dict[str, dict[Values, Series]] = {}
    for part in parts:
        for name, series in part.items():
            if name in _KINDS:
                _add(folded.setdefault(name, {}), series, _KINDS[name])
    return {name: list(series.values()) for name, series in folded.items()}


def lasting(totals: Totals) -> Totals:
    """Return what must be kept of a process that has ended."""
    return {
        name: kept
        for name, series in totals.items()
        if _KINDS.get(name) in ("counter", "histogram")
        and (kept := [each for each in series if not each.is_shared])
    }


def _add(into: dict[Values, Series], series: list[Series], kind: Kind) -> None:
    for each in series:
        known = into.get(each.values)
        if known is None or len(known.counts) != len(each.counts):  # Other buckets: the newer.
            into[each.values] = Series(each.values, each.number, each.counts.copy(), each.is_shared)
        elif kind == "gauge" or each.is_shared:
            known.number = max(known.number, each.number)
        else:
            known.number += each.number
            known.counts = [a + b for a, b in zip(known.counts, each.counts, strict=True)]
