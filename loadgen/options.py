"""The options that several commands share, and how they become a plan.

Rule: options become a plan here and nowhere else; what makes no sense is one line and exit code 2
before anything is sent.
"""

import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from loadgen.arrivals import Arrivals, Closed, parse_arrivals, parse_duration, parse_stages
from loadgen.catalogue import BUNDLED, Catalogue, Templates
from loadgen.churn import Churn, parse_churn
from loadgen.expressions import Expression, parse_expression
from loadgen.figures import OUTCOMES
from loadgen.measure import Setting
from loadgen.outputs import Outputs
from loadgen.plan import Plan
from loadgen.popularity import parse_law
from loadgen.target import Target
from loadgen.transport import check_url

__all__ = [
    "DURATION",
    "EXPRESSION",
    "POSITIVE",
    "catalogue_options",
    "check_expressions",
    "judging_options",
    "make_arrivals",
    "make_catalogue",
    "make_plan",
    "make_setting",
    "new_salt",
    "sending_options",
    "traffic_options",
    "url_argument",
]

F = TypeVar("F", bound=Callable[..., Any])

POSITIVE = click.FloatRange(min=0, min_open=True)
_RATE = click.FloatRange(min=0, min_open=True, max=100_000)


class _Parsed(click.ParamType[Any]):
    """A type that a function reads."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _mix(text: str) -> dict[str, float]:
    parts = [part.rpartition("=") for part in text.split(",")]
    try:
        return {name.strip(): float(weight) for name, _, weight in parts}
    except ValueError as error:
        raise ValueError(f"a weight must be a number: {error}") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or any(c in text for c in "\r\n"):
        raise ValueError(f"a header reads 'Name: value', not {text!r}")
    return name.strip(), value.strip()


def _positive_duration(text: str) -> float:
    duration = parse_duration(text)
    if not duration > 0:
        raise ValueError(f"a duration must be positive, not {text!r}")
    return duration


DURATION = _Parsed("duration", _positive_duration)
EXPRESSION = _Parsed("expression", parse_expression)
_FILE = click.Path(dir_okay=False, path_type=Path)

url_argument = click.argument("url", type=_Parsed("url", check_url))

_CATALOGUE = (
    click.option(
        "--request",
        "requests",
        multiple=True,
        metavar="TEMPLATE",
        help='Of another app: \'POST /v1/chat {"prompt": "say {item}"}\'. Repeat for more.',
    ),
    click.option(
        "--accept",
        default="application/json",
        show_default=True,
        help="What answers may be; JSON includes event streams, */* is anything.",
    ),
)

_TRAFFIC = (
    click.option("--rate", default=50.0, show_default=True, type=_RATE, help="Per second."),
    click.option(
        "--stages",
        metavar="T:RATE,...",
        help="A rate that changes: 0:10,30s:50 ramps, 60s:200x5s is a spike.",
    ),
    click.option(
        "--closed", type=click.IntRange(min=1), help="So many users in a closed loop instead."
    ),
    click.option(
        "--max-requests",
        default=100_000,
        show_default=True,
        type=click.IntRange(min=1),
        help="Of a closed loop.",
    ),
    click.option("--duration", default="30s", show_default=True, type=DURATION),
    click.option(
        "--law",
        default="zipf:1.2",
        show_default=True,
        help="zipf:S, mandelbrot:S:SHIFT, hot:SHARE/TRAFFIC, uniform, file:WEIGHTS.",
    ),
    click.option(
        "--arrivals", default="poisson", show_default=True, help="poisson, constant, gamma:SHAPE."
    ),
    click.option("--mix", type=_Parsed("mix", _mix), help="sentiment=6,answer=3,summarize=1"),
    click.option(
        "--items",
        default=10_000,
        show_default=True,
        type=click.IntRange(1, 1_000_000_000),
        help="Per model.",
    ),
    click.option(
        "--churn",
        type=_Parsed("churn", parse_churn),
        help="10s:0.5@50 makes half of the 50 most popular new every 10 s.",
    ),
    click.option(
        "--spelling",
        default=0.0,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="Share of the requests whose JSON is respelled: same value, other bytes.",
    ),
    click.option("--seed", default=42, show_default=True, help="Of every draw."),
    click.option(
        "--salt",
        default="auto",
        show_default=True,
        help="TEXT makes items this run's own; auto: a new one, so that the cache is cold; none.",
    ),
    *_CATALOGUE,
)

_SENDING = (
    click.option(
        "--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes."
    ),
    click.option("--max-inflight", default=512, show_default=True, type=click.IntRange(min=1)),
    click.option("--timeout", default="30s", show_default=True, type=DURATION),
    click.option(
        "--drain", type=DURATION, help="For the last answers; default: as long as --timeout."
    ),
    click.option(
        "--header", "headers", multiple=True, type=_Parsed("header", _header), help="Name: value"
    ),
    click.option(
        "--transport",
        default="lifo",
        show_default=True,
        type=click.Choice(["lifo", "aiohttp", "httpx"]),
        help="aiohttp is an extra and twice as fast; httpx is its own pool, for comparison.",
    ),
    click.option("--insecure", is_flag=True, help="Do not check certificates."),
    click.option("--ca", type=_FILE, help="Certificates to trust."),
    click.option("--json", "json_path", type=_FILE, help="Write the result to this file."),
    click.option(
        "--out",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="Write run.json, report.html, requests.csv and latency.hgrm into this folder.",
    ),
    click.option("--junit", type=_FILE, help="Write the checks as JUnit XML."),
    click.option("--summary-md", type=_FILE, help="Append a summary in Markdown to this file."),
    click.option(
        "--ui",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "live", "plain"]),
        help="auto: live on a terminal.",
    ),
    click.option("--prom-port", type=click.IntRange(1, 65_535), help="Serve loadgen_* metrics."),
    click.option("--otlp", metavar="URL", help="Push them by OTLP over HTTP (an extra)."),
)

_JUDGING = (
    click.option(
        "--ttl", type=DURATION, help="Freshness lifetime of answers; default: learnt from them."
    ),
    click.option("--capacity", type=click.IntRange(min=1), help="Entries that the cache can hold."),
    click.option(
        "--coalesce/--no-coalesce", default=True, help="Whether the best cache would coalesce."
    ),
    click.option(
        "--fail-if",
        "expressions",
        multiple=True,
        type=EXPRESSION,
        help="'p99 > 50ms', 'p95[hit] > 5ms', 'hit_efficiency < 98%'. Repeat for more.",
    ),
    click.option("--metrics-url", metavar="URL", help="Where the server counts: must agree."),
)


def _with(options: tuple[Callable[[Any], Any], ...]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


catalogue_options = _with(_CATALOGUE)
traffic_options = _with(_TRAFFIC)
sending_options = _with(_SENDING)
judging_options = _with(_JUDGING)


def new_salt(option: str) -> str:
    """Return the salt that an option names."""
    match option:
        case "auto":
            return secrets.token_hex(3)
        case "none":
            return ""
        case _:
            return option


def make_catalogue(options: Mapping[str, Any]) -> Catalogue:
    """Return the bundled catalogue, or the one of ``--request``.

    Raises:
        click.UsageError: a template does not read as it should.
    """
    if not options["requests"]:
        return BUNDLED
    try:
        return Templates(tuple(options["requests"]), options["accept"])
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def make_arrivals(options: Mapping[str, Any]) -> Arrivals:
    """Return the arrivals that the options name.

    Raises:
        ValueError: they make no sense.
    """
    if options["closed"] is not None:
        return Closed(options["closed"], options["max_requests"])
    if options["stages"] is not None:
        return parse_stages(options["stages"], options["arrivals"])
    return parse_arrivals(options["arrivals"], options["rate"])


def make_plan(options: Mapping[str, Any]) -> Plan:
    """Return the plan that the traffic options describe.

    Raises:
        click.UsageError: there is none.
    """
    churn: Churn | None = options["churn"]
    try:
        plan = Plan(
            law=parse_law(options["law"], options["items"]),
            arrivals=make_arrivals(options),
            duration=options["duration"],
            mix=options["mix"] or {},
            spelling=options["spelling"],
            churn=churn,
            seed=options["seed"],
            salt=new_salt(options["salt"]),
            catalogue=make_catalogue(options),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not plan.rows:
        raise click.UsageError("the plan has no request: raise --rate or --duration")
    return plan


def make_setting(url: str, options: Mapping[str, Any]) -> Setting:
    """Return how to send and where results go.

    Raises:
        click.UsageError: a file cannot be written where it is wanted.
    """
    ca: Path | None = options["ca"]
    if ca is not None and not ca.is_file():
        raise click.UsageError(f"there is no file {ca}")
    for path in (options["json_path"], options["junit"], options["summary_md"]):
        _check_folder(path)
    return Setting(
        target=Target(
            url=url,
            timeout=options["timeout"],
            headers=dict(options["headers"]),
            transport=options["transport"],
            verify=not options["insecure"],
            ca=None if ca is None else os.fspath(ca),
        ),
        workers=options["workers"],
        max_inflight=options["max_inflight"],
        drain=options["drain"] or options["timeout"],
        live={"auto": None, "live": True, "plain": False}[options["ui"]],
        outputs=Outputs(
            folder=options["folder"],
            json=options["json_path"],
            junit=options["junit"],
            summary=options["summary_md"],
        ),
        prometheus_port=options["prom_port"],
        otlp=options["otlp"],
    )


def _check_folder(path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise click.UsageError(f"there is no folder {path.parent}")


def check_expressions(models: Collection[str], expressions: Iterable[Expression]) -> None:
    """Refuse what cannot be judged, before anything is sent.

    Raises:
        click.UsageError: an expression speaks of a model that is not asked, or of two runs.
    """
    for metric in (metric for expression in expressions for metric in expression.metrics):
        unknown = set(metric.selectors) - OUTCOMES - set(models)
        if unknown:
            raise click.UsageError(f"{', '.join(unknown)} is neither an outcome nor a model")
        if metric.side:
            raise click.UsageError(f"{metric.name}.{metric.side}: there is one run only")
