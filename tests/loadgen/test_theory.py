"""Every formula agrees with a simulation within 0.01."""

import math
import random
from collections import OrderedDict
from dataclasses import replace

import pytest

from loadgen import Churn, Closed, Constant, HotSet, Plan, Poisson, Stages, Uniform, Zipf
from loadgen.popularity import Law
from loadgen.theory import (
    CacheModel,
    characteristic_time,
    expected_hit_ratio,
    forecast,
    lru_hit_ratio,
    predict,
    ttl_hit_ratio,
    warnings,
)

_WITHIN = 0.01


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
        (HotSet(10_000, 0.01, 0.7), 2000),
        (Uniform(10_000), 2000),
        (Zipf(1, 1.0), 10),
    ],
)
@pytest.mark.parametrize("cached", [frozenset(), frozenset(range(50))], ids=["cold", "warm"])
def test_the_prediction_is_what_a_simulation_finds(
    law: Law, requests: int, cached: frozenset[int]
) -> None:
    predicted = expected_hit_ratio(law, requests, cached & frozenset(range(law.items)))

    assert predicted == pytest.approx(_simulated(law, requests, cached), abs=_WITHIN)


@pytest.mark.parametrize(
    ("law", "requests", "known"),
    [
        (Zipf(10_000, 1.2), 2000, 0.741),
        (Uniform(10_000), 2000, 0.094),
        (Zipf(100, 1.2), 1000, 0.911),
        (Uniform(100), 1000, 0.900),
        (Zipf(100_000, 1.0), 6000, 0.526),
    ],
)
def test_the_figures_that_the_documentation_quotes(law: Law, requests: int, known: float) -> None:
    assert expected_hit_ratio(law, requests) == pytest.approx(known, abs=0.0006)


def _steady(law: Law, *, rate: float, ttl: float = math.inf, capacity: int | None = None) -> float:
    """Return the hit ratio of a simulated cache after it has filled."""
    rng, now, hits, counted = random.Random("steady"), 0.0, 0, 0
    cache: OrderedDict[int, float] = OrderedDict()
    for number in range(200_000):
        now -= math.log(1 - rng.random()) / rate
        rank = law.draw(rng)
        hit = rank in cache and now < cache[rank]
        if number > 50_000:
            hits, counted = hits + hit, counted + 1
        if not hit:
            cache[rank] = now + ttl
        cache.move_to_end(rank)
        if capacity is not None and len(cache) > capacity:
            cache.popitem(last=False)
    return hits / counted


@pytest.mark.parametrize(
    ("law", "rate", "ttl"),
    [(Zipf(1000, 1.2), 10, 30), (Zipf(2000, 0.8), 20, 60), (Uniform(100), 5, 40)],
)
def test_lifetimes_cost_what_renewal_theory_says(law: Law, rate: float, ttl: float) -> None:
    steady = _steady(law, rate=rate, ttl=ttl)

    assert ttl_hit_ratio(law, rate, ttl) == pytest.approx(steady, abs=_WITHIN)


@pytest.mark.parametrize(
    ("law", "capacity"),
    [
        (Zipf(1000, 1.2), 50),
        (Zipf(10_000, 1.2), 100),
        (Zipf(10_000, 0.8), 1000),
        (HotSet(1000, 0.1, 0.9), 120),
        (Uniform(1000), 300),
    ],
)
def test_che_knows_the_hit_ratio_of_an_lru_cache(law: Law, capacity: int) -> None:
    steady = _steady(law, rate=1, capacity=capacity)

    assert lru_hit_ratio(law, capacity) == pytest.approx(steady, abs=_WITHIN)


def test_a_cache_for_everything_evicts_nothing() -> None:
    assert characteristic_time(Uniform(10), 10) == math.inf
    assert lru_hit_ratio(Uniform(10), 10) == pytest.approx(1)


