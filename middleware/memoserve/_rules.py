"""Which requests are covered, and how each of them is to be treated.

Rule: the first rule that matches path and method decides; a wrong rule fails when it is made,
with the value that is wrong, never when a request meets it.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from memoserve._asgi import Header, Scope
from memoserve._directives import INFINITE
from memoserve._fields import HeaderFilter
from memoserve._keys import Edits, TextStep, is_json_pointer, parse_json
from memoserve._policy import PLAIN_HEAD, Storage, Terms, storage_of

if TYPE_CHECKING:
    import re

__all__ = ["Coverage", "Rule", "RuleBook", "StoredResponse", "route_path"]

_METHODS = frozenset({"GET", "HEAD", "QUERY", "POST"})
_SAFE = frozenset({"GET", "HEAD", "QUERY"})
_TEXT_STEPS = frozenset({"nfc", "strip", "collapse", "casefold"})
_PRIVATE = frozenset({"bypass", "partition", "share"})

_FINAL_STATUSES = range(200, 600)
_SEVERAL = ("methods", "models", "ignore", "vary")
_OF_POINTERS = ("ignore", "defaults", "text")


class StoredResponse(msgspec.Struct, frozen=True):
    """An answer as it is stored: what `admit` and `tags` decide upon."""

    status: int
    headers: tuple[Header, ...]  # Pairs in order, names in lower case: a field may occur twice.
    chunks: tuple[bytes, ...]  # The body as the sequence of pieces that the app sent.
    cost: float  # Seconds that the app took to its last byte.
    age: float = 0.0  # Seconds since it was stored.

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    def json(self) -> Any:
        """Parse the body.

        Raises:
            ValueError: It is no JSON.
        """
        return msgspec.json.decode(self.body)


Names = Collection[str]


class _Path(msgspec.Struct, frozen=True):
    path: str


class Rule(_Path, frozen=True, kw_only=True):
    r"""How requests of one route are cached.

    Args:
        path: A Starlette path pattern, matched after `root_path`: `/v1/models/{model}/infer`.
        methods: Any of GET, HEAD, QUERY and POST.
        statuses: What may be stored; any but 200 only where the response grants freshness. By
            default 200; with `ttl=None` every final status that the response grants freshness to.
            206, 304 and what answers the person (401, 403, 407, 421, 429) never are.
        ttl: Freshness lifetime in seconds; a shorter one granted by the response wins. `None`:
            only what the response grants.
        stale_while_revalidate: Seconds past the ttl in which a stale answer is sent at once
            while one request refreshes it behind (RFC 5861 §3).
        stale_if_error: Seconds past the ttl in which a stale answer replaces a failure of the
            app (RFC 5861 §4).
        heuristic: Fraction of the time since Last-Modified for which an answer that states no
            lifetime is fresh, at most a day (RFC 9111 §4.2.2); 0.1 is usual, 0 turns it off.
        etag: Give stored answers that have none an ETag, so that clients save the transfer.
        jitter: Fraction of the ttl, below 1, by which expiry is shortened at random.
        model: The label in metrics; the pattern where it is empty. With a `{model}` in the
            path and no label given, the parameter's value if `models` lists it, else `other`.
        models: The values of the path's `{model}` that may become labels.
        epoch: The deployed model's version, part of the key; or `callable(scope) -> str`.
        ignore: JSON pointers (RFC 6901) left out of the key.
        defaults: JSON pointer to value: an absent member and its default share a key.
        text: JSON pointer to the steps that normalize a string for the key:
            `"nfc"`, `"strip"`, `"collapse"` (white space), `"casefold"`.
        vary: Request header fields that belong to the key; `Accept` always does.
        private: Requests with credentials: `"bypass"`; `"partition"`, one cache for each
            credential; or `"share"`, as if there were none.
        when: `callable(parsed body) -> bool`: False bypasses.
        admit: `callable(StoredResponse) -> bool | float`: False or 0 refuses to store, a
            number of seconds replaces the ttl. It cannot override a `no-store`.
        min_cost: Store only what took the app at least this many seconds.
        tags: Names for purging, or `callable(parsed body, StoredResponse) -> names`.
        ends_with: Bytes that a complete body must end with: `b"data: [DONE]\n\n"`.
        max_request_bytes: A larger request body streams to the app, and nothing is cached.
        max_response_bytes: A larger response streams to the client, and is not stored.
        coalesce: Concurrent identical requests share one call of the app: `True` everywhere,
            `"process"` within a process, `False` nowhere.
        finish: Let the app finish, and store, when the last client has left.

    Raises:
        ValueError: An argument is none of these.
    """

    methods: Collection[str] = frozenset({"POST"})
    statuses: Collection[int] | None = None
    ttl: float | None = 300.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    heuristic: float = 0.0
    etag: bool = False
    jitter: float = 0.0
    model: str = ""
    models: Collection[str] = ()
    epoch: str | Callable[[Scope], str] = ""
    ignore: Sequence[str] = ()
    defaults: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])
    text: Mapping[str, Sequence[TextStep]] = msgspec.field(
        default_factory=dict[str, Sequence[TextStep]]
    )
    vary: Collection[str] = ()
    private: Literal["bypass", "partition", "share"] = "bypass"
    when: Callable[[Any], object] | None = None
    admit: Callable[[StoredResponse], bool | float] | None = None
    min_cost: float = 0.0
    tags: Names | Callable[[Any, StoredResponse], Names] = ()
    ends_with: bytes | None = None
    max_request_bytes: int = 1_048_576
    max_response_bytes: int = 8_388_608
    coalesce: bool | Literal["process"] = True
    finish: bool = False

    def __post_init__(self) -> None:
        """Refuse what no request could be treated by."""
        try:
            _check_kinds(self)
            _check_path(self)
            _check_closed_sets(self)
            _check_numbers(self)
            _check_body_options(self)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"an option is of the wrong type ({error}): {self!r}") from error


class Coverage(msgspec.Struct, frozen=True, eq=False):
    """The rule that a request falls under, and what follows from the rule alone."""

    rule: Rule
    model: str
    digest: bytes  # Of everything in the rule that shapes a key.
    edits: Edits | None  # None where the rule changes nothing.
    vary: frozenset[bytes]
    is_plain: bool  # No callable has a part in the key.
    methods: frozenset[str]
    # A change of the resource, by a method that is not safe, outdates what is stored.
    is_invalidated: bool
    fields: HeaderFilter  # Sorts what the header of a request says.
    terms: Terms  # Of storing an answer, by a method that If-None-Match is not for.
    # What becomes of one that says nothing; None if the rule has a say in each.
    plain_storage: Storage | None


class RuleBook:
    """All rules of one cache."""

    def __init__(self, rules: Iterable[Rule], credentials: Collection[str] | None = None) -> None:
        self.rules = _rules_in(rules)
        if not self.rules:
            raise ValueError("rules must not be empty")
        named = None if credentials is None else {name.lower().encode() for name in credentials}
        self._matchers = tuple(_Matcher(rule, named) for rule in self.rules)
        # Whether a change of a resource, by a method that is not safe, can outdate an answer.
        self.has_safe_methods = any(_SAFE.intersection(rule.methods) for rule in self.rules)
        self._plain: dict[tuple[str, str], Coverage] = {}  # By method and path, without a pattern.
        for rule in self.rules:
            for method in rule.methods:
                if "{" not in rule.path and (coverage := self._search(method, rule.path)):
                    self._plain[method, rule.path] = coverage

    def find(self, scope: Scope) -> Coverage | None:
        """Return what the first rule for a request's method and path says."""
        path = route_path(scope) if scope.get("root_path") else scope["path"]
        return self._plain.get((scope["method"], path)) or self._search(scope["method"], path)

    def _search(self, method: str, path: str) -> Coverage | None:
        for matcher in self._matchers:
            coverage = matcher.match(method, path)
            if coverage is not None:
                return coverage
        return None


