"""The plan: everything random about a run, drawn before the run begins.

Rule: equal plans send equal bytes at equal times. Each kind of chance has a substream of its own,
named after it, so that a change of the rate does not change which items are asked, nor a change of
the law when. The hash names what will be sent; two runs with one hash are the same experiment.
"""

import hashlib
import math
import random
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from types import MappingProxyType

from loadgen.arrivals import Arrivals
from loadgen.catalogue import MODELS, Body, Model, item
from loadgen.popularity import Law
from loadgen.spelling import respelled, spelled

__all__ = ["DEFAULT_MIX", "Key", "Plan", "Rows"]

Key = tuple[Model, int]  # What a cache may tell apart: a model and one of its items.

DEFAULT_MIX: Mapping[Model, float] = MappingProxyType(
    {"sentiment": 6.0, "answer": 3.0, "summarize": 1.0}
)

_PLAN_VERSION = "1"  # Bump whenever the same plan would send other bytes or at other times.


@dataclass(frozen=True)
class Rows:
    """The planned requests, a column for each property."""

    due: "array[float]"  # Seconds after the start.
    models: tuple[Model, ...]
    items: "array[int]"
    respelled: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.due)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stretch of traffic.

    Args:
        law: popularity of the items, the same for every model.
        arrivals: when requests are due.
        duration: seconds.
        mix: relative traffic of each model; a model that is left out gets none.
        spelling: share of the requests whose JSON is respelled at random, 0 .. 1.
        seed: of every draw.
        salt: makes the items of this run its own; empty: items that any other run may share.
        bypass: ask with ``Cache-Control: no-store``, so that a cache which obeys stays out of it.
    """

    law: Law
    arrivals: Arrivals
    duration: float
    mix: Mapping[Model, float] = field(default_factory=lambda: DEFAULT_MIX)
    spelling: float = 0.0
    seed: int = 42
    salt: str = ""
    bypass: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.duration < math.inf:
            raise ValueError(f"duration must be positive, not {self.duration!r}")
        if not 0 <= self.spelling <= 1:
            raise ValueError(f"spelling must be a share, 0 to 1, not {self.spelling!r}")
        unknown = [model for model in self.mix if model not in MODELS]
        if (
            unknown
            or min(self.mix.values(), default=0) < 0
            or not 0 < sum(self.mix.values()) < math.inf
        ):
            raise ValueError(f"mix must give weights to {', '.join(MODELS)}, not {self.mix!r}")

    @cached_property
    def rows(self) -> Rows:
        """Every request of the plan, in the order of due times."""
        due = array("d", self.arrivals.times(self.duration, self._substream("arrivals")))
        models = self._draw_models(len(due))
        substream = {model: self._substream(f"items/{model}") for model in MODELS}
        spelling = self._substream("spelling")
        return Rows(
            due=due,
            models=models,
            items=array("q", (self.law.draw(substream[model]) for model in models)),
            respelled=tuple(spelling.random() < self.spelling for _ in due),
        )

    @cached_property
    def sha256(self) -> str:
        """Name which items are asked, how and when; times to 1 µs: libms differ in the last bit."""
        digest = hashlib.sha256(f"{_PLAN_VERSION}/{self.seed}/{self.salt}/{self.bypass}".encode())
        rows = self.rows
        for row in zip(rows.due, rows.models, rows.items, rows.respelled, strict=True):
            digest.update("\n{:.6f} {} {} {:d}".format(*row).encode())
        return digest.hexdigest()

    def key(self, row: int) -> Key:
        """Return what the request asks."""
        return self.rows.models[row], self.rows.items[row]

    def bodies(self) -> Iterator[bytes]:
        """Yield the bytes of each request; a respelled one is spelled like no other."""
        values: dict[Key, Body] = {}  # Popular items come many times and cost 0.1 ms each.
        for row, respell in enumerate(self.rows.respelled):
            key = self.key(row)
            value = values.get(key)
            if value is None:
                value = values[key] = item(*key, seed=self.seed, salt=self.salt)
            spelling = self._substream(f"spelling/{row}") if respell else None
            yield spelled(value) if spelling is None else respelled(value, spelling)

    def _substream(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    def _draw_models(self, count: int) -> tuple[Model, ...]:
        names: list[Model] = [model for model in MODELS if self.mix.get(model, 0) > 0]
        bounds = list(accumulate(self.mix[model] for model in names))
        rng = self._substream("models")
        draws = (rng.random() * bounds[-1] for _ in range(count))
        return tuple(
            next(name for name, bound in zip(names, bounds, strict=True) if draw < bound)
            for draw in draws
        )
