"""What commands read and print.

Rule: on a terminal people read, and colours and tables are for them; elsewhere lines are plain,
and with `--json` they are for programs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

__all__ = ["Problem", "json_option", "make_console", "print_json", "read_source", "said"]

_PLAIN_WIDTH = 160  # Columns off a terminal: no line is cut, and logs can be read.
_LITERALS = ("{", "[", '"', "curl ")  # What such an argument begins with is no file's name.

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class Problem(click.ClickException):
    """What a command was asked for cannot be had; the exit code is 1."""

    exit_code = 1


def make_console() -> Console:
    """Make the console that everything is printed on."""
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=2))


def read_source(argument: str) -> bytes:
    """Return what an argument means: itself, standard input (`-`), or a file's content.

    Raises:
        click.UsageError: There is no such file.
    """
    if argument == "-":
        return sys.stdin.buffer.read()
    if argument.startswith(_LITERALS):
        return argument.encode("utf-8", "surrogateescape")
    try:
        return Path(argument).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.UsageError(f"cannot read {argument}: {reason}") from error


def said(value: str | bytes) -> str:
    """Return what can be read of a value: text, or hexadecimal digits."""
    if isinstance(value, str):
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.replace("\n", "").replace("\t", "").isprintable() else value.hex()
