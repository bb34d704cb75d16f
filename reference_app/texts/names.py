"""Names of people, places and firms, drawn fresh.

Rule: whether a name is held out depends on its spelling alone, so training never meets a name that
an evaluation asks for, whatever the seeds. One name in eight is held out.
"""

import hashlib
import random
from typing import Literal

from reference_app.texts.grammar import words

__all__ = ["Split", "company", "is_held_out", "person", "place", "title"]

Split = Literal["train", "held_out", "any"]

_ONSETS = words("b br c ch cl d dr f fl g gr h j k kl l m n p r s sh st t th tr v w z")
_VOWELS = words("a e i o u a e i o ai ee ia ou ea")
_JOINTS = ("", "", "", *words("l m n r s"))
_CODAS = ("", "", *words("l m n nd r rk s st t th x ck ll ss v"))
_FIRST_NAMES = words(
    "Anna Ben Carla David Emma Frank Grace Hugo Ivan Julia Kevin Laura Maria Nora Oscar Paul Ruth"
    " Sarah Tom Vera Wendy Ali Chen Fatima Kofi Lena Marco Omar Priya Yuki Peter Marie John Linda"
    " James Alice George Helen Daniel Susan Robert Eva"
)
_PLACES = words(
    "Berlin Paris London Madrid Rome Vienna Oslo Dublin Lisbon Athens Prague Warsaw Boston Chicago"
    " Denver Seattle Toronto Sydney Tokyo Delhi Cairo Lagos Nairobi Lima Bogota Hamburg Munich"
    " Leeds Bristol Geneva Zurich Milan Naples Porto Krakow Austin Dallas Oxford York Kyoto"
)
_PLACE_ENDS = words("ford ton burg ville field wick bridge port dale mouth stead haven")
_COMPANY_ENDS = words(
    "Systems Foods Motors Labs Group Logistics Energy Studios Textiles Robotics Books"
)


def is_held_out(name: str) -> bool:
    """Say whether a name (or any other text) is kept from training."""
    return hashlib.blake2b(name.encode(), digest_size=1).digest()[0] < 32


def person(rng: random.Random, split: Split = "any") -> str:
    """Draw a first and a last name."""
    first = _fresh(rng, split) if rng.random() < 0.5 else rng.choice(_FIRST_NAMES)
    return f"{first} {_fresh(rng, split)}"


def place(rng: random.Random, split: Split = "any") -> str:
    """Draw a town; one in four is a city that everybody knows, if those may be used."""
    if split != "held_out" and rng.random() < 0.25:
        return rng.choice(_PLACES)
    return _fresh(rng, split, _PLACE_ENDS if rng.random() < 0.6 else ("",))


def company(rng: random.Random, split: Split = "any") -> str:
    """Draw the name of a firm."""
    return f"{_fresh(rng, split)} {rng.choice(_COMPANY_ENDS)}"


def title(rng: random.Random, split: Split = "any") -> str:
    """Draw one word that a river, a ship or a festival may be called by."""
    return _fresh(rng, split)


def _fresh(rng: random.Random, split: Split, ends: tuple[str, ...] = ("",)) -> str:
    while True:
        count = rng.choice((1, 2, 2, 2, 3)) if ends == ("",) else rng.choice((1, 1, 2))
        stem = "".join(_syllable(rng, _JOINTS) for _ in range(count - 1)) + _syllable(rng, _CODAS)
        name = (stem + rng.choice(ends)).capitalize()
        if len(name) > 2 and (split == "any" or is_held_out(name) == (split == "held_out")):
            return name


def _syllable(rng: random.Random, codas: tuple[str, ...]) -> str:
    return rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(codas)
