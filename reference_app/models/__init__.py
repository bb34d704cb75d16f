"""The three models behind the reference app.

Rule: an answer depends on the weights and the input alone, never on earlier calls or on chance, and
it says which weights gave it.
"""

from dataclasses import dataclass
from typing import Literal, assert_never, overload

from reference_app.models.answer import AnswerModel
from reference_app.models.sentiment import SentimentModel
from reference_app.models.summarize import SummarizeModel
from reference_app.models.weights import ModelUnavailableError, load_weights
from reference_app.results import Task

__all__ = [
    "AnswerModel",
    "ModelUnavailableError",
    "Models",
    "SentimentModel",
    "SummarizeModel",
    "load_model",
    "load_models",
]


@dataclass(frozen=True, slots=True)
class Models:
    """One model for each task. A model takes one call at a time, whatever the thread."""

    sentiment: SentimentModel
    summarize: SummarizeModel
    answer: AnswerModel


def load_models(source: str) -> Models:
    """Load all three, one after the other: bundled, hub, random, or from a folder.

    Raises:
        ModelUnavailableError: the weights cannot be had from this source.
    """
    return Models(
        sentiment=load_model("sentiment", source),
        summarize=load_model("summarize", source),
        answer=load_model("answer", source),
    )


@overload
def load_model(task: Literal["sentiment"], source: str) -> SentimentModel: ...
@overload
def load_model(task: Literal["summarize"], source: str) -> SummarizeModel: ...
@overload
def load_model(task: Literal["answer"], source: str) -> AnswerModel: ...


def load_model(task: Task, source: str) -> SentimentModel | SummarizeModel | AnswerModel:
    """Load the model for one task.

    Raises:
        ModelUnavailableError: the weights cannot be had from this source.
    """
    weights = load_weights(task, source)
    match task:
        case "sentiment":
            return SentimentModel(weights)
        case "summarize":
            return SummarizeModel(weights)
        case "answer":
            return AnswerModel(weights)
        case _:
            assert_never(task)
