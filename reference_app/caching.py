"""What the cache may reuse of this app: the answers of the three POST routes.

Rule: an entry is used only by the model that made it. The epoch holds the digest of the weights and
a number for everything else that shapes an answer, so entries in a shared store outlive a
deployment only where they are still right. The less sure a model was, the shorter its answer lives.
"""

from collections.abc import Callable
from typing import Any

from memoserve import Rule, StoredResponse
from reference_app.api import DEFAULT_MAX_LENGTH
from reference_app.inference import Inference
from reference_app.results import Task
from reference_app.settings import Settings
from reference_app.streaming import DONE, EVENT_STREAM
from reference_app.variant import variant_of

__all__ = ["cache_rules"]

_ANSWER_FORMAT = 2  # Raise it when the same weights begin to answer differently.
_LEAST = 0.1  # Of the ttl: what a model that is not sure at all still gets.


def cache_rules(inference: Inference, settings: Settings) -> list[Rule]:
    """Return a rule for each model."""

    def rule(task: Task, admit: Callable[[StoredResponse], float], **options: Any) -> Rule:
        return Rule(
            f"/v1/{task}",
            ttl=settings.cache_ttl,
            stale_if_error=settings.stale_if_error,
            model=task,
            epoch=_epoch(inference, task),
            tags=[task],
            admit=lambda answer: settings.cache_ttl * admit(answer),
            max_request_bytes=settings.max_body_bytes,
            **options,
        )

    return [
        # Of two labels, the one that is chosen has a probability from a half on.
        rule("sentiment", lambda answer: _trust(answer, lambda score: 2 * score - 1)),
        rule(
            "summarize",
            _trust_in_summary,
            defaults={"/max_length": DEFAULT_MAX_LENGTH, "/stream": False},
        ),
        rule("answer", lambda answer: _trust(answer, lambda score: score)),
    ]


def _trust(answer: StoredResponse, certainty: Callable[[float], float]) -> float:
    """Return the fraction of the ttl that a model's score is worth."""
    body = answer.json()
    if body["model"]["source"] == "random":
        return 1.0  # Such scores mean nothing, and load tests should measure the cache alone.
    return min(1.0, max(_LEAST, certainty(body["score"])))


def _trust_in_summary(answer: StoredResponse) -> float:
    """Keep summaries and whole streams of them; of a stream that failed, nothing."""
    content_type = dict(answer.headers).get(b"content-type", b"")
    is_stream = content_type.startswith(EVENT_STREAM.encode())
    return float(not is_stream or DONE in answer.chunks[-1])


def _epoch(inference: Inference, task: Task) -> Callable[[Any], str]:
    """Make the rule's `epoch`; it raises while no model is loaded, so such requests bypass.

    A constant in its place would put an answer under a key that another model would find.
    """

    def epoch(scope: Any) -> str:
        return f"{_ANSWER_FORMAT}-{inference.arm(variant_of(scope)).info(task).version}"

    return epoch
