"""`memoserve explain`: why two requests share an answer, or do not."""

import asyncio
from typing import Any

import click
from rich.console import Console

from memoserve._commands._requests import (
    cache_options,
    make_settings,
    read_request,
    request_options,
)
from memoserve._commands._terminal import json_option, make_console, print_json
from memoserve._explain import Difference, Explanation
from memoserve._explain import explain as compared

__all__ = ["explain"]


@click.command()
@click.argument("first")
@click.argument("second")
@request_options
@cache_options
@json_option
def explain(*, first: str, second: str, as_json: bool, **options: Any) -> int:
    """Tell why two requests share an answer, or why they do not.

    FIRST and SECOND are bodies or curl command lines: files, - for standard input, or the text
    itself. Exit codes: 0 they share an answer, 1 they do not.
    """
    if first == second == "-":
        raise click.UsageError("only one of them can be standard input")
    one, other = read_request(first, options), read_request(second, options)
    settings = make_settings(one, options), make_settings(other, options)
    found = asyncio.run(compared(one, other, *settings))
    if as_json:
        print_json(_document(found))
    else:
        _show(make_console(), found)
    return 0 if found.is_shared else 1


def _document(found: Explanation) -> dict[str, Any]:
    return {
        "shared": found.is_shared,
        "keys": [found.first.md5 or None, found.second.md5 or None],
        "differences": [_listed(each) for each in found.differences],
        "harmless": [_listed(each) for each in found.harmless],
    }


def _listed(difference: Difference) -> dict[str, str]:
    return {"where": difference.where, "name": difference.name, "what": difference.what}


def _show(console: Console, found: Explanation) -> None:
    if found.is_shared:
        console.print(f"one answer: both have the key {found.first.md5}", style="bold green")
    else:
        console.print("two answers", style="bold yellow")
    for number, each in enumerate(found.differences):
        console.print(_line(each), style="" if number else "bold", soft_wrap=True)
    if found.harmless:
        console.print("no part of the key", style="dim")
    for each in found.harmless:
        console.print(_line(each), style="dim", soft_wrap=True)


def _line(difference: Difference) -> str:
    place = f"{difference.where} {difference.name}".strip()
    return f"  {place}: {difference.what}"
