"""What the guide of the load generator shows is what runs."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from loadgen.cli import cli
from loadgen.expressions import parse_expression
from loadgen.telemetry import Metrics
from loadgen.verdict import Exit

_TEXT = (Path(__file__).parents[2] / "loadgen" / "README.md").read_text(encoding="utf-8")
_COMMANDS = re.findall(r"^\$ (python -m loadgen .*?)(?:\s{2,}#.*)?$", _TEXT, re.MULTILINE)


def test_its_example_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", _TEXT, re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}

    exec(compile(block, "README.md", "exec"), names)  # noqa: S102  (our own text)

    assert "test_the_cache_misses_nothing_that_it_could_hit" in names


@pytest.mark.parametrize("line", _COMMANDS)
def test_its_commands_are_understood(line: str) -> None:
    for command in line.split(" && "):
        name, *arguments = shlex.split(command.replace("URL", "http://a"))[3:]

        parsed = cli.commands[name].make_context(name, arguments, resilient_parsing=False)

        assert isinstance(parsed, click.Context)


def test_its_thresholds_are_understood() -> None:
    (line,) = re.findall(r"`--fail-if` says what must not be: (.*)", _TEXT)

    expressions = re.findall(r"`([^`]+)`", line)

    assert len(expressions) == 6
    assert all(parse_expression(text).metrics for text in expressions)


def test_its_exit_codes_are_all_there_are() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \| [a-z]", _TEXT, re.MULTILINE)}

    assert listed == set(Exit)


def test_its_metrics_are_those_in_the_code() -> None:
    documented = set(re.findall(r"`(loadgen_[a-z_]+)`", _TEXT))

    assert documented == set(
        re.findall(r"``(loadgen_[a-z_]+)``", str(__import__(Metrics.__module__).telemetry.__doc__))
    )
