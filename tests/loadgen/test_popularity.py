"""Each law is drawn by its probabilities; chi-square at 0.1 % from both sides."""

import math
import random
from collections import Counter
from pathlib import Path

import pytest

from loadgen import popularity
from loadgen.popularity import HotSet, Law, Uniform, Weights, Zipf, parse_law

_DRAWS = 50_000

_LAWS = [
    pytest.param(Zipf(50, 1.2), id="zipf-1.2"),
    pytest.param(Zipf(50, 0.7), id="zipf-0.7"),
    pytest.param(Zipf(50, 0.0), id="zipf-0"),
    pytest.param(Zipf(50, 1.1, 5), id="mandelbrot"),
    pytest.param(HotSet(50, 0.2, 0.7), id="hot-set"),
    pytest.param(Weights(tuple(range(1, 51))), id="weights"),
    pytest.param(Uniform(50), id="uniform"),
]


def _chi_square(law: Law) -> float:
    rng = random.Random("chi-square")
    counts = Counter(law.draw(rng) for _ in range(_DRAWS))
    assert set(counts) == set(range(law.items))
    expected = [law.probability(rank) * _DRAWS for rank in range(law.items)]
    return sum((counts[rank] - e) ** 2 / e for rank, e in enumerate(expected))


@pytest.mark.parametrize("law", _LAWS)
def test_draws_follow_the_probabilities(law: Law) -> None:
    assert 23.98 < _chi_square(law) < 85.35  # 0.1 % and 99.9 %, 49 degrees of freedom.


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 1.2, 3.0])
def test_draws_without_a_table_follow_the_same_probabilities(
    monkeypatch: pytest.MonkeyPatch, exponent: float
) -> None:
    monkeypatch.setattr(popularity, "TABLE_LIMIT", 1)
    law = Zipf(12, exponent, 0.5)

    assert 1.83 < _chi_square(law) < 31.26  # 11 degrees of freedom.


def test_a_catalogue_may_be_larger_than_any_table() -> None:
    law, rng = Zipf(10**9, 1.1), random.Random("large")

    ranks = [law.draw(rng) for _ in range(20_000)]

    first = sum(rank == 0 for rank in ranks) / len(ranks)
    assert first == pytest.approx(law.probability(0), abs=0.01)
    assert 0 <= min(ranks) < 10**6 < max(ranks) < 10**9


@pytest.mark.parametrize("law", [*_LAWS, pytest.param(Zipf(30_000, 0.9), id="zipf-in-classes")])
def test_classes_hold_all_probability(law: Law) -> None:
    assert sum(p * count for p, count in law.classes) == pytest.approx(1)
    assert sum(count for _, count in law.classes) == law.items
    total = sum(law.probability(rank) for rank in range(law.items))
    assert total == pytest.approx(1, abs=1e-4)


def test_zipf_probabilities_fall_by_their_power() -> None:
    law = Zipf(1000, 1.2)

    assert law.probability(0) / law.probability(9) == pytest.approx(10**1.2)


def test_a_shift_flattens_the_head() -> None:
    plain, shifted = Zipf(1000, 1.2), Zipf(1000, 1.2, 10)

    assert shifted.probability(0) < plain.probability(0) / 3


def test_the_hot_items_have_their_share() -> None:
    law = HotSet(1000, 0.1, 0.9)

    assert sum(law.probability(rank) for rank in range(100)) == pytest.approx(0.9)


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
@pytest.mark.parametrize(
    "law", [Zipf(10_000, 1.2), Uniform(10_000), HotSet(10_000), Weights((1.0,) * 10_000)]
)
def test_a_draw_never_leaves_the_catalogue(law: Law, number: float) -> None:
    class Extreme(random.Random):
        def random(self) -> float:
            return number

    assert law.draw(Extreme()) == (9_999 if number else 0)


def test_a_draw_takes_one_number() -> None:
    ours, plain = random.Random(7), random.Random(7)

    for law in (Zipf(100, 1.0), Uniform(100), HotSet(100), Weights((1, 2, 3))):
        law.draw(ours)
        plain.random()

    assert ours.random() == plain.random()


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("zipf", Zipf(9, 1.2)),
        ("zipf:0.9", Zipf(9, 0.9)),
        ("mandelbrot:1.1:5", Zipf(9, 1.1, 5)),
        ("hot:0.2/0.8", HotSet(9, 0.2, 0.8)),
        ("uniform", Uniform(9)),
    ],
)
def test_a_law_is_read_from_text(text: str, law: Law) -> None:
    assert parse_law(text, 9) == law
    assert parse_law(str(law), 9) == law


def test_weights_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.csv"
    path.write_text("question one,10\nquestion two,2.5\n\n3\n")

    law = parse_law(f"file:{path}", 9)

    assert isinstance(law, Weights)
    assert (law.items, law.weights, str(law)) == (3, (10, 2.5, 3), f"file:{path}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pareto",
        "zipf:",
        "zipf:x",
        "zipf:-1",
        "zipf:nan",
        "uniform:2",
        "mandelbrot:1.1",
        "mandelbrot:1:-1",
        "hot:0.5",
        "hot:0/0.5",
        "hot:0.99/0.5",
        "file:/nowhere/weights",
        "file:/dev/null",
    ],
)
def test_an_unknown_law_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"the law must be zipf"):
        parse_law(text, 9)


@pytest.mark.parametrize("weights", [(), (-1.0, 2.0), (0.0,), (math.inf,)])
def test_weights_that_are_none_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"weights must be|items must be"):
        Weights(weights)


@pytest.mark.parametrize("law", [Zipf, Uniform, HotSet])
def test_an_empty_catalogue_is_refused(law: type[Zipf | Uniform | HotSet]) -> None:
    with pytest.raises(ValueError, match="items must be at least 1, not 0"):
        law(0)
