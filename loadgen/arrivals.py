"""Arrival processes: when each request is due.

Rule: due times are absolute and fixed before the first request is sent. What the server does can
delay no later arrival (open loop), so a slow server cannot make the load lighter. The one exception
says so in its name: in a `Closed` loop nothing is due, and latency is service alone.
"""

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "Arrivals",
    "Closed",
    "Constant",
    "Gamma",
    "Poisson",
    "Recorded",
    "Stages",
    "parse_arrivals",
    "parse_duration",
    "parse_stages",
]


class Arrivals(Protocol):
    """A process of due times."""

    @property
    def rate(self) -> float:
        """Mean requests per second; NaN where that is the server's choice."""
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
        gaps = (-math.log(1.0 - rng.random()) / self.rate for _ in itertools.repeat(None))
        return itertools.takewhile(lambda due: due < duration, itertools.accumulate(gaps))


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


@dataclass(frozen=True)
class Gamma:
    """Independent gamma gaps: in bunches for a shape under 1, evenly for one over it."""

    rate: float
    shape: float

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        if not 0 < self.shape < math.inf:
            raise ValueError(f"the shape of gamma must be positive, not {self.shape!r}")

    def __str__(self) -> str:
        return f"gamma:{self.shape:g}"

    def times(self, duration: float, rng: random.Random) -> Iterator[float]:
        """Yield due times in 0 .. `duration` seconds, in order."""
        scale = 1 / (self.shape * self.rate)
        gaps = (rng.gammavariate(self.shape, scale) for _ in itertools.repeat(None))
        return itertools.takewhile(lambda due: due < duration, itertools.accumulate(gaps))


@dataclass(frozen=True)
class Stages:
    """A rate that changes: linear between points, with jumps where two points share a time.

    Args:
        points: (second, requests per second), in order; after the last one its rate stays.
        process: ``poisson`` or ``constant``: unit arrivals, their time stretched by the inverse of
            the cumulated rate, so that a ramp is exact and needs no thinning.
    """

    points: tuple[tuple[float, float], ...]
    process: str = "poisson"

    def __post_init__(self) -> None:
        seconds = [second for second, _ in self.points]
        if not seconds or seconds != sorted(seconds) or seconds[0] != 0:
            raise ValueError("stages must be in the order of time and begin at 0")
        for _, rate in self.points:
            if not 0 <= rate < math.inf:
                raise ValueError(f"rate must not be negative, not {rate!r}")
        if not any(rate > 0 for _, rate in self.points):
            raise ValueError("some stage must have a rate above 0")
        if self.process not in {"poisson", "constant"}:
            raise ValueError(f"stages have arrivals poisson or constant, not {self.process!r}")

    def __str__(self) -> str:
        points = ",".join(f"{second:g}:{rate:g}" for second, rate in self.points)
        return f"stages:{self.process}:{points}"

    @property
    def rate(self) -> float:
        """The mean up to the last point."""
        total = sum((end - start) * (a + b) / 2 for start, end, a, b in self._pieces(math.inf))
        return total / self.points[-1][0] if self.points[-1][0] else self.points[-1][1]

    def rate_at(self, second: float) -> float:
        """Return the rate that is asked for at one moment."""
        for start, end, before, after in self._pieces(math.inf):
            if start <= second < end:
                return before + (after - before) * (second - start) / (end - start)
        return self.points[-1][1]

    def times(self, duration: float, rng: random.Random) -> Iterator[float]:
        """Yield due times in 0 .. `duration` seconds, in order."""
        units = self._units(rng)
        passed, unit = 0.0, next(units)  # Arrivals of the unit process before this piece.
        for start, end, before, after in self._pieces(duration):
            length = end - start
            area = length * (before + after) / 2
            while unit < passed + area:
                yield start + _time_of_area(unit - passed, before, (after - before) / length)
                unit = next(units)
            passed += area

    def _units(self, rng: random.Random) -> Iterator[float]:
        if self.process == "constant":
            return itertools.count(0.0, 1.0)
        return itertools.accumulate(-math.log(1.0 - rng.random()) for _ in itertools.repeat(None))

    def _pieces(self, duration: float) -> Iterator[tuple[float, float, float, float]]:
        last, final = self.points[-1]
        ends = [*self.points[1:], *([(duration, final)] if last < duration < math.inf else [])]
        for (start, before), (end, after) in zip(self.points, ends, strict=False):
            if start < end and start < duration:
                cut = min(end, duration)
                yield start, cut, before, before + (after - before) * (cut - start) / (end - start)


