import math
from dataclasses import replace

import pytest

from loadgen.expressions import parse_expression
from loadgen.figures import figure, speed_up
from loadgen.outcome import Outcome
from loadgen.records import Records, percentile
from tests.loadgen.runs import PLAN, finished_run

_RUN = finished_run()
_EXPLANATION = _RUN.explain()


def _figure(text: str) -> float:
    (metric,) = parse_expression(f"{text} > {'1' if text in _PLAIN else '1s'}").metrics
    return figure(_RUN, _EXPLANATION, metric)


_PLAIN = {
    "achievable",
    "coalesced",
    "dropped",
    "efficiency",
    "error_rate",
    "errors",
    "hit_efficiency",
    "hit_ratio",
    "rps",
    "speedup",
    "unexpected",
    "unexplained",
}


@pytest.mark.parametrize("name", sorted(_PLAIN))
def test_every_figure_that_has_a_name_has_a_value(name: str) -> None:
    assert math.isfinite(_figure(name))


def test_figures_are_those_of_the_run() -> None:
    hits = sorted(_RUN.records.responses(_RUN.records.rows(Outcome.HIT)))

    assert _figure("rps") == pytest.approx(100)
    assert _figure("efficiency") == _figure("hit_efficiency") == 1
    assert _figure("p95[hit]") == percentile(hits, 0.95)
    assert _figure("max[miss]") == pytest.approx(0.0205)
    assert _figure("mean[hit]") == pytest.approx(math.fsum(hits) / len(hits))
    assert _figure("service_p50[miss]") == pytest.approx(0.02)
    assert _figure("first_byte_p50[miss]") == pytest.approx(0.0105)
    assert _figure("lag_p99") == pytest.approx(0.0005)
    assert 10 < _figure("speedup") < 20


def test_a_part_of_the_requests_can_be_asked_for() -> None:
    late = figure(_RUN, _EXPLANATION, parse_expression("max[after=9s] > 1s").metrics[0])

    assert _figure("p99[answer,miss]") == pytest.approx(0.0205)
    assert late <= _figure("max")


def test_a_figure_of_nothing_is_none() -> None:
    empty = replace(_RUN, records=Records(len(PLAN.rows)))

    assert math.isnan(_figure("p99[stale]"))
    assert math.isnan(_figure("mean[stale]"))
    assert math.isnan(speed_up(empty))
