import json
from collections import Counter
from dataclasses import replace

import pytest

from loadgen import Constant, Plan, Poisson, Uniform, Zipf
from loadgen.catalogue import BUNDLED

PLAN = Plan(law=Zipf(1000, 1.2), arrivals=Poisson(50), duration=20, seed=42, salt="s")


def test_a_plan_is_the_same_everywhere() -> None:
    """A change of this hash means that published seeds no longer name the same experiment."""
    assert PLAN.sha256 == "3591d835bb7ab28ccdbea54f4647de64509a39f7b768dd1d5ccc72d5395737a4"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(PLAN, seed=43), id="seed"),
        pytest.param(replace(PLAN, salt="t"), id="salt"),
        pytest.param(replace(PLAN, law=Uniform(1000)), id="law"),
        pytest.param(replace(PLAN, arrivals=Poisson(51)), id="rate"),
        pytest.param(replace(PLAN, spelling=0.5), id="spelling"),
        pytest.param(replace(PLAN, bypass=True), id="bypass"),
        pytest.param(replace(PLAN, mix={"answer": 1}), id="mix"),
    ],
)
def test_the_hash_tells_plans_apart(other: Plan) -> None:
    assert other.sha256 != PLAN.sha256


def test_the_rate_does_not_change_which_items_are_asked() -> None:
    slow, fast = PLAN, replace(PLAN, arrivals=Constant(100))
    count = min(len(slow.rows), len(fast.rows))

    assert [slow.key(row) for row in range(count)] == [fast.key(row) for row in range(count)]


def test_the_law_does_not_change_when_requests_are_due() -> None:
    assert replace(PLAN, law=Uniform(9)).rows.due == PLAN.rows.due


def test_spelling_changes_bytes_and_no_value() -> None:
    noisy = replace(PLAN, spelling=0.5, duration=4)
    plain = replace(PLAN, duration=4)

    pairs = list(zip(noisy.bodies(), plain.bodies(), noisy.rows.respelled, strict=True))

    assert all(json.loads(ours) == json.loads(theirs) for ours, theirs, _ in pairs)
    assert all((ours != theirs) == respelled for ours, theirs, respelled in pairs)
    assert sum(respelled for *_, respelled in pairs) == pytest.approx(len(pairs) / 2, rel=0.2)


def test_the_mix_is_kept() -> None:
    counts = Counter(PLAN.model(row) for row in range(len(PLAN.rows)))

    total = sum(BUNDLED.mix.values())
    assert {model: count / counts.total() for model, count in counts.items()} == pytest.approx(
        {model: weight / total for model, weight in BUNDLED.mix.items()}, abs=0.05
    )


def test_a_model_without_weight_gets_no_traffic() -> None:
    plan = replace(PLAN, mix={"answer": 2, "summarize": 0})

    assert {plan.model(row) for row in range(len(plan.rows))} == {"answer"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration", 0),
        ("duration", float("nan")),
        ("spelling", 1.1),
        ("spelling", -0.1),
        ("mix", {"sentiment": 0}),
        ("mix", {"sentiment": -1, "answer": 2}),
        ("mix", {"sentiment": float("inf")}),
        ("mix", {"translate": 1}),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must"):
        replace(PLAN, **{field: value})  # type: ignore[arg-type]  # Wrong on purpose.
