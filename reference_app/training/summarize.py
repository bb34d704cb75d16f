"""Train the summarization model.

Rule: names whose spelling holds them out never occur in training.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from reference_app.texts import SummaryExample, summary_example
from reference_app.training.loop import Recipe, batches_by_length, save, seeded, train

__all__ = ["RECIPE", "train_summarize"]

RECIPE = Recipe(steps=4_500, batch_size=32, peak_rate=2e-3, beta2=0.98)
_POSITIONS = 256
_VOCABULARY = 2_000
_SPECIAL: Final = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_ASCII = [chr(code) for code in range(33, 127)]
_NO_LABEL = -100  # What the cross entropy of torch skips.
_NEAR = range(1, 6)


def train_summarize(folder: Path, recipe: Recipe = RECIPE) -> None:
    """Train and write the model."""
    rng = seeded(recipe)
    sample = [summary_example(rng, split="train") for _ in range(recipe.sample)]
    tokenizer = _train_tokenizer(
        text for example in sample for text in (example.text, example.summary)
    )
    config: Any = T5Config  # Its signature lacks decoder_start_token_id.
    model: Any = T5ForConditionalGeneration(
        config(
            vocab_size=len(tokenizer),
            d_model=128,
            d_kv=32,
            d_ff=384,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=32,
            relative_attention_max_distance=64,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    )
    _lean_towards_copying(model)
    grouped = batches_by_length(
        _examples(rng), recipe.batch_size, lambda example: len(example.text), rng
    )
    train(model, recipe, (_batch(group, tokenizer) for group in grouped))
    save(model, tokenizer, folder)


@torch.no_grad()
def _lean_towards_copying(model: Any) -> None:
    """Let heads start out looking at their neighbours; copying a name needs just that.

    Without it, four times the steps did not teach the model to copy names it had never seen. A
    bucket of the encoder is a distance back, or 16 plus a distance ahead; the decoder looks back.
    """
    for stack in (model.encoder, model.decoder):
        bias = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        ahead = 16 if stack is model.encoder else 0
        bias.zero_()
        bias[1, 0] = 5.0
        bias[ahead + 1 if ahead else 2, 1] = 5.0
        for distance in _NEAR:
            bias[distance, 2] = bias[ahead + distance, 2] = 2.0


def _train_tokenizer(texts: Iterator[str]) -> Any:
    """Learn a cased BPE vocabulary in which punctuation and digits stand alone."""
    tokenizer = Tokenizer(BPE(unk_token=_SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[*_SPECIAL.values()],
        initial_alphabet=_ASCII,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    wrap: Any = PreTrainedTokenizerFast  # transformers leaves its arguments untyped.
    return wrap(
        tokenizer_object=tokenizer,
        model_max_length=_POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **_SPECIAL,
    )


def _examples(rng: random.Random) -> Iterator[SummaryExample]:
    while True:
        yield summary_example(rng, split="train")


def _batch(group: list[SummaryExample], tokenizer: Any) -> dict[str, torch.Tensor]:
    texts, summaries = (
        tokenizer(column, padding=True, truncation=True, return_tensors="pt")
        for column in ([e.text for e in group], [e.summary for e in group])
    )
    labels = summaries["input_ids"]
    return {**texts, "labels": labels.masked_fill(labels == tokenizer.pad_token_id, _NO_LABEL)}
