"""What an operator can set, from the environment.

Rule: a wrong value ends the start, with a message that names the variable, what it may be and what
it was. An empty variable counts as unset: Compose passes one on for `${NAME:-}`.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, Struct

__all__ = ["CANARY", "MAX_QUESTION_CHARS", "STABLE", "Settings", "SettingsError"]

MAX_QUESTION_CHARS = 1_000
STABLE, CANARY = "stable", "canary"  # The variants.

_BYTES_PER_CHAR = 12  # The longest spelling that JSON has for one: two escapes, \ud83d\ude00.
_BYTES_FOR_THE_REST = 1_024  # Names, punctuation, the numbers, and white space between them.

_SOURCE = r"^(bundled|hub|random|[./].*)$"


class SettingsError(ValueError):
    """An environment variable has a value that nobody could have meant."""


def _seconds(most: int) -> Meta:
    return Meta(gt=0, le=most, description=f"seconds, above 0 and at most {most}")


def _seconds_or_none(most: int) -> Meta:
    return Meta(ge=0, le=most, description=f"seconds, from 0 to {most}")


def _whole(least: int, most: int) -> Meta:
    return Meta(ge=least, le=most, description=f"a whole number from {least} to {most}")


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting with its default; the variable is the field's name in capitals."""

    models: Annotated[
        str, Meta(pattern=_SOURCE, description="one of bundled, hub, random, or a folder's path")
    ] = "bundled"
    canary: Annotated[
        str, Meta(pattern=_SOURCE, description="one of bundled, hub, random, or a folder's path")
    ] = ""
    canary_share: Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")] = 0.1
    sticky: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9-]+$", description="credential or a header field's name")
    ] = "X-Client-ID"
    store_url: Annotated[
        str, Meta(description="a store URL such as memory:// or redis://localhost:6379/0")
    ] = "memory://"
    cache_ttl: Annotated[float, _seconds(31_536_000)] = 300.0
    stale_if_error: Annotated[float, _seconds_or_none(31_536_000)] = 3600.0
    batch_size: Annotated[int, _whole(1, 256)] = 16
    batch_wait: Annotated[float, _seconds_or_none(1)] = 0.002
    concurrency: Annotated[int, _whole(1, 10_000)] = 32
    queue_size: Annotated[int, _whole(0, 100_000)] = 64
    queue_deadline: Annotated[float, _seconds(600)] = 5.0
    breaker_failures: Annotated[int, _whole(1, 1_000)] = 5
    breaker_pause: Annotated[float, _seconds(3600)] = 10.0
    load_first: Annotated[bool, Meta(description="true or false")] = False
    torch_threads: Annotated[int, _whole(1, 256)] = 1
    model_nice: Annotated[int, _whole(0, 19)] = 5
    max_text_chars: Annotated[int, _whole(100, 100_000)] = 10_000
    admin_token: Annotated[
        str, Meta(min_length=16, description="a secret of 16 characters or more")
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="one of debug, info, warning, error"),
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="one of text, json")] = "text"

    @property
    def sources(self) -> dict[str, str]:
        """Where each variant's models come from, the first being the one for everybody."""
        return {STABLE: self.models, **({CANARY: self.canary} if self.canary else {})}

    @property
    def shares(self) -> dict[str, float]:
        """How much of the traffic each variant has."""
        return {STABLE: 1 - self.canary_share, CANARY: self.canary_share}

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
        # A secret that is too short is a secret all the same.
        value = "that" if field.name == "admin_token" else repr(text)
        raise SettingsError(f"{field.name.upper()} must be {allowed}, not {value}") from error
