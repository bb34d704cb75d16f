from dataclasses import replace

import pytest

from loadgen import Constant, Plan, Run, Uniform
from loadgen.outcome import CacheStatus, Outcome
from loadgen.records import Records
from loadgen.verdict import Exit, Thresholds, judge, lag_findings

_PLAN = Plan(law=Uniform(1), arrivals=Constant(1), duration=20, mix={"sentiment": 1})


def _run(
    *, lag: float = 0.0, service: float = 0.005, first: Outcome = Outcome.MISS, cpu: float = 0.2
) -> Run:
    """One question, asked 20 times: a miss and 19 hits."""
    records = Records(20)
    for row in range(20):
        records.send(row, due=row, now=row + lag)
        outcome = Outcome.HIT if row else first
        done = row + lag + service
        records.answer(row, now=done, status=200, cache=CacheStatus(outcome))
    return Run(_PLAN, records, elapsed=20, cpu=cpu)


def _judged(run: Run, *, cold: bool = True) -> dict[Exit, str]:
    findings = judge(run, run.explain(), Thresholds(), cold=cold)
    return {finding.exit: finding.text for finding in findings}


def test_a_good_run_has_no_findings() -> None:
    assert _judged(_run()) == {}


def test_a_generator_that_lags_is_invalid() -> None:
    found = _judged(_run(lag=0.011))

    assert found == {Exit.INVALID: "the generator lagged: p99 11.0 ms, over 10.0 ms"}


def test_a_slow_server_allows_more_lag() -> None:
    assert lag_findings(_run(lag=0.04, service=0.5)) == []
    assert lag_findings(_run(lag=0.06, service=0.5)) != []


def test_a_generator_without_a_core_to_spare_is_invalid() -> None:
    assert _judged(_run(cpu=0.95)) == {Exit.INVALID: "the generator was saturated: 95% of a core"}


def test_dropped_requests_make_a_run_invalid() -> None:
    run = _run()
    run.records.drop()

    assert _judged(run) == {Exit.INVALID: "1 request of the plan not sent: too many were in flight"}


def test_a_plan_that_was_not_sent_makes_a_run_invalid() -> None:
    run = replace(_run(), plan=replace(_PLAN, duration=40))

    assert _judged(run) == {Exit.INVALID: "only 20 of 40 requests were sent"}


@pytest.mark.parametrize(
    ("bad", "code"), [(1, Exit.FAILED), (10, Exit.FAILED), (11, Exit.UNREACHABLE)]
)
def test_errors_fail_a_run_and_most_of_them_mean_no_target(bad: int, code: Exit) -> None:
    run = _run()
    for row in range(bad):
        run.records.status[19 - row] = 503

    assert _judged(run)[code] == (f"{bad} of 20 requests got no usable answer: status 503 ({bad})")


def test_reasons_of_failures_are_counted() -> None:
    run = _run()
    run.records.failures["timed out"] += 2

    assert "timed out (2)" in _judged(run)[Exit.FAILED]


def test_an_inefficient_cache_fails() -> None:
    run = _run()
    run.records.outcome[5] = Outcome.MISS

    texts = [finding.text for finding in judge(run, run.explain(), Thresholds(), cold=True)]

    assert texts == [
        "hit ratio 90.0% of 95.0% achievable: efficiency 0.947, under 0.98",
        "1 unexplained miss: asked before, still fresh, and yet not answered from the cache",
    ]


@pytest.mark.parametrize("cold", [True, False])
def test_reuse_that_nobody_can_have_caused_fails_a_cold_run(cold: bool) -> None:
    found = _judged(_run(first=Outcome.HIT), cold=cold)

    assert (Exit.FAILED in found) is cold


def test_a_server_without_cache_status_is_told_so() -> None:
    run = _run()
    for row in range(20):
        run.records.outcome[row] = Outcome.UNKNOWN

    assert _judged(run) == {
        Exit.FAILED: "the server sends no Cache-Status or X-Cache: "
        "nothing can be said about its cache"
    }


def test_an_interrupted_run_is_not_judged() -> None:
    run = replace(_run(lag=1), interrupted=True)

    assert list(_judged(run)) == [Exit.INTERRUPTED]
