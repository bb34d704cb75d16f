"""Short reports with asides, and the one-sentence summary of what matters.

Rule: every fact of the summary stands in the report, with or without a capital. The asides name
people, places and numbers of their own, so that copying any name will not do.
"""

import random
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference_app.texts import names, values
from reference_app.texts.names import Split

__all__ = ["SummaryExample", "summary_example"]

_SLOT = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class SummaryExample:
    """A report, its summary, and the facts that a good summary holds, whatever their capitals."""

    text: str
    summary: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Scene:
    tells: tuple[tuple[str, ...], ...]
    summary: str


def summary_example(rng: random.Random, *, split: Split = "any") -> SummaryExample:
    """Draw a report; names come from one side of the split, see `names.is_held_out`."""
    scene = rng.choice(_SCENES)
    told = [rng.choice(wordings) for wordings in scene.tells]
    told[1:] = rng.sample(told[1:], k=len(told) - 1)
    for aside in rng.sample(_ASIDES, k=rng.randint(1, 4)):
        told.insert(rng.randint(1 if rng.random() < 0.9 else 0, len(told)), aside)
    text = " ".join(told)
    slots = sorted({*_SLOT.findall(text), *_SLOT.findall(scene.summary)})
    drawn = dict(zip(slots, _draw_values(slots, rng, split), strict=True))
    facts = tuple(dict.fromkeys(drawn[slot] for slot in _SLOT.findall(scene.summary)))
    return SummaryExample(_filled(text, drawn), _filled(scene.summary, drawn), facts)


def _draw_values(slots: list[str], rng: random.Random, split: Split) -> list[str]:
    """Draw a value for each slot, no two of them alike."""
    while True:
        drawn = [_draw_value(slot.removeprefix("other_").rstrip("2"), rng, split) for slot in slots]
        if len(set(drawn)) == len(drawn):
            return drawn


def _draw_value(kind: str, rng: random.Random, split: Split) -> str:
    if kind in _NAMES:
        return _NAMES[kind](rng, split)
    if kind in _AMOUNTS:
        return _AMOUNTS[kind](rng)
    return rng.choice(_VALUES[kind])


def _filled(template: str, drawn: dict[str, str]) -> str:
    """Fill in the slots and begin every sentence with a capital."""
    text = _SLOT.sub(lambda slot: drawn[slot[1]], template)
    return re.sub(r"(^|[.!?] )([a-z])", lambda found: found[1] + found[2].upper(), text)


_TABLES: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("summaries.toml").read_text("utf-8")
)
_SCENES = [
    _Scene(tuple(tuple(wordings) for wordings in scene["tells"]), scene["sums"])
    for scene in _TABLES["scene"]
]
_ASIDES: list[str] = _TABLES["asides"]["sentences"]
_VALUES: dict[str, list[str]] = _TABLES["values"]
_NAMES: dict[str, Callable[[random.Random, Split], str]] = {
    "person": names.person,
    "place": names.place,
    "company": names.company,
}
_AMOUNTS: dict[str, Callable[[random.Random], str]] = {
    "count": lambda rng: str(rng.randint(12, 990)),
    "delay": lambda rng: f"{rng.randint(10, 95)} minutes",
    "duration": values.duration,
    "money": values.money,
    "number": values.number_word,
    "percent": lambda rng: str(rng.randint(51, 95)),
    "room": lambda rng: f"room {rng.randint(1, 400)}",
}
