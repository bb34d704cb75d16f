import math

import pytest

from loadgen.outcome import CacheStatus, Outcome
from loadgen.records import Records, percentile, summarize

_HIT = CacheStatus(Outcome.HIT, 9)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, 1), (0.001, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.999, 100), (1, 100)],
)
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(1, 101)], share) == expected


def test_a_summary_does_not_care_for_order() -> None:
    summary = summarize([3.0, 1.0, 2.0])

    assert (summary.count, summary.p50, summary.p95, summary.p99, summary.max) == (3, 2, 3, 3, 3)


def test_nothing_has_no_percentiles() -> None:
    summary = summarize([])

    assert summary.count == 0
    assert math.isnan(summary.p50)
    assert math.isnan(summary.max)


def test_response_contains_the_lag() -> None:
    records = Records(1)

    records.send(0, due=10.0, now=10.5)
    records.answer(0, now=11.0, status=200, cache=_HIT)

    assert records.responses([0]) == [1.0]
    assert records.services([0]) == [0.5]
    assert records.lags() == [0.5]


def test_what_was_not_sent_has_no_times() -> None:
    records = Records(3)

    records.drop()
    records.send(1, due=0, now=0)
    records.send(2, due=0, now=0)
    records.answer(2, now=1, status=200, cache=_HIT, retried=True)

    assert (len(records), records.started, records.finished, records.dropped) == (3, 2, 1, 1)
    assert records.rows() == records.rows(Outcome.HIT) == [2]
    assert records.rows(Outcome.MISS) == []
    assert len(records.lags()) == 2
    assert records.retried == 1


def test_errors_are_failures_and_all_but_2xx() -> None:
    records = Records(4)

    for row, status in enumerate([200, 299, 404]):
        records.send(row, due=0, now=0)
        records.answer(row, now=1, status=status, cache=_HIT)
    records.send(3, due=0, now=0)
    records.fail(3, now=1, reason="timed out")

    assert records.errors == 2
    assert records.counts == {Outcome.HIT: 3, Outcome.ERROR: 1}
    assert records.failures == {"timed out": 1}
