import asyncio
import io

import pytest
from rich.console import Console

from loadgen.live import status_line, watching
from loadgen.outcome import CacheStatus, Outcome
from loadgen.records import Records
from tests.loadgen.virtual import run_virtually


def _records() -> Records:
    records = Records(4)
    for row, outcome in enumerate([Outcome.MISS, Outcome.HIT]):
        records.send(row, due=0, now=0)
        records.answer(row, now=0.002, status=200, cache=CacheStatus(outcome))
    records.send(2, due=0, now=0)
    return records


def test_a_line_says_how_it_goes() -> None:
    records = _records()

    line = status_line("cold Zipf", records)
    records.drop()

    assert " ".join(line.split()) == (
        "cold Zipf sent 3/4 in flight 1 p50 2.0 ms p99 2.0 ms hit 50% miss 50%"
    )
    assert status_line("cold Zipf", records).endswith("dropped 1")


def test_before_the_first_answer_there_is_a_line_too() -> None:
    assert "sent 0/4" in status_line("run", Records(4))


async def _watched(console: Console, seconds: float, *, records: Records | None) -> None:
    async with watching(console, "run") as watch:
        await asyncio.sleep(1)
        if records is not None:
            watch(records)
        await asyncio.sleep(seconds)


@pytest.mark.parametrize(("seconds", "lines"), [(1, 1), (10.5, 3)])
def test_off_a_terminal_there_is_a_line_every_five_seconds(seconds: float, lines: int) -> None:
    output = io.StringIO()

    run_virtually(_watched(Console(file=output, width=200), seconds, records=_records()))

    assert output.getvalue().count("sent 3/4") == lines
    assert "\x1b" not in output.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_shown_of_nothing(*, terminal: bool) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200, force_terminal=terminal, legacy_windows=False)

    run_virtually(_watched(console, 20, records=None))

    assert "sent" not in output.getvalue()


def test_a_terminal_shows_a_bar_that_is_gone_in_the_end() -> None:
    output = io.StringIO()
    console = Console(file=output, width=200, force_terminal=True, legacy_windows=False)

    run_virtually(_watched(console, 3, records=_records()))

    assert output.getvalue().count("sent 3/4") >= 4
    assert "━" in output.getvalue()
    assert output.getvalue().endswith("\x1b[2K")  # The line is erased.
