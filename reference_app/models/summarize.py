"""Say in a sentence what a report says.

Rule: decoding is greedy, so a text has one summary.
"""

from collections.abc import Sequence
from typing import Any

import torch

from reference_app.models.results import ModelInfo, SummaryResult
from reference_app.models.weights import Weights

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
        self._is_bundled = weights.info.source == "bundled"

    def predict(self, text: str, max_length: int) -> SummaryResult:
        """Summarize one text in at most `max_length` tokens."""
        return self.predict_many([text], max_length)[0]

    @torch.inference_mode()
    def predict_many(self, texts: Sequence[str], max_length: int) -> list[SummaryResult]:
        """Summarize texts in one batch; the first to be done waits for the last."""
        limit = min(max_length, _BUNDLED_LENGTH) if self._is_bundled else max_length
        prefix = "" if self._is_bundled else "summarize: "
        batch = self._tokenizer(
            [prefix + text for text in texts],
            padding=True,
            truncation=True,
            max_length=min(self._tokenizer.model_max_length, _POSITIONS),
            return_tensors="pt",
        )
        generated = self._model.generate(
            **batch.to(self.info.device),
            max_new_tokens=limit,
            # Random weights may stop anywhere; going on to the limit makes them cost the same.
            min_new_tokens=limit if self.info.source == "random" else None,
            do_sample=False,
            num_beams=1,
        )
        return [self._result(row) for row in generated[:, 1:]]

    def _result(self, ids: Any) -> SummaryResult:
        """Read one row of ids: the summary, perhaps an end token, padding."""
        ends = (ids == self._tokenizer.eos_token_id).nonzero()
        truncated = len(ends) == 0
        kept = ids if truncated else ids[: ends[0, 0]]
        # Random weights also name ids that the bundled tokenizer lacks.
        known = (kept % len(self._tokenizer)).tolist()
        summary = self._tokenizer.decode(known, skip_special_tokens=True).strip()
        return SummaryResult(summary, len(kept), truncated)