def _cold(plan: Plan, cache: CacheModel) -> float:
    """Return the hit ratio of a simulated cache that a plan finds empty."""
    entries: OrderedDict[object, float] = OrderedDict()
    hits = 0
    for row, due in enumerate(plan.rows.due):
        key = plan.key(row)
        hit = key in entries and due < entries[key]
        hits += hit
        if not hit:
            entries[key] = due + cache.ttl
        entries.move_to_end(key)
        if cache.capacity is not None and len(entries) > cache.capacity:
            entries.popitem(last=False)
    return hits / len(plan.rows)


_PLAN = Plan(law=Zipf(2000, 1.1), arrivals=Poisson(100), duration=300, seed=5)


@pytest.mark.parametrize(
    ("plan", "cache"),
    [
        pytest.param(_PLAN, CacheModel(), id="unbounded"),
        pytest.param(_PLAN, CacheModel(ttl=120), id="ttl"),
        pytest.param(_PLAN, CacheModel(ttl=10), id="many-lifetimes"),
        pytest.param(_PLAN, CacheModel(capacity=300), id="capacity"),
        pytest.param(replace(_PLAN, churn=Churn(10, 0.5, 50)), CacheModel(), id="churn"),
        pytest.param(
            replace(_PLAN, arrivals=Stages(((0, 20), (150, 200)))), CacheModel(), id="ramp"
        ),
    ],
)
def test_the_forecast_from_cold_is_what_a_simulation_finds(plan: Plan, cache: CacheModel) -> None:
    """The models share a capacity by their traffic in theory, and by luck in the simulation."""
    plan = replace(plan, mix={"sentiment": 1}) if cache.capacity else plan

    points = forecast(plan, cache)

    assert points[-1].requests == len(plan.rows)
    assert points[-1].expected == pytest.approx(_cold(plan, cache), abs=_WITHIN)
    assert [p.at for p in points] == sorted(p.at for p in points)


def test_two_standard_deviations_hold_nineteen_of_twenty_runs() -> None:
    base = Plan(law=Zipf(10_000, 1.2), arrivals=Constant(100), duration=10)
    expected = forecast(base, CacheModel())[-1]

    inside = sum(
        abs(_cold(replace(base, seed=seed), CacheModel()) - expected.expected)
        <= 2 * expected.deviation
        for seed in range(100)
    )

    assert inside >= 89


def test_the_prediction_of_churn_is_the_forecast() -> None:
    plan = replace(_PLAN, churn=Churn(10, 0.5, 50))

    assert predict(plan) == pytest.approx(_cold(plan, CacheModel()), abs=_WITHIN)
    assert predict(plan) < predict(_PLAN) - 0.01


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


def test_of_a_closed_loop_what_was_sent_is_predicted() -> None:
    plan = Plan(law=Zipf(1000, 1.2), arrivals=Closed(4), duration=10)

    assert predict(plan, sent=100) < predict(plan, sent=1000) < predict(plan)
    assert forecast(plan, CacheModel()) == []


def test_no_requests_have_no_hit_ratio() -> None:
    empty = Plan(law=Uniform(9), arrivals=Poisson(0.001), duration=0.001)

    assert math.isnan(predict(empty))
    assert math.isnan(expected_hit_ratio(Uniform(1), 0))
    assert forecast(empty, CacheModel()) == []


@pytest.mark.parametrize(
    ("plan", "cache", "said"),
    [
        pytest.param(
            Plan(law=Zipf(100, 1.2), arrivals=Constant(50), duration=120, mix={"answer": 1}),
            CacheModel(),
            "cannot tell zipf:1.2 from uniform",
            id="small-catalogue",
        ),
        pytest.param(_PLAN, CacheModel(ttl=300), "never exercises the ttl", id="long-ttl"),
        pytest.param(_PLAN, CacheModel(ttl=20), None, id="good"),
        pytest.param(
            Plan(law=Uniform(100), arrivals=Constant(50), duration=60), CacheModel(), None, id="u"
        ),
    ],
)
def test_what_a_scenario_cannot_show_is_said(
    plan: Plan, cache: CacheModel, said: str | None
) -> None:
    found = warnings(plan, cache)

    assert [said in text for text in found if said] == ([True] if said else [])
    assert len(found) == (said is not None)
