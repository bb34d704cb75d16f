"""The document is what its published schema says."""

import csv
import io
import json
import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft202012Validator

from loadgen import Closed, Plan, Zipf
from loadgen.document import SCHEMA, SCHEMA_FILE, cache_model, run_document, sealed
from loadgen.exports import write_csv, write_hgrm
from loadgen.records import Records
from loadgen.runner import Run
from loadgen.summaries import junit, markdown
from loadgen.theory import forecast, predict
from loadgen.verdict import CHECKS, Exit, Finding
from tests.loadgen.runs import PLAN, finished_run

_SCHEMA = json.loads(SCHEMA_FILE.read_text())


def documented(run: Run, *findings: Finding) -> dict[str, Any]:
    explanation = run.explain()
    document = run_document(
        run, explanation, predict(run.plan), forecast(run.plan, cache_model(explanation)), ["w"]
    )
    code = max((finding.exit for finding in findings), default=Exit.PASS)
    return json.loads(json.dumps(sealed(document, findings, code), allow_nan=False))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        pytest.param(
            ["/srv/loadgen/__main__.py", "run", "http://a b"],
            "python -m loadgen run 'http://a b'",
            id="as-a-module",
        ),
        pytest.param(["soak.py", "--fast"], "soak.py --fast", id="from-a-program"),
    ],
)
def test_the_command_is_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], command: str
) -> None:
    monkeypatch.setattr("sys.argv", argv)

    assert documented(finished_run())["environment"]["command"] == command


_CLOSED = Plan(law=Zipf(9, 1.0), arrivals=Closed(2, requests=50), duration=5)


def _unsent() -> Run:
    return Run(PLAN, Records(len(PLAN.rows)), elapsed=0.2, cpu=0.0, interrupted=True)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(finished_run(), id="good"),
        pytest.param(finished_run(plan=_CLOSED), id="closed"),
        pytest.param(_unsent(), id="nothing-sent"),
    ],
)
def test_a_run_is_documented_as_its_schema_says(run: Run) -> None:
    Draft202012Validator.check_schema(_SCHEMA)

    document = documented(run)

    Draft202012Validator(_SCHEMA).validate(document)
    assert document["schema"] == SCHEMA


@pytest.mark.parametrize("field", ["hit_ratio", "series", "plan", "verdict"])
def test_the_schema_can_refuse(field: str) -> None:
    document = documented(finished_run())
    del document[field]

    assert not Draft202012Validator(_SCHEMA).is_valid(document)


def test_the_schema_knows_every_field() -> None:
    document = documented(finished_run()) | {"surprise": 1}

    assert not Draft202012Validator(_SCHEMA).is_valid(document)


def test_series_add_up() -> None:
    run = finished_run()

    series = documented(run)["series"]

    width = series["slice"]
    for column in ("offered", "sent", "done"):
        assert sum(series[column]) * width == pytest.approx(1000, abs=1)
    assert series["in_flight"][-1] == 0
    assert series["observed"][-1] == run.explain().observed == series["achievable"][-1]
    assert sum(map(sum, series["causes"].values())) == 1000
    assert sum(series["ranks"]["expected"][:1]) == pytest.approx(PLAN.law.probability(0) * 1000)
    shares = [share for share, _ in series["percentiles"]["all"]]
    assert shares == sorted(shares)
    assert (
        series["predicted"]["low"][-1] <= series["observed"][-1] <= series["predicted"]["high"][-1]
    )


def test_each_request_is_a_line_of_csv() -> None:
    run, file = finished_run(), io.StringIO()
    run.records.sent[7] = run.records.done[7] = run.records.due[7] = math.nan

    write_csv(run, run.explain(), file)

    lines = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert len(lines) == 1000
    assert lines[0]["outcome"] == "miss"
    assert lines[0]["cause"] == "compulsory"
    assert lines[0]["due"] == "0.000000"
    assert (lines[7]["sent"], lines[7]["outcome"], lines[7]["cause"]) == ("", "", "")
    assert float(lines[1]["done"]) > float(lines[1]["first_byte"]) > float(lines[1]["sent"])


def test_the_percentile_file_is_exact_and_complete() -> None:
    run, file = finished_run(), io.StringIO()

    write_hgrm(run, file)

    head, *body = [line for line in file.getvalue().splitlines() if line and line[0] != "#"]
    rows = [tuple(map(float, line.split())) for line in body]
    assert head.split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert [row[1] for row in rows] == sorted({row[1] for row in rows})
    assert rows[-1][1:] == (1, 1000)
    assert rows[-1][0] == pytest.approx(max(run.records.responses(range(1000))) * 1e3, abs=0.001)
    assert any(row[1] == 0.5 and row[2] == 500 for row in rows)
    assert "Total count    =         1000]" in file.getvalue()


def test_nothing_has_an_empty_percentile_file() -> None:
    file = io.StringIO()

    write_hgrm(_unsent(), file)

    assert "Total count    =            0]" in file.getvalue()


def test_every_check_is_a_test_case() -> None:
    findings = [
        Finding(Exit.FAILED, "p99 > 5ms: p99 is <9>", "p99 > 5ms"),
        Finding(Exit.INVALID, "the generator lagged", "generator"),
    ]

    suite = ET.fromstring(junit(findings, ["p99 > 5ms", "errors > 1"], 1.5).encode())  # noqa: S314  (our own)

    cases = {case.get("name"): case.find("failure") for case in suite}
    failed = {name for name, failure in cases.items() if failure is not None}
    assert set(cases) == {*CHECKS, "p99 > 5ms", "errors > 1"}
    assert failed == {"p99 > 5ms", "generator"}
    assert (suite.get("tests"), suite.get("failures")) == (str(len(CHECKS) + 2), "2")


def test_a_summary_is_a_table_in_markdown() -> None:
    run = finished_run()

    good = markdown(documented(run))
    bad = markdown(documented(run, Finding(Exit.FAILED, "too slow", "p99")))
    none = markdown(documented(replace(run, records=Records(len(PLAN.rows)))))

    assert good.startswith("### loadgen: PASS")
    assert "| run | 1,000 |" in good
    assert "- too slow" in bad
    assert "| – | – |" in none
