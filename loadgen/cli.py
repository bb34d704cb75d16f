"""The command line: ``python -m loadgen run URL`` and ``python -m loadgen prove URL``.

Rule: options become a plan here and nowhere else; what makes no sense is one line and exit code 2
before anything is sent.
"""

import secrets
import sys
from pathlib import Path
from typing import NoReturn

import click

from loadgen.arrivals import parse_arrivals
from loadgen.catalogue import MODELS, Model
from loadgen.measure import ProofJob, RunJob, measure
from loadgen.plan import DEFAULT_MIX, Plan
from loadgen.popularity import Zipf, parse_law
from loadgen.prove import FULL, SHORT
from loadgen.transport import check_url
from loadgen.verdict import Exit

__all__ = ["cli", "main"]

_POSITIVE = click.FloatRange(min=0, min_open=True)
_RATE = click.FloatRange(min=0, min_open=True, max=10_000)  # Far beyond what one process can send.


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = Exit.INTERRUPTED
    sys.exit(int(code or 0))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Send model traffic to a server and judge its cache by what was achievable.

    Exit codes: 0 pass, 1 a threshold failed, 2 usage, 3 the run is invalid (the generator was
    saturated), 4 the target is unreachable or fails mostly, 130 interrupted.
    """


def _url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return check_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _mix(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> dict[Model, float]:
    if value is None:
        return dict(DEFAULT_MIX)
    parts = [part.partition("=") for part in value.split(",")]
    given = {name: weight for name, _, weight in parts}
    mix: dict[Model, float] = {}
    try:
        for model in MODELS:
            mix[model] = float(given.pop(model, "0"))
    except ValueError as error:
        raise click.BadParameter(f"a weight must be a number: {error}") from error
    if given:
        known, unknown = ", ".join(MODELS), ", ".join(given)
        raise click.BadParameter(f"no such model: {unknown}; there are {known}")
    return mix


def _json_path(
    _context: click.Context, _parameter: click.Parameter, value: Path | None
) -> Path | None:
    if value is not None and not value.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {value.parent}")
    return value


_url_argument = click.argument("url", callback=_url)
_items_option = click.option(
    "--items",
    default=10_000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Per model.",
)
_seed_option = click.option("--seed", default=42, show_default=True, help="Of every draw.")
_json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_json_path,
    help="Write the result to this file.",
)


@cli.command("run")
@_url_argument
@click.option("--rate", default=50.0, show_default=True, type=_RATE, help="Per second.")
@click.option("--duration", default=30.0, show_default=True, type=_POSITIVE, help="Seconds.")
@click.option("--law", default="zipf:1.2", show_default=True, help="zipf:EXPONENT or uniform.")
@_items_option
@click.option("--arrivals", default="poisson", show_default=True, help="poisson or constant.")
@click.option("--mix", callback=_mix, help="Weights: sentiment=6,answer=3,summarize=1 (default).")
@click.option(
    "--spelling",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the requests whose JSON is respelled: same value, other bytes.",
)
@_seed_option
@click.option(
    "--salt",
    default="auto",
    show_default=True,
    help="TEXT makes the items this run's own; auto: a new one, so that the cache is cold; none.",
)
@click.option("--ttl", type=_POSITIVE, help="Lifetime of answers in seconds; default: learnt.")
@click.option(
    "--coalesce/--no-coalesce", default=True, help="Whether the best cache would coalesce."
)
@click.option("--max-inflight", default=512, show_default=True, type=click.IntRange(min=1))
@click.option("--timeout", default=30.0, show_default=True, type=_POSITIVE, help="Seconds.")
@_json_option
def run_command(
    *,
    url: str,
    rate: float,
    duration: float,
    law: str,
    items: int,
    arrivals: str,
    mix: dict[Model, float],
    spelling: float,
    seed: int,
    salt: str,
    ttl: float | None,
    coalesce: bool,
    max_inflight: int,
    timeout: float,
    json_path: Path | None,
) -> Exit:
    """Send one stretch of traffic to URL and judge the cache."""
    try:
        plan = Plan(
            law=parse_law(law, items),
            arrivals=parse_arrivals(arrivals, rate),
            duration=duration,
            mix=mix,
            spelling=spelling,
            seed=seed,
            salt=_salt(salt),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not plan.rows:
        raise click.UsageError("the plan has no request: raise --rate or --duration")
    job = RunJob(
        plan=plan,
        ttl=ttl,
        coalesce=coalesce,
        cold=salt == "auto",
        max_inflight=max_inflight,
        patience=timeout,
    )
    return measure(url, job, json_path=json_path)


@cli.command("prove")
@_url_argument
@click.option(
    "--profile",
    default="short",
    show_default=True,
    type=click.Choice(["short", "full"]),
    help="About one minute of traffic, or five.",
)
@click.option("--exponent", default=1.2, show_default=True, type=_POSITIVE, help="Of Zipf.")
@_items_option
@_seed_option
@_json_option
def prove_command(
    *,
    url: str,
    profile: str,
    exponent: float,
    items: int,
    seed: int,
    json_path: Path | None,
) -> Exit:
    """Measure what the cache at URL is worth: without it, cold, warm, uniform, respelled.

    The app must obey Cache-Control: no-store (memoserve: client_control="obey").
    """
    try:
        zipf = Zipf(items, exponent)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    job = ProofJob(
        profile={"short": SHORT, "full": FULL}[profile], zipf=zipf, seed=seed, salt=_salt("auto")
    )
    return measure(url, job, json_path=json_path)


def _salt(option: str) -> str:
    match option:
        case "auto":
            return secrets.token_hex(3)
        case "none":
            return ""
        case _:
            return option
