"""memoserve for vLLM: `vllm serve MODEL --middleware memoserve_integrations.vllm.Memoserve`.

Rule: vLLM is started as ever, and memoserve is set up by `memoserve.toml` or the environment
alone; what is wrong there ends the start, and does not wait for a request.

vLLM (`vllm/entrypoints/serve/middleware/register.py`; `build_app` of
`vllm/entrypoints/openai/api_server.py` up to 0.16 and later) splits the path at its last dot,
imports what is before it, and passes a class to `app.add_middleware(cls)`. So it is made with the
app alone, outside of vLLM's own layers, its check of `--api-key` among them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from memoserve import Rule
from memoserve_integrations.openai import openai_rules

if TYPE_CHECKING:
    from memoserve_integrations._vllm_stack import Memoserve

__all__ = ["Memoserve", "vllm_rules"]

# Beside OpenAI's: one forward pass each, and nothing drawn by chance.
_POOLING = ("/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank")
# When vLLM should see to it: no model sees it.
_IGNORED = ("/priority",)


def vllm_rules(**options: Any) -> tuple[Rule, ...]:
    """Return the rules for vLLM: those of `openai_rules`, and its endpoints for pooling models.

    A request of a split deployment (`kv_transfer_params`) passes by: it is an order to move
    memory between servers, whatever it says.

    Args:
        options: Those of `openai_rules`, but that vLLM stores no responses by default. Each API
            key has answers of its own, since a hit is served before vLLM has looked at the key;
            `private="share"` would answer who has none.

    Raises:
        ValueError: An option is wrong.
    """
    ignore = (*_IGNORED, *options.get("ignore", ()))
    chosen: dict[str, Any] = {"stores_by_default": False, **options, "ignore": ignore}
    rules = openai_rules(**chosen)
    embeddings, *_ = rules
    pooling = [
        msgspec.structs.replace(
            embeddings, path=path, when=_whole_body(embeddings.when), admit=None, defaults={}
        )
        for path in _POOLING
    ]
    return tuple(
        msgspec.structs.replace(rule, when=_alone(rule.when)) for rule in (*rules, *pooling)
    )


_When = Callable[[Any], object] | None


def _whole_body(when: _When) -> Callable[[Any], bool]:
    """Look for content that is only named anywhere in the body, not in its messages alone."""
    return lambda body: when is not None and bool(when({"messages": body}))


def _alone(when: _When) -> Callable[[Any], bool]:
    """Refuse what has to do with other servers."""

    def is_alone(body: Any) -> bool:
        members = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
        is_order = members.get("kv_transfer_params") is not None
        return when is not None and not is_order and bool(when(body))

    return is_alone


def __getattr__(name: str) -> Any:
    """Hand out the class only if it can be used: vLLM asks for it before it serves.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    if name != "Memoserve":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from memoserve_integrations._vllm_stack import Memoserve  # noqa: PLC0415  (it imports us)

    Memoserve.check()
    return Memoserve
