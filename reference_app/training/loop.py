"""The training loop that the three models share.

Models, tokenizers and their outputs are `Any` here: transformers leaves much of them untyped.

Rule: a run is limited by steps, never by time, so that a seed gives one result on one machine.
"""

import itertools
import logging
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import set_seed

__all__ = ["Recipe", "batches_by_length", "save", "seeded", "train"]

_LOG = logging.getLogger(__name__)
_Example = TypeVar("_Example")
_Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run is made of, besides its data; `sample` texts make the vocabulary."""

    steps: int
    batch_size: int
    peak_rate: float
    beta2: float = 0.999
    sample: int = 20_000
    seed: int = 1


def seeded(recipe: Recipe) -> random.Random:
    """Seed torch, and return the generator that the examples are drawn with."""
    set_seed(recipe.seed)
    return random.Random(recipe.seed)


def batches_by_length(
    examples: Iterator[_Example], size: int, length: Callable[[_Example], int], rng: random.Random
) -> Iterator[list[_Example]]:
    """Group examples of like length, so that little of a batch is padding."""
    while pool := list(itertools.islice(examples, 50 * size)):
        pool.sort(key=length)
        batches = [pool[start : start + size] for start in range(0, len(pool), size)]
        rng.shuffle(batches)
        yield from batches


def train(
    model: Any,
    recipe: Recipe,
    batches: Iterator[_Batch],
    loss_of: Callable[[Any, _Batch], Any] = lambda model, batch: model(**batch).loss,
) -> None:
    """Train in place: AdamW, 5 % warm-up, then a cosine to nothing.

    The loss is the model's own unless `loss_of` says otherwise.
    """
    model.train()
    optimizer: Any = torch.optim.AdamW(
        model.parameters(), lr=recipe.peak_rate, betas=(0.9, recipe.beta2), weight_decay=0.01
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    recent: list[float] = []
    for step, batch in enumerate(itertools.islice(batches, recipe.steps), start=1):
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        recent.append(loss.item())
        if step % 100 == 0:
            _LOG.info("step %d of %d, loss %.3f", step, recipe.steps, sum(recent) / len(recent))
            recent.clear()


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights at half precision, and the tokenizer, for `from_pretrained`."""
    model.eval().half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors leaves it to its owner alone.
    _LOG.info("wrote %s", folder.name)


def _rate(step: int, steps: int) -> float:
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
