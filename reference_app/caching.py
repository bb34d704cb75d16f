"""What the cache may reuse of this app: the answers of the three POST routes.

Rule: an entry is used only by the model that made it. The epoch holds the digest of the weights and
a number for everything else that shapes an answer, so entries in a shared store outlive a
deployment only where they are still right.
"""

from collections.abc import Callable
from typing import Any

from memoserve import Rule
from reference_app.api import DEFAULT_MAX_LENGTH
from reference_app.inference import Inference, Task
from reference_app.settings import Settings

__all__ = ["cache_rules"]

_ANSWER_FORMAT = 1  # Raise it when the same weights begin to answer differently.


def cache_rules(inference: Inference, settings: Settings) -> list[Rule]:
    """Return a rule for each model."""

    def rule(task: Task, **options: Any) -> Rule:
        return Rule(
            f"/v1/{task}",
            ttl=settings.cache_ttl,
            model=task,
            epoch=_epoch(inference, task),
            max_request_bytes=settings.max_body_bytes,
            **options,
        )

    return [
        rule("sentiment"),
        rule("summarize", defaults={"/max_length": DEFAULT_MAX_LENGTH}),
        rule("answer"),
    ]


def _epoch(inference: Inference, task: Task) -> Callable[[Any], str]:
    """Make the rule's `epoch`; it raises while no model is loaded, so such requests bypass.

    A constant in its place would put an answer under a key that another model would find.
    """

    def epoch(_scope: Any) -> str:
        return f"{_ANSWER_FORMAT}-{inference.info(task).version}"

    return epoch
