"""`memoserve check`: is the configuration right, what does it come to, what meets a request."""

import asyncio
from collections.abc import Iterator
from typing import Any

import click
import msgspec
from rich.console import Console

from memoserve._asgi import replaying
from memoserve._checked import DEFAULT, Answered, Setting, answered, rule_settings, settings
from memoserve._checked import warnings_of as collected_warnings
from memoserve._commands._configured import find_functions_here
from memoserve._commands._requests import make_request
from memoserve._commands._terminal import json_option, make_console, print_json, read_source
from memoserve._config_load import Configuration, load
from memoserve._curl import SentRequest
from memoserve._errors import ConfigError
from memoserve.config import stack

__all__ = ["check"]

_NO_APP = replaying(404, (), ())


@click.command()
@click.option("--config", metavar="FILE", help="Instead of MEMOSERVE_CONFIG or memoserve.toml.")
@click.option("--request", metavar="'POST /PATH'", help="Tell which rule this request would meet.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Of that request."
)
@click.option("--body", metavar="BODY", help="Of that request: a JSON text, a file, or -.")
@click.option("--curl", metavar="COMMAND", help="That request as a curl command line, quoted.")
@click.option("--all", "is_long", is_flag=True, help="Show the defaults of rules, too.")
@json_option
def check(*, config: str | None, is_long: bool, as_json: bool, **request: Any) -> int:
    """Validate the configuration and show it, each value with who has said so.

    Exit codes: 0 it can be used, 1 it cannot, and what is wrong is said, 2 wrong usage.
    """
    sent = _sent(**request)
    find_functions_here()
    with collected_warnings() as warnings:
        try:
            configuration = load(config)
            warnings += _notes(configuration)
            stack(configuration, _NO_APP)
            found = None if sent is None else asyncio.run(answered(configuration, sent))
        except ConfigError as error:
            _refuse(error, as_json=as_json)
            return 1
    if as_json:
        print_json(_document(configuration, found, warnings))
    else:
        _show(make_console(), configuration, found, warnings, is_long=is_long)
    return 0


def _sent(
    *, request: str | None, headers: tuple[str, ...], body: str | None, curl: str | None
) -> SentRequest | None:
    if curl is not None:
        if request is not None or headers or body is not None:
            raise click.UsageError("--curl says all of the request: leave out the other options")
        return make_request(f"curl {curl.removeprefix('curl ')}".encode(), {})
    if request is None:
        if headers or body is not None:
            raise click.UsageError("--header and --body need --request")
        return None
    method, _, path = request.rpartition(" ")
    if not path.startswith("/"):
        raise click.UsageError(f"--request is like 'POST /v1/model', not {request!r}")
    options = {
        "url": f"http://localhost:8000{path}", "method": method.strip() or "POST",
        "headers": headers,
    }  # fmt: skip
    sent = make_request(b"" if body is None else read_source(body), options)
    is_typed = any(line.lower().startswith("content-type:") for line in headers)
    if body is None and not is_typed:  # Where there is no body, clients name no type of it.
        kept = tuple(pair for pair in sent.headers if pair[0] != b"content-type")
        sent = msgspec.structs.replace(sent, headers=kept)
    return sent


def _notes(configuration: Configuration) -> Iterator[str]:
    """Say what can be, and is hardly meant."""
    for number, (rule, origin) in enumerate(_rules(configuration)):
        if rule.ttl is not None and rule.statuses is not None and 200 not in rule.statuses:
            yield (
                f"{origin.place}: rules[{number}].statuses has no 200: others are only stored "
                "where the response itself grants freshness, whatever the ttl"
            )


def _refuse(error: ConfigError, *, as_json: bool) -> None:
    if as_json:
        print_json({"valid": False, "problems": list(error.problems)})
        return
    for problem in error.problems:
        click.secho(problem, err=True, fg="red")


# For programs.


def _document(
    configuration: Configuration, found: Answered | None, warnings: list[str]
) -> dict[str, Any]:
    rules = [
        {"name": f"rules[{number}]", "source": origin.place, "settings": _listed(rule, origin)}
        for number, (rule, origin) in enumerate(_rules(configuration))
    ]
    document: dict[str, Any] = {
        "valid": True,
        "warnings": list(dict.fromkeys(warnings)),
        "settings": [msgspec.to_builtins(each) for each in settings(configuration)],
        "rules": rules,
    }
    if found is not None:
        document["request"] = msgspec.to_builtins(found)
    return document


def _rules(configuration: Configuration) -> Iterator[tuple[Any, Any]]:
    return zip(configuration.rules, configuration.origins, strict=True)


def _listed(rule: Any, origin: Any) -> list[Any]:
    return [msgspec.to_builtins(each) for each in rule_settings(rule, origin)]


# For people.


def _show(
    console: Console,
    configuration: Configuration,
    found: Answered | None,
    warnings: list[str],
    *,
    is_long: bool,
) -> None:
    console.print(f"valid; rules: {len(configuration.rules)}\n", style="bold green")
    for setting in settings(configuration):
        _show_setting(console, setting)
    for number, (rule, origin) in enumerate(_rules(configuration)):
        console.print(f"\nrules[{number}]  {origin.place}", style="bold", soft_wrap=True)
        for setting in rule_settings(rule, origin):
            if is_long or setting.source != DEFAULT:
                _show_setting(console, setting)
    for warning in dict.fromkeys(warnings):
        console.print(f"\nwarning: {warning}", style="yellow", soft_wrap=True)
    if found is not None:
        console.print("\nrequest", style="bold")
        for name, text in _told(found).items():
            console.print(f"{name:<30}{text}", soft_wrap=True)


def _show_setting(console: Console, setting: Setting) -> None:
    value = msgspec.json.encode(setting.value).decode()
    style = "dim" if setting.source == DEFAULT else None
    console.print(f"{setting.key:<30}{value:<40}  {setting.source}", style=style, soft_wrap=True)


def _told(found: Answered) -> dict[str, str]:
    if found.is_metrics:
        return {"rule": "none: these are the metrics, and no rule is asked"}
    if not found.rule:
        return {"rule": "none: it passes untouched"}
    told = {"rule": f"{found.rule}  {found.path}  {found.source}", "model": found.model}
    if found.variant:
        told["variant"] = found.variant
    if found.bypass:
        return {**told, "cache": f"goes past it: {found.bypass}"}
    told["cache"] = "looked up, and stored if the answer may be"
    if found.is_shadow:
        told["cache"] += "; but the app answers: mode is shadow"
    told["body"] = f"by its bytes: {found.refusal}" if found.refusal else "by its canonical form"
    hint = "" if found.is_stable else "  (another in each process: set a secret)"
    return {**told, "key": found.key + hint}
