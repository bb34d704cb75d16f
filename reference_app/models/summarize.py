"""Say in a sentence what a report says.

Rule: decoding is greedy, so a text has one summary, whatever else is in its batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

from reference_app.models.weights import Weights
from reference_app.results import ModelInfo, SummaryResult, SummaryTask

__all__ = ["SummarizeModel"]

# Tokens. The bundled model never saw a longer summary; past this it would repeat itself.
_BUNDLED_LENGTH = 40
_POSITIONS = 512  # Tokens read by the full-size models; t5-small was trained on as many.


class SummarizeModel:
    """Summarizes texts; of a long one, only the beginning is read."""

    info: ModelInfo

    def __init__(self, weights: Weights) -> None:
        self.info = weights.info
        self._model = weights.model
        self._tokenizer = weights.tokenizer
        self._is_small = weights.is_small

    def predict(self, text: str, max_length: int) -> SummaryResult:
        """Summarize one text in at most `max_length` tokens."""
        return self.predict_many([SummaryTask(text, max_length)])[0]

    @torch.inference_mode()
    def predict_many(self, tasks: Sequence[SummaryTask]) -> list[SummaryResult]:
        """Summarize texts in one batch; the first to be done waits for the last."""
        limits = [self._limit(task) for task in tasks]
        longest = max(limits)
        prefix = "" if self._is_small else "summarize: "
        batch = self._tokenizer(
            [prefix + task.text for task in tasks],
            padding=True,
            truncation=True,
            max_length=min(self._tokenizer.model_max_length, _POSITIONS),
            return_tensors="pt",
        )
        generated = self._model.generate(
            **batch.to(self.info.device),
            max_new_tokens=longest,
            # Random weights may stop anywhere; going on to the limit makes them cost the same.
            min_new_tokens=longest if self.info.source == "random" else None,
            do_sample=False,
            num_beams=1,
            streamer=self._streamer(tasks, limits),
        )
        # Greedy decoding never looks ahead: a shorter summary is the beginning of a longer one.
        return [
            self._result(row[:limit]) for row, limit in zip(generated[:, 1:], limits, strict=True)
        ]

    def _limit(self, task: SummaryTask) -> int:
        return min(task.max_length, _BUNDLED_LENGTH) if self._is_small else task.max_length

    def _streamer(
        self, tasks: Sequence[SummaryTask], limits: Sequence[int]
    ) -> "_TextStreamer | None":
        listeners = {
            row: _Listener(task.on_text, limit, self._text_of)
            for row, (task, limit) in enumerate(zip(tasks, limits, strict=True))
            if task.on_text is not None
        }
        return _TextStreamer(listeners) if listeners else None

    def _result(self, ids: Any) -> SummaryResult:
        """Read one row of ids: the summary, perhaps an end token, padding."""
        ends = (ids == self._tokenizer.eos_token_id).nonzero()
        truncated = len(ends) == 0
        kept = ids if truncated else ids[: ends[0, 0]]
        return SummaryResult(self._text_of(kept.tolist()), len(kept), truncated)

    def _text_of(self, ids: list[int]) -> str:
        """Decode ids up to the first end token."""
        end = self._tokenizer.eos_token_id
        kept = ids[: ids.index(end)] if end in ids else ids
        # Random weights also name ids that the bundled tokenizer lacks.
        known = [each % len(self._tokenizer) for each in kept]
        return str(self._tokenizer.decode(known, skip_special_tokens=True)).strip()


class _Listener:
    """Tells one caller what its summary says so far."""

    def __init__(
        self, on_text: Callable[[str], None], limit: int, text_of: Callable[[list[int]], str]
    ) -> None:
        self._on_text = on_text
        self._limit = limit
        self._text_of = text_of
        self._ids: list[int] = []

    def take(self, token: int) -> None:
        if len(self._ids) < self._limit:  # Others in the batch may go on for longer.
            self._ids.append(token)
            self._on_text(self._text_of(self._ids))


class _TextStreamer(BaseStreamer):
    """Takes the tokens of a whole batch, step by step, and passes each row's to its listener."""

    def __init__(self, listeners: dict[int, _Listener]) -> None:
        self._listeners = listeners
        self._is_prompt = True

    def put(self, value: Any) -> None:
        if self._is_prompt:  # The decoder's start token comes first, which is no text.
            self._is_prompt = False
            return
        tokens = value.tolist()
        for row, listener in self._listeners.items():
            listener.take(tokens[row])

    def end(self) -> None:
        """Nothing is held here that would have to be passed on."""
