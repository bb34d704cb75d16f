"""The command line: ``python -m loadgen --help``.

Rule: a command reads its options, calls one function and returns its exit code. Whatever ends it,
the last thing that is seen is a sentence and not a traceback.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.table import Table

from loadgen import compare
from loadgen.arrivals import Recorded
from loadgen.expressions import Expression
from loadgen.measure import ProofJob, RunJob, make_console, measure
from loadgen.options import (
    DURATION,
    EXPRESSION,
    POSITIVE,
    catalogue_options,
    check_expressions,
    judging_options,
    make_arrivals,
    make_catalogue,
    make_plan,
    make_setting,
    new_salt,
    sending_options,
    traffic_options,
    url_argument,
)
from loadgen.outputs import write_text
from loadgen.plan import Plan
from loadgen.popularity import Zipf
from loadgen.prove import FULL, SHORT
from loadgen.report import ratio
from loadgen.report_page import comparison_page, has_plotly, report_page
from loadgen.theory import (
    CacheModel,
    forecast,
    lru_hit_ratio,
    predict,
    ttl_hit_ratio,
    warnings,
)
from loadgen.trace import fit_zipf, read_keys, read_plan, write_plan
from loadgen.verdict import Exit

__all__ = ["cli", "main"]

_ENOUGH = 10  # Requests an item.
_POOR = 0.05

_IN_FILE = click.Path(dir_okay=False, path_type=Path)
_OUT_FILE = click.Path(dir_okay=False, path_type=Path)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = Exit.INTERRUPTED
    except BrokenPipeError:  # The reader of a pipe has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.PASS
    except OSError as error:  # A terminal that is gone, a disk that is full.
        print(f"Error: {error.strerror or error}", file=sys.stderr)
        code = Exit.USAGE
    sys.exit(int(code or 0))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Send model traffic to a server and judge its cache by what was achievable.

    Exit codes: 0 pass, 1 a threshold failed, 2 usage, 3 the run is invalid (the generator was
    saturated), 4 the target is unreachable or fails mostly, 130 interrupted.
    """


@cli.command("run")
@url_argument
@traffic_options
@judging_options
@sending_options
def run_command(url: str, **options: Any) -> Exit:
    """Send one stretch of traffic to URL and judge the cache."""
    return _measured(url, make_plan(options), options, cold=options["salt"] == "auto")


@cli.command("replay")
@url_argument
@click.argument("path", type=_IN_FILE)
@click.option(
    "--speed", default=1.0, show_default=True, type=POSITIVE, help="10: ten times faster."
)
@click.option("--model", help="Which model a trace of keys asks; default: the first.")
@traffic_options
@judging_options
@sending_options
def replay_command(
    url: str, *, path: Path, speed: float, model: str | None, **options: Any
) -> Exit:
    """Send what PATH holds: a plan, a trace of one key per line, or Twitter's CSV.

    A plan brings its own traffic; of the options for traffic only --salt counts. A trace of keys
    has the arrivals of the options, unless it has times.
    """
    salt = None if options["salt"] == "none" else new_salt(options["salt"])
    try:
        plan = read_plan(path, speed=speed, salt=salt)
        if plan is None:
            catalogue = make_catalogue(options)
            asked = next(iter(catalogue.mix)) if model is None else model
            if asked not in catalogue.mix:
                raise click.UsageError(
                    f"no such model: {asked}; there are {', '.join(catalogue.mix)}"
                )
            plan = read_keys(
                path,
                asked,
                partial(make_arrivals, options),
                speed=speed,
                spelling=options["spelling"],
                seed=options["seed"],
                salt=salt or "",
                catalogue=catalogue,
            )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return _measured(url, plan, options, cold=options["salt"] == "auto")


def _measured(url: str, plan: Plan, options: Mapping[str, Any], *, cold: bool) -> Exit:
    expressions: tuple[Expression, ...] = options["expressions"]
    check_expressions(plan.models, expressions)
    job = RunJob(
        plan=plan,
        ttl=options["ttl"],
        capacity=options["capacity"],
        coalesce=options["coalesce"],
        cold=cold,
        expressions=expressions,
        metrics_url=options["metrics_url"],
    )
    return measure(job, make_setting(url, options))


@cli.command("prove")
@url_argument
@click.option(
    "--profile",
    default="short",
    show_default=True,
    type=click.Choice(["short", "full"]),
    help="About one minute of traffic, or five.",
)
@click.option("--exponent", default=1.2, show_default=True, type=POSITIVE, help="Of Zipf.")
@click.option(
    "--items",
    default=10_000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Per model.",
)
@click.option("--seed", default=42, show_default=True, help="Of every draw.")
@catalogue_options
@sending_options
def prove_command(
    url: str, *, profile: str, exponent: float, items: int, seed: int, **options: Any
) -> Exit:
    """Measure what the cache at URL is worth: without it, cold, warm, uniform, respelled.

    The app must obey Cache-Control: no-store (memoserve: client_control="obey").
    """
    try:
        zipf = Zipf(items, exponent)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    job = ProofJob(
        profile={"short": SHORT, "full": FULL}[profile],
        zipf=zipf,
        seed=seed,
        salt=new_salt("auto"),
        catalogue=make_catalogue(options),
    )
    return measure(job, make_setting(url, options))


