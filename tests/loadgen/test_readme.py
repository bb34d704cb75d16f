"""What the guide of the load generator lists is all that there is."""

import re
from pathlib import Path

from loadgen.expressions import parse_expression
from loadgen.telemetry import Metrics
from loadgen.verdict import Exit

_TEXT = (Path(__file__).parents[2] / "loadgen" / "README.md").read_text(encoding="utf-8")


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