def _rules_in(rules: object) -> tuple[Rule, ...]:
    found = tuple(cast("Iterable[object]", rules)) if isinstance(rules, Iterable) else (None,)
    if not all(isinstance(rule, Rule) for rule in found):
        raise ValueError(f"rules must be several Rule objects, not {rules!r}")
    return cast("tuple[Rule, ...]", found)


def route_path(scope: Scope) -> str:
    """Return the path that rules are matched against: what follows `root_path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
        return path[len(root) :] or "/"
    return path


class _Matcher:
    """One rule; a plain path needs neither a regular expression nor Starlette."""

    def __init__(self, rule: Rule, credentials: Collection[bytes] | None) -> None:
        self._methods = frozenset(rule.methods)
        self._exact = rule.path
        self._regex = _compile(rule.path) if "{" in rule.path else None
        self._coverage = _coverage(rule, rule.model or rule.path, credentials)
        self._by_model: dict[str, Coverage] | None = None
        if not rule.model and self._regex and "model" in self._regex.groupindex:
            self._by_model = {label: _coverage(rule, label, credentials) for label in rule.models}
            self._coverage = _coverage(rule, "other", credentials)

    def match(self, method: str, path: str) -> Coverage | None:
        if method not in self._methods:
            return None
        if self._regex is None:
            return self._coverage if path == self._exact else None
        found = self._regex.match(path)
        if found is None:
            return None
        if self._by_model is None:
            return self._coverage
        return self._by_model.get(found["model"], self._coverage)


def _compile(pattern: str) -> "re.Pattern[str]":
    # Starlette takes longer to import than all of memoserve, and plain paths do not need it.
    from starlette.routing import compile_path  # noqa: PLC0415  (for the reason above)

    return compile_path(pattern)[0]


def _coverage(rule: Rule, model: str, credentials: Collection[bytes] | None) -> Coverage:
    edits = None
    if rule.ignore or rule.defaults or rule.text:
        edits = Edits(tuple(rule.ignore), dict(rule.defaults), dict(rule.text))
    vary = frozenset(name.lower().encode("latin-1") for name in rule.vary)
    is_plain = rule.when is None and isinstance(rule.epoch, str)
    return Coverage(
        rule,
        model,
        _digest(rule),
        edits,
        vary,
        is_plain,
        frozenset(rule.methods),
        not _SAFE.isdisjoint(rule.methods),
        HeaderFilter(vary, credentials),
        _terms(rule),
        _plain_storage(rule),
    )


def _terms(rule: Rule) -> Terms:
    return Terms(
        ttl=rule.ttl,
        statuses=rule.statuses,
        stale_while_revalidate=rule.stale_while_revalidate,
        stale_if_error=rule.stale_if_error,
        heuristic=rule.heuristic,
    )


def _plain_storage(rule: Rule) -> Storage | None:
    has_a_say = (
        rule.admit is not None
        or rule.jitter > 0
        or rule.etag
        or rule.ends_with is not None
        or callable(rule.tags)
    )
    if has_a_say or rule.ttl is None or rule.ttl > INFINITE:
        return None
    return storage_of(PLAIN_HEAD, _terms(rule), 0.0)


def _digest(rule: Rule) -> bytes:
    shape = [
        rule.path,
        sorted(rule.methods),
        list(rule.ignore),  # Order matters to edits of one place, so it matters here.
        list(rule.defaults.items()),
        list(rule.text.items()),
        sorted(name.lower() for name in rule.vary),
        rule.private,
    ]
    return hashlib.blake2b(msgspec.json.encode(shape), digest_size=16).digest()


def _check_kinds(rule: Rule) -> None:
    for name in _SEVERAL:
        _check_several(name, getattr(rule, name))
    if not callable(rule.tags):
        _check_several("tags", rule.tags)
    for name in ("defaults", "text"):
        if not isinstance(getattr(rule, name), Mapping):
            raise ValueError(f"{name} must map JSON pointers, not be {getattr(rule, name)!r}")


def _check_several(name: str, values: object) -> None:
    """Refuse a string, which is a collection of its characters to Python."""
    if isinstance(values, str | bytes):
        raise ValueError(f"{name} must be a collection, such as [{values!r}], not {values!r} alone")
    if not isinstance(values, Collection):
        raise ValueError(f"{name} must be a collection, not {values!r}")


def _check_path(rule: Rule) -> None:
    if not rule.path.startswith("/"):
        raise ValueError(f"path must start with a slash, not be {rule.path!r}")
    if "{" in rule.path:
        try:
            _compile(rule.path)
        # Starlette asserts that a convertor exists, and looks it up where assertions are off.
        except (AssertionError, KeyError, ValueError) as error:
            raise ValueError(f"path {rule.path!r} is no Starlette pattern: {error}") from error
    if rule.models and "{model}" not in rule.path and "{model:" not in rule.path:
        raise ValueError(f"models needs a {{model}} in the path, not {rule.path!r}")


def _check_closed_sets(rule: Rule) -> None:
    _check_subset("methods", rule.methods, _METHODS)
    _check_statuses(rule.statuses)
    _check_subset("private", [rule.private], _PRIVATE)
    _check_subset("coalesce", [rule.coalesce], {True, False, "process"})
    for steps in rule.text.values():
        _check_several("text", steps)
        _check_subset("text", steps, _TEXT_STEPS)


def _check_statuses(statuses: Collection[int] | None) -> None:
    if statuses is None:
        return
    _check_several("statuses", statuses)
    if not statuses or any(status not in _FINAL_STATUSES for status in statuses):
        raise ValueError(f"statuses must be some of 200 to 599, not {statuses!r}")


def _check_subset(name: str, values: Collection[Any], allowed: Collection[Any]) -> None:
    if not values or any(v not in allowed for v in values):
        listed = ", ".join(sorted(map(repr, allowed)))
        raise ValueError(f"{name} must be some of {listed}, not {values!r}")


def _check_numbers(rule: Rule) -> None:
    if rule.ttl is not None and not (_is_number(rule.ttl) and 0 < rule.ttl < math.inf):
        raise ValueError(f"ttl must be a positive number of seconds or None, not {rule.ttl!r}")
    if not (_is_number(rule.jitter) and 0 <= rule.jitter < 1):
        raise ValueError(f"jitter must be at least 0 and below 1, not {rule.jitter!r}")
    if not (_is_number(rule.heuristic) and 0 <= rule.heuristic <= 1):
        raise ValueError(f"heuristic must be a fraction from 0 to 1, not {rule.heuristic!r}")
    for name in ("stale_while_revalidate", "stale_if_error", "min_cost"):
        seconds = getattr(rule, name)
        if not (_is_number(seconds) and 0 <= seconds < math.inf):
            raise ValueError(f"{name} must be seconds, 0 or more, not {seconds!r}")
    for name in ("max_request_bytes", "max_response_bytes"):
        size = getattr(rule, name)
        if not (_is_number(size) and size > 0):
            raise ValueError(f"{name} must be a positive number of bytes, not {size!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _check_body_options(rule: Rule) -> None:
    for name in _OF_POINTERS:
        for pointer in getattr(rule, name):
            _check_pointer(name, pointer)
    values = list(rule.defaults.values())
    try:
        is_json = parse_json(msgspec.json.encode(values)) == values
    except (TypeError, ValueError):
        is_json = False
    if not is_json:  # What comes back changed (NaN as null, a set as an array) is none either.
        raise ValueError(f"defaults must be JSON values, not {rule.defaults!r}")


def _check_pointer(name: str, pointer: object) -> None:
    if isinstance(pointer, str) and is_json_pointer(pointer):
        return
    meant = f"/{pointer}" if pointer else ""
    hint = f"; did you mean {meant!r}?" if is_json_pointer(meant) else ""
    raise ValueError(f"{name} must be JSON pointers to parts of the body, not {pointer!r}{hint}")
