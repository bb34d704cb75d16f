"""Contexts of two to seven facts, and a question about one of them.

Rule: the context answers the question once. Where two subjects are of a kind, each tells of the
same matters, so that only the name in the question leads to the answer.
"""

import random
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reference_app.texts import names, values
from reference_app.texts.grammar import tidy
from reference_app.texts.names import Split

__all__ = ["AnswerExample", "answer_example"]


@dataclass(frozen=True, slots=True)
class AnswerExample:
    """A question; its answer stands in the context at `start`."""

    context: str
    question: str
    answer: str
    start: int


@dataclass(frozen=True, slots=True)
class _Fact:
    """A matter that a text may tell of a subject, and how people ask for it."""

    about: str
    value: str
    says: tuple[str, ...]
    asks: tuple[str, ...]
    who: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Claim:
    """One fact of one subject."""

    subject: str
    fact: _Fact
    value: str


@dataclass(frozen=True, slots=True)
class _Told:
    """Where a context gives the value of a claim, and where the subject it speaks of."""

    claim: _Claim
    says: str
    value_at: int
    subject_at: int


@dataclass(slots=True)
class _Context:
    """A text under construction, which remembers where each claim is made."""

    text: str = ""
    told: list[_Told] = field(default_factory=list[_Told])

    def tell(self, claim: _Claim, rng: random.Random) -> None:
        """Add a claim as a sentence of its own, or to the sentence before."""
        last = self.told[-1] if self.told else None
        if last is not None and last.claim.subject == claim.subject:
            says, mention, joint = _go_on(last.says, claim, rng)
        else:
            says, mention, joint = rng.choice(claim.fact.says), claim.subject, ". "
        clause = tidy(says.format(s=mention, v=claim.value))
        if joint == ". ":
            clause = clause[0].upper() + clause[1:]
        start = len(self.text) + len(joint) if self.text else 0
        self.text += (joint if self.text else "") + clause
        subject_at = start + max(0, clause.lower().find(claim.subject.lower()))
        if last is not None and mention != claim.subject:
            subject_at = last.subject_at
        value_at = start + clause.lower().rindex(claim.value.lower())
        self.told.append(_Told(claim, says, value_at, subject_at))


def answer_example(rng: random.Random, *, split: Split = "any", facts: int = 7) -> AnswerExample:
    """Draw a context of at most `facts` facts and a question about it.

    Names come from one side of the split, see `names.is_held_out`.
    """
    while True:
        context = _Context()
        claims = _draw_claims(rng, split, rng.randint(2, facts))
        for claim in claims:
            context.tell(claim, rng)
        context.text += rng.choice((".", ".", ""))
        told = rng.choice(context.told)
        claim = told.claim
        if claim.fact.who and rng.random() < 0.15:
            question, answer, start = rng.choice(claim.fact.who), claim.subject, told.subject_at
            is_clear = sum(claim.value == other.value for other in claims) == 1
        else:
            question, answer, start = rng.choice(claim.fact.asks), claim.value, told.value_at
            is_clear = context.text.count(answer) == 1
        question = tidy(question.format(s=_asked(claim, claims, rng), v=claim.value))
        if is_clear:
            answer = context.text[start : start + len(answer)]
            return AnswerExample(context.text, _typed(question, rng), answer, start)


def _go_on(last: str, claim: _Claim, rng: random.Random) -> tuple[str, str, str]:
    """Return a wording, a mention of the subject, and what joins it to the wording before.

    "Ann was born in Rome" may go on "in 1987", "and plays the piano" or "She plays the piano".
    """
    alike = [says for says in claim.fact.says if _head(says) and _head(says) == _head(last)]
    if alike and rng.random() < 0.7:
        says = rng.choice(alike)
        return says.removeprefix(_head(says)).lstrip(), "", " "
    says = rng.choice(claim.fact.says)
    if says.startswith("{s} ") and rng.random() < 0.5:
        return says, *rng.choice(_REPEATS[claim.fact.about])
    return says, claim.subject, ". "


def _head(says: str) -> str:
    """Return what goes before the preposition of a wording that ends with its value, if any."""
    match = _PREPOSITION.search(says)
    return says[: match.start()] if match else ""


