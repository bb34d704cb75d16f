"""Arrival processes: when each request is due.

Rule: due times are absolute and fixed before the first request is sent. What the server does can
delay no later arrival (open loop), so a slow server cannot make the load lighter.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Arrivals", "Constant", "Poisson", "parse_arrivals"]


class Arrivals(Protocol):
    """A process of due times."""

    @property
    def rate(self) -> float:
        """Mean requests per second."""
        ...

    def times(self, duration: float, rng: random.Random) -> Iterator[float]:
        """Yield due times in 0 .. `duration` seconds, in order."""
        ...


@dataclass(frozen=True)
class Poisson:
    """Independent arrivals with exponential gaps: many people who do not know of each other."""

    rate: float

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def __str__(self) -> str:
        return "poisson"

    def times(self, duration: float, rng: random.Random) -> Iterator[float]:
        """Yield due times in 0 .. `duration` seconds, in order."""
        due = 0.0
        while True:
            due -= math.log(1.0 - rng.random()) / self.rate
            if due >= duration:
                return
            yield due


@dataclass(frozen=True)
class Constant:
    """Arrivals at equal distances."""

    rate: float

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def __str__(self) -> str:
        return "constant"

    def times(self, duration: float, rng: random.Random) -> Iterator[float]:  # noqa: ARG002  (the other arrivals need it)
        """Yield due times in 0 .. `duration` seconds, in order."""
        # No chance here, but one protocol. A product, not a sum: nothing accumulates.
        return (number / self.rate for number in range(math.ceil(duration * self.rate)))


def parse_arrivals(text: str, rate: float) -> Arrivals:
    """Read ``poisson`` or ``constant``.

    Raises:
        ValueError: `text` names no process, or the rate is not positive.
    """
    match text:
        case "poisson":
            return Poisson(rate)
        case "constant":
            return Constant(rate)
        case _:
            raise ValueError(f"arrivals must be poisson or constant, not {text!r}")


def _check_rate(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise ValueError(f"rate must be positive, not {rate!r}")
