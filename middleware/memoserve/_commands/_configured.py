"""What `memoserve.toml` and `MEMOSERVE_*` say, for commands that can do with it.

Rule: an option of the command line wins over both, and without either of them a command works.
"""

import os
import sys

import click

from memoserve._errors import ConfigError
from memoserve._rules import Rule
from memoserve.config import Configuration, load

__all__ = ["config_option", "configured", "has_rules"]

config_option = click.option(
    "--config", metavar="FILE", help="Instead of MEMOSERVE_CONFIG or memoserve.toml."
)

_NO_RULES = (Rule("/"),)  # Where none are configured, which is nothing to complain about here.


def configured(path: str | None) -> Configuration:
    """Return what is configured, which may be nothing.

    Raises:
        click.UsageError: It is wrong.
    """
    here = os.getcwd()  # noqa: PTH109  (a text, as all of them)
    if here not in sys.path:
        sys.path.insert(0, here)  # So that functions are found where servers find them.
    try:
        return load(path, rules=_NO_RULES)
    except ConfigError as error:
        raise click.UsageError("\n".join(error.problems)) from error


def has_rules(configuration: Configuration) -> bool:
    """Tell whether the configuration says what is cached."""
    return configuration.rules is not _NO_RULES and configuration.rules != _NO_RULES
