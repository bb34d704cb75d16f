"""The view of a run while it lasts.

Rule: watching must not disturb. It runs in the parent, which sends nothing; it computes counters
and percentiles of the last few hundred answers, twice a second on a terminal, and writes a plain
line every five seconds elsewhere.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from loadgen.outcome import Outcome
from loadgen.records import Records, summarize
from loadgen.theory import Forecast

__all__ = ["sparkline", "status_line", "watching"]

_TERMINAL_INTERVAL = 0.5
_PLAIN_INTERVAL = 5.0
_HISTORY = 60  # Points of a sparkline.
_BARS = "▁▂▃▄▅▆▇█"

Watch = Callable[[Records], None]


@asynccontextmanager
async def watching(
    console: Console, title: str, forecast: Sequence[Forecast] = ()
) -> AsyncGenerator[Watch]:
    """Show the records that the yielded callable is given, until the block ends."""
    seen: list[Records] = []
    if console.is_terminal:
        task = asyncio.create_task(_show_on_terminal(console, title, seen, forecast))
    else:
        task = asyncio.create_task(_show_plainly(console, title, seen))
    try:
        yield seen.append
    finally:
        task.cancel()
        await asyncio.wait({task})
        if seen and not console.is_terminal:
            console.print(status_line(title, seen[-1]), soft_wrap=True)


async def _show_plainly(console: Console, title: str, seen: list[Records]) -> None:
    while True:
        await asyncio.sleep(_PLAIN_INTERVAL)
        if seen:
            console.print(status_line(title, seen[-1]), soft_wrap=True)


async def _show_on_terminal(
    console: Console, title: str, seen: list[Records], forecast: Sequence[Forecast]
) -> None:
    view = _View(title, forecast)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(_TERMINAL_INTERVAL)
            if seen:
                live.update(view.drawn(seen[-1]), refresh=True)


class _View:
    """What changes from one refresh to the next."""

    def __init__(self, title: str, forecast: Sequence[Forecast]) -> None:
        self._title = title
        self._forecast = forecast
        self._ratios: deque[float] = deque(maxlen=_HISTORY)
        self._before = (0, 0)

    def drawn(self, records: Records) -> Table:
        """Draw the present state."""
        sent, done = self._since(records)
        self._ratios.append(records.observed)
        bar = ProgressBar(total=len(records), completed=records.started, width=60)
        times = Table("ms", "p50", "p95", "p99", box=None, pad_edge=False)
        for name, values in (
            ("all", records.recent),
            ("hit", records.recent_hits),
            ("miss", records.recent_misses),
        ):
            if values:
                recent = summarize(values)
                cells = (f"{v * 1e3:.1f}" for v in (recent.p50, recent.p95, recent.p99))
                times.add_row(name, *cells)
        lines = [
            status_line(self._title, records),
            f"a second: sent {sent:.0f}, done {done:.0f}",
            f"hit ratio {sparkline(self._ratios)} {records.observed:.1%}{self._promise(records)}",
        ]
        view = Table.grid()
        view.add_row(bar)
        for line in lines:
            view.add_row(line)
        view.add_row(times)
        return view

    def _since(self, records: Records) -> tuple[float, float]:
        now = (records.started, records.finished)
        sent, done = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        return sent / _TERMINAL_INTERVAL, done / _TERMINAL_INTERVAL

    def _promise(self, records: Records) -> str:
        expected = [p.expected for p in self._forecast if p.requests <= max(1, records.finished)]
        return f", {expected[-1]:.1%} predicted by now" if expected else ""


def sparkline(shares: Sequence[float] | deque[float]) -> str:
    """Draw shares, 0 .. 1, as a row of bars."""
    top = len(_BARS) - 1
    return "".join(_BARS[round(min(max(share, 0.0), 1.0) * top)] for share in shares)


def status_line(title: str, records: Records) -> str:
    """Say in one line how far a run is and how it goes."""
    recent = summarize(records.recent)
    parts = [
        f"{title:<14} sent {records.started}/{len(records)}",
        f"in flight {records.started - records.finished}",
        ""
        if math.isnan(recent.p50)
        else f"p50 {recent.p50 * 1e3:.1f} ms  p99 {recent.p99 * 1e3:.1f} ms",
        "  ".join(
            f"{outcome} {records.counts[outcome] / records.finished:.0%}"
            for outcome in Outcome
            if records.counts[outcome]
        ),
    ]
    if records.dropped:
        parts.append(f"dropped {records.dropped}")
    return "  ".join(part for part in parts if part)
