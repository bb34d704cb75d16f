"""What is asked: item k of a model is a pure function of (seed, model, k).

Rule: two items of a model never have the same JSON value, and a run with another salt shares no
item with this one, so it finds a cold cache without anybody having to empty it. Both are so by
construction: every text ends in a tag of its own, ``{salt}x{k}``. One word without punctuation is
what costs the models least: it changes 0 of 1,000 bundled sentiment labels, ``[salt-k]`` 430.
"""

import random
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from reference_app import texts

__all__ = ["MODELS", "PATHS", "Body", "Model", "item"]

Model = Literal["sentiment", "answer", "summarize"]
Body = dict[str, str | int]

MODELS: tuple[Model, ...] = get_args(Model)
PATHS: Mapping[Model, str] = {model: f"/v1/{model}" for model in MODELS}

_MAX_LENGTH = 40  # Tokens of a summary.


def item(model: Model, number: int, *, seed: int, salt: str) -> Body:
    """Return the request body of one item, its members in the order of the API's documentation."""
    rng = random.Random(f"{seed}/catalogue/{model}/{number}")
    return _BODIES[model](rng, f"{salt}x{number}")


def _sentiment(rng: random.Random, tag: str) -> Body:
    return {"text": f"{texts.sentiment_example(rng).text} {tag}"}


def _answer(rng: random.Random, tag: str) -> Body:
    example = texts.answer_example(rng)
    return {"question": example.question, "context": f"{example.context} {tag}"}


def _summarize(rng: random.Random, tag: str) -> Body:
    return {"text": f"{texts.summary_example(rng).text} {tag}", "max_length": _MAX_LENGTH}


_BODIES: Mapping[Model, Callable[[random.Random, str], Body]] = {
    "sentiment": _sentiment,
    "answer": _answer,
    "summarize": _summarize,
}
