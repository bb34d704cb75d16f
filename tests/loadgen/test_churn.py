import itertools
import random
from dataclasses import replace

import pytest

from loadgen import Constant, Plan, Uniform, Zipf
from loadgen.churn import Churn, parse_churn

_PLAN = Plan(
    law=Zipf(100, 1.0),
    arrivals=Constant(100),
    duration=10,
    mix={"answer": 1},
    churn=Churn(2, 0.5, 10),
)


def test_new_items_come_for_the_popular_ranks_only() -> None:
    plain, churned = replace(_PLAN, churn=None).rows, _PLAN.rows

    changed = [row for row in range(1000) if plain.items[row] != churned.items[row]]

    assert changed
    assert set(range(5)) < {plain.items[row] for row in changed} <= set(range(10))
    assert min(churned.items[row] for row in changed) >= 100
    assert min(churned.due[row] for row in changed) >= 2


def test_each_epoch_replaces_its_share_and_nothing_returns() -> None:
    epochs = list(itertools.islice(
        (dict(epoch) for epoch in Churn(1, 0.5, 10).items(100, random.Random(1))), 5
    ))  # fmt: skip

    changes = [
        {rank for rank in after if after[rank] != before.get(rank)}
        for before, after in itertools.pairwise(epochs)
    ]

    assert epochs[0] == {}
    assert [len(change) for change in changes] == [5, 5, 5, 5]
    assert set(epochs[1].values()) == set(range(100, 105))
    assert max(epochs[4].values()) == 119


def test_a_small_catalogue_has_a_small_top() -> None:
    plan = Plan(law=Uniform(2), arrivals=Constant(10), duration=3, churn=Churn(1, 1, 50))

    assert max(plan.rows.items) <= 2 + 2 * 2


def test_churn_is_read_from_text() -> None:
    assert parse_churn("10s:0.5@50") == Churn(10, 0.5, 50)
    assert parse_churn(str(Churn(10, 0.5, 50))) == Churn(10, 0.5, 50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10s", "churn reads like"),
        ("x:0.5@50", "a duration reads like"),
        ("0:0.5@50", "every so many seconds"),
        ("1s:1.5@50", "replace a share"),
        ("1s:0@50", "replace a share"),
        ("1s:0.5@0", "at least the first rank"),
    ],
)
def test_churn_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_churn(text)
