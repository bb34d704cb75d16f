"""What the models answer, and what they say of themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "TASKS",
    "AnswerResult",
    "ModelInfo",
    "SentimentResult",
    "Source",
    "SummaryResult",
    "SummaryTask",
    "Task",
]

Source = Literal["bundled", "hub", "random", "folder"]
Task = Literal["sentiment", "summarize", "answer"]
TASKS: tuple[Task, ...] = ("sentiment", "summarize", "answer")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which weights answer.

    Attributes:
        version: A digest of the weights; of seed and configuration where the weights are random.
        parameters: How many numbers the weights hold.
        load_seconds: How long it took until the model could answer.
    """

    task: Task
    name: str
    version: str
    source: Source
    parameters: int
    device: str
    load_seconds: float


@dataclass(frozen=True, slots=True)
class SentimentResult:
    """POSITIVE or NEGATIVE; `scores` holds the probability of both, `score` that of `label`."""

    label: str
    score: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class SummaryTask:
    """A text to summarize in at most `max_length` tokens.

    `on_text` is told, in the model's thread, what the summary says so far, at every new token; if
    the batch has to be run again, from the beginning.
    """

    text: str
    max_length: int
    on_text: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class SummaryResult:
    """A summary of `tokens` tokens; `truncated` if it met the limit before it came to its end."""

    summary: str
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """A span of the context: `context[start:end] == answer`, in characters.

    `score` is the probability of this span among all spans that were allowed. Where the context
    holds no word, the answer is empty and its score 0.
    """

    answer: str
    score: float
    start: int
    end: int
