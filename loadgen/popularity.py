"""Popularity laws: which item the next request asks for.

Rule: a law is its probabilities and nothing else. It draws a rank with one call of
`Random.random()`, whose stream Python keeps stable for a seed, so a plan reads the same everywhere.
"""

import itertools
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

__all__ = ["Law", "Uniform", "Zipf", "parse_law"]


class Law(Protocol):
    """A bounded popularity law over the ranks 0 .. items - 1, the most popular first."""

    @property
    def items(self) -> int:
        """How many items there are."""
        ...

    @property
    def probabilities(self) -> Sequence[float]:
        """The probability of each rank; they sum to one."""
        ...

    def draw(self, rng: random.Random) -> int:
        """Draw a rank with exactly one number from `rng`."""
        ...


@dataclass(frozen=True)
class Zipf:
    """Bounded Zipf: rank k (from 1) has a probability in proportion to ``k ** -exponent``.

    Drawn by bisection over the cumulated weights: exact, 0.3 µs for 10,000 items, no numpy. A
    rejection sampler would only pay past a million items.
    """

    items: int = 10_000
    exponent: float = 1.2

    def __post_init__(self) -> None:
        _check_items(self.items)
        if not 0 <= self.exponent < 100:
            raise ValueError(f"exponent must be in 0 .. 100, not {self.exponent!r}")

    def __str__(self) -> str:
        return f"zipf:{self.exponent:g}"

    @property
    def probabilities(self) -> Sequence[float]:
        """The probability of each rank; they sum to one."""
        return _zipf(self.items, self.exponent).probabilities

    def draw(self, rng: random.Random) -> int:
        """Draw a rank with exactly one number from `rng`."""
        # Rounding may leave the last sum a hair under one: the last rank owns what is above.
        cumulated = _zipf(self.items, self.exponent).cumulated
        return min(bisect_right(cumulated, rng.random()), self.items - 1)


@dataclass(frozen=True)
class Uniform:
    """Every item is as likely as every other: the traffic that a cache cannot live on."""

    items: int = 10_000

    def __post_init__(self) -> None:
        _check_items(self.items)

    def __str__(self) -> str:
        return "uniform"

    @property
    def probabilities(self) -> Sequence[float]:
        """The probability of each rank; they sum to one."""
        return (1 / self.items,) * self.items

    def draw(self, rng: random.Random) -> int:
        """Draw a rank with exactly one number from `rng`."""
        return int(rng.random() * self.items)


def parse_law(text: str, items: int) -> Law:
    """Read ``zipf``, ``zipf:1.2`` or ``uniform``.

    Raises:
        ValueError: `text` names no law, or its parameter is out of range.
    """
    name, colon, parameter = text.partition(":")
    if name == "uniform" and not colon:
        return Uniform(items)
    if name == "zipf":
        try:
            exponent = float(parameter) if colon else 1.2
        except ValueError:
            raise ValueError(f"the exponent of zipf must be a number, not {parameter!r}") from None
        return Zipf(items, exponent)
    raise ValueError(f"the law must be zipf, zipf:EXPONENT or uniform, not {text!r}")


class _Table(NamedTuple):
    probabilities: Sequence[float]
    cumulated: Sequence[float]


@lru_cache(maxsize=16)
def _zipf(items: int, exponent: float) -> _Table:
    weights = [rank**-exponent for rank in range(1, items + 1)]
    total = sum(weights)
    probabilities = tuple(weight / total for weight in weights)
    return _Table(probabilities, tuple(itertools.accumulate(probabilities)))


def _check_items(items: int) -> None:
    if items < 1:
        raise ValueError(f"items must be at least 1, not {items!r}")
