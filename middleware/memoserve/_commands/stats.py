"""`memoserve stats`: what a service does at this moment."""

import math
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from memoserve._commands._terminal import Problem, json_option, make_console, print_json
from memoserve._stats import STATUSES, ModelFigures, Scrape, Stats, figures, read_page

__all__ = ["stats"]

_TIMEOUT = 10.0  # Seconds for one page.
_ACCEPT = {"Accept": "text/plain;version=0.0.4"}
_LARGEST = 64 * 1024 * 1024  # Bytes of one.


@click.command()
@click.argument("url")
@click.option("--interval", default=2.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Print one interval and end; so it is off a terminal.")
@click.option("--total", is_flag=True, help="Print what happened since the service began.")
@click.option("--token", envvar="MEMOSERVE_METRICS_TOKEN", help="Sent as Authorization: Bearer.")
@json_option
def stats(
    *, url: str, interval: float, once: bool, total: bool, token: str | None, as_json: bool
) -> None:
    """Show what a service does, from the metrics at URL: http://localhost:8000/metrics.

    Per model: requests a second, hit ratio, the median and 95th percentile by what the cache did,
    how much of the model's time was saved, why requests bypass the cache, and what shadow mode saw.
    """
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"the URL must be like http://host/metrics, not {url!r}")
    if not interval > 0:
        raise click.UsageError("--interval must be more than 0 seconds")
    console = make_console()
    if console.is_terminal and not (once or total or as_json):
        with Live(console=console, auto_refresh=False) as live:
            _watch(live, url, token, interval)
    first = None if total else _scrape(url, token)
    if first is not None:
        time.sleep(interval)
    found = figures(first, _scrape(url, token))
    if as_json:
        print_json(_document(found))
    else:
        console.print(_drawn(found))


def _watch(live: Live, url: str, token: str | None, interval: float) -> None:
    """Show one interval after the other, until somebody interrupts."""
    before = _scrape(url, token)
    live.update(Text(f"{url}: the first figures come in {interval:g} s"), refresh=True)
    while True:
        time.sleep(interval)
        try:
            after = _scrape(url, token)
        except Problem as error:  # It may be back in a moment.
            live.update(Text(error.message, style="red"), refresh=True)
            continue
        live.update(_drawn(figures(before, after)), refresh=True)
        before = after


def _scrape(url: str, token: str | None) -> Scrape:
    try:
        request = urllib.request.Request(url, headers=_ACCEPT)  # noqa: S310  (checked above)
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310  (as above)
            page = answer.read(_LARGEST).decode()
    except urllib.error.HTTPError as error:
        hint = ": it wants a --token" if error.code in {401, 403} else ""
        raise Problem(f"{url} answers {error.code}{hint}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Problem(f"{url} cannot be read: {reason}") from error
    try:
        return read_page(page, time.monotonic())
    except ModuleNotFoundError as error:
        raise Problem(str(error)) from error
    except ValueError as error:
        raise Problem(f"{url} is no page of metrics: {error}") from error


def _document(found: Stats) -> dict[str, Any]:
    return {
        "seconds": _number(found.seconds),
        "models": [
            {
                "model": model.model,
                "requests_per_second": _number(model.rate),
                "hit_ratio": _number(model.hit_ratio),
                "model_seconds_saved": model.saved,
                "bypasses": dict(model.bypasses),
                "shadow": _shadow(model),
                "latency": {
                    status: {"p50": _number(each.p50), "p95": _number(each.p95)}
                    for status, each in model.latencies.items()
                },
            }
            for model in found.models
        ],
        "store_errors": dict(found.store_errors),
        "open_breakers": list(found.open_breakers),
        "workers": found.workers,
    }


def _shadow(model: ModelFigures) -> dict[str, Any] | None:
    if not model.shadow:
        return None
    results = {result: model.shadow.get(result, 0.0) for result in ("equal", "different")}
    return {**results, "hit_ratio": _number(model.shadow_hit_ratio)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _drawn(found: Stats) -> RenderableType:
    columns = ("model", "req/s", "hits", *(f"{status} p50/p95" for status in STATUSES), "saved")
    table = Table(*columns, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for model in found.models:
        table.add_row(*_row(model))
    return Group(table, *(Text(line, style=style) for line, style in _lines(found)))


def _row(model: ModelFigures) -> list[str]:
    latencies = [model.latencies.get(status) for status in STATUSES]
    return [
        model.model,
        "–" if math.isnan(model.rate) else f"{model.rate:,.1f}",
        "–" if math.isnan(model.hit_ratio) else f"{model.hit_ratio:.1%}",
        *("" if each is None else f"{_time(each.p50)}/{_time(each.p95)}" for each in latencies),
        f"{model.saved:,.1f} s",
    ]


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "–"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _lines_of(model: ModelFigures) -> Iterator[tuple[str, str]]:
    if model.bypasses:
        reasons = ", ".join(f"{count:,.0f} {reason}" for reason, count in model.bypasses.items())
        yield f"{model.model} bypasses: {reasons}", "dim"
    if model.shadow:
        equal, different = (model.shadow.get(result, 0.0) for result in ("equal", "different"))
        line = f"{model.model} in shadow mode: {equal:,.0f} equal, {different:,.0f} different"
        ratio = model.shadow_hit_ratio
        promised = "" if math.isnan(ratio) else f"; live, {ratio:.1%} would be hits"
        yield line + promised, "yellow" if different else "dim"


def _lines(found: Stats) -> list[tuple[str, str]]:
    is_silent = not any(model.latencies for model in found.models)
    since = "since it began" if math.isnan(found.seconds) else f"in {found.seconds:.1f} s"
    errors = found.store_errors.items()
    return [
        *([("no covered request in this time", "dim")] if is_silent else []),
        *(line for model in found.models for line in _lines_of(model)),
        *((f"store errors: {count:,.0f} of {kind}", "yellow") for kind, count in errors),
        *((f"the breaker of the {name} is open", "bold red") for name in found.open_breakers),
        (f"{found.workers:.0f} workers, {since}", "dim"),
    ]
