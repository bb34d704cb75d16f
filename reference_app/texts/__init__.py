"""Seeded everyday English in the domain of the bundled models.

Rule: an example is a pure function of the random generator that it is given. Standard library only,
so that a load generator can write traffic without loading a model.
"""

from reference_app.texts.answers import AnswerExample, answer_example
from reference_app.texts.names import is_held_out
from reference_app.texts.sentiment import SentimentExample, sentiment_example
from reference_app.texts.summaries import SummaryExample, summary_example

__all__ = [
    "AnswerExample",
    "SentimentExample",
    "SummaryExample",
    "answer_example",
    "is_held_out",
    "sentiment_example",
    "summary_example",
]
