"""Popularity laws: which item the next request asks for.

Rule: a law is its probabilities and nothing else. It draws a rank with calls of `Random.random()`,
whose stream Python keeps stable for a seed, so a plan reads the same everywhere.
"""

import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

__all__ = ["HotSet", "Law", "Uniform", "Weights", "Zipf", "parse_law", "read_weights"]

TABLE_LIMIT = 1_000_000  # Items: beyond it a table would cost more than it saves.
_EXACT_CLASSES = 1_000  # Ranks that theory takes one by one; the tail goes in narrow classes.
_CLASS_WIDTH = 1.01  # Last by first rank of a class: its middle is within 0.01 % of its mean.


class Law(Protocol):
    """A bounded popularity law over the ranks 0 .. items - 1, the most popular first."""

    @property
    def items(self) -> int:
        """How many items there are."""
        ...

    @property
    def classes(self) -> Sequence[tuple[float, int]]:
        """Probability and number of equally popular ranks; the products sum to one."""
        ...

    def probability(self, rank: int) -> float:
        """Return the probability of one rank."""
        ...

    def draw(self, rng: random.Random) -> int:
        """Draw a rank."""
        ...


@dataclass(frozen=True)
class Zipf:
    """Bounded Zipf: rank k (from 1) is asked in proportion to ``(k + shift) ** -exponent``.

    Up to a million items it is drawn by bisection over the cumulated weights: exact, 0.3 µs for
    10,000 items, one random number. Beyond that by rejection-inversion (Hörmann and Derflinger
    1996), without a table. A `shift` over zero makes it Zipf-Mandelbrot, with a flatter head.
    """

    items: int = 10_000
    exponent: float = 1.2
    shift: float = 0.0

    def __post_init__(self) -> None:
        _check_items(self.items)
        if not 0 <= self.exponent < 100:
            raise ValueError(f"exponent must be in 0 .. 100, not {self.exponent!r}")
        if not 0 <= self.shift < math.inf:
            raise ValueError(f"shift must be at least 0, not {self.shift!r}")

    def __str__(self) -> str:
        if self.shift:
            return f"mandelbrot:{self.exponent:g}:{self.shift:g}"
        return f"zipf:{self.exponent:g}"

    @property
    def classes(self) -> Sequence[tuple[float, int]]:
        """Probability and number of equally popular ranks; the products sum to one."""
        return _zipf_classes(self)

    def probability(self, rank: int) -> float:
        """Return the probability of one rank."""
        return self.weight(rank + 1) / _zipf_total(self)

    def weight(self, k: float) -> float:
        """Return the weight of rank `k`, counted from 1, before it is normalized."""
        return float((k + self.shift) ** -self.exponent)

    def draw(self, rng: random.Random) -> int:
        """Draw a rank; up to a million items with exactly one number from `rng`."""
        if self.items > TABLE_LIMIT:
            return _sampler(self).draw(rng)
        # Rounding may leave the last sum a hair under one: the last rank owns what is above.
        cumulated = _zipf_cumulated(self)
        return min(bisect_right(cumulated, rng.random() * cumulated[-1]), self.items - 1)


@dataclass(frozen=True)
class Uniform:
    """Every item is as likely as every other: the traffic that a cache cannot live on."""

    items: int = 10_000

    def __post_init__(self) -> None:
        _check_items(self.items)

    def __str__(self) -> str:
        return "uniform"

    @property
    def classes(self) -> Sequence[tuple[float, int]]:
        """Probability and number of equally popular ranks; the products sum to one."""
        return ((1 / self.items, self.items),)

    def probability(self, rank: int) -> float:  # noqa: ARG002  (the other laws need it)
        """Return the probability of one rank."""
        return 1 / self.items

    def draw(self, rng: random.Random) -> int:
        """Draw a rank with exactly one number from `rng`."""
        return int(rng.random() * self.items)


@dataclass(frozen=True)
class HotSet:
    """A share `share` of the items gets a share `traffic` of the requests: ``hot:0.1/0.9``."""

    items: int = 10_000
    share: float = 0.1
    traffic: float = 0.9

    def __post_init__(self) -> None:
        _check_items(self.items)
        for value in (self.share, self.traffic):
            if not 0 < value < 1:
                raise ValueError(f"the shares of a hot set must be between 0 and 1, not {value!r}")
        if self.hot >= self.items:
            raise ValueError(f"a hot set of {self.items} items leaves none outside")

    def __str__(self) -> str:
        return f"hot:{self.share:g}/{self.traffic:g}"

    @property
    def hot(self) -> int:
        """How many items are hot."""
        return max(1, round(self.share * self.items))

    @property
    def classes(self) -> Sequence[tuple[float, int]]:
        """Probability and number of equally popular ranks; the products sum to one."""
        cold = self.items - self.hot
        return ((self.traffic / self.hot, self.hot), ((1 - self.traffic) / cold, cold))

    def probability(self, rank: int) -> float:
        """Return the probability of one rank."""
        return self.classes[rank >= self.hot][0]

    def draw(self, rng: random.Random) -> int:
        """Draw a rank with exactly one number from `rng`."""
        number = rng.random()
        if number < self.traffic:
            return min(int(number / self.traffic * self.hot), self.hot - 1)
        cold = self.items - self.hot
        return self.hot + min(int((number - self.traffic) / (1 - self.traffic) * cold), cold - 1)


