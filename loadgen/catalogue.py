"""What is asked: item k of a model is a pure function of (seed, model, k).

Rule: two items of a model never have the same JSON value, and a run with another salt shares no
item with this one, so it finds a cold cache without anybody having to empty it. Both are so by
construction: every text ends in a tag of its own, ``{salt}x{k}``. One word without punctuation is
what costs the models least: it changes 0 of 1,000 bundled sentiment labels, ``[salt-k]`` 430.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from loadgen.spelling import Json
from reference_app import texts

__all__ = ["BUNDLED", "Bundled", "Catalogue", "Question", "Templates"]

_MAX_LENGTH = 40  # Tokens of a summary.
_ITEM = "{item}"


@dataclass(frozen=True, slots=True)
class Question:
    """One request before it is spelled; no `value`: no body."""

    method: str
    path: str
    value: Json = None


class Catalogue(Protocol):
    """Models, and what they can be asked."""

    @property
    def mix(self) -> Mapping[str, float]:
        """The models and their usual shares of the traffic."""
        ...

    @property
    def accept(self) -> str:
        """What answers may be, as an Accept field says it."""
        ...

    def document(self) -> Sequence[str]:
        """Return what a plan's file needs to make this catalogue again."""
        ...

    def question(self, model: str, number: int, *, seed: int, salt: str) -> Question:
        """Return one item of a model."""
        ...


@dataclass(frozen=True)
class Bundled:
    """The three endpoints of the reference app."""

    accept: str = "application/json"

    @property
    def mix(self) -> Mapping[str, float]:
        """The models and their usual shares of the traffic."""
        return _MIX

    def document(self) -> Sequence[str]:
        """Return nothing: this one needs no words."""
        return ()

    def question(self, model: str, number: int, *, seed: int, salt: str) -> Question:
        """Return one item of a model, members in the order of the API's documentation."""
        rng = random.Random(f"{seed}/catalogue/{model}/{number}")
        return Question("POST", f"/v1/{model}", _BODIES[model](rng, f"{salt}x{number}"))


@dataclass(frozen=True)
class Templates:
    """Endpoints of any other app: ``POST /v1/chat/completions {"prompt": "say {item}"}``.

    In path and body the word ``{item}`` becomes the tag of the item. A model is named by its path
    as far as the tag.
    """

    requests: tuple[str, ...]
    accept: str = "application/json"

    def __post_init__(self) -> None:
        if len(self.mix) != len(self.requests):
            raise ValueError("two requests may not have the same path")

    @property
    def mix(self) -> Mapping[str, float]:
        """The paths, in equal shares."""
        return {_model(path): 1.0 for _, path, _ in map(_parts, self.requests)}

    def document(self) -> Sequence[str]:
        """Return the templates."""
        return self.requests

    def question(self, model: str, number: int, *, seed: int, salt: str) -> Question:  # noqa: ARG002  (the bundled catalogue needs the seed)
        """Return one item of a model."""
        tag = f"{salt}x{number}"
        for request in self.requests:
            method, path, body = _parts(request)
            if _model(path) == model:
                return Question(method, path.replace(_ITEM, tag), _replaced(body, tag))
        raise KeyError(model)


def _parts(request: str) -> tuple[str, str, Json]:
    method, path, *rest = request.split(maxsplit=2) if request.count(" ") else ("", request)
    if not method.isalpha() or not path.startswith("/"):
        raise ValueError(f'a request reads "POST /path {{"json": "{_ITEM}"}}", not {request!r}')
    if _ITEM not in request:
        raise ValueError(f"a request must have {_ITEM} in its path or body, unlike {request!r}")
    try:
        return method.upper(), path, json.loads(rest[0]) if rest else None
    except ValueError as error:
        raise ValueError(f"the body of {request!r} is no JSON: {error}") from None


def _model(path: str) -> str:
    return path.partition(_ITEM)[0].rstrip("/?=&") or "/"


def _replaced(value: Json, tag: str) -> Json:
    match value:
        case str():
            return value.replace(_ITEM, tag)
        case Mapping():
            return {name: _replaced(member, tag) for name, member in value.items()}
        case Sequence():
            return [_replaced(element, tag) for element in value]
        case _:
            return value


def _sentiment(rng: random.Random, tag: str) -> Json:
    return {"text": f"{texts.sentiment_example(rng).text} {tag}"}


def _answer(rng: random.Random, tag: str) -> Json:
    example = texts.answer_example(rng)
    return {"question": example.question, "context": f"{example.context} {tag}"}


def _summarize(rng: random.Random, tag: str) -> Json:
    return {"text": f"{texts.summary_example(rng).text} {tag}", "max_length": _MAX_LENGTH}


_BODIES: Mapping[str, Callable[[random.Random, str], Json]] = {
    "sentiment": _sentiment,
    "answer": _answer,
    "summarize": _summarize,
}
_MIX: Mapping[str, float] = MappingProxyType({"sentiment": 6.0, "answer": 3.0, "summarize": 1.0})

BUNDLED = Bundled()
