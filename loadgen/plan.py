"""The plan: everything random about a run, drawn before the run begins.

Rule: equal plans send equal bytes at equal times. Each kind of chance has a substream of its own,
named after it, so that a change of the rate does not change which items are asked, nor a change of
the law when. The hash names what will be sent; two runs with one hash are the same experiment.
"""

import hashlib
import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from loadgen.arrivals import Arrivals, Closed
from loadgen.catalogue import BUNDLED, Catalogue, Question
from loadgen.churn import Churn
from loadgen.popularity import Law
from loadgen.spelling import respelled, spelled

__all__ = ["Key", "Plan", "Rows"]

Key = tuple[str, int]  # What a cache may tell apart: a model and one of its items.

_PLAN_VERSION = "1"  # Bump whenever the same plan would send other bytes or at other times.


@dataclass(frozen=True)
class Rows:
    """The planned requests, a column for each property."""

    due: "array[float]"  # Seconds after the start.
    models: "array[int]"  # Which one of the plan's models.
    items: "array[int]"
    respelled: "array[int]"  # 1: in a spelling of its own.

    def __len__(self) -> int:
        return len(self.due)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stretch of traffic.

    Args:
        law: popularity of the items, the same for every model.
        arrivals: when requests are due.
        duration: seconds.
        mix: relative traffic of each model; one that is left out gets none. Empty: as usual.
        spelling: share of the requests whose JSON is respelled at random, 0 .. 1.
        churn: how fast the popular items are replaced by new ones.
        seed: of every draw.
        salt: makes the items of this run its own; empty: items that any other run may share.
        bypass: ask with ``Cache-Control: no-store``, so that a cache which obeys stays out of it.
        catalogue: what the models can be asked.
        recorded: the requests of a file, in place of draws.
    """

    law: Law
    arrivals: Arrivals
    duration: float
    mix: Mapping[str, float] = field(default_factory=dict[str, float])
    spelling: float = 0.0
    churn: Churn | None = None
    seed: int = 42
    salt: str = ""
    bypass: bool = False
    catalogue: Catalogue = BUNDLED
    recorded: Rows | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.duration < math.inf:
            raise ValueError(f"duration must be positive, not {self.duration!r}")
        if not 0 <= self.spelling <= 1:
            raise ValueError(f"spelling must be a share, 0 to 1, not {self.spelling!r}")
        known, weights = self.catalogue.mix, self.shares.values()
        if self.mix.keys() - known or min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise ValueError(f"mix must give weights to {', '.join(known)}, not {dict(self.mix)!r}")

    @property
    def shares(self) -> Mapping[str, float]:
        """The relative traffic of every model."""
        if not self.mix:
            return self.catalogue.mix
        return {model: self.mix.get(model, 0.0) for model in self.catalogue.mix}

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The names that the numbers in `Rows.models` stand for."""
        return tuple(self.catalogue.mix)

    @property
    def is_closed(self) -> bool:
        """Whether the server decides when requests are sent."""
        return isinstance(self.arrivals, Closed)

    @cached_property
    def rows(self) -> Rows:
        """Every request of the plan, in the order of due times."""
        if self.recorded is not None:
            return self.recorded
        due = array("d", self.arrivals.times(self.duration, self._substream("arrivals")))
        models = array("b", self._draw_models(len(due)))
        substreams = [self._substream(f"items/{model}") for model in self.models]
        items = array("q", (self.law.draw(substreams[model]) for model in models))
        if self.churn is not None:
            self._renew(items, due, models, self.churn)
        spelling = self._substream("spelling")
        noise = array("b", (spelling.random() < self.spelling for _ in due))
        return Rows(due=due, models=models, items=items, respelled=noise)

    @cached_property
    def sha256(self) -> str:
        """Name which items are asked, how and when; times to 1 µs: libms differ in the last bit."""
        digest = hashlib.sha256(f"{_PLAN_VERSION}/{self.seed}/{self.salt}/{self.bypass}".encode())
        for template in self.catalogue.document():
            digest.update(f"\n{template}".encode())
        rows, names = self.rows, self.models
        for due, model, item, noise in zip(
            rows.due, rows.models, rows.items, rows.respelled, strict=True
        ):
            digest.update(f"\n{due:.6f} {names[model]} {item} {noise}".encode())
        return digest.hexdigest()

    def model(self, row: int) -> str:
        """Return which model the request asks."""
        return self.models[self.rows.models[row]]

    def key(self, row: int) -> Key:
        """Return what the request asks."""
        return self.model(row), self.rows.items[row]

    def question(self, key: Key) -> Question:
        """Return an item before it is spelled."""
        return self.catalogue.question(*key, seed=self.seed, salt=self.salt)

    def body(self, row: int, question: Question) -> bytes:
        """Return the bytes of a request; a respelled one is spelled like no other."""
        if question.value is None:
            return b""
        if self.rows.respelled[row]:
            return respelled(question.value, self._substream(f"spelling/{row}"))
        return spelled(question.value)

    def bodies(self, rows: Iterable[int] | None = None) -> Iterator[bytes]:
        """Yield the bytes of all requests, or of some."""
        for row in range(len(self.rows)) if rows is None else rows:
            yield self.body(row, self.question(self.key(row)))

    def _substream(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    def _draw_models(self, count: int) -> Iterator[int]:
        bounds = list(accumulate(self.shares.values()))
        rng = self._substream("models")
        for _ in range(count):
            yield bisect_right(bounds, rng.random() * bounds[-1])

    def _renew(
        self, items: "array[int]", due: "array[float]", models: "array[int]", churn: Churn
    ) -> None:
        """Put the new items in the place of the ranks that were drawn."""
        streams = [
            churn.items(self.law.items, self._substream(f"churn/{name}")) for name in self.models
        ]
        epoch, current = 0, [next(stream) for stream in streams]
        for row, moment in enumerate(due):
            while epoch < churn.epoch(moment):
                epoch, current = epoch + 1, [next(stream) for stream in streams]
            items[row] = current[models[row]].get(items[row], items[row])
