"""Find the answer to a question in a context.

Rule: an answer is a span of whole words of the context. Start and end are scored together, so that
the best start never meets an end that lies before it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from reference_app.models.weights import Weights
from reference_app.results import AnswerResult, ModelInfo

__all__ = ["AnswerModel"]

_BUNDLED_SPAN = 16  # Tokens; what the bundled model saw in training.
_SPAN = 30  # Tokens; the limit that evaluations on SQuAD use.


class _Token(NamedTuple):
    """A token of the context: its place in the input, its word, its characters."""

    place: int
    word: int
    start: int
    end: int


class AnswerModel:
    """Reads contexts; of a long one, only the beginning."""

    info: ModelInfo

    def __init__(self, weights: Weights) -> None:
        self.info = weights.info
        self._model = weights.model
        self._tokenizer = weights.tokenizer
        self._span = _BUNDLED_SPAN if weights.is_small else _SPAN

    def predict(self, question: str, context: str) -> AnswerResult:
        """Answer one question."""
        return self.predict_many([(question, context)])[0]

    @torch.inference_mode()
    def predict_many(self, pairs: Sequence[tuple[str, str]]) -> list[AnswerResult]:
        """Answer pairs of question and context in one forward pass."""
        batch = self._tokenizer(
            [self._shortened(question) for question, _ in pairs],
            [context for _, context in pairs],
            padding=True,
            truncation="only_second",
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        offsets = batch.pop("offset_mapping").tolist()
        outputs = self._model(**batch.to(self.info.device))
        return [
            self._best_span(
                context,
                _tokens_of_context(batch, offsets[row], row),
                (outputs.start_logits[row].cpu(), outputs.end_logits[row].cpu()),
            )
            for row, (_, context) in enumerate(pairs)
        ]

    def _shortened(self, question: str) -> str:
        """Cut a question at half of what the model reads, so that some context fits.

        Truncating both by `longest_first` would do, but takes seconds where both are long.
        """
        limit = self._tokenizer.model_max_length // 2
        tokens = self._tokenizer(
            question,
            add_special_tokens=False,
            truncation=True,
            max_length=limit,
            return_offsets_mapping=True,
        )
        ends = [end for _, end in tokens["offset_mapping"]]
        return question[: ends[-1]] if len(ends) == limit else question

    def _best_span(
        self, context: str, tokens: list[_Token], logits: tuple[Any, Any]
    ) -> AnswerResult:
        if not tokens:
            return AnswerResult("", 0.0, 0, 0)
        places = [token.place for token in tokens]
        starts, ends = (scores[places] for scores in logits)
        scores = (starts[:, None] + ends[None, :]).masked_fill(~self._allowed(tokens), -torch.inf)
        probabilities = scores.flatten().softmax(dim=0)
        best = int(probabilities.argmax())
        first, last = divmod(best, len(tokens))
        start, end = tokens[first].start, tokens[last].end
        return AnswerResult(context[start:end], float(probabilities[best]), start, end)

    def _allowed(self, tokens: list[_Token]) -> torch.Tensor:
        """Return which pairs of a first and a last token make an answer."""
        words = torch.tensor([token.word for token in tokens])
        change = words[1:] != words[:-1]
        begins = torch.cat([torch.ones(1, dtype=torch.bool), change])
        finishes = torch.cat([change, torch.ones(1, dtype=torch.bool)])
        short = torch.ones(len(tokens), len(tokens)).triu().tril(self._span - 1).bool()
        whole = short & begins[:, None] & finishes[None, :]
        return whole if whole.any() else short  # One endless word has no short whole.


def _tokens_of_context(batch: Any, offsets: list[tuple[int, int]], row: int) -> list[_Token]:
    parts, words = batch.sequence_ids(row), batch.word_ids(row)
    return [
        _Token(place, words[place], *offsets[place])
        for place, part in enumerate(parts)
        if part == 1
    ]
