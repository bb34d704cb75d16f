"""What the API answers with, and the shape of its errors.

Rule: an answer names the model, its version and where its weights came from, so that two answers
that differ can be told apart. Offsets count characters (code points), not bytes.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from reference_app.results import ModelInfo

__all__ = [
    "AnswerResponse",
    "ListedModel",
    "Liveness",
    "LoadedModel",
    "ModelCard",
    "ModelList",
    "Problem",
    "Readiness",
    "SentimentResponse",
    "SummarizeResponse",
    "listed_model",
    "loaded_model",
]

Score = Annotated[float, Meta(ge=0, le=1, description="A probability.", examples=[0.98])]
Label = Annotated[str, Meta(description="`POSITIVE` or `NEGATIVE`.", examples=["POSITIVE"])]


class ModelCard(Struct, frozen=True):
    """Which model gave the answer."""

    name: Annotated[str, Meta(description="The model's name.")]
    version: Annotated[str, Meta(description="A digest of its weights.")]
    source: Annotated[
        Literal["bundled", "hub", "random", "folder"],
        Meta(description="Where the weights came from; `random` answers mean nothing."),
    ]


class SentimentResponse(Struct, frozen=True):
    """The feeling of a text."""

    label: Label
    score: Annotated[float, Meta(description="The probability of `label`.", examples=[0.98])]
    scores: Annotated[
        dict[str, float],
        Meta(
            description="The probability of every label.",
            examples=[{"NEGATIVE": 0.02, "POSITIVE": 0.98}],
        ),
    ]
    model: ModelCard


class SummarizeResponse(Struct, frozen=True):
    """A text, made short."""

    summary: str
    tokens: Annotated[int, Meta(description="How many tokens the model generated.", examples=[14])]
    truncated: Annotated[bool, Meta(description="Whether the length cut the summary off.")]
    model: ModelCard


class AnswerResponse(Struct, frozen=True):
    """A span of the context that answers the question."""

    answer: Annotated[str, Meta(examples=["Mira Castell"])]
    score: Score
    start: Annotated[int, Meta(description="Where the answer starts in the context.", examples=[0])]
    end: Annotated[int, Meta(description="Where it ends, exclusive.", examples=[12])]
    model: ModelCard


class LoadedModel(Struct, frozen=True):
    """A model that is ready to answer."""

    name: str
    version: str
    source: str
    parameters: int
    device: str
    load_seconds: float


class ListedModel(LoadedModel, frozen=True):
    """A model, the task it is for, and the variant it belongs to."""

    task: str
    variant: str


class ModelList(Struct, frozen=True):
    """Every model of every variant."""

    models: list[ListedModel]


def loaded_model(info: ModelInfo) -> LoadedModel:
    """Return what is shown of a model."""
    return LoadedModel(**_shown(info))


def listed_model(info: ModelInfo, variant: str) -> ListedModel:
    """Return what is shown of one model among others."""
    return ListedModel(**_shown(info), task=info.task, variant=variant)


def _shown(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "version": info.version,
        "source": info.source,
        "parameters": info.parameters,
        "device": info.device,
        "load_seconds": round(info.load_seconds, 3),
    }


class Liveness(Struct, frozen=True):
    """The process runs and its event loop turns."""

    status: Literal["live"] = "live"


class Readiness(Struct, frozen=True):
    """Every model is loaded and has answered once."""

    models: dict[str, LoadedModel]
    status: Literal["ready"] = "ready"


class Problem(Struct, frozen=True):
    """What went wrong (RFC 9457); `detail` is for people, `status` for programs."""

    status: Annotated[int, Meta(examples=[422])]
    title: Annotated[str, Meta(examples=["Unprocessable Content"])]
    detail: Annotated[str, Meta(examples=["Expected `str`, got `int` - at `$.text`"])]
