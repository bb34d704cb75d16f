"""Is a text pleased or not."""

from collections.abc import Sequence

import torch

from reference_app.models.weights import Weights
from reference_app.results import ModelInfo, SentimentResult

__all__ = ["SentimentModel"]


class SentimentModel:
    """Classifies texts; of a long one, only the beginning."""

    info: ModelInfo

    def __init__(self, weights: Weights) -> None:
        self.info = weights.info
        self._model = weights.model
        self._tokenizer = weights.tokenizer

    def predict(self, text: str) -> SentimentResult:
        """Classify one text."""
        return self.predict_many([text])[0]

    @torch.inference_mode()
    def predict_many(self, texts: Sequence[str]) -> list[SentimentResult]:
        """Classify texts in one forward pass."""
        batch = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        logits = self._model(**batch.to(self.info.device)).logits
        return [self._result(row) for row in logits.softmax(dim=-1).tolist()]

    def _result(self, probabilities: list[float]) -> SentimentResult:
        labels: dict[int, str] = self._model.config.id2label
        scores = {labels[index]: probability for index, probability in enumerate(probabilities)}
        label = max(scores, key=scores.__getitem__)
        return SentimentResult(label, scores[label], scores)
