import math
from array import array
from dataclasses import replace

import pytest

from loadgen import Constant, Plan, Uniform
from loadgen.explain import Cause, Explanation, Fill, Fills, explain
from loadgen.outcome import CacheStatus, Outcome
from loadgen.plan import Rows
from loadgen.records import Records

# One item, so that every request asks the same; the times come from each test.
_PLAN = Plan(law=Uniform(1), arrivals=Constant(1), duration=20, mix={"sentiment": 1})
_KEY = _PLAN.key(0)

HIT, MISS, COALESCED, STALE = Outcome.HIT, Outcome.MISS, Outcome.COALESCED, Outcome.STALE

Step = tuple[float, float, Outcome]  # Sent, done, and what the server said.


def _explained(
    *steps: Step,
    status: int = 200,
    ttls: dict[int, int] | None = None,
    ttl: float | None = 100,
    capacity: int | None = None,
    coalesce: bool = True,
    warm: Fills | None = None,
    plan: Plan = _PLAN,
) -> Explanation:
    records = Records(len(plan.rows))
    for row, (sent, done, outcome) in enumerate(steps):
        told = None if ttls is None else ttls.get(row)
        records.send(row, due=sent, now=sent)
        records.answer(row, now=done, status=status, cache=CacheStatus(outcome, told))
    return explain(plan, records, ttl=ttl, capacity=capacity, coalesce=coalesce, warm=warm)


def _causes(explanation: Explanation) -> list[Cause]:
    return [Cause(explanation.causes[row]) for row in sorted(explanation.rows)]


def test_a_perfect_cache_misses_once() -> None:
    explanation = _explained((0, 1, MISS), (0.5, 1, COALESCED), (2, 2.1, HIT), (3, 3.1, HIT))

    assert _causes(explanation) == [Cause.COMPULSORY, Cause.COALESCED, Cause.HIT, Cause.HIT]
    assert (explanation.observed, explanation.achievable) == (0.75, 0.75)
    assert explanation.efficiency == 1
    assert explanation.unexplained == explanation.unexpected == []
    assert explanation.counts[Cause.HIT] == 2


def test_a_second_miss_of_what_is_fresh_is_unexplained() -> None:
    explanation = _explained((0, 1, MISS), (2, 3, MISS), (4, 4.1, HIT))

    assert _causes(explanation) == [Cause.COMPULSORY, Cause.UNEXPLAINED, Cause.HIT]
    assert explanation.unexplained == [1]
    assert explanation.efficiency == 0.5


def test_a_miss_beside_a_miss_was_not_coalesced() -> None:
    explanation = _explained((0, 1, MISS), (0.5, 1.5, MISS))

    assert _causes(explanation) == [Cause.COMPULSORY, Cause.IN_FLIGHT]
    assert explanation.efficiency == 0


def test_a_cache_that_need_not_coalesce_is_not_blamed() -> None:
    explanation = _explained((0, 1, MISS), (0.5, 1.5, MISS), (2, 2.1, HIT), coalesce=False)

    assert _causes(explanation) == [Cause.COMPULSORY, Cause.IN_FLIGHT, Cause.HIT]
    assert explanation.efficiency == 1


def test_an_answer_expires_after_its_lifetime() -> None:
    explanation = _explained((0, 1, MISS), (5, 5.1, HIT), (15, 16, MISS), (17, 17.1, HIT), ttl=10)

    assert _causes(explanation) == [Cause.COMPULSORY, Cause.HIT, Cause.EXPIRED, Cause.HIT]
    assert explanation.efficiency == 1


@pytest.mark.parametrize("outcome", [HIT, MISS])
def test_at_the_end_of_a_lifetime_the_server_knows_best(outcome: Outcome) -> None:
    """Stored between 0 and 1, lifetime 10: what the server had at 10.5 cannot be known here."""
    explanation = _explained((0, 1, MISS), (10.5, 10.6, outcome), ttl=10)

    assert explanation.causes[1] == (Cause.HIT if outcome is HIT else Cause.EXPIRED)
    assert explanation.efficiency == 1


def test_the_lifetime_is_learnt_from_hits() -> None:
    explanation = _explained((0, 1, MISS), (2, 2.1, HIT), (8, 9, MISS), ttl=None, ttls={1: 4})

    assert explanation.ttl == 5
    assert explanation.causes[2] == Cause.EXPIRED


def test_without_a_word_on_lifetimes_they_are_endless() -> None:
    explanation = _explained((0, 1, MISS), (9999, 10_000, MISS), ttl=None)

    assert explanation.ttl == math.inf
    assert explanation.unexplained == [1]


def test_a_stale_answer_is_a_reuse_and_is_refreshed_behind() -> None:
    explanation = _explained((0, 1, MISS), (15, 15.1, STALE), (17, 17.1, HIT), ttl=10)

    assert _causes(explanation) == [Cause.COMPULSORY, Cause.STALE, Cause.HIT]
    assert explanation.efficiency == 1


