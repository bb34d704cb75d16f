"""How the bundled models are made and measured, at a fraction of the steps."""

import itertools
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from reference_app.models import load_model, weights
from reference_app.results import Task
from reference_app.texts import is_held_out
from reference_app.training import answer, sentiment, summarize
from reference_app.training.evaluate import evaluate, measure, rouge_l, with_figures
from reference_app.training.loop import Recipe

TASKS: list[Task] = ["sentiment", "answer", "summarize"]
BRIEF = Recipe(steps=3, batch_size=4, peak_rate=1e-3, sample=500)


@pytest.mark.parametrize(
    ("task", "train"),
    [
        pytest.param("sentiment", sentiment.train_sentiment, id="sentiment"),
        pytest.param("answer", answer.train_answer, id="answer"),
        pytest.param("summarize", summarize.train_summarize, id="summarize"),
    ],
)
def test_a_run_is_repeatable_and_loadable(
    task: Task,
    train: Callable[[Path, Recipe], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "first")

    train(tmp_path / "first" / task, BRIEF)
    train(tmp_path / "second" / task, BRIEF)

    first, second = (
        (tmp_path / run / task / "model.safetensors").read_bytes() for run in ("first", "second")
    )
    assert first == second
    assert load_model(task, "bundled").info.version


@pytest.mark.parametrize("task", TASKS)
def test_weights_are_shipped_at_half_precision(task: Task) -> None:
    shipped = load_file(weights.BUNDLED / task / "model.safetensors")

    assert {str(weight.dtype) for weight in shipped.values()} == {"torch.float16"}


def test_everyday_sentences_are_twenty_of_each() -> None:
    path = Path(sentiment.__file__).with_name("everyday_sentiment.jsonl")
    labels = [json.loads(line)["label"] for line in path.read_text("utf-8").splitlines()]

    assert (labels.count("POSITIVE"), labels.count("NEGATIVE")) == (20, 20)


def test_training_skips_held_out_texts() -> None:
    drawn = itertools.islice(sentiment.examples(random.Random(1), held_out=False), 500)

    assert not any(is_held_out(example.text) for example in drawn)


def test_evaluate_writes_every_card(tmp_path: Path) -> None:
    for task in TASKS:
        (tmp_path / task).mkdir()
        shutil.copy(weights.BUNDLED / task / "README.md", tmp_path / task)

    evaluate(tmp_path, count=5)

    for task in TASKS:
        old = (weights.BUNDLED / task / "README.md").read_text("utf-8")
        new = (tmp_path / task / "README.md").read_text("utf-8")
        assert new != old
        assert new.startswith(old[:300])


def test_an_unknown_model_is_refused_by_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "reference_app.training", "poetry"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 2
    assert "poetry" in run.stderr


@pytest.mark.parametrize(
    ("task", "least"),
    [
        pytest.param("sentiment", {"held-out": 0.95, "everyday": 0.85}, id="sentiment"),
        pytest.param("answer", {"unseen": 0.9}, id="answer"),
        pytest.param("summarize", {"ROUGE-L": 0.9, "recall": 0.9}, id="summarize"),
    ],
)
def test_figures_hold(task: Task, least: dict[str, float]) -> None:
    figures = measure(task, 80)

    for part, floor in least.items():
        assert next(value for name, value in figures.items() if part in name) >= floor


@pytest.mark.parametrize("task", TASKS)
def test_a_card_gives_figures(task: Task) -> None:
    card = (weights.BUNDLED / task / "README.md").read_text("utf-8")

    assert card.startswith("---\n")
    assert card.count(" | 0.") >= 1
    assert "python -m reference_app.training evaluate" in card


def test_figures_replace_figures() -> None:
    card = "a\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nb\n"

    assert with_figures(card, {"accuracy": 0.5}) == (
        "a\n<!-- figures: begin -->\n| figure | value |\n|---|---|\n| accuracy | 0.500 |\n"
        "<!-- figures: end -->\nb\n"
    )


@pytest.mark.parametrize(
    ("summary", "reference", "expected"),
    [
        pytest.param("a b c", "a b c", 1.0, id="same"),
        pytest.param("a x c", "a b c", 2 / 3, id="one-wrong"),
        pytest.param("c b a", "a b c", 1 / 3, id="order-counts"),
        pytest.param("", "a", 0.0, id="empty"),
    ],
)
def test_rouge_l(summary: str, reference: str, expected: float) -> None:
    assert rouge_l(summary, reference) == pytest.approx(expected)