@dataclass(frozen=True)
class Weights:
    """Popularity as it was counted somewhere: one weight for each item."""

    weights: tuple[float, ...]
    name: str = "weights"

    def __post_init__(self) -> None:
        _check_items(len(self.weights))
        if min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf:
            raise ValueError("weights must be positive numbers")

    def __str__(self) -> str:
        return self.name

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.weights)

    @cached_property
    def _cumulated(self) -> Sequence[float]:
        return tuple(itertools.accumulate(self.weights))

    @property
    def classes(self) -> Sequence[tuple[float, int]]:
        """Probability and number of equally popular ranks; the products sum to one."""
        return self._classes

    @cached_property
    def _classes(self) -> Sequence[tuple[float, int]]:
        total, ordered = self._cumulated[-1], sorted(self.weights, reverse=True)
        return tuple((w / total, len(list(same))) for w, same in itertools.groupby(ordered))

    def probability(self, rank: int) -> float:
        """Return the probability of one rank."""
        return self.weights[rank] / self._cumulated[-1]

    def draw(self, rng: random.Random) -> int:
        """Draw a rank with exactly one number from `rng`."""
        return min(
            bisect_right(self._cumulated, rng.random() * self._cumulated[-1]), self.items - 1
        )


def parse_law(text: str, items: int) -> Law:
    """Read ``zipf:1.2``, ``mandelbrot:1.1:5``, ``hot:0.1/0.9``, ``uniform`` or ``file:PATH``.

    Raises:
        ValueError: `text` names no law, or a parameter is out of range.
    """
    try:
        return _law(text, items)
    except ValueError as error:
        raise ValueError(
            "the law must be zipf:EXPONENT, mandelbrot:EXPONENT:SHIFT, hot:SHARE/TRAFFIC, uniform "
            f"or file:PATH, not {text!r}: {error}"
        ) from None


def _law(text: str, items: int) -> Law:
    name, colon, parameter = text.partition(":")
    match name:
        case "uniform" if not colon:
            return Uniform(items)
        case "zipf":
            return Zipf(items, _number(parameter) if colon else 1.2)
        case "mandelbrot":
            exponent, _, shift = parameter.partition(":")
            return Zipf(items, _number(exponent), _number(shift))
        case "hot":
            share, _, traffic = parameter.partition("/")
            return HotSet(items, _number(share), _number(traffic))
        case "file":
            return Weights(read_weights(Path(parameter)), text)
        case _:
            raise ValueError("there is no such law")


def read_weights(path: Path) -> tuple[float, ...]:
    """Read one weight per line; the last field counts where a line has commas.

    Raises:
        ValueError: the file cannot be read, or holds no weights.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return tuple(_number(line.rpartition(",")[2]) for line in lines if line.strip())


class _RejectionInversion:
    """Zipf without a table (Hörmann and Derflinger 1996): 1.1 tries a draw on average."""

    def __init__(self, law: Zipf) -> None:
        self._law = law
        self._low = self._integral(1.5) - law.weight(1)
        self._high = self._integral(law.items + 0.5)

    def draw(self, rng: random.Random) -> int:
        while True:
            u = self._high + rng.random() * (self._low - self._high)
            x = self._inverse(u)
            k = min(max(int(x + 0.5), 1), self._law.items)
            if u >= self._integral(k + 0.5) - self._law.weight(k):
                return k - 1

    def _integral(self, x: float) -> float:
        s, log = self._law.exponent, math.log(x + self._law.shift)
        return log if s == 1 else math.expm1((1 - s) * log) / (1 - s)

    def _inverse(self, u: float) -> float:
        s = self._law.exponent
        log = u if s == 1 else math.log1p((1 - s) * u) / (1 - s)
        return math.exp(log) - self._law.shift


_sampler = lru_cache(maxsize=16)(_RejectionInversion)


@lru_cache(maxsize=16)
def _zipf_cumulated(law: Zipf) -> Sequence[float]:
    return tuple(itertools.accumulate(map(law.weight, range(1, law.items + 1))))


@lru_cache(maxsize=16)
def _zipf_classes(law: Zipf) -> Sequence[tuple[float, int]]:
    weights = [(law.weight(k), 1) for k in range(1, min(law.items, _EXACT_CLASSES) + 1)]
    first = _EXACT_CLASSES + 1
    while first <= law.items:
        last = min(int(first * _CLASS_WIDTH), law.items)
        weights.append((law.weight((first + last) / 2), last - first + 1))
        first = last + 1
    total = sum(weight * count for weight, count in weights)
    return tuple((weight / total, count) for weight, count in weights)


@lru_cache(maxsize=16)
def _zipf_total(law: Zipf) -> float:
    return law.weight(1) / law.classes[0][0]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


def _check_items(items: int) -> None:
    if items < 1:
        raise ValueError(f"items must be at least 1, not {items!r}")
