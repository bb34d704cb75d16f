"""The shape of `memoserve.toml`: every key, its type, its default, what it may be, what it means.

Rule: this and `_config_rule` are the one place that says so. What reads the file, the JSON Schema
for editors, the reference in the documentation and the messages about wrong values follow from it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from memoserve._config_keys import BYTES, NAMES, Import, Port, PositiveSeconds, Size, Text, key
from memoserve._config_rule import RuleTable

__all__ = [
    "AdmissionTable", "ConfigFile", "IncludeTable", "MetricsTable", "VariantsTable", "json_schema",
]  # fmt: skip


class MetricsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured, and who may read it."""

    enabled: Annotated[
        bool, key("Whether anything is measured and traced at all.", "true or false")
    ] = True
    http_duration: Annotated[
        bool,
        key(
            "Measure `http.server.request.duration`, too, of every HTTP request, unless an "
            "instrumentation of the server or the framework does so already.",
            "true or false",
        ),
    ] = False
    path: Annotated[
        str,
        key(
            "Where Prometheus finds the numbers.",
            'a path that begins with a slash, or "none"',
        ),
        Meta(pattern="^(/.*|none)$"),
    ] = "/memoserve/metrics"
    token: Annotated[
        Text | None,
        key(
            "Who sends it (`Authorization: Bearer …`) may read them, and nobody else but `allow`.",
            "a text that is not empty",
        ),
    ] = None
    token_file: Annotated[Text | None, key("A file with the token.", "a file's path")] = None
    allow: Annotated[
        tuple[str, ...] | None,
        key(
            "Who may read them without a token. By default, if there is no token, clients on this "
            "machine that no proxy stands for.",
            'a list of networks or addresses such as "10.0.0.0/8"',
        ),
    ] = None
    port: Annotated[
        Port | None, key("Serve them there, too, apart from the app.", "a port, 0 to 65535")
    ] = None
    host: Annotated[
        Text, key("On which address that port is.", 'an address, "0.0.0.0" for all')
    ] = "127.0.0.1"


class AdmissionTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many requests, of those that the cache cannot answer, reach a model at once."""

    limit: Annotated[
        Annotated[int, Meta(ge=1)] | dict[str, Annotated[int, Meta(ge=1)]],
        key(
            "Requests that one model answers at the same time; in a table each model has its own.",
            "a number of at least 1, or a table of models and such numbers",
        ),
    ]
    queue: Annotated[
        int, key("Requests that may wait for one model.", "a number, 0 or more"), Meta(ge=0)
    ]
    deadline: Annotated[
        PositiveSeconds, key("After which one that still waits gets a 503.", "seconds above 0")
    ]


class VariantsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Versions of a model behind one address, each with its share of the traffic."""

    shares: Annotated[
        dict[str, Annotated[float, Meta(ge=0)]],
        key(
            "The variants and their parts of the traffic; only the proportions count.",
            "a table of names and numbers, 0 or more, at least one of them above 0",
        ),
    ]
    sticky: Annotated[
        Text,
        key("What an asker is known by.", '"credential", or the name of a request header field'),
    ] = "credential"
    header: Annotated[
        str,
        key(
            "The field that names the variant in answers, and that may ask for one.",
            'the name of a header field, or "none"',
        ),
    ] = "x-model-variant"


class IncludeTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules that Python code has, and what that code is told."""

    rules: Annotated[
        Import,
        key("A list of rules, or a function that returns one.", 'it as "module:name"'),
    ]
    options: Annotated[
        dict[str, Any],
        key("The keyword arguments of that function.", "a table"),
    ] = msgspec.field(default_factory=dict[str, Any])


class ConfigFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of memoserve."""

    store: Annotated[
        Text,
        key(
            "Where answers are kept.",
            'a URL such as "memory://?max_bytes=256mb", "redis://host:6379/0" or '
            '"tiered+redis://host:6379/0"',
        ),
    ] = "memory://"
    secret: Annotated[
        Annotated[str, Meta(min_length=16)] | None,
        key(
            "Names the partitions of credentials and seals what a shared store keeps.",
            "a text of at least 16 characters",
        ),
    ] = None
    secret_file: Annotated[Text | None, key("A file with the secret.", "a file's path")] = None
    namespace: Annotated[
        str,
        key(
            "The prefix of all keys: caches with one store and one namespace share answers.",
            "a text without braces that is not empty",
        ),
        Meta(pattern=r"^[^{}]+$"),
    ] = "memoserve"
    mode: Annotated[
        Literal["live", "shadow"],
        key(
            "Whether the cache answers, or only compares what it would have said with the app's "
            "answers.",
            "one of live and shadow",
        ),
    ] = "live"
    client_control: Annotated[
        Literal["ignore", "obey"],
        key(
            "Whether directives of a request's Cache-Control are followed.",
            "one of ignore and obey",
        ),
    ] = "ignore"
    credentials: Annotated[
        tuple[str, ...] | None,
        key("Header fields that carry credentials, instead of the built-in list.", NAMES),
    ] = None
    cache_status: Annotated[
        bool, key("Whether answers say what happened, and their Age.", "true or false")
    ] = True
    max_canonical_bytes: Annotated[
        Size, key("Larger JSON bodies are keyed by their bytes.", BYTES)
    ] = 262_144
    flight_max_bytes: Annotated[
        Size,
        key(
            "What request bodies and unfinished answers may hold together; beyond it requests "
            "bypass the cache.",
            BYTES,
        ),
    ] = 268_435_456
    store_deadline: Annotated[
        PositiveSeconds, key("After which a call of a store is given up.", "seconds above 0")
    ] = 0.05
    lease: Annotated[
        PositiveSeconds,
        key(
            "How long one process has the turn to ask the app, among all that share a store.",
            "seconds above 0",
        ),
    ] = 10.0
    include: Annotated[
        tuple[Import | IncludeTable, ...],
        key(
            "More rules, from Python code; they come after those of the file.",
            'a list of "module:name", or of tables with `rules` and `options`',
        ),
    ] = ()
    rules: Annotated[
        tuple[RuleTable, ...], key("What is cached, and how.", "a list of tables")
    ] = ()
    metrics: Annotated[MetricsTable, key("Metrics and traces.", "a table")] = MetricsTable()
    admission: Annotated[AdmissionTable | None, key("A queue before each model.", "a table")] = None
    variants: Annotated[VariantsTable | None, key("A/B tests and canaries.", "a table")] = None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file, for editors."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "memoserve.toml",
        **msgspec.json.schema(ConfigFile),
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))  # Defaults, too.
    return plain
