"""`memoserve advise`: what a log of requests says of the rule to cache them by."""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from memoserve._advise import ENOUGH, Advice, Hint, Ratio
from memoserve._advise import advise as advised
from memoserve._advise_log import LogError, Logged, read_log, tabulate
from memoserve._advise_rule import python_rule, toml_rule
from memoserve._commands._terminal import Problem, json_option, make_console, print_json

__all__ = ["advise"]

_TTLS = (60.0, 300.0, 3600.0)  # Where the log has times and nobody says for which.
_MOST_PATHS = 20
_WARNING = (
    "These are hints. A log cannot tell whether two bodies that differ in a field may have one "
    "answer: ignore a field only if you know that the answer does not depend on it."
)


@click.command()
@click.argument("log")
@click.option("--path", default="/", show_default=True, help="Where bodies are sent.")
@click.option(
    "--form",
    type=click.Choice(["auto", "bodies", "records"]),
    default="auto",
    show_default=True,
    help="bodies: each line is one. records: objects with body, and perhaps path and time.",
)
@click.option("--ttl", "ttls", multiple=True, type=float, help="Seconds; needs the log's times.")
@click.option("--entries", multiple=True, type=click.IntRange(min=1), help="Room in the cache.")
@json_option
def advise(
    *, log: str, path: str, form: Any, ttls: tuple[float, ...], entries: tuple[int, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Advise a rule for the requests in LOG, a JSONL file, or - for standard input.

    Each line is the body of a request, or an object with the members body, and perhaps path and
    time (seconds). The hit ratios are those of a cache that sees this log once, from empty.
    """
    if not path.startswith("/"):
        raise click.UsageError(f"--path must start with a slash, not be {path!r}")
    if not all(ttl > 0 for ttl in ttls):
        raise click.UsageError("--ttl must be more than 0 seconds")
    found = _read(log, form, path)
    has_times = all(each.time is not None for each in found)
    if ttls and not has_times:
        raise click.UsageError("--ttl needs a log with times: objects with body and time")
    wanted = ttls or (_TTLS if has_times else ())
    tables = tabulate(found)
    advice = [advised(each, ttls=wanted, entries=entries) for each in tables[:_MOST_PATHS]]
    if as_json:
        print_json({"warning": _WARNING, "paths": [_document(each) for each in advice]})
        return
    console = make_console()
    for each in advice:
        _show(console, each)
    if len(tables) > _MOST_PATHS:
        console.print(f"{len(tables) - _MOST_PATHS} more paths have fewer requests", style="dim")
    console.print(_WARNING, style="yellow", soft_wrap=True)


def _read(name: str, form: Any, path: str) -> list[Logged]:
    try:
        if name == "-":
            found = read_log(sys.stdin.buffer, form=form, path=path)
        else:
            with Path(name).open("rb") as file:
                found = read_log(file, form=form, path=path)
    except LogError as error:
        raise Problem(str(error)) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.UsageError(f"cannot read {name}: {reason}") from error
    if not found:
        raise Problem(f"there is no request in {name}")
    return found


def _document(advice: Advice) -> dict[str, Any]:
    ratios = [
        {**msgspec.to_builtins(each), "ttl": None if math.isinf(each.ttl) else each.ttl}
        for each in advice.ratios
    ]
    return {
        **msgspec.to_builtins(advice),
        "is_of_too_few": advice.requests < ENOUGH,
        "ratios": ratios,
        "python": python_rule(advice),
        "toml": toml_rule(advice),
    }


def _show(console: Console, advice: Advice) -> None:
    console.print(f"{advice.path}: {advice.requests:,} requests", style="bold", soft_wrap=True)
    if advice.requests < ENOUGH:
        line = f"  too few to tell identifiers from questions ({ENOUGH} at least)"
        console.print(line, style="yellow")
    if advice.refused:
        console.print(f"  {advice.refused:,} bodies are keyed by their bytes: no canonical form")
    console.print(_ratio_table(advice.ratios))
    _show_hints(console, "ignored by the rule below", advice.ignore)
    _show_hints(console, "normalized by the rule below", advice.text)
    doubtful = (*advice.doubtful, *advice.risky_text)
    _show_hints(console, "left to your judgement, and not in the rule", doubtful)
    _show_hints(console, "defaults, if the app takes these where nothing is said", advice.defaults)
    if advice.constants:
        listed = ", ".join(f"{each.pointer} = {_json(each.value)}" for each in advice.constants)
        console.print(f"  always the same: {listed}", style="dim", soft_wrap=True)
    for text in (python_rule(advice), toml_rule(advice)):
        console.print()
        console.print(text, soft_wrap=True)
    console.print()


def _ratio_table(ratios: Iterable[Ratio]) -> Table:
    table = Table("ttl", "entries", "hit ratio now", "with the rule below", box=None)
    for column in table.columns:
        column.justify = "right"
    for each in ratios:
        table.add_row(
            "for ever" if math.isinf(each.ttl) else f"{each.ttl:g} s",
            "all" if each.entries is None else f"{each.entries:,}",
            f"{each.now:.2%}",
            f"{each.advised:.2%}",
        )
    return table


def _show_hints(console: Console, title: str, hints: tuple[Hint, ...]) -> None:
    if not hints:
        return
    console.print(f"  {title}")
    for hint in hints:
        steps = f" {', '.join(hint.steps)}" if hint.steps else ""
        doubt = f"; {hint.doubt}" if hint.doubt else ""
        console.print(
            f"    {hint.pointer}{steps}: {hint.gain:+.2%}, {hint.values:,} values, such as "
            f"{_json(hint.example)}{doubt}",
            soft_wrap=True,
        )


def _json(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 50 else f"{text[:49]}…"