def test_the_request_that_left_first_need_not_arrive_first() -> None:
    """Sent first, but coalesced with one that was sent while it was open."""
    explanation = _explained((0, 1, COALESCED), (0.1, 1, MISS), (2, 2.1, HIT))

    assert _causes(explanation) == [Cause.COALESCED, Cause.COMPULSORY, Cause.HIT]
    assert explanation.unexpected == []
    assert explanation.efficiency == 1


def test_reuse_of_what_nobody_asked_is_unexpected() -> None:
    explanation = _explained((0, 0.1, HIT), (1, 1.1, HIT))

    assert explanation.unexpected == [0]
    assert _causes(explanation) == [Cause.HIT, Cause.HIT]


def test_a_warm_cache_is_taken_over_from_the_run_before() -> None:
    before = _explained((0, 1, MISS))

    explanation = _explained((2, 2.1, HIT), (3, 4, MISS), warm=before.fills)

    assert before.fills == {_KEY: Fill(0, 1)}
    assert explanation.unexpected == []
    assert explanation.unexplained == [1]
    assert explanation.achievable == 1


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        (Outcome.BYPASS, Cause.BYPASS),
        (Outcome.UNKNOWN, Cause.UNKNOWN),
        (Outcome.ERROR, Cause.ERROR),
    ],
)
def test_what_is_no_miss_needs_no_reason_and_still_costs_efficiency(
    outcome: Outcome, cause: Cause
) -> None:
    explanation = _explained((0, 1, outcome), (2, 3, outcome))

    assert _causes(explanation) == [cause, cause]
    assert explanation.achievable == 0.5
    assert explanation.efficiency == 0


def test_a_failed_answer_fills_no_cache() -> None:
    explanation = _explained((0, 1, MISS), (2, 3, MISS), status=503)

    assert _causes(explanation) == [Cause.COMPULSORY, Cause.COMPULSORY]
    assert explanation.achievable == 0
    assert explanation.efficiency == 1


def test_of_traffic_past_the_cache_nothing_is_achievable() -> None:
    plan = Plan(law=Uniform(1), arrivals=Constant(1), duration=2, mix={"sentiment": 1}, bypass=True)

    explanation = _explained((0, 1, Outcome.BYPASS), (2, 3, Outcome.BYPASS), plan=plan)

    assert explanation.achievable == 0


def test_nothing_sent_explains_nothing() -> None:
    explanation = _explained()

    assert math.isnan(explanation.observed)
    assert math.isnan(explanation.achievable)
    assert explanation.efficiency == 1


def _asking(*items: int) -> Plan:
    """Return a plan that asks for these items, one a second."""
    rows = Rows(
        due=array("d", range(len(items))),
        models=array("b", [0]) * len(items),
        items=array("q", items),
        respelled=array("b", [0]) * len(items),
    )
    return replace(_PLAN, law=Uniform(100), recorded=rows)


def _one_by_one(*outcomes: Outcome) -> list[Step]:
    return [(row, row + 0.1, outcome) for row, outcome in enumerate(outcomes)]


def test_a_miss_of_what_was_pushed_out_is_explained_by_capacity() -> None:
    plan = _asking(1, 2, 3, 1)

    explanation = _explained(*_one_by_one(MISS, MISS, MISS, MISS), plan=plan, capacity=2)

    assert _causes(explanation)[3] is Cause.CAPACITY
    assert explanation.unexplained == []
    assert explanation.efficiency == 1
    assert explanation.capacity == 2


def test_a_miss_of_what_must_have_been_kept_is_not() -> None:
    plan = _asking(1, 2, 1)

    explanation = _explained(*_one_by_one(MISS, MISS, MISS), plan=plan, capacity=10)

    assert explanation.unexplained == [2]


def test_use_keeps_an_entry() -> None:
    plan = _asking(1, 2, 1, 3, 1)

    explanation = _explained(*_one_by_one(MISS, MISS, HIT, MISS, HIT), plan=plan, capacity=2)

    assert _causes(explanation)[4] is Cause.HIT
    assert explanation.efficiency == 1


def test_a_server_that_kept_more_than_it_had_to_is_not_over_efficient() -> None:
    plan = _asking(1, 2, 3, 1)

    explanation = _explained(*_one_by_one(MISS, MISS, MISS, HIT), plan=plan, capacity=2)

    assert explanation.achievable == explanation.observed == 0.25


def test_at_the_edge_of_the_capacity_the_server_knows_best() -> None:
    """With ten entries the oldest one may have gone in another order of arrival."""
    plan = _asking(*range(10), 0)

    hit, miss = (
        _explained(*_one_by_one(*[MISS] * 10, last), plan=plan, capacity=10) for last in (HIT, MISS)
    )

    assert hit.efficiency == miss.efficiency == 1
    assert _causes(miss)[10] is Cause.CAPACITY


def test_a_warm_cache_has_its_capacity_too() -> None:
    plan = _asking(3, 1, 2)
    warm = {("sentiment", item): Fill(-9 + item, -8.5 + item) for item in (1, 2)}

    explanation = _explained(*_one_by_one(MISS, MISS, HIT), plan=plan, capacity=2, warm=warm)

    assert _causes(explanation)[1] is Cause.CAPACITY
    assert explanation.unexpected == []
