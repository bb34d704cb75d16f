import random
from collections import Counter

import pytest

from loadgen.popularity import Law, Uniform, Zipf, parse_law

_DRAWS = 50_000


@pytest.mark.parametrize(
    "law",
    [
        pytest.param(Zipf(50, 1.2), id="zipf-1.2"),
        pytest.param(Zipf(50, 0.7), id="zipf-0.7"),
        pytest.param(Zipf(50, 0.0), id="zipf-0"),
        pytest.param(Uniform(50), id="uniform"),
    ],
)
def test_draws_follow_the_probabilities(law: Law) -> None:
    rng = random.Random("chi-square")

    counts = Counter(law.draw(rng) for _ in range(_DRAWS))

    chi_square = sum(
        (counts[rank] - p * _DRAWS) ** 2 / (p * _DRAWS) for rank, p in enumerate(law.probabilities)
    )
    assert sum(law.probabilities) == pytest.approx(1)
    assert set(counts) == set(range(50))
    assert 23.98 < chi_square < 85.35  # 0.1 % and 99.9 % of chi-square with 49 degrees of freedom.


def test_zipf_probabilities_fall_by_their_power() -> None:
    law = Zipf(1000, 1.2)

    ratio = law.probabilities[0] / law.probabilities[9]

    assert ratio == pytest.approx(10**1.2)


def test_a_draw_never_leaves_the_catalogue() -> None:
    class Highest(random.Random):
        def random(self) -> float:
            return 1 - 2**-53

    assert Zipf(10_000, 1.2).draw(Highest()) == 9_999
    assert Uniform(10_000).draw(Highest()) == 9_999


def test_a_draw_takes_one_number() -> None:
    ours, plain = random.Random(7), random.Random(7)

    Zipf(100, 1.0).draw(ours)
    Uniform(100).draw(ours)

    assert (plain.random(), plain.random()) != (0, 0)
    assert ours.random() == plain.random()


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("zipf", Zipf(9, 1.2)),
        ("zipf:0.9", Zipf(9, 0.9)),
        ("uniform", Uniform(9)),
    ],
)
def test_a_law_is_read_from_text(text: str, law: Law) -> None:
    assert parse_law(text, 9) == law


@pytest.mark.parametrize(
    "text", ["", "pareto", "zipf:", "zipf:x", "zipf:-1", "zipf:nan", "uniform:2"]
)
def test_an_unknown_law_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"law must be|exponent"):
        parse_law(text, 9)


@pytest.mark.parametrize("law", [Zipf, Uniform])
def test_an_empty_catalogue_is_refused(law: type[Zipf | Uniform]) -> None:
    with pytest.raises(ValueError, match="items must be at least 1, not 0"):
        law(0)


def test_laws_are_named_as_they_are_read() -> None:
    assert [str(Zipf(9, 1.2)), str(Uniform(9))] == ["zipf:1.2", "uniform"]
