"""What a configuration comes to: every value with who says so, and what becomes of a request.

Rule: a request is answered by the very layers that would answer it in service; only the app and
the store are not those of the service, so that nobody is asked and nothing is kept.
"""

import contextlib
import logging
from collections.abc import Generator, Iterator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo

from memoserve._asgi import Message, replaying
from memoserve._config_load import Configuration
from memoserve._config_rule import RuleTable
from memoserve._config_secrets import masked
from memoserve._config_sources import KEYS, SECRETS, Given, RuleSource, fields_of
from memoserve._curl import SentRequest
from memoserve._events import RequestRecord
from memoserve._keyed import CacheSettings, keyed
from memoserve._rules import Rule, route_path
from memoserve.config import stack

__all__ = ["DEFAULT", "Answered", "Setting", "answered", "rule_settings", "settings", "warnings_of"]

DEFAULT = "default"

_PLAIN_RULE = Rule("/")
_HIDDEN = "***"
# Whoever has it asked wants to see it again: an answer that nobody may keep, or wonders why not.
_APP = replaying(404, ((b"cache-control", b"no-store"),), (b"{}",))


class Setting(Struct, frozen=True):
    """One value, as JSON has it."""

    key: str
    value: Any
    source: str  # A file and line, a variable, `default`, or `the code`.


class Answered(Struct, frozen=True, kw_only=True):
    """What becomes of one request."""

    rule: str = ""  # `rules[0]`, or empty where no rule covers it.
    path: str = ""  # The rule's.
    source: str = ""
    model: str = ""
    variant: str = ""
    bypass: str = ""  # Why it goes past the cache.
    key: str = ""
    is_stable: bool = True  # All processes have this key.
    refusal: str = ""  # Why the body's bytes are in the key, and not its canonical form.
    is_shadow: bool = False  # The app is asked in any case.
    is_metrics: bool = False  # The cache is not asked: it is a scrape.


def settings(configuration: Configuration) -> Iterator[Setting]:
    """Return all settings but those of rules."""
    for name, field in KEYS.items():
        section, _, key = name.rpartition(".")
        given = configuration.keys.get(name)
        if given is not None:
            yield Setting(name, _shown(name, given.value), given.place)
        elif section in {"", "metrics", *configuration.sections} and not key.endswith("_file"):
            yield Setting(name, _shown(name, _default(field)), DEFAULT)


def rule_settings(rule: Rule, origin: RuleSource) -> Iterator[Setting]:
    """Return the settings of one rule."""
    for name, field in fields_of(RuleTable).items():
        given = origin.keys.get(name)
        value = getattr(rule, name)
        if given is not None:
            yield Setting(name, _plain(given.value), given.place)
        elif name != "path" and value == getattr(_PLAIN_RULE, name):
            yield Setting(name, _plain(_default(field)), DEFAULT)
        else:
            yield Setting(name, _plain(value), origin.place)


def _default(field: FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _shown(name: str, value: Any) -> Any:
    if name in SECRETS and value is not None:
        return _HIDDEN
    return masked(str(value)) if name == "store" else _plain(value)


def _plain(value: Any) -> Any:
    """Return a value as JSON may have it; a function by its name."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return msgspec.to_builtins(value, enc_hook=_named)


def _named(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}"


@contextlib.contextmanager
def warnings_of() -> Generator[list[str]]:
    """Collect what would be logged meanwhile, each in one line."""
    lines: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            said = "" if error is None else f": {type(error).__name__}: {error}"
            lines.append(record.getMessage() + said)

    logger, handler = logging.getLogger("memoserve"), Collecting(logging.WARNING)
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


async def answered(configuration: Configuration, sent: SentRequest) -> Answered:
    """Return what becomes of a request in service."""
    scope = sent.scope()
    if route_path(scope) == stack(configuration, _APP).path:
        return Answered(is_metrics=True)
    alone = _alone(configuration)
    record, again = await _sent(alone, sent), await _sent(alone, sent)
    found = await keyed(sent, _key_settings(configuration, record.variant))
    if found.rule is None:
        return Answered(variant=record.variant)
    number = next(n for n, rule in enumerate(configuration.rules) if rule is found.rule)
    return Answered(
        rule=f"rules[{number}]",
        path=found.rule.path,
        source=configuration.origins[number].place,
        model=record.model,
        variant=record.variant,
        bypass=record.reason,
        key=record.key,
        is_stable=record.key == again.key,
        refusal=found.refusal,
        is_shadow=configuration.cache.get("mode") == "shadow",
    )


def _alone(configuration: Configuration) -> Configuration:
    """Return the configuration without its store, its shadow and its metrics."""
    without = {"store", "mode"}
    keys = {name: given for name, given in configuration.keys.items() if name not in without}
    keys["metrics.enabled"] = Given(value=False, place=DEFAULT)
    sections = {**configuration.sections, "metrics": DEFAULT}
    return msgspec.structs.replace(configuration, keys=keys, sections=sections)


async def _sent(configuration: Configuration, sent: SentRequest) -> RequestRecord:
    record = RequestRecord(0.0)
    made = stack(configuration, _APP)

    async def receive() -> Message:
        return {"type": "http.request", "body": sent.body, "more_body": False}

    async def send(message: Message) -> None:
        del message

    await made.app({**sent.scope(), "memoserve": record}, receive, send)
    await made.cache.aclose()
    return record


def _key_settings(configuration: Configuration, variant: str) -> CacheSettings:
    options = configuration.cache
    names = ("namespace", "client_control", "credentials", "max_canonical_bytes")
    secret: str | None = options.get("secret")
    return CacheSettings(
        rules=configuration.rules,
        secret=None if secret is None else secret.encode(),
        variant=variant,
        **{name: options[name] for name in names if name in options},
    )