@dataclass(frozen=True)
class Closed:
    """A closed loop: each of `users` asks, waits for the answer, and asks again.

    A slow server makes this load lighter, so its latencies leave out those who would have come
    meanwhile (coordinated omission). It finds a server's capacity, not what its users feel.
    """

    users: int
    requests: int = 100_000  # At most; the sequence of items is drawn for so many.

    def __post_init__(self) -> None:
        if self.users < 1 or self.requests < 1:
            raise ValueError("a closed loop needs at least one user and one request")

    def __str__(self) -> str:
        return f"closed:{self.users}"

    @property
    def rate(self) -> float:
        """Not a number: the server decides."""
        return math.nan

    def times(self, duration: float, rng: random.Random) -> Iterator[float]:  # noqa: ARG002  (see `Constant`)
        """Yield zeros: each request is due when its user is free."""
        return itertools.repeat(0.0, self.requests)


@dataclass(frozen=True)
class Recorded:
    """Arrivals as they happened elsewhere, in seconds."""

    due: Sequence[float]

    def __str__(self) -> str:
        return "recorded"

    @property
    def rate(self) -> float:
        """Requests by the time of the last one."""
        return len(self.due) / self.due[-1] if len(self.due) and self.due[-1] > 0 else math.nan

    def times(self, duration: float, rng: random.Random) -> Iterator[float]:  # noqa: ARG002  (see `Constant`)
        """Yield due times in 0 .. `duration` seconds, in order."""
        return (due for due in self.due if due < duration)


def parse_arrivals(text: str, rate: float) -> Arrivals:
    """Read ``poisson``, ``constant`` or ``gamma:SHAPE``.

    Raises:
        ValueError: `text` names no process, or the rate is not positive.
    """
    name, _, shape = text.partition(":")
    if text == "poisson":
        return Poisson(rate)
    if text == "constant":
        return Constant(rate)
    if name == "gamma" and re.fullmatch(r"[\d.eE+-]+", shape):
        return Gamma(rate, float(shape))
    raise ValueError(f"arrivals must be poisson or constant or gamma:SHAPE, not {text!r}")


def parse_stages(text: str, process: str) -> Stages:
    """Read ``0:10,30s:50,60s:200x5s``: ramp from 10 to 50 in 30 s, and a spike of 200 for 5 s.

    Raises:
        ValueError: it does not read so.
    """
    points: list[tuple[float, float]] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([^:]+):([\d.]+)(?:x(.+))?\s*", part)
        if found is None:
            raise ValueError(f"a stage reads TIME:RATE or TIME:RATExLENGTH, not {part!r}")
        start, rate = parse_duration(found[1]), float(found[2])
        if found[3] is None:
            points.append((start, rate))
            continue
        before = points[-1][1] if points else rate
        end = start + parse_duration(found[3])
        points += [(start, before), (start, rate), (end, rate), (end, before)]
    return Stages(tuple(points), process)


_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Read ``90``, ``90s``, ``1.5m``, ``500ms`` or ``1h`` as seconds.

    Raises:
        ValueError: it does not read so.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)(ms|s|m|h|)", text.strip())
    if found is None:
        raise ValueError(f"a duration reads like 90, 90s, 1.5m or 500ms, not {text!r}")
    return float(found[1]) * _UNITS[found[2]]


def _time_of_area(area: float, rate: float, slope: float) -> float:
    """Solve rate * t + slope * t² / 2 = area, without losing what a flat ramp leaves."""
    return 2 * area / (rate + math.sqrt(max(rate * rate + 2 * slope * area, 0.0))) if area else 0.0


def _check_rate(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise ValueError(f"rate must be positive, not {rate!r}")
