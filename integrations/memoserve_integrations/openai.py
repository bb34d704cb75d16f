"""Rules for servers that speak OpenAI's HTTP API: vLLM, SGLang, llama.cpp, a gateway, your own.

Rule: an answer is shared only if the model would give it again and giving it changed nothing. So
nothing sampled, nothing that the server stores, continues or looks up, no tool that it runs, and
no body that only names its content by a URL or an id. In doubt the request passes by.

Source of all that is said of fields: OpenAI's API reference, as its Python package 3.57 has it
(`types/chat/completion_create_params.py`, `types/responses/response_create_params.py`,
`types/completion_create_params.py`, `types/embedding_create_params.py`).
"""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, cast

import msgspec

from memoserve import Rule, StoredResponse
from memoserve_integrations._openai_answers import (
    FINISHED,
    is_embedding,
    is_whole_completion,
    is_whole_response,
)

__all__ = ["openai_rules"]

# Who asks, and hints for finding the provider's own prompt cache: no model sees them. Everything
# else stays in the key, also where it only might matter: `service_tier` (another price, and the
# answer says which), `logprobs`, `n`, `stream_options`, `cache_salt` (vLLM's, to keep users apart).
_IGNORED = ("/user",)
_IGNORED_IN_CHAT = (
    "/metadata", "/prompt_cache_key", "/prompt_cache_retention", "/safety_identifier", "/user",
)  # fmt: skip
# A response object repeats all of those, and nobody may be sent another one's identifier.
_IGNORED_IN_RESPONSES: tuple[str, ...] = ()

# Which project asks, and which edition of the API answers.
_VARY = ("openai-beta", "openai-organization", "openai-project")

# Tools that the caller runs. All others the server runs or looks something up with: web and file
# search, code, computers, shells, images, MCP.
_TOOLS_OF_THE_CALLER = ("function", "custom")

_RANDOM_SEED = 2**32 - 1  # llama.cpp's LLAMA_DEFAULT_SEED, which is its -1: draw one.


def openai_rules(
    *,
    prefix: str = "/v1",
    ttl: float = 3600.0,
    private: Literal["bypass", "partition", "share"] = "partition",
    ignore: Sequence[str] = (),
    vary: Collection[str] = (),
    truncated: bool = False,
    stores_by_default: bool = True,
    **options: Any,
) -> tuple[Rule, ...]:
    """Return the rules for embeddings, chat completions, completions and responses.

    Args:
        prefix: What the paths start with. `/openai/deployments/{model}` is Azure's; `models=` then
            lists the deployments that become labels in metrics.
        ttl: Seconds. A new model under an old name is told by `epoch=`.
        private: What an API key keeps apart. By default each key has answers of its own, which a
            store shared by processes needs a `secret` for. `"share"` is for servers whose keys
            only say who pays, and needs a check of the key outside of the cache: a hit asks nobody.
        ignore: More JSON pointers left out of the key of every rule.
        vary: More request header fields that belong to the key.
        truncated: Keep answers that reached the token limit, too. The same body gets the same cut
            again, but where no limit was asked for the cut may be the server's and pass.
        stores_by_default: The server stores a response whose request does not say `store: false`,
            as OpenAI does; such a request passes by. vLLM does not, unless told to.
        options: Other options of `Rule`, for all of the rules.

    Raises:
        ValueError: An option is wrong.
    """
    if prefix.endswith("/"):
        raise ValueError(f"prefix must not end with a slash, as {prefix!r} does")
    ends = FINISHED | {"length"} if truncated else FINISHED
    is_completion = functools.partial(is_whole_completion, ends=ends)
    is_repeatable = functools.partial(_is_repeatable_response, stores_by_default=stores_by_default)

    def rule(
        path: str,
        ignored: Sequence[str],
        when: Callable[[Any], bool],
        admit: Callable[[StoredResponse], bool],
    ) -> Rule:
        return Rule(
            prefix + path,
            ttl=ttl,
            private=private,
            ignore=(*ignored, *ignore),
            vary=(*_VARY, *vary),
            defaults={"/stream": False},
            when=when,
            admit=admit,
            **options,
        )

    return (
        rule("/embeddings", _IGNORED, _is_self_contained, is_embedding),
        rule("/chat/completions", _IGNORED_IN_CHAT, _is_repeatable_chat, is_completion),
        rule("/completions", _IGNORED, _is_repeatable_chat, is_completion),
        rule(
            "/responses",
            _IGNORED_IN_RESPONSES,
            is_repeatable,
            functools.partial(is_whole_response, truncated=truncated),
        ),
    )


# What is asked. A body of other types than these is no question for a cache.


class _Tool(msgspec.Struct):
    type: str = ""


class _PromptCache(msgspec.Struct):
    prewarm: bool | None = None


class _Question(msgspec.Struct):
    """The fields that chat completions, completions and responses have in common."""

    temperature: float | None = None
    seed: int | None = None
    tools: list[_Tool] | None = None
    store: bool | None = None
    messages: Any = None  # Of chat completions.
    input: Any = None  # Of responses.
    prompt: Any = None  # Of completions the text, of responses the name of one kept there.
    web_search_options: Any = None
    audio: Any = None  # Whose answer can be continued by its id, until it expires.
    background: bool | None = None
    conversation: Any = None
    previous_response_id: str | None = None
    prompt_cache_options: _PromptCache | None = None

    @property
    def is_repeatable(self) -> bool:
        """The model gives the same answer again, and that is all that happens."""
        return self.is_deterministic and self.is_without_effect

    @property
    def is_deterministic(self) -> bool:
        is_seeded = self.seed is not None and self.seed >= 0 and self.seed != _RANDOM_SEED
        return self.temperature == 0 or is_seeded

    @property
    def is_without_effect(self) -> bool:
        prewarms = self.prompt_cache_options is not None and self.prompt_cache_options.prewarm
        return (
            all(tool.type in _TOOLS_OF_THE_CALLER for tool in self.tools or ())
            and self.web_search_options is None
            and self.audio is None
            and self.conversation is None
            and self.previous_response_id is None
            and not (self.store or self.background or prewarms)
        )


def _is_repeatable_chat(body: Any) -> bool:
    question = _read(body)
    return question is not None and question.is_repeatable and not _only_names(question.messages)


def _is_repeatable_response(body: Any, *, stores_by_default: bool) -> bool:
    question = _read(body)
    if question is None or not question.is_repeatable or question.prompt is not None:
        return False
    is_stored = stores_by_default and question.store is None
    return not is_stored and not _only_names(question.input)


def _is_self_contained(body: Any) -> bool:
    question = _read(body)  # Messages of embeddings are vLLM's, for pictures.
    return question is not None and not _only_names(question.messages)


def _only_names(value: Any, member: str = "") -> bool:
    """Tell whether content is named by a URL or an id: what is there can change, or be gone."""
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        if "id" in members and members.keys() <= {"id", "type"}:  # A reference to an item.
            return True
        return any(_only_names(part, name) for name, part in members.items())
    if isinstance(value, list):
        return any(_only_names(part, member) for part in cast("Sequence[Any]", value))
    is_elsewhere = member.endswith("url") and not str(value).startswith("data:")
    return isinstance(value, str) and (is_elsewhere or member in {"file_id", "uuid"})


def _read(body: Any) -> _Question | None:
    try:
        return msgspec.convert(body, _Question)
    except msgspec.ValidationError:
        return None
