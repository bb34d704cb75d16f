"""Three models of no weight, for what does not depend on what a model says."""

import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Info:
    name: str
    version: str = "v1"
    source: str = "random"
    parameters: int = 7
    device: str = "cpu"
    load_seconds: float = 0.25


@dataclass(frozen=True, slots=True)
class Sentiment:
    label: str
    score: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Summary:
    summary: str
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Answer:
    answer: str
    score: float
    start: int
    end: int


@dataclass(slots=True)
class FakeModel:
    """Answers by rote; counts its calls, keeps their threads, and waits at a closed gate."""

    info: Info
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    def predict(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return _ANSWERS[self.info.name](*arguments)


@dataclass(frozen=True, slots=True)
class FakeModels:
    sentiment: FakeModel
    summarize: FakeModel
    answer: FakeModel


def fake_models(version: str = "v1") -> FakeModels:
    return FakeModels(
        *(FakeModel(Info(name, version)) for name in ("sentiment", "summarize", "answer"))
    )


def _sentiment(text: str) -> Sentiment:
    positive = 0.75 if "good" in text else 0.25
    label = "POSITIVE" if positive > 0.5 else "NEGATIVE"
    scores = {"NEGATIVE": 1 - positive, "POSITIVE": positive}
    return Sentiment(label, max(scores.values()), scores)


def _summary(text: str, max_length: int) -> Summary:
    words = text.split()
    return Summary(
        " ".join(words[:max_length]), min(len(words), max_length), len(words) > max_length
    )


def _answer(question: str, context: str) -> Answer:
    word = context.split(maxsplit=1)[0]
    start = context.index(word)
    return Answer(word, 0.5, start, start + len(word))


_ANSWERS: dict[str, Any] = {"sentiment": _sentiment, "summarize": _summary, "answer": _answer}
