"""Measure the bundled models, and write the figures into their cards.

Rule: a figure is measured through `reference_app.models`, as a visitor would ask, on texts that
training cannot have seen.
"""

import itertools
import json
import logging
import random
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from reference_app.models import load_model
from reference_app.results import Task
from reference_app.texts import answer_example, summary_example
from reference_app.training.sentiment import examples

__all__ = ["Figures", "evaluate", "measure", "rouge_l", "with_figures"]

_LOG = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_SEED = 1_000_003  # Unlike any recipe's.
_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"

Figures = dict[str, float]


def evaluate(folder: Path, count: int = 2_000) -> None:
    """Measure all three models on `count` texts each, and update the cards in `folder`."""
    for task in _MEASURES:
        figures = measure(task, count)
        _LOG.info("%s: %s", task, figures)
        card = folder / task / "README.md"
        card.write_text(with_figures(card.read_text("utf-8"), figures), "utf-8")


def measure(task: Task, count: int) -> Figures:
    """Measure one model on `count` texts from the held-out side."""
    return _MEASURES[task](random.Random(_SEED), count)


def with_figures(card: str, figures: Figures) -> str:
    """Return a card whose table of figures is replaced."""
    before, _, rest = card.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    return f"{before}{_BEGIN}\n| figure | value |\n|---|---|\n{rows}\n{_END}{after}"


def rouge_l(summary: str, reference: str) -> float:
    """Return the F-measure of the longest common subsequence of words (Lin 2004)."""
    left, right = summary.split(), reference.split()
    row = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for column, other in enumerate(right, start=1):
            longest = diagonal + 1 if word == other else max(row[column], row[column - 1])
            diagonal, row[column] = row[column], longest
    return 2 * row[-1] / max(1, len(left) + len(right))


def _measure_sentiment(rng: random.Random, count: int) -> Figures:
    model = load_model("sentiment", "bundled")
    drawn = list(itertools.islice(examples(rng, held_out=True), count))
    everyday = _read("everyday_sentiment.jsonl")
    return {
        "accuracy, held-out texts": _share(
            model.predict(example.text).label == example.label for example in drawn
        ),
        f"accuracy, {len(everyday)} everyday sentences": _share(
            model.predict(row["text"]).label == row["label"] for row in everyday
        ),
        "median milliseconds a text": _milliseconds(
            model.predict, ((example.text,) for example in drawn)
        ),
    }


def _measure_answer(rng: random.Random, count: int) -> Figures:
    model = load_model("answer", "bundled")
    drawn = [answer_example(rng, split="held_out") for _ in range(count)]
    everyday = _read("everyday_answers.jsonl")
    return {
        "exact match, unseen names": _share(
            model.predict(example.question, example.context).answer == example.answer
            for example in drawn
        ),
        f"exact match, {len(everyday)} everyday questions": _share(
            model.predict(row["question"], row["context"]).answer == row["answer"]
            for row in everyday
        ),
        "median milliseconds a question": _milliseconds(
            model.predict, ((example.question, example.context) for example in drawn)
        ),
    }


def _measure_summarize(rng: random.Random, count: int) -> Figures:
    model = load_model("summarize", "bundled")
    drawn = [summary_example(rng, split="held_out") for _ in range(count)]
    summaries = [model.predict(example.text, 40).summary for example in drawn]
    pairs = list(zip(summaries, drawn, strict=True))
    return {
        "ROUGE-L, unseen names": statistics.fmean(
            rouge_l(summary, example.summary) for summary, example in pairs
        ),
        "fact recall, unseen names": _share(
            fact.lower() in summary.lower() for summary, example in pairs for fact in example.facts
        ),
        "summaries without any fault": _share(
            summary == example.summary for summary, example in pairs
        ),
        "median milliseconds a report": _milliseconds(
            model.predict, ((example.text, 40) for example in drawn)
        ),
    }


def _share(outcomes: Iterable[bool]) -> float:
    return statistics.fmean(map(float, outcomes))


def _milliseconds(predict: Callable[..., object], calls: Iterable[tuple[object, ...]]) -> float:
    taken: list[float] = []
    for arguments in itertools.islice(calls, 200):
        started = time.perf_counter()
        predict(*arguments)
        taken.append(1_000 * (time.perf_counter() - started))
    return statistics.median(taken)


def _read(name: str) -> list[dict[str, str]]:
    lines = (_HERE / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


_MEASURES: Final[dict[Task, Callable[[random.Random, int], Figures]]] = {
    "sentiment": _measure_sentiment,
    "answer": _measure_answer,
    "summarize": _measure_summarize,
}