@cli.command("plan")
@click.option("--write", "path", required=True, type=_OUT_FILE, help="The file; - for the screen.")
@traffic_options
def plan_command(*, path: Path, **options: Any) -> Exit:
    """Write what a run would send, one line per request, for `replay`."""
    plan = make_plan(options)
    if str(path) == "-":
        write_plan(plan, sys.stdout)
        return Exit.PASS
    try:
        with path.open("w", encoding="utf-8") as file:
            write_plan(plan, file)
    except OSError as error:
        raise click.UsageError(f"cannot write the plan: {error}") from error
    print(f"{len(plan.rows):,} requests, plan {plan.sha256[:12]}")
    return Exit.PASS


@cli.command("fit")
@click.argument("path", type=_IN_FILE)
@click.option("--items", type=click.IntRange(min=2), help="Size of the catalogue, where known.")
def fit_command(*, path: Path, items: int | None) -> Exit:
    """Estimate the exponent of Zipf from a plan or a trace of keys."""
    try:
        fit = fit_zipf(path, items)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    print(
        f"--law zipf:{fit.law.exponent:.3f} --items {fit.law.items}   "
        f"(standard error {fit.error:.3f}, {fit.requests:,} requests)"
    )
    if fit.requests < _ENOUGH * fit.law.items:
        print("fewer than ten requests an item: whether it is a Zipf law at all cannot be said")
    else:
        poor = ": this is no Zipf law, replay the trace instead" if fit.distance > _POOR else ""
        print(f"the cumulated shares differ by {fit.distance:.1%} at most{poor}")
    return Exit.PASS


@cli.command("predict")
@traffic_options
@click.option("--ttl", type=DURATION, help="Freshness lifetime of answers.")
@click.option("--capacity", type=click.IntRange(min=1), help="Entries that the cache can hold.")
def predict_command(*, ttl: float | None, capacity: int | None, **options: Any) -> Exit:
    """Say what to expect of this traffic, without sending any."""
    plan = make_plan(options)
    cache = CacheModel(float("inf") if ttl is None else ttl, capacity)
    console = make_console()
    console.print(
        f"{len(plan.rows):,} requests of {plan.law} over {plan.law.items:,} items per model, "
        f"plan {plan.sha256[:12]}",
        soft_wrap=True,
    )
    points = forecast(plan, cache)
    expected = points[-1] if points and (ttl or capacity) else None
    cold = predict(plan) if expected is None else expected.expected
    spread = f" ± {2 * points[-1].deviation:.1%}" if points else ""
    console.print(f"expected hit ratio from cold: {ratio(cold)}{spread}")
    for second, share in [(p.at, p.expected) for p in points[4::10]]:
        console.print(f"  after {second:7.1f} s  {ratio(share)}")
    share = max(plan.shares.values()) / sum(plan.shares.values())
    if ttl is not None and not isinstance(plan.arrivals, Recorded):
        steady = ttl_hit_ratio(plan.law, plan.arrivals.rate * share, ttl)
        console.print(f"in the long run, with this ttl (busiest model): {ratio(steady)}")
    for entries in [capacity] if capacity else _capacities(plan.law.items):
        reached = lru_hit_ratio(plan.law, entries)
        console.print(f"in the long run, {entries:,} entries per model: {ratio(reached)}")
    for caution in warnings(plan, cache):
        console.print(f"warning: this scenario {caution}", style="yellow", soft_wrap=True)
    return Exit.PASS


def _capacities(items: int) -> list[int]:
    return [entries for entries in (items // 100, items // 10, items // 2) if entries]


@cli.command("report")
@click.argument("path", type=_IN_FILE)
@click.option("--html", "html_path", required=True, type=_OUT_FILE, help="The file to write.")
def report_command(*, path: Path, html_path: Path) -> Exit:
    """Draw the report of a run.json again."""
    document = _document(path)
    _need_plotly()
    return Exit.PASS if write_text(html_path, report_page(document)) else Exit.USAGE


@cli.command("compare")
@click.argument("first", type=_IN_FILE)
@click.argument("second", type=_IN_FILE)
@click.option(
    "--fail-if", "expressions", multiple=True, type=EXPRESSION, help="'p99.b > p99.a * 1.1'"
)
@click.option("--html", "html_path", type=_OUT_FILE, help="Draw them over each other.")
def compare_command(
    *, first: Path, second: Path, expressions: Sequence[Expression], html_path: Path | None
) -> Exit:
    """Compare two run.json, FIRST being a and SECOND b."""
    documents = {"a": _document(first), "b": _document(second)}
    if any("arms" in document for document in documents.values()):
        raise click.UsageError("compare takes results of `run` or `replay`, not of `prove`")
    a, b = documents["a"], documents["b"]
    console = make_console()
    for difference in compare.differences(a, b):
        console.print(f"the plans differ in {difference}", style="yellow", soft_wrap=True)
    rows = compare.compared(a, b)
    table = Table("figure", "a", "b", "b / a")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if html_path is not None:
        _need_plotly()
        if not write_text(html_path, comparison_page(a, b, rows)):
            return Exit.USAGE
    try:
        failures = compare.broken(expressions, documents)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for failure in failures:
        console.print(f"FAILED: {failure}", style="bold red", soft_wrap=True)
    return Exit.FAILED if failures else Exit.PASS


def _document(path: Path) -> Mapping[str, Any]:
    try:
        return compare.read_document(path)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _need_plotly() -> None:
    if not has_plotly():
        raise click.UsageError("drawing needs plotly: pip install plotly")
