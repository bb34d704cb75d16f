"""Train the sentiment model.

Rule: no text whose digest holds it out, and none of `everyday_sentiment.jsonl`, is ever trained on.
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from reference_app.texts import SentimentExample, is_held_out, sentiment_example
from reference_app.training.loop import Recipe, batches_by_length, save, seeded, train
from reference_app.training.wordpiece import train_wordpiece

__all__ = ["POSITIONS", "RECIPE", "examples", "train_sentiment"]

POSITIONS = 96
RECIPE = Recipe(steps=4_000, batch_size=64, peak_rate=1e-3, sample=60_000)
_LABELS = ("NEGATIVE", "POSITIVE")
_VOCABULARY = 3_000
# One word in ten is hidden, so that no single word decides and words never met do no harm.
_HIDDEN = 0.12


def examples(rng: random.Random, *, held_out: bool) -> Iterator[SentimentExample]:
    """Draw without end from one side of the split."""
    while True:
        example = sentiment_example(rng)
        if is_held_out(example.text) == held_out:
            yield example


def train_sentiment(folder: Path, recipe: Recipe = RECIPE) -> None:
    """Train and write the model."""
    rng = seeded(recipe)
    sample = itertools.islice(examples(rng, held_out=False), recipe.sample)
    texts = [example.text for example in sample]
    tokenizer = train_wordpiece(texts, size=_VOCABULARY, positions=POSITIONS)
    model = DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=POSITIONS,
            n_layers=2,
            n_heads=4,
            dim=128,
            hidden_dim=256,
            seq_classif_dropout=0.1,
            id2label=dict(enumerate(_LABELS)),
            label2id={label: index for index, label in enumerate(_LABELS)},
        )
    )
    grouped = batches_by_length(
        examples(rng, held_out=False), recipe.batch_size, lambda example: len(example.text), rng
    )
    train(model, recipe, (_batch(group, tokenizer) for group in grouped), _loss)
    save(model, tokenizer, folder)


def _batch(group: list[SentimentExample], tokenizer: Any) -> dict[str, torch.Tensor]:
    batch: dict[str, torch.Tensor] = dict(
        tokenizer(
            [example.text for example in group],
            padding=True,
            truncation=True,
            return_tensors="pt",
        )
    )
    ids = batch["input_ids"]
    hidden = (torch.rand(ids.shape) < _HIDDEN) & (ids > 4)
    batch["input_ids"] = ids.masked_fill(hidden, tokenizer.convert_tokens_to_ids("[UNK]"))
    batch["labels"] = torch.tensor([_LABELS.index(example.label) for example in group])
    return batch


def _loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    labels = batch.pop("labels")
    return functional.cross_entropy(model(**batch).logits, labels, label_smoothing=0.05)