def _draw_claims(rng: random.Random, split: Split, count: int) -> list[_Claim]:
    """Draw what a text tells: in half of all texts, two subjects of a kind in turn."""
    kinds = rng.choices(list(_SUBJECTS), k=2)
    if rng.random() < 0.5:
        kinds[1] = kinds[0]
    subjects = [(kind, _draw_subject(kind, rng, split)) for kind in kinds]
    pools = {
        kind: rng.sample(_FACTS[kind], k=min(count, len(_FACTS[kind])))
        for kind in dict.fromkeys(kinds)
    }
    told: set[tuple[str, str]] = set()
    claims: list[_Claim] = []
    for _ in range(count):
        kind, subject = rng.choice(subjects)
        fact = rng.choice(pools[kind])
        if (subject, fact.asks[0]) not in told:
            told.add((subject, fact.asks[0]))
            claims.append(_Claim(subject, fact, _draw_value(fact.value, rng, split)))
    if rng.random() < 0.5:
        claims.sort(key=lambda claim: (claim.subject, _head(claim.fact.says[0])))
    return claims


def _asked(claim: _Claim, claims: list[_Claim], rng: random.Random) -> str:
    """Return how a question names its subject: at times by a part of the name that is clear."""
    if claim.fact.about in _SHORTENED and rng.random() < 0.15:
        short = rng.choice(claim.subject.split()[: _SHORTENED[claim.fact.about]])
        others = " ".join(f"{other.subject} {other.value}" for other in claims)
        if others.count(short) == others.count(claim.subject):
            return short
    return claim.subject


def _typed(question: str, rng: random.Random) -> str:
    return question.lower().rstrip("?") if rng.random() < 0.1 else question


def _draw_subject(kind: str, rng: random.Random, split: Split) -> str:
    match kind:
        case "person":
            return names.person(rng, split)
        case "company":
            return names.company(rng, split)
        case _:
            return rng.choice(_SUBJECTS[kind]).format(t=names.title(rng, split))


def _draw_value(kind: str, rng: random.Random, split: Split) -> str:
    if kind in _NAMES:
        return _NAMES[kind](rng, split)
    if kind in _AMOUNTS:
        return _AMOUNTS[kind](rng)
    return rng.choice(_VALUES[kind])


def _vehicle(rng: random.Random) -> str:
    return tidy(f"a {rng.choice(_VALUES['colour'])} {rng.choice(_VALUES['vehicle_kind'])}")


def _read_facts(tables: list[dict[str, Any]]) -> dict[str, list[_Fact]]:
    facts: dict[str, list[_Fact]] = {}
    for table in tables:
        lists = {name: tuple(table.get(name, ())) for name in ("says", "asks", "who")}
        fact = _Fact(table["about"], table["value"], **lists)
        facts.setdefault(fact.about, []).append(fact)
    return facts


_PREPOSITION = re.compile(r"(?<=\w) (?:in|at|on|by|for|as|from|until|because of) [^{]*{v}$")
_TABLES = tomllib.loads(Path(__file__).with_name("answers.toml").read_text("utf-8"))
_FACTS = _read_facts(_TABLES["fact"])
_VALUES: dict[str, list[str]] = _TABLES["values"]
_SUBJECTS: dict[str, list[str]] = {"person": [], "company": [], **_TABLES["subjects"]}
_NAMES: dict[str, Callable[[random.Random, Split], str]] = {
    "person": names.person,
    "place": names.place,
    "company": names.company,
}
_AMOUNTS: dict[str, Callable[[random.Random], str]] = {
    "count": values.count,
    "duration": values.duration,
    "length": values.length,
    "money": values.money,
    "pets": lambda rng: f"{values.number_word(rng)} {rng.choice(_VALUES['animal'])}",
    "platform": lambda rng: f"platform {rng.randint(1, 30)}",
    "room": lambda rng: f"room {rng.randint(1, 400)}",
    "time": values.time,
    "vehicle": _vehicle,
    "year": values.year,
    "years_old": lambda rng: f"{rng.randint(3, 99)} years",
}
_SHORTENED = {"person": 2, "company": 1}  # How many of the first words may stand for the whole.
# How a sentence takes its subject up again: a pronoun, or nothing where the sentence goes on.
_THINGS = (("It", ". "), ("it", " and "), ("It", ". "), ("It also", ". "))
_REPEATS = {
    "person": (("He", ". "), ("She", ". "), ("", " and "), ("She also", ". "), ("He", ". ")),
    "company": (("The company", ". "), ("It", ". "), ("", " and ")),
    "sight": _THINGS,
    "event": _THINGS,
    "thing": _THINGS,
}
