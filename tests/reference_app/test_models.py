"""The models as a caller meets them: real weights, real tokenizers, no network."""

import dataclasses
import itertools
import random
import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from reference_app.models import (
    AnswerModel,
    Models,
    ModelUnavailableError,
    SentimentModel,
    SummarizeModel,
    load_model,
    load_models,
    weights,
)
from reference_app.results import SummaryTask, Task
from reference_app.texts import (
    SummaryExample,
    answer_example,
    sentiment_example,
    summary_example,
)

TASKS: list[Task] = ["sentiment", "answer", "summarize"]
LONG = "The train to Lisbon leaves at noon. " * 1_500  # More than 10,000 words.
EDGES = [
    pytest.param("", id="empty"),
    pytest.param("   \n", id="blank"),
    pytest.param("?", id="one-sign"),
    pytest.param("😀🎉", id="emoji"),
    pytest.param("どこで生まれましたか", id="another-script"),
    pytest.param("a\x00b\u200bc", id="control"),
    pytest.param("x" * 50_000, id="one-long-word"),
    pytest.param(LONG, id="ten-thousand-words"),
]


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models("bundled")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        pytest.param("The food was delicious and the staff were kind.", "POSITIVE", id="praise"),
        pytest.param("It stopped working after a week, never again!", "NEGATIVE", id="complaint"),
        pytest.param("I love this little camera", "POSITIVE", id="love"),
        pytest.param("we hated the dirty room", "NEGATIVE", id="hate"),
        pytest.param("It was not good.", "NEGATIVE", id="denied"),
    ],
)
def test_sentiment_reads_the_mood(models: Models, text: str, label: str) -> None:
    result = models.sentiment.predict(text)

    assert result.label == label
    assert result.score == result.scores[label] > 0.5
    assert set(result.scores) == {"POSITIVE", "NEGATIVE"}
    assert sum(result.scores.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        pytest.param("Where does Ruth Tolva live?", "Kessport", id="where"),
        pytest.param("Who plays the violin?", "Omar Denk", id="who"),
        pytest.param("How old is Omar Denk?", "42 years", id="how-old"),
    ],
)
def test_answer_points_at_its_place(models: Models, question: str, answer: str) -> None:
    context = "Ruth Tolva lives in Kessport. Omar Denk plays the violin. Omar Denk is 42 years old."

    result = models.answer.predict(question, context)

    assert result.answer == answer == context[result.start : result.end]
    assert 0 < result.score <= 1


def test_summary_keeps_the_facts_of_names_never_seen(models: Models) -> None:
    example: SummaryExample = summary_example(random.Random(11), split="held_out")

    result = models.summarize.predict(example.text, 40)

    assert result.summary == example.summary
    assert not result.truncated


def test_a_summary_that_meets_the_limit_says_so(models: Models) -> None:
    result = models.summarize.predict("A storm reached Oslo on Monday. 40 homes lost power.", 5)

    assert result.truncated
    assert result.tokens == 5


def test_a_bundled_summary_ends_at_forty_tokens(models: Models) -> None:
    assert models.summarize.predict(LONG, 10_000).tokens <= 40


@pytest.mark.parametrize("text", EDGES)
def test_no_text_is_too_odd(models: Models, text: str) -> None:
    assert models.sentiment.predict(text).label in {"POSITIVE", "NEGATIVE"}
    assert models.summarize.predict(text, 40).tokens <= 40
    for question, context in ((text, "Ann lives in Oslo."), ("Where is it?", text), (text, text)):
        result = models.answer.predict(question, context)
        assert result.answer == context[result.start : result.end]


def test_a_context_without_a_word_has_no_answer(models: Models) -> None:
    result = models.answer.predict("Where is it?", " ")

    assert (result.answer, result.score, result.start, result.end) == ("", 0.0, 0, 0)


def test_a_batch_answers_as_one_by_one(models: Models) -> None:
    """Texts of very different lengths, so that padding would show."""
    chance = random.Random(7)
    opinions = ["Great!", "Awful", LONG, *(sentiment_example(chance).text for _ in range(13))]
    pairs = [(e.question, e.context) for e in (answer_example(chance) for _ in range(16))]
    reports = [summary_example(chance).text for _ in range(16)]

    singles = [models.sentiment.predict(text) for text in opinions]
    many = models.sentiment.predict_many(opinions)
    assert [r.label for r in many] == [r.label for r in singles]
    assert [r.score for r in many] == pytest.approx([r.score for r in singles], abs=1e-5)
    answers = [models.answer.predict(*pair) for pair in pairs]
    batched = models.answer.predict_many(pairs)
    assert [(r.answer, r.start, r.end) for r in batched] == [
        (r.answer, r.start, r.end) for r in answers
    ]
    assert [r.score for r in batched] == pytest.approx([r.score for r in answers], abs=1e-5)
    lengths = [8, 40, 16, 128] * 4
    tasks = [SummaryTask(*each) for each in zip(reports, lengths, strict=True)]
    assert models.summarize.predict_many(tasks) == [
        models.summarize.predict(task.text, task.max_length) for task in tasks
    ]


