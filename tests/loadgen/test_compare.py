import json
from pathlib import Path

import pytest

from loadgen.compare import broken, compared, differences, document_figure, read_document
from loadgen.expressions import parse_expression
from tests.loadgen.runs import PLAN, finished_run
from tests.loadgen.test_document import documented

_SLOW, _FAST = documented(finished_run(service=0.01)), documented(finished_run(service=0.001))
_BOTH = {"a": _SLOW, "b": _FAST}


def test_two_runs_stand_side_by_side() -> None:
    rows = {row[0]: row[1:] for row in compared(_SLOW, _FAST)}

    assert rows["response p50"][2] < "0.20"
    assert rows["observed"][2] == "1.00"
    assert rows["errors"][2] == "–"
    assert differences(_SLOW, _FAST) == []


def test_different_plans_are_told() -> None:
    other = documented(finished_run(plan=PLAN)) | {"plan": _FAST["plan"] | {"seed": 7}}

    assert differences(_SLOW, other) == ["seed: 42 and 7"]


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("p50.b > p50.a", False),
        ("p50.a > p50.b * 2", True),
        ("p99[hit].a > p99[hit].b", True),
        ("service_p50[answer].a > 1ms", True),
        ("p99[stale].a > 1ms", False),
        ("hit_ratio.b < hit_ratio.a", False),
        ("rps.a < 1000", True),
    ],
)
def test_an_expression_may_speak_of_both(text: str, fails: bool) -> None:
    assert bool(broken([parse_expression(text)], _BOTH)) is fails


@pytest.mark.parametrize(
    ("text", "message"),
    [("p99 > 1s", "say of which run"), ("p97.a > 1s", "not in the document")],
)
def test_what_a_document_does_not_hold_is_said(text: str, message: str) -> None:
    (metric,) = parse_expression(text).metrics

    with pytest.raises(ValueError, match=message):
        document_figure(_BOTH, metric)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "no result of this version"), ('{"schema": "x"}', "'x'")],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=message):
        read_document(path)


def test_a_result_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(_SLOW))

    assert read_document(path) == _SLOW
