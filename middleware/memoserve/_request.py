"""From a request to its key.

Rule: a request is read once, to its end or to the limit, and either gets a key or a reason from
a closed list to go past the cache. A callable of the user that raises is such a reason.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from msgspec import structs

from memoserve._asgi import Message, Receive, RequestBody, Scope, read_body
from memoserve._cache_status import BypassReason
from memoserve._demands import Demands, demands_of
from memoserve._directives import cache_control
from memoserve._errors import UnkeyableBodyError
from memoserve._events import KeyRefused, RequestRecord
from memoserve._fields import RequestFields, host_of, vary_values
from memoserve._keys import (
    Key,
    cache_key,
    canonical_json,
    credential_partition,
    derived_key,
    parse_json,
)
from memoserve._policy import Terms
from memoserve._rules import Coverage
from memoserve._shared import HOT_BYTES, Shared
from memoserve._tags import question_tag, resource_tag

__all__ = ["KEY_PARTS", "Question"]

KEY_PARTS = (
    "rule", "method", "scheme", "path", "raw_path", "query_string", "fields", "credentials",
    "epoch", "variant",
)  # fmt: skip

_Result = TypeVar("_Result")


class _Bypass(Exception):  # noqa: N818  (no error: one of the ways that a request can take)
    """This request goes past the cache."""

    def __init__(self, reason: BypassReason) -> None:
        super().__init__(reason)
        self.reason: BypassReason = reason


class Question:
    """What one request asks, and under which key its answer may be found."""

    __slots__ = (
        "_flight_key",
        "_shared",
        "body",
        "coverage",
        "demands",
        "fields",
        "key",
        "keyed_method",
        "name",
        "primary",
        "record",
        "scope",
        "tags",
        "tokens",
    )

    primary: Key  # Of the request by itself.
    key: Key  # With the fields, too, that earlier answers have named in Vary.

    def __init__(
        self,
        shared: Shared,
        coverage: Coverage,
        scope: Scope,
        record: RequestRecord,
        fields: RequestFields,
    ) -> None:
        self.coverage = coverage
        self.scope = scope
        # A HEAD asks for the head of what a GET gets.
        method: str = scope["method"]
        self.keyed_method = "GET" if method == "HEAD" and "GET" in coverage.methods else method
        self.record = record
        self.body = _UNREAD
        self.fields = fields
        self.tags = shared.tags_of(coverage)  # Their keys: those that all answers to it have.
        if coverage.is_invalidated:
            query = scope.get("query_string", b"")
            tag = resource_tag(shared.options.namespace, host_of(scope), scope["path"], query)
            self.tags = (*self.tags, tag)
        self.tokens: Sequence[bytes | None] = ()  # Those of the tags, once they were read.
        self._flight_key: tuple[Key | None, object, object] = _NO_FLIGHT
        self.name: Hashable = None  # All that the key follows from, if it can be named.
        self.demands = _NO_DEMANDS
        if shared.options.client_control == "obey" and (fields.cache_control or fields.pragma):
            self.demands = demands_of(fields.cache_control, fields.pragma)
        self._shared = shared

    async def read(
        self, first: Message | None, receive: Receive, name: Hashable
    ) -> BypassReason | None:
        """Read the body, and make the key.

        Args:
            first: The body's first message, if it has come already.
            receive: Gets the others.
            name: All that the key follows from, if it can be named.

        Returns:
            Why the cache must not be asked; None if it may.
        """
        try:
            budget = self._shared.budget
            if not self.fields.is_plain or budget.used >= budget.limit:
                self._check_head()
            limit = self.coverage.rule.max_request_bytes
            self.body = body = await read_body(first or await receive(), receive, limit)
            budget.used += body.size
            if not body.is_complete:
                return "disconnected" if body.is_disconnected else "too-large"
            if body.size <= self._shared.options.max_canonical_bytes:
                key = self._small_key(name)
            else:
                key = await self._large_key()
        except _Bypass as bypass:
            if first is not None and not self.body.messages:  # The app is to have it, too.
                self.body = RequestBody([first], [], 0, is_complete=False, is_disconnected=False)
            return bypass.reason
        self.primary = self.key = key
        if self._shared.vary.get(key.index):
            self.apply_vary()
        return None

    def apply_vary(self) -> None:
        """Make the key one for this request's values of the fields that answers vary on."""
        names = self._shared.vary.get(self.primary.index)
        if names:
            values = vary_values(self.scope["headers"], names)
            self.key = derived_key(self.primary, self._shared.options.namespace, values)
            tag = question_tag(self.primary.index)
            if tag not in self.tags:  # A purge of the question does not know this key.
                self.tags = (*self.tags, tag)

    def flight_key(self) -> Hashable:
        """Return the name of the calls of the app whose answer this may share."""
        if self._flight_key[0] is not self.key:
            extensions = self.scope.get("extensions")
            offered = frozenset(extensions) if extensions else None
            # Nothing of one event loop can be awaited in another.
            self._flight_key = (self.key, offered, asyncio.get_running_loop())
        return self._flight_key

    @property
    def is_validatable(self) -> bool:
        """A stored answer may be validated: to other methods If-None-Match means something else."""
        return self.scope["method"] in {"GET", "QUERY"}

    @property
    def terms(self) -> Terms:
        """What rule and request say of storing the answer."""
        terms = self.coverage.terms
        return structs.replace(terms, is_validatable=True) if self.is_validatable else terms

    def parsed(self) -> Any:
        """Return the body as the user's callables get it."""
        return parse_json(self.body.content)

    def _check_head(self) -> None:
        fields = self.fields
        if fields.is_overridden:
            raise _Bypass("method-override")
        if fields.credentials and self.coverage.rule.private == "bypass":
            raise _Bypass("credentials")
        if fields.is_precondition or (fields.is_ranged and self.scope["method"] != "GET"):
            raise _Bypass("partial")
        if self.demands.no_store:
            raise _Bypass("client")
        if self._shared.budget.used >= self._shared.budget.limit:
            raise _Bypass("busy")

    def _small_key(self, name: Hashable) -> Key:
        """Make the key of a body that may be parsed."""
        namespace, canonical = self._shared.options.namespace, self._canonical_body()
        if canonical is None:
            self._require_nothing_of_the_body()
            return cache_key(namespace, self.key_parts(), self.body.chunks, is_canonical=False)
        self.name = name
        return cache_key(namespace, self.key_parts(), (canonical,), is_canonical=True)

    async def _large_key(self) -> Key:
        """Make the key of a body by its bytes; hashlib lets go of the GIL, so the loop goes on."""
        self._require_nothing_of_the_body()
        namespace, parts = self._shared.options.namespace, self.key_parts()
        return await asyncio.to_thread(
            cache_key, namespace, parts, self.body.chunks, is_canonical=False
        )

    def has_short_head(self) -> bool:
        """Tell whether the request has little beside its body, so that it may be remembered."""
        scope = self.scope
        size = len(scope["path"]) + len(scope.get("raw_path") or b"")
        size += len(scope.get("query_string", b""))
        for value in self.fields.keyed:
            if value is not None:
                size += len(value)  # One line each, or there were no name to remember it by.
        return size <= HOT_BYTES

    def _require_nothing_of_the_body(self) -> None:
        rule = self.coverage.rule
        if rule.when is not None or callable(rule.tags):
            raise _Bypass("not-json")

    def _canonical_body(self) -> bytes | None:
        """Return the body's canonical form, None if its bytes must stand for it."""
        fields = self.fields
        if not fields.is_json or fields.is_encoded:
            return None
        if fields.cache_control and self._is_to_be_left():
            return None
        try:
            canonical = canonical_json(self.body.content, self.coverage.edits)
        except UnkeyableBodyError:
            self.record.emit(KeyRefused(self.coverage.model))
            return None
        when = self.coverage.rule.when
        if when is not None and not self._ask(lambda: when(self.parsed())):
            raise _Bypass("when")
        return canonical

    def _is_to_be_left(self) -> bool:
        """Tell whether the client asks that its query be keyed as it is (RFC 10008 §2.7)."""
        is_heard = self.scope["method"] == "QUERY" or self._shared.options.client_control == "obey"
        return is_heard and b"no-transform" in cache_control(self.fields.cache_control)

    def key_parts(self) -> list[Any]:
        """Return all that the key is made of beside the body, in the order of `KEY_PARTS`."""
        scope, rule = self.scope, self.coverage.rule
        epoch = rule.epoch
        credentials = self.fields.credentials if rule.private == "partition" else ()
        return [
            self.coverage.digest,
            self.keyed_method,
            scope.get("scheme", "http"),
            scope["path"].encode("utf-8", "surrogatepass"),
            scope.get("raw_path") or b"",  # Tells apart what decoding makes equal.
            scope.get("query_string", b""),
            self.fields.keyed,
            credential_partition(self._shared.secret, credentials) if credentials else b"",
            epoch.encode()
            if isinstance(epoch, str)
            else self._ask(lambda: str(epoch(scope)).encode()),
            self.record.variant,
        ]

    def _ask(self, question: Callable[[], _Result]) -> _Result:
        """Call a callable of the rule; one that raises makes the request a bypass."""
        try:
            return question()
        except Exception as error:
            self._shared.log_once(f"a callable of the rule {self.coverage.rule.path!r}", error)
            raise _Bypass("rule-error") from error


_NO_DEMANDS = Demands()
_NO_FLIGHT = (None, None, None)
_UNREAD = RequestBody([], [], 0, is_complete=False, is_disconnected=False)
