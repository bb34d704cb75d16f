import math
import random

import pytest

from loadgen import Constant, Plan, Poisson, Uniform, Zipf
from loadgen.popularity import Law
from loadgen.theory import expected_hit_ratio, predict


def _simulated(law: Law, requests: int, cached: frozenset[int] = frozenset()) -> float:
    rng = random.Random("simulation")
    hits, runs = 0, 40
    for _ in range(runs):
        seen = set(cached)
        for _ in range(requests):
            rank = law.draw(rng)
            hits += rank in seen
            seen.add(rank)
    return hits / (runs * requests)


@pytest.mark.parametrize(
    ("law", "requests"),
    [
        (Zipf(100, 1.2), 1000),
        (Zipf(10_000, 1.2), 2000),
        (Zipf(1000, 0.8), 500),
        (Uniform(10_000), 2000),
        (Zipf(1, 1.0), 10),
    ],
)
@pytest.mark.parametrize("cached", [frozenset(), frozenset(range(50))], ids=["cold", "warm"])
def test_the_prediction_is_what_a_simulation_finds(
    law: Law, requests: int, cached: frozenset[int]
) -> None:
    predicted = expected_hit_ratio(law, requests, cached)

    assert predicted == pytest.approx(_simulated(law, requests, cached), abs=0.01)


@pytest.mark.parametrize(
    ("law", "requests", "known"),
    [
        (Zipf(10_000, 1.2), 2000, 0.741),
        (Uniform(10_000), 2000, 0.094),
        (Zipf(100, 1.2), 1000, 0.911),
        (Uniform(100), 1000, 0.900),
    ],
)
def test_the_figures_that_the_documentation_quotes(law: Law, requests: int, known: float) -> None:
    assert expected_hit_ratio(law, requests) == pytest.approx(known, abs=0.0006)


def test_models_are_predicted_one_by_one() -> None:
    """Two models with half of the traffic each see each item half as often."""
    law = Zipf(1000, 1.2)
    plan = Plan(
        law=law, arrivals=Constant(100), duration=20, mix={"sentiment": 1, "answer": 1}, seed=3
    )

    assert predict(plan) == pytest.approx(expected_hit_ratio(law, 1000), abs=0.001)


def test_a_plan_repeated_cannot_miss() -> None:
    plan = Plan(law=Zipf(1000, 1.2), arrivals=Poisson(50), duration=10)
    everything = {plan.key(row) for row in range(len(plan.rows))}

    assert predict(plan, everything) == 1
    assert predict(plan) < predict(plan, list(everything)[1:]) < 1


def test_no_requests_have_no_hit_ratio() -> None:
    empty = Plan(law=Uniform(9), arrivals=Poisson(0.001), duration=0.001)

    assert math.isnan(predict(empty))
    assert math.isnan(expected_hit_ratio(Uniform(1), 0))
