"""What an operator can set, from the environment.

Rule: a wrong value ends the start, with a message that names the variable, what it may be and what
it was. An empty variable counts as unset: Compose passes one on for `${NAME:-}`.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, Struct

__all__ = ["MAX_QUESTION_CHARS", "Settings", "SettingsError"]

MAX_QUESTION_CHARS = 1_000

_BYTES_PER_CHAR = 12  # The longest spelling that JSON has for one: two escapes, \ud83d\ude00.
_BYTES_FOR_THE_REST = 1_024  # Names, punctuation, the numbers, and white space between them.


class SettingsError(ValueError):
    """An environment variable has a value that nobody could have meant."""


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting with its default; the variable is the field's name in capitals."""

    models: Annotated[
        Literal["bundled", "hub", "random"], Meta(description="one of bundled, hub, random")
    ] = "bundled"
    store_url: Annotated[
        str, Meta(description="a store URL such as memory:// or redis://localhost:6379/0")
    ] = "memory://"
    cache_ttl: Annotated[
        float, Meta(gt=0, le=31_536_000, description="seconds, above 0 and at most 31536000")
    ] = 300.0
    torch_threads: Annotated[
        int, Meta(ge=1, le=256, description="a whole number from 1 to 256")
    ] = 1
    max_text_chars: Annotated[
        int, Meta(ge=100, le=100_000, description="a whole number from 100 to 100000")
    ] = 10_000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="one of debug, info, warning, error"),
    ] = "info"

    @property
    def max_body_bytes(self) -> int:
        """The largest body that can hold a valid request, however it is escaped."""
        return _BYTES_PER_CHAR * (self.max_text_chars + MAX_QUESTION_CHARS) + _BYTES_FOR_THE_REST

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the variables that are set.

        Raises:
            SettingsError: If a value is outside what its variable allows.
        """
        chosen: dict[str, Any] = {}
        for field in msgspec.structs.fields(cls):
            if text := environ.get(field.name.upper()):
                chosen[field.name] = _parse(field, text)
        return cls(**chosen)


def _parse(field: msgspec.structs.FieldInfo, text: str) -> Any:
    try:
        return msgspec.convert(text, field.type, strict=False)
    except msgspec.ValidationError as error:
        allowed = next(m.description for m in field.type.__metadata__ if isinstance(m, Meta))
        raise SettingsError(f"{field.name.upper()} must be {allowed}, not {text!r}") from error
