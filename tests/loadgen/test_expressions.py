import math
from collections.abc import Mapping

import pytest

from loadgen.expressions import Metric, parse_expression

_FIGURES: Mapping[str, float] = {
    "p99": 0.06,
    "service_p50": 0.002,
    "hit_efficiency": 0.97,
    "errors": 3,
    "speedup": math.nan,
}


def _failure(text: str) -> str | None:
    return parse_expression(text).failure(lambda metric: _FIGURES[metric.name])


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("p99 > 50ms", "p99 > 50ms: p99 is 60.00 ms"),
        ("p99>0.05s", "p99>0.05s: p99 is 60.00 ms"),
        ("p99 < 50ms", None),
        ("50ms <= p99", "50ms <= p99: p99 is 60.00 ms"),
        ("hit_efficiency < 98%", "hit_efficiency < 98%: hit_efficiency is 0.97"),
        ("hit_efficiency < 0.97", None),
        ("errors == 3", "errors == 3: errors is 3"),
        ("errors != 3", None),
        (
            "p99 > service_p50 * 10",
            "p99 > service_p50 * 10: p99 is 60.00 ms, service_p50 is 2.00 ms",
        ),
        ("service_p50 >= p99 / 10", None),
        ("speedup < 100", None),  # There was no hit or no miss.
    ],
)
def test_an_expression_says_what_must_not_be(text: str, failure: str | None) -> None:
    assert _failure(text) == failure


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("p99[hit, answer] > 1s", Metric("p99", ("hit", "answer"))),
        ("p99.9[after=30s] > 1s", Metric("p99.9", after=30)),
        ("mean.b > 1s", Metric("mean", side="b")),
        ("lag_p99 > 1s", Metric("lag_p99")),
        ("p99[hit].a > 1s", Metric("p99", ("hit",), side="a")),
    ],
)
def test_a_figure_may_be_of_a_part(text: str, metric: Metric) -> None:
    assert parse_expression(text).metrics == (metric,)


@pytest.mark.parametrize(
    ("name", "latency"),
    [
        ("p99.9", ("response", 0.999)),
        ("first_byte_p50", ("first_byte", 0.5)),
        ("service_max", ("service", "max")),
        ("rps", None),
    ],
)
def test_times_are_named_by_kind_and_percentile(
    name: str, latency: tuple[str, float | str] | None
) -> None:
    assert Metric(name).latency == latency


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a threshold reads like"),
        ("p99", "a threshold reads like"),
        ("p99 > 1s > 2s", "a threshold reads like"),
        ("p99 > ?", "neither a figure nor a number"),
        ("p99 > 50", "needs its unit"),
        ("p99 > 50%", "needs its unit"),
        ("errors > 5ms", "no unit of time"),
        ("1 > 2", "must name a figure"),
        ("p100 > 1s", "no figure 'p100'"),
        ("happiness < 1", "no figure 'happiness'"),
        ("errors[hit] > 1", "only times"),
        ("p99[after=x] > 1s", "a duration reads like"),
    ],
)
def test_an_expression_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_expression(text)
