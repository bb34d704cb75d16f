import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from loadgen.arrivals import (
    Arrivals,
    Closed,
    Constant,
    Gamma,
    Poisson,
    Recorded,
    Stages,
    parse_arrivals,
    parse_duration,
    parse_stages,
)


def _distance(values: Sequence[float], cumulated: Callable[[float], float]) -> float:
    """Return Kolmogorov and Smirnov's distance, times the root of the number: 1.95 is 0.1 %."""
    count = len(values)
    return math.sqrt(count) * max(
        max(rank / count - share, share - (rank - 1) / count)
        for rank, value in enumerate(sorted(values), 1)
        for share in [cumulated(value)]
    )


@pytest.mark.parametrize(
    ("arrivals", "cumulated"),
    [
        pytest.param(Poisson(50), lambda gap: -math.expm1(-50 * gap), id="poisson"),
        pytest.param(
            Gamma(50, 2), lambda gap: 1 - math.exp(-100 * gap) * (1 + 100 * gap), id="gamma-2"
        ),
        pytest.param(Gamma(50, 0.5), lambda gap: math.erf(math.sqrt(25 * gap)), id="gamma-0.5"),
    ],
)
def test_gaps_have_their_distribution(
    arrivals: Arrivals, cumulated: Callable[[float], float]
) -> None:
    times = list(arrivals.times(200, random.Random("gaps")))

    gaps = [after - before for before, after in pairwise([0.0, *times])]

    assert _distance(gaps, cumulated) < 1.95
    assert len(gaps) == pytest.approx(10_000, rel=0.05)
    assert times == sorted(times)
    assert times[-1] < 200


def test_constant_gaps_are_equal_and_do_not_drift() -> None:
    times = list(Constant(3).times(1000, random.Random()))

    assert len(times) == 3000
    assert times[0] == 0
    assert times[-1] == 2999 / 3


def test_a_ramp_is_an_inhomogeneous_poisson_process() -> None:
    """Under the cumulated rate, t² / 2 of 40 s, arrivals are uniform."""
    stages = parse_stages("0:0,40s:400", "poisson")

    times = list(stages.times(40, random.Random("ramp")))

    assert _distance(times, lambda t: (t / 40) ** 2) < 1.95
    assert len(times) == pytest.approx(8000, abs=4 * math.sqrt(8000))
    assert stages.rate == 200


def test_a_spike_comes_and_goes() -> None:
    stages = parse_stages("0:10,10s:10,20s:100x5s", "constant")

    times = list(stages.times(40, random.Random()))

    def count(start: float, end: float) -> int:
        return sum(start <= time < end for time in times)

    assert count(0, 20) == 200
    assert count(20, 25) == 500
    assert count(25, 40) == 150
    assert stages.rate_at(5) == stages.rate_at(30) == 10
    assert stages.rate_at(22) == 100
    assert times == sorted(times)


def test_a_constant_ramp_sends_its_area() -> None:
    times = list(parse_stages("0:10,10:30", "constant").times(20, random.Random()))

    assert len(times) == 200 + 300
    assert times[:2] == [0, pytest.approx(0.0990, abs=0.001)]


def test_stages_are_cut_off_at_the_end() -> None:
    assert max(parse_stages("0:10,100:10", "constant").times(5, random.Random())) < 5


def test_a_closed_loop_has_no_due_times() -> None:
    closed = Closed(5, requests=3)

    assert list(closed.times(100, random.Random())) == [0, 0, 0]
    assert math.isnan(closed.rate)
    assert str(closed) == "closed:5"


def test_recorded_arrivals_are_repeated() -> None:
    recorded = Recorded([0.0, 0.5, 2.0])

    assert list(recorded.times(1, random.Random())) == [0.0, 0.5]
    assert recorded.rate == 1.5
    assert str(recorded) == "recorded"
    assert math.isnan(Recorded([0.0]).rate)


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("process", ["poisson", "constant", "gamma:2"])
def test_a_rate_that_is_none_is_refused(process: str, rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be positive"):
        parse_arrivals(process, rate)


@pytest.mark.parametrize("arrivals", [Poisson(5), Constant(5), Gamma(5, 0.25)])
def test_arrivals_are_read_from_their_name(arrivals: Arrivals) -> None:
    assert parse_arrivals(str(arrivals), 5) == arrivals


@pytest.mark.parametrize("text", ["bursty", "gamma", "gamma:x", "poisson:2"])
def test_an_unknown_process_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="arrivals must be poisson or constant"):
        parse_arrivals(text, 5)


def test_a_shape_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="shape of gamma must be positive"):
        Gamma(5, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a stage reads"),
        ("10", "a stage reads"),
        ("0:x", "a stage reads"),
        ("0:10,x:20", "a duration reads"),
        ("5:10", "begin at 0"),
        ("0:10,20:10,10:5", "in the order"),
        ("0:0,10:0", "some stage"),
    ],
)
def test_stages_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_stages(text, "poisson")


@pytest.mark.parametrize("points", [((0.0, -1.0),), ((0.0, math.inf),)])
def test_a_rate_below_zero_is_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Stages(points)


def test_stages_know_two_processes() -> None:
    with pytest.raises(ValueError, match="poisson or constant"):
        Stages(((0, 1),), "gamma:2")


def test_one_stage_is_its_rate() -> None:
    stages = Stages(((0, 7),))

    assert stages.rate == stages.rate_at(99) == 7
    assert str(stages) == "stages:poisson:0:7"


@pytest.mark.parametrize("closed", [(0, 1), (1, 0)])
def test_a_closed_loop_needs_somebody(closed: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one user"):
        Closed(*closed)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5m", 90), ("500ms", 0.5), ("1h", 3600), (" 2s ", 2), ("0", 0)],
)
def test_durations_are_read_with_their_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1d", "s", "1 s", "nan", "1e3"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration reads like"):
        parse_duration(text)
