"""What `memoserve.toml` and `MEMOSERVE_*` say, for commands that can do with it.

Rule: an option of the command line wins over both, and without either of them a command works.
"""

import contextlib
import os
import sys
from collections.abc import Generator

import click

from memoserve._errors import ConfigError
from memoserve._rules import Rule
from memoserve.config import Configuration, load

__all__ = ["config_option", "configured", "find_functions_here", "has_rules"]

config_option = click.option(
    "--config", metavar="FILE", help="Instead of MEMOSERVE_CONFIG or memoserve.toml."
)

_NO_RULES = (Rule("/"),)  # Where none are configured, which is nothing to complain about here.


def configured(path: str | None) -> Configuration:
    """Return what is configured, which may be nothing.

    Raises:
        click.UsageError: It is wrong.
    """
    find_functions_here()
    try:
        return load(path, rules=_NO_RULES)
    except ConfigError as error:
        raise click.UsageError("\n".join(error.problems)) from error


def has_rules(configuration: Configuration) -> bool:
    """Tell whether the configuration says what is cached."""
    return configuration.rules is not _NO_RULES and configuration.rules != _NO_RULES


def find_functions_here() -> None:
    """Find functions where a server finds them that is started here, until the command ends."""
    click.get_current_context().with_resource(_working_directory())


@contextlib.contextmanager
def _working_directory() -> Generator[None]:
    before = sys.path.copy()
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  (a text, as all of them)
    try:
        yield
    finally:
        sys.path[:] = before
