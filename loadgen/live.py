"""The view of a run while it lasts.

Rule: watching must not disturb. Nothing is computed but counters and percentiles of the last few
hundred answers, twice a second on a terminal, and every five seconds as a plain line elsewhere.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from loadgen.outcome import Outcome
from loadgen.records import Records, summarize

__all__ = ["status_line", "watching"]

_TERMINAL_INTERVAL = 0.5
_PLAIN_INTERVAL = 5.0

Watch = Callable[[Records], None]


@asynccontextmanager
async def watching(console: Console, title: str) -> AsyncGenerator[Watch]:
    """Show the records that the yielded callable is given, until the block ends."""
    seen: list[Records] = []
    show = _show_on_terminal if console.is_terminal else _show_plainly
    task = asyncio.create_task(show(console, title, seen))
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


async def _show_on_terminal(console: Console, title: str, seen: list[Records]) -> None:
    # Refreshed from here: the thread that rich offers would compete with the sending.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(_TERMINAL_INTERVAL)
            if seen:
                records = seen[-1]
                bar = ProgressBar(total=len(records), completed=records.started, width=60)
                view = Table.grid()
                view.add_row(bar)
                view.add_row(status_line(title, records))
                live.update(view, refresh=True)


def status_line(title: str, records: Records) -> str:
    """Say in one line how far a run is and how it goes."""
    recent = summarize(records.recent)
    parts = [
        f"{title:<14} sent {records.started}/{len(records)}",
        f"in flight {records.started - records.finished}",
        f"p50 {recent.p50 * 1e3:.1f} ms  p99 {recent.p99 * 1e3:.1f} ms",
        "  ".join(
            f"{outcome} {records.counts[outcome] / records.finished:.0%}"
            for outcome in Outcome
            if records.counts[outcome]
        ),
    ]
    if records.dropped:
        parts.append(f"dropped {records.dropped}")
    return "  ".join(part for part in parts if part)
