"""Everyday opinions, one to four sentences long, with their label.

Rule: an opinion is written in one mood throughout. What it says of the other mood it denies
("not bad at all") or takes back ("it looked good, but it broke").
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reference_app.texts.grammar import Grammar

__all__ = ["Label", "SentimentExample", "sentiment_example"]

Label = Literal["POSITIVE", "NEGATIVE"]

_SHAPES = (
    *["<clause>"] * 5,
    *["<clause> <when>"] * 2,
    *["<lead> <clause>"] * 3,
    *["<clause>. <close>"] * 3,
    *["<close>"] * 1,
    *["<clause> and <clause>"] * 2,
    *["<clause>. <clause>"] * 2,
    *["<clause>, <clause>"] * 1,
    *["<clause> because <clause>"] * 1,
    *["<lead> <clause>. <close>"] * 2,
    *["<close> <clause>. <close>"] * 1,
    *["<lead> <clause> and <clause>. <clause>. <close>"] * 2,
    "<lead> <clause>. <clause>. <clause> and <clause>. <close> <clause>. <close>",
)


@dataclass(frozen=True, slots=True)
class SentimentExample:
    """One opinion."""

    text: str
    label: Label


def sentiment_example(rng: random.Random) -> SentimentExample:
    """Draw an opinion; both labels are as likely."""
    label: Label = rng.choice(("POSITIVE", "NEGATIVE"))
    text = _GRAMMARS[label].draw(rng.choice(_SHAPES), rng)
    return SentimentExample(_typed(text, rng), label)


def _typed(text: str, rng: random.Random) -> str:
    """Write a text as a visitor would: mostly with capitals and a stop, sometimes without."""
    if rng.random() < 0.08:
        text = text.replace("'", "")
    if rng.random() < 0.1:
        return text.lower().rstrip(".")
    text = re.sub(r"(^|[.!?:] )([a-z])", lambda found: found[1] + found[2].upper(), text)
    return text.rstrip(".") + rng.choices((".", "!", "", "!!", "..."), (12, 4, 2, 1, 1))[0]


def _read_grammars() -> dict[Label, Grammar]:
    """Read both sides of the rules; see the head of the file for its form."""
    text = Path(__file__).with_name("sentiment.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for rule in re.split(r"\n(?! )", "\n".join(lines)):
        name, _, alternatives = rule.partition(":")
        left, _, right = alternatives.partition("//")
        sides[0][name], sides[1][name] = left, right or left
    for side, other in (sides, sides[::-1]):
        side |= {f"anti_{name}": other[name] for name in ("adj", "person_adj", "mood")}
    return {"POSITIVE": Grammar(sides[0]), "NEGATIVE": Grammar(sides[1])}


_GRAMMARS = _read_grammars()