def test_a_classifier_that_cannot_be_packed_is_padded(tmp_path: Path) -> None:
    """Any classifier may lie in a folder; BERT stands for those that are no DistilBERT."""
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "sentiment")
    weights.load_weights("sentiment", "bundled").tokenizer.save_pretrained(tmp_path / "sentiment")
    model = load_model("sentiment", str(tmp_path))
    opinions = ["Great!", "Awful", "The food was delicious and the staff were kind."]

    many = model.predict_many(opinions)

    singles = [model.predict(text) for text in opinions]
    assert [r.score for r in many] == pytest.approx([r.score for r in singles], abs=1e-5)
    assert model.spread < load_model("sentiment", "bundled").spread


def test_a_summary_is_told_as_it_grows_whoever_else_is_in_the_batch(models: Models) -> None:
    chance = random.Random(8)
    told: list[str] = []
    tasks = [
        SummaryTask(summary_example(chance).text, 40),
        SummaryTask(summary_example(chance).text, 12, told.append),
        SummaryTask(summary_example(chance).text, 8, lambda _text: None),
    ]

    results = models.summarize.predict_many(tasks)

    assert told[-1] == results[1].summary == models.summarize.predict(tasks[1].text, 12).summary
    assert len(told) == 12
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(told))


def test_a_folder_of_models_is_a_source_too(tmp_path: Path) -> None:
    for task in TASKS:
        shutil.copytree(weights.BUNDLED / task, tmp_path / "next" / task)

    loaded, bundled = load_models(str(tmp_path / "next")), load_models("bundled")

    assert loaded.sentiment.info.name == "next-sentiment"
    assert loaded.sentiment.info.source == "folder"
    for task in TASKS:
        assert getattr(loaded, task).info.version == getattr(bundled, task).info.version
    assert loaded.answer.predict("Where does Ann live?", "Ann lives in Oslo.").answer == "Oslo"


@pytest.mark.parametrize("name", ["nowhere", "no such/../folder"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelUnavailableError, match="cannot load a model from the folder"):
        load_model("sentiment", str(tmp_path / name))


@pytest.mark.parametrize("task", TASKS)
def test_info_describes_the_weights(models: Models, task: Task) -> None:
    info = getattr(models, task).info

    assert (info.task, info.source, info.name) == (task, "bundled", f"bundled-{task}")
    assert info.device == "cpu"
    assert 400_000 < info.parameters < 1_500_000
    assert info.load_seconds > 0
    assert info.version == load_model(task, "bundled").info.version


def test_version_changes_with_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: Models
) -> None:
    loaded = weights.load_weights("sentiment", "bundled")
    with torch.no_grad():
        loaded.model.classifier.bias += 0.5
    loaded.model.save_pretrained(tmp_path / "sentiment")
    loaded.tokenizer.save_pretrained(tmp_path / "sentiment")
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)

    assert load_model("sentiment", "bundled").info.version != models.sentiment.info.version


@pytest.mark.parametrize("task", TASKS)
def test_a_bundled_folder_is_small_and_holds_nothing_pickled(task: Task) -> None:
    files = list((weights.BUNDLED / task).iterdir())

    assert {file.name for file in files} <= {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(file.stat().st_size for file in files) <= 3_000_000


def test_random_weights_are_full_size_and_say_so() -> None:
    first, second = (load_model("sentiment", "random") for _ in range(2))

    assert isinstance(first, SentimentModel)
    assert first.info.source == "random"
    assert first.info.parameters > 60_000_000
    assert first.info.version == second.info.version
    assert first.predict("fine") == second.predict("fine")


def test_a_random_summary_costs_its_whole_length() -> None:
    model = load_model("summarize", "random")

    result = model.predict("A storm reached Oslo.", 12)

    assert isinstance(model, SummarizeModel)
    assert (result.tokens, result.truncated) == (12, True)


def test_a_random_answer_is_still_a_span() -> None:
    model = load_model("answer", "random")

    result = model.predict("Where does Ann live?", "Ann lives in Oslo.")

    assert isinstance(model, AnswerModel)
    assert result.answer == "Ann lives in Oslo."[result.start : result.end]


def test_random_weights_leave_the_callers_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_model("sentiment", "random")

    assert torch.equal(torch.rand(3), expected)


def test_the_hub_out_of_reach_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    # Read from HF_HOME and HF_HUB_OFFLINE when the package is imported, long ago.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(ModelUnavailableError, match="MODELS=bundled"):
        load_model("sentiment", "hub")


def test_a_missing_bundled_model_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)

    with pytest.raises(ModelUnavailableError, match=r"reference_app\.training answer"):
        load_model("answer", "bundled")


def test_results_cannot_be_changed(models: Models) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        models.sentiment.predict("fine").label = "NEGATIVE"  # type: ignore[misc] # The point.
