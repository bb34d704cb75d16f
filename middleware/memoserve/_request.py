"""From a request to its key.

Rule: a request is read once, to its end or to the limit, and either gets a key or a reason from
a closed list to go past the cache. A callable of the user that raises is such a reason.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from memoserve._asgi import Receive, RequestBody, Scope, read_body
from memoserve._errors import UnkeyableBodyError
from memoserve._events import KeyRefused, RequestRecord
from memoserve._fields import RequestFields, vary_values
from memoserve._keys import (
    Key,
    cache_key,
    canonical_json,
    credential_partition,
    derived_key,
    parse_json,
)
from memoserve._policy import BypassReason, Demands, demands_of
from memoserve._rules import Coverage
from memoserve._shared import Shared

__all__ = ["Question"]

_Result = TypeVar("_Result")


class _Bypass(Exception):  # noqa: N818  (no error: one of the ways that a request can take)
    """This request goes past the cache."""

    def __init__(self, reason: BypassReason) -> None:
        super().__init__(reason)
        self.reason: BypassReason = reason


class Question:
    """What one request asks, and under which key its answer may be found."""

    primary: Key  # Of the request by itself.
    key: Key  # With the fields, too, that earlier answers have named in Vary.

    def __init__(
        self, shared: Shared, coverage: Coverage, scope: Scope, record: RequestRecord
    ) -> None:
        self.coverage = coverage
        self.scope = scope
        self.record = record
        self.body = _UNREAD
        self.fields: RequestFields = shared.filter_for(coverage).read(scope)
        self.demands = _NO_DEMANDS
        if self.fields.cache_control and shared.options.client_control == "obey":
            self.demands = demands_of(self.fields.cache_control)
        self._shared = shared

    async def read(self, receive: Receive) -> BypassReason | None:
        """Read the body and make the key, or return why the cache must not be asked."""
        try:
            await self._read(receive)
        except _Bypass as bypass:
            return bypass.reason
        return None

    async def _read(self, receive: Receive) -> None:
        self._check_head()
        rule = self.coverage.rule
        self.body = body = await read_body(receive, rule.max_request_bytes)
        self._shared.budget.used += body.size
        if not body.is_complete:
            gone = body.is_disconnected
            raise _Bypass("disconnected" if gone else "too-large")
        canonical = self._canonical_body()
        pieces = body.chunks if canonical is None else (canonical,)
        digest = functools.partial(
            cache_key, self._shared.options.namespace, self._key_parts(), pieces
        )
        if body.size > self._shared.options.max_canonical_bytes:
            # hashlib lets go of the GIL, so that the loop goes on meanwhile.
            key = await asyncio.to_thread(digest, is_canonical=False)
        else:
            key = digest(is_canonical=canonical is not None)
        self.primary = self.key = key
        self.apply_vary()

    def close(self) -> None:
        """Give back the room that the body took."""
        self._shared.budget.used -= self.body.size

    def apply_vary(self) -> None:
        """Make the key one for this request's values of the fields that answers vary on."""
        names = self._shared.vary.get(self.primary.index)
        if names:
            values = vary_values(self.scope["headers"], names)
            self.key = derived_key(self.primary, self._shared.options.namespace, values)

    def parsed(self) -> Any:
        """Return the body as the user's callables get it."""
        return parse_json(self.body.content)

    def _check_head(self) -> None:
        fields = self.fields
        if fields.is_overridden:
            raise _Bypass("method-override")
        if fields.credentials and self.coverage.rule.private == "bypass":
            raise _Bypass("credentials")
        if fields.is_partial:
            raise _Bypass("partial")
        if self.demands.no_store:
            raise _Bypass("client")
        if self._shared.budget.is_spent:
            raise _Bypass("busy")

    def _canonical_body(self) -> bytes | None:
        """Return the body's canonical form, None if its bytes must stand for it."""
        rule = self.coverage.rule
        canonical = None
        if self._may_be_canonical():
            try:
                canonical = canonical_json(self.body.content, self.coverage.edits)
            except UnkeyableBodyError:
                self.record.emit(KeyRefused(self.coverage.model))
        if canonical is None and (rule.when is not None or callable(rule.tags)):
            raise _Bypass("not-json")
        when = rule.when
        if when is not None and not self._ask(lambda: when(self.parsed())):
            raise _Bypass("when")
        return canonical

    def _may_be_canonical(self) -> bool:
        is_small = self.body.size <= self._shared.options.max_canonical_bytes
        return is_small and self.fields.is_json and not self.fields.is_encoded

    def _key_parts(self) -> list[Any]:
        scope, rule = self.scope, self.coverage.rule
        epoch = rule.epoch
        credentials = self.fields.credentials if rule.private == "partition" else ()
        return [
            self.coverage.digest,
            scope["method"],
            scope["path"].encode("utf-8", "surrogatepass"),
            scope.get("raw_path") or b"",  # Tells apart what decoding makes equal.
            scope.get("query_string", b""),
            self.fields.keyed,
            credential_partition(self._shared.secret, credentials) if credentials else b"",
            epoch if isinstance(epoch, str) else self._ask(lambda: str(epoch(scope))),
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
_UNREAD = RequestBody([], [], 0, is_complete=False, is_disconnected=False)
