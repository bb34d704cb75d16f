"""The keys of a rule in `memoserve.toml`.

Rule: every argument of `Rule` has a key of its name, with the same default.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from memoserve._config_keys import (
    BYTES,
    FUNCTION,
    IMPORT,
    NAMES,
    POINTERS,
    Fraction,
    Import,
    PositiveSeconds,
    Seconds,
    Size,
    Text,
    key,
)
from memoserve._keys import TextStep

__all__ = ["RuleTable"]


class RuleTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests of one route are cached; the first rule that matches a request decides."""

    path: Annotated[
        str,
        key(
            "A Starlette path pattern, matched after the root path.",
            'a path that begins with a slash, such as "/v1/models/{model}/infer"',
        ),
        Meta(pattern="^/"),
    ]
    methods: Annotated[
        tuple[Literal["GET", "HEAD", "QUERY", "POST"], ...],
        key("The methods that are covered.", "a list of GET, HEAD, QUERY and POST"),
        Meta(min_length=1),
    ] = ("POST",)
    statuses: Annotated[
        tuple[Annotated[int, Meta(ge=200, le=599)], ...] | None,
        key(
            "What may be stored; any but 200 only where the response grants freshness. By default "
            'that is 200, and with ttl = "none" whatever the response grants freshness to.',
            "a list of statuses from 200 to 599",
        ),
    ] = None
    ttl: Annotated[
        PositiveSeconds | Literal["none"] | None,
        key(
            "Freshness lifetime; a shorter one that the response grants wins.",
            'seconds above 0, or "none" for only what the response grants',
        ),
    ] = 300.0
    stale_while_revalidate: Annotated[
        Seconds,
        key(
            "How long past the ttl a stale answer is sent while one request refreshes it behind.",
            "seconds, 0 or more",
        ),
    ] = 0.0
    stale_if_error: Annotated[
        Seconds,
        key(
            "How long past the ttl a stale answer replaces a failure of the app.",
            "seconds, 0 or more",
        ),
    ] = 0.0
    heuristic: Annotated[
        Fraction,
        key(
            "Fraction of the time since Last-Modified for which an answer that states no lifetime "
            "is fresh.",
            "a number from 0 to 1",
        ),
    ] = 0.0
    etag: Annotated[bool, key("Give stored answers that have none an ETag.", "true or false")] = (
        False
    )
    jitter: Annotated[
        Annotated[float, Meta(ge=0, lt=1)],
        key(
            "Fraction of the ttl by which expiry is shortened at random.",
            "a number from 0 to below 1",
        ),
    ] = 0.0
    model: Annotated[
        str, key("The label in metrics; the path's pattern where it is empty.", "a text")
    ] = ""
    models: Annotated[
        tuple[str, ...],
        key(
            "The values of the path's {model} that may become labels; any other is `other`.",
            "a list of names",
        ),
    ] = ()
    epoch: Annotated[
        str,
        key(
            "The deployed model's version, part of the key, or who tells it: `function(scope)`. "
            'What reads like "module:function" is taken for that.',
            f"a text, or {FUNCTION}",
        ),
    ] = ""
    ignore: Annotated[
        tuple[str, ...],
        key("Members of the body that are left out of the key.", f"a list of {POINTERS}"),
    ] = ()
    defaults: Annotated[
        dict[str, Any],
        key(
            "What an absent member means: it and its default share a key.",
            f"a table of {POINTERS} and JSON values",
        ),
    ] = msgspec.field(default_factory=dict[str, Any])
    text: Annotated[
        dict[str, tuple[TextStep, ...]],
        key(
            "How a string of the body is normalized for the key.",
            f"a table of {POINTERS} and lists of nfc, strip, collapse and casefold",
        ),
    ] = msgspec.field(default_factory=dict[str, tuple[TextStep, ...]])
    vary: Annotated[
        tuple[str, ...],
        key("Request header fields that belong to the key; Accept always does.", NAMES),
    ] = ()
    private: Annotated[
        Literal["bypass", "partition", "share"],
        key(
            "Requests with credentials: they pass by, have one cache for each credential, or are "
            "treated as if they had none.",
            "one of bypass, partition and share",
        ),
    ] = "bypass"
    when: Annotated[
        Import | None,
        key("`function(body)` of the parsed body: what it refuses is not cached.", FUNCTION),
    ] = None
    admit: Annotated[
        Import | None,
        key(
            "`function(answer)` of a `StoredResponse`: false or 0 refuses to store it, a number "
            "of seconds replaces the ttl.",
            FUNCTION,
        ),
    ] = None
    min_cost: Annotated[
        Seconds,
        key("Store only what took the app at least this long.", "seconds, 0 or more"),
    ] = 0.0
    tags: Annotated[
        # msgspec 0.22 crashes on a union of a list and a text with a pattern that it checks itself.
        tuple[str, ...] | Annotated[str, Meta(extra_json_schema={"pattern": IMPORT})],
        key(
            "Names for purging, or who tells them: `function(body, answer)`.",
            f"a list of names, or {FUNCTION}",
        ),
    ] = ()
    ends_with: Annotated[
        Text | None,
        key(r'What a complete body must end with: "data: [DONE]\n\n".', "a text that is not empty"),
    ] = None
    max_request_bytes: Annotated[
        Size, key("A larger request body streams to the app, and nothing is cached.", BYTES)
    ] = 1_048_576
    max_response_bytes: Annotated[
        Size, key("A larger response streams to the client, and is not stored.", BYTES)
    ] = 8_388_608
    coalesce: Annotated[
        bool | Literal["process"],
        key(
            "Whether concurrent identical requests share one call of the app: everywhere, within "
            "a process, or not at all.",
            'true, "process" or false',
        ),
    ] = True
    finish: Annotated[
        bool,
        key("Let the app finish, and store, when the last client has left.", "true or false"),
    ] = False
