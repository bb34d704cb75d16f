"""Churn: what is popular is replaced by what nobody has asked for.

Rule: ranks keep their popularity; the item behind a rank changes. Shuffling ranks within a fixed
catalogue would hardly matter to a cache (0.941 to 0.934 measured); new items do.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from loadgen.arrivals import parse_duration

__all__ = ["Churn", "parse_churn"]


@dataclass(frozen=True)
class Churn:
    """Every `every` seconds a `share` of the `top` ranks gets a new item each."""

    every: float
    share: float
    top: int

    def __post_init__(self) -> None:
        if not self.every > 0:
            raise ValueError(f"churn must happen every so many seconds, not {self.every!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"churn must replace a share, 0 to 1, not {self.share!r}")
        if self.top < 1:
            raise ValueError(f"churn must touch at least the first rank, not {self.top!r}")

    def __str__(self) -> str:
        return f"{self.every:g}s:{self.share:g}@{self.top}"

    def items(self, items: int, rng: random.Random) -> Iterator[dict[int, int]]:
        """Yield which ranks have another item than their own, from each epoch to the next."""
        current: dict[int, int] = {}
        top = min(self.top, items)
        fresh = items
        while True:
            yield current
            ranks = sorted(range(top), key=lambda _: rng.random())[: round(self.share * top)]
            for rank in ranks:
                current[rank] = fresh
                fresh += 1

    def epoch(self, due: float) -> int:
        """Return how often the top has changed before a moment."""
        return int(due / self.every)


def parse_churn(text: str) -> Churn:
    """Read ``10s:0.5@50``: every 10 s, half of the 50 most popular.

    Raises:
        ValueError: it does not read so.
    """
    found = re.fullmatch(r"([^:]+):([\d.]+)@(\d+)", text)
    if found is None:
        raise ValueError(f"churn reads like 10s:0.5@50, not {text!r}")
    return Churn(parse_duration(found[1]), float(found[2]), int(found[3]))
