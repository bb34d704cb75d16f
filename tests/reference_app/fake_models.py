"""Three models of no weight, for what does not depend on what a model says."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reference_app.results import (
    TASKS,
    AnswerResult,
    ModelInfo,
    SentimentResult,
    Source,
    SummaryResult,
    SummaryTask,
    Task,
)


@dataclass(slots=True)
class FakeModel:
    """Answers by rote; counts its calls, keeps their threads, and waits at a closed gate."""

    info: ModelInfo
    calls: list[Any] = field(default_factory=list)  # The items of all batches.
    threads: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    spread: float = 4.0

    def __post_init__(self) -> None:
        self.gate.set()

    def predict_many(self, items: Sequence[Any]) -> list[Any]:
        self.calls += items
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return [_ANSWERS[self.info.task](item) for item in items]


@dataclass(frozen=True, slots=True)
class FakeModels:
    sentiment: FakeModel
    summarize: FakeModel
    answer: FakeModel


def fake_models(version: str = "v1", source: Source = "random") -> FakeModels:
    return FakeModels(*(FakeModel(_info(task, version, source)) for task in TASKS))


def _info(task: Task, version: str, source: Source) -> ModelInfo:
    return ModelInfo(task, task, version, source, parameters=7, device="cpu", load_seconds=0.25)


def _sentiment(text: str) -> SentimentResult:
    positive = 0.75 if "good" in text else 0.25
    label = "POSITIVE" if positive > 0.5 else "NEGATIVE"
    scores = {"NEGATIVE": 1 - positive, "POSITIVE": positive}
    return SentimentResult(label, max(scores.values()), scores)


def _summary(task: SummaryTask) -> SummaryResult:
    words = task.text.split()
    kept = words[: task.max_length]
    for count in range(len(kept)):
        if task.on_text is not None:
            task.on_text(" ".join(kept[: count + 1]))
    if kept[-1] == "fail":
        raise OSError("half-way")
    return SummaryResult(" ".join(kept), len(kept), len(words) > task.max_length)


def _answer(pair: tuple[str, str]) -> AnswerResult:
    _, context = pair
    word = context.split(maxsplit=1)[0]
    start = context.index(word)
    return AnswerResult(word, 0.5, start, start + len(word))


_ANSWERS: dict[str, Any] = {"sentiment": _sentiment, "summarize": _summary, "answer": _answer}
