"""`memoserve schema`: the JSON Schema of memoserve.toml."""

import click

from memoserve._commands._terminal import print_json
from memoserve._config_file import json_schema

__all__ = ["schema"]


@click.command()
def schema() -> None:
    """Print the JSON Schema of memoserve.toml, for editors."""
    print_json(json_schema())
