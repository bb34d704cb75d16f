import math
import random
from itertools import pairwise

import pytest

from loadgen.arrivals import Arrivals, Constant, Poisson, parse_arrivals


def test_poisson_gaps_are_exponential() -> None:
    """Kolmogorov-Smirnov at 0.1 %: the largest distance between the two distributions."""
    times = list(Poisson(50).times(200, random.Random("gaps")))

    gaps = sorted(after - before for before, after in pairwise([0.0, *times]))

    count = len(gaps)
    distance = max(
        max(rank / count - cumulated, cumulated - (rank - 1) / count)
        for rank, gap in enumerate(gaps, 1)
        for cumulated in [1 - math.exp(-50 * gap)]
    )
    assert distance < 1.95 / math.sqrt(count)
    assert count == pytest.approx(10_000, abs=3 * math.sqrt(10_000))
    assert times == sorted(times)
    assert times[-1] < 200


def test_constant_gaps_are_equal_and_do_not_drift() -> None:
    times = list(Constant(3).times(1000, random.Random()))

    assert len(times) == 3000
    assert times[0] == 0
    assert times[-1] == 2999 / 3


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("process", ["poisson", "constant"])
def test_a_rate_that_is_none_is_refused(process: str, rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be positive"):
        parse_arrivals(process, rate)


@pytest.mark.parametrize("arrivals", [Poisson(5), Constant(5)])
def test_arrivals_are_read_from_their_name(arrivals: Arrivals) -> None:
    assert parse_arrivals(str(arrivals), 5) == arrivals


def test_an_unknown_process_is_refused() -> None:
    with pytest.raises(ValueError, match="arrivals must be poisson or constant, not 'bursty'"):
        parse_arrivals("bursty", 5)
