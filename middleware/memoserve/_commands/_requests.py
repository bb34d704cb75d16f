"""Options that say what is sent, and to what cache.

Rule: what is sent is a body, with the options that say how, or a curl command line, which says
all of it.
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from memoserve._commands._configured import config_option, configured, has_rules
from memoserve._commands._terminal import read_source
from memoserve._curl import SentRequest, is_curl, sent_by_curl, sent_to
from memoserve._keyed import CacheSettings
from memoserve._rules import Rule

__all__ = ["cache_options", "make_request", "make_settings", "read_request", "request_options"]

Command = Callable[..., Any]

_DEFAULT_ORIGIN = "http://localhost:8000"
_IN_PATHS = "/:@!$&'()*+,;="  # What clients do not escape there (RFC 3986 §3.3).

_REQUEST_OPTIONS = (
    click.option(
        "--url", help=f"Where a body is sent; else {_DEFAULT_ORIGIN} and the path of --rule."
    ),
    click.option("-X", "--method", default="POST", show_default=True, help="How a body is sent."),
    click.option(
        "-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'",
        help="Sent with a body, beside Content-Type: application/json and Accept: */*; 'Accept:' "
        "sends none.",
    ),
)  # fmt: skip

# Those that say what a rule is; without any of them the configuration's rules count, if it has any.
_OF_A_RULE = (
    "path", "methods", "ignore", "defaults", "text", "vary", "private", "epoch",
)  # fmt: skip

_CACHE_OPTIONS = (
    click.option("--rule", "path", metavar="PATTERN", help="Its path; else the request's."),
    click.option("--methods", metavar="GET,POST", help="Its methods; else the request's."),
    click.option("--ignore", multiple=True, metavar="/POINTER", help="Left out of the key."),
    click.option("--default", "defaults", multiple=True, metavar="/POINTER=JSON"),
    click.option("--text", multiple=True, metavar="/POINTER=nfc,strip,collapse,casefold"),
    click.option("--vary", multiple=True, metavar="NAME", help="A field that belongs to the key."),
    click.option(
        "--private", type=click.Choice(["bypass", "partition", "share"]),
        help="What becomes of requests with credentials; bypass if nothing is said.",
    ),
    click.option("--epoch", default="", help="The deployed model's version."),
    click.option("--variant", default="", help="The variant that the request is sent to."),
    click.option("--secret", help="Keys the partitions."),
    click.option("--namespace", help="The cache's; memoserve if nothing is said."),
    click.option("--obey", is_flag=True, help="The cache has client_control='obey'."),
    config_option,
)  # fmt: skip


def request_options(command: Command) -> Command:
    """Add the options that say how a body is sent."""
    return functools.reduce(lambda made, add: add(made), reversed(_REQUEST_OPTIONS), command)


def cache_options(command: Command) -> Command:
    """Add the options that say what of a cache shapes its keys."""
    return functools.reduce(lambda made, add: add(made), reversed(_CACHE_OPTIONS), command)


def make_request(source: bytes, options: Mapping[str, Any]) -> SentRequest:
    """Return the request that is meant by a body, or by a curl command line.

    Raises:
        click.UsageError: It cannot be read.
    """
    try:
        if is_curl(source):
            return sent_by_curl(source.decode("utf-8", "surrogateescape"), _read_file)
        url, path = options["url"], _path_of_the_rule(options.get("path"))
        sent = sent_to(
            url or f"{_DEFAULT_ORIGIN}{path or '/'}",
            method=options["method"].upper(),
            headers=_fields(options["headers"]),
            body=source,
        )
        return msgspec.structs.replace(sent, is_sent_anywhere=not (url or path))
    except OSError as error:
        raise click.UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _path_of_the_rule(pattern: str | None) -> str:
    """Return the one path that a rule covers; nothing where there are several."""
    if not pattern or not pattern.startswith("/") or "{" in pattern:
        return ""
    return quote(pattern, safe=_IN_PATHS)


def _read_file(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def _fields(lines: Sequence[str]) -> list[tuple[str, str]]:
    given = [_pair(line, ":", "a header is like 'Name: value'") for line in lines]
    names = {name.lower() for name, _ in given}
    added = {"content-type": "application/json", "accept": "*/*"}
    own = [(name, value) for name, value in added.items() if name not in names]
    return own + [(name, value) for name, value in given if value]


def _pair(text: str, separator: str, hint: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found:
        raise click.UsageError(f"{hint}, not {text!r}")
    return name.strip(), value.strip()


def make_settings(sent: SentRequest, options: Mapping[str, Any]) -> CacheSettings:
    """Return the settings of the cache that a request is sent to.

    Raises:
        click.UsageError: An option cannot be.
    """
    configuration = configured(options["config"])
    cache = configuration.cache
    secret = options["secret"] or cache.get("secret")
    is_ruled = has_rules(configuration) and not any(options[name] for name in _OF_A_RULE)
    try:
        settings = CacheSettings(
            rules=configuration.rules if is_ruled else (_rule(sent, options),),
            namespace=options["namespace"] or cache.get("namespace", "memoserve"),
            client_control="obey" if options["obey"] else cache.get("client_control", "ignore"),
            credentials=cache.get("credentials"),
            secret=secret.encode() if isinstance(secret, str) else secret,
            max_canonical_bytes=cache.get("max_canonical_bytes", 262_144),
            variant=options["variant"],
        )
        settings.options()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return settings


def _rule(sent: SentRequest, options: Mapping[str, Any]) -> Rule:
    return Rule(
        options["path"] or sent.path,
        methods=(options["methods"] or sent.method).upper().split(","),
        ignore=options["ignore"],
        defaults=dict(_default(text) for text in options["defaults"]),
        text=dict(_steps(text) for text in options["text"]),
        vary=options["vary"],
        private=options["private"] or "bypass",
        epoch=options["epoch"],
    )


def _default(text: str) -> tuple[str, Any]:
    pointer, value = _pair(text, "=", "a default is like /POINTER=JSON")
    try:
        return pointer, json.loads(value)
    except ValueError as error:
        raise click.UsageError(f"the default of {pointer} is no JSON: {value!r}") from error


def _steps(text: str) -> tuple[str, Any]:
    pointer, steps = _pair(text, "=", "text is like /POINTER=strip,collapse")
    return pointer, tuple(steps.split(","))


def read_request(argument: str, options: Mapping[str, Any]) -> SentRequest:
    """Return the request that an argument means."""
    return make_request(read_source(argument), options)
