"""Is a text pleased or not."""

from collections.abc import Sequence
from typing import Any

import torch

from reference_app.models.packed import can_pack, hidden_states, pack
from reference_app.models.weights import Weights
from reference_app.results import ModelInfo, SentimentResult

__all__ = ["SentimentModel"]


_PADDED_SPREAD = 1.5
_PACKED_SPREAD = 4.0  # Length costs the others nothing, but a short text waits for a long one.


class SentimentModel:
    """Classifies texts; of a long one, only the beginning.

    Attributes:
        spread: How many times longer than another a text of the same batch should be at most.
    """

    info: ModelInfo
    spread: float

    def __init__(self, weights: Weights) -> None:
        self.info = weights.info
        self._model = weights.model
        self._tokenizer = weights.tokenizer
        self._is_packed = can_pack(weights.model)
        self.spread = _PACKED_SPREAD if self._is_packed else _PADDED_SPREAD
        if self._is_packed:
            pack(weights.model)

    def predict(self, text: str) -> SentimentResult:
        """Classify one text."""
        return self.predict_many([text])[0]

    @torch.inference_mode()
    def predict_many(self, texts: Sequence[str]) -> list[SentimentResult]:
        """Classify texts in one forward pass."""
        logits = self._packed(texts) if self._is_packed else self._padded(texts)
        return [self._result(row) for row in logits.softmax(dim=-1).tolist()]

    def _packed(self, texts: Sequence[str]) -> Any:
        rows = self._tokenizer(list(texts), truncation=True)["input_ids"]
        # DistilBERT's head, which reads the first token of each text.
        first = torch.stack([states[0] for states in hidden_states(self._model, rows)])
        return self._model.classifier(self._model.pre_classifier(first).relu())

    def _padded(self, texts: Sequence[str]) -> Any:
        batch = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return self._model(**batch.to(self.info.device)).logits

    def _result(self, probabilities: list[float]) -> SentimentResult:
        labels: dict[int, str] = self._model.config.id2label
        scores = {labels[index]: probability for index, probability in enumerate(probabilities)}
        label = max(scores, key=scores.__getitem__)
        return SentimentResult(label, scores[label], scores)
