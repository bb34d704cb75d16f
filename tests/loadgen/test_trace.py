import io
from dataclasses import replace
from pathlib import Path

import pytest

from loadgen import Churn, Constant, Plan, Poisson, Templates, Weights, Zipf
from loadgen.trace import fit_zipf, read_keys, read_plan, write_plan

_PLAN = Plan(
    law=Zipf(1000, 1.2),
    arrivals=Poisson(50),
    duration=10,
    spelling=0.3,
    churn=Churn(2, 0.5, 20),
    salt="s",
)


def _written(path: Path, plan: Plan = _PLAN) -> Path:
    with path.open("w") as file:
        write_plan(plan, file)
    return path


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(_PLAN, id="bundled"),
        pytest.param(
            replace(_PLAN, catalogue=Templates(('POST /v2 {"q": "{item}"}',), "*/*"), churn=None),
            id="templates",
        ),
        pytest.param(replace(_PLAN, law=Weights((3, 2, 1)), bypass=True), id="weights"),
    ],
)
def test_a_plan_in_a_file_is_the_same_experiment(tmp_path: Path, plan: Plan) -> None:
    path = _written(tmp_path / "plan.jsonl", plan)

    read = read_plan(path)

    assert read is not None
    assert read.sha256 == plan.sha256
    assert list(read.bodies()) == list(plan.bodies())
    assert read.catalogue == plan.catalogue
    assert read.churn == plan.churn
    assert read.duration == plan.duration


def test_a_replay_may_be_faster_and_colder(tmp_path: Path) -> None:
    read = read_plan(_written(tmp_path / "plan.jsonl"), speed=10, salt="new")

    assert read is not None
    assert read.duration == 1
    assert read.rows.items == _PLAN.rows.items
    assert list(read.rows.due) == pytest.approx([due / 10 for due in _PLAN.rows.due], abs=1e-6)
    assert read.churn == Churn(0.2, 0.5, 20)
    assert b"newx" in next(read.bodies())


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text.replace('"i": 0', '"i": 1', 1), id="another-item"),
        pytest.param(lambda text: text[:-20], id="cut-off"),
        pytest.param(lambda text: text.replace('"m": "answer"', '"m": "x"', 1), id="no-model"),
        pytest.param(lambda text: text.replace('"seed"', '"sead"', 1), id="no-seed"),
    ],
)
def test_a_damaged_plan_is_refused(tmp_path: Path, damage: object) -> None:
    path = _written(tmp_path / "plan.jsonl")
    path.write_text(damage(path.read_text()))  # type: ignore[operator]  # One of the above.

    with pytest.raises(ValueError, match="is damaged"):
        read_plan(path)


@pytest.mark.parametrize("text", ["", "key\n", "{}\n", "[1]\n", '{"schema": "else"}\n'])
def test_other_files_are_no_plans(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)

    assert read_plan(path) is None


def test_a_trace_of_keys_is_sent_with_our_arrivals(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("home\nabout\nhome\n\na,b\nhome\n")

    plan = read_keys(path, "answer", lambda: Constant(10), salt="s", seed=3)

    assert list(plan.rows.items) == [0, 1, 0, 2, 0]
    assert list(plan.rows.due) == [0, 0.1, 0.2, 0.3, 0.4]
    assert {plan.model(row) for row in range(5)} == {"answer"}
    assert plan.law.probability(0) == 0.6
    assert str(plan.law) == "counted"


def test_a_trace_of_twitter_keeps_its_times(tmp_path: Path) -> None:
    path = tmp_path / "cluster.csv"
    lines = [
        f"{second},{key},10,100,7,get,0" for second, key in [(100, "a"), (100, "b"), (104, "a")]
    ]
    path.write_text("\n".join(lines))

    plan = read_keys(path, "sentiment", lambda: Constant(1), speed=2)

    assert list(plan.rows.items) == [0, 1, 0]
    assert list(plan.rows.due) == [0, 0.25, 2]
    assert plan.duration == pytest.approx(2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no key"),
        ("1,a,1,1,1,get,0\nhome\n", "two kinds"),
        ("noon,a,1,1,1,get,0\n", "must be a number"),
    ],
)
def test_a_trace_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)

    with pytest.raises(ValueError, match=message):
        read_keys(path, "sentiment", lambda: Constant(1))


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "no-text"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trace"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ValueError, match="cannot be read"):
        read_plan(path)


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.4])
def test_the_exponent_of_a_trace_is_found(tmp_path: Path, exponent: float) -> None:
    plan = Plan(law=Zipf(200, exponent), arrivals=Constant(1000), duration=40)

    fit = fit_zipf(_written(tmp_path / "plan.jsonl", plan))

    assert fit.law.exponent == pytest.approx(exponent, abs=0.02)
    assert fit.law.items == 200
    assert fit.error < 0.02
    assert fit.distance < 0.02


def test_what_is_no_zipf_law_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\n".join(["hot"] * 900 + [f"cold {number}" for number in range(100)]))

    assert fit_zipf(path).distance > 0.05


def test_a_trace_of_one_key_fits_anything(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("a\na\n")

    with pytest.raises(ValueError, match="one key only"):
        fit_zipf(path)
    assert fit_zipf(path, items=5).law.items == 5


def test_a_plan_may_go_anywhere() -> None:
    file = io.StringIO()

    write_plan(_PLAN, file)

    assert file.getvalue().count("\n") == len(_PLAN.rows) + 1
