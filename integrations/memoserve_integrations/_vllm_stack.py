"""The stack that vLLM is given."""

import memoserve
from memoserve._asgi import ASGIApp
from memoserve_integrations._layers import answer_lifespan
from memoserve_integrations.vllm import vllm_rules

__all__ = ["Memoserve"]


class Memoserve(memoserve.Memoserve):
    """`memoserve.Memoserve`, with `vllm_rules()` where the configuration has no rules.

    Args:
        app: vLLM's.

    Raises:
        ConfigError: The configuration cannot be used.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, rules=vllm_rules())

    @classmethod
    def check(cls) -> None:
        """Fail now if it would fail later, where a server takes that for an app without lifespan.

        Raises:
            ConfigError: The configuration cannot be used.
        """
        cls(answer_lifespan)
