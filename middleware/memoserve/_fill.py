"""From the app's answer to the store.

Rule: whom an answer may reach is decided when it starts, whether it is kept when it has ended.
Only a complete answer is kept, under the tokens that its tags had when the app was called, so
that a purge in between wins.
"""

import random
from collections.abc import Collection

from memoserve._asgi import Message, ResponseRecorder
from memoserve._entry import Entry, VaryMarker, encode
from memoserve._events import ModelCalled, Outcome, StoreWritten, WriteResult
from memoserve._fields import ALWAYS_KEYED
from memoserve._flight import Verdict
from memoserve._policy import (
    Sharing,
    forbids_storing,
    freshness_lifetime,
    is_server_failure,
    replayable,
    sharing_of,
    vary_of,
)
from memoserve._request import Question
from memoserve._rules import Rule, StoredResponse
from memoserve._shared import Shared
from memoserve._tags import Tokens, purge_mark, read_tokens, tag_key

__all__ = ["Fill"]

_LONGEST = 2.0**31  # Seconds; RFC 9111 §1.2.2 takes it for infinity.


class Fill:
    """One call of the app, and what becomes of its answer."""

    def __init__(self, shared: Shared, question: Question) -> None:
        self._shared = shared
        self._question = question
        self._coverage = question.coverage
        self._rule: Rule = question.coverage.rule
        self.recorder = ResponseRecorder(
            self._rule.max_response_bytes, is_head=question.scope["method"] == "HEAD"
        )
        self._sharing = Sharing.LEADER
        self._tokens: Tokens = ()

    async def begin(self) -> None:
        """Note the tokens of all tags that are known before the app is called."""
        namespace = self._shared.options.namespace
        keys = list(self._shared.tags_of(self._coverage))
        if callable(self._rule.tags):
            keys.append(purge_mark(namespace))
        else:
            keys += (tag_key(namespace, "tag", tag) for tag in self._rule.tags)
        self._tokens = await read_tokens(self._shared.store, keys)

    def judge(self, start: Message) -> Verdict:
        """Decide whom the answer may reach, and learn on which fields it depends."""
        status, headers = start["status"], self.recorder.headers
        if is_server_failure(status, headers):
            return Verdict.FAILED
        self._sharing = sharing_of(status, headers)
        if self._sharing is Sharing.LEADER:
            self._shared.note_alone(self._question.key.index)
            return Verdict.ALONE
        self._shared.note_shared(self._question.key.index)
        self._learn_vary(vary_of(headers))
        return Verdict.SHARED

    def _learn_vary(self, names: Collection[bytes]) -> None:
        primary = self._question.primary.index
        unkeyed = set(names).difference(ALWAYS_KEYED, self._coverage.vary)
        known = self._shared.vary.get(primary) or ()
        if not unkeyed.issubset(known):
            self._shared.vary.put(primary, tuple(sorted(unkeyed.union(known))))
            self._question.apply_vary()

    def report(self, cost: float, *, has_raised: bool) -> None:
        """Report what the app did."""
        failed = has_raised or self.recorder.status >= 500
        outcome: Outcome = "error" if failed else "ok" if self.recorder.is_ended else "cancelled"
        self._question.record.emit(ModelCalled(self._coverage.model, outcome, cost))

    async def keep(self, cost: float) -> None:
        """Store the answer, if it may be stored."""
        result = await self._keep(cost)
        self._question.record.emit(StoreWritten(self._coverage.model, result))

    async def _keep(self, cost: float) -> WriteResult:
        recorder, rule = self.recorder, self._rule
        if recorder.is_too_large:
            return "too_large"
        ttl = self._lifetime()
        if ttl <= 0:
            return "uncacheable"
        response = StoredResponse(
            recorder.status, replayable(recorder.headers), tuple(recorder.chunks), cost
        )
        ttl = self._admitted_ttl(response, ttl)
        if ttl <= 0 or cost < rule.min_cost:
            return "refused"
        tokens = await self._all_tokens(response)
        if tokens is None:
            return "refused"
        return "stored" if await self._write(response, ttl, tokens) else "error"

    def _lifetime(self) -> float:
        """Return for how many seconds the answer is fresh, 0 if it must not be stored."""
        recorder, rule = self.recorder, self._rule
        if (
            self._sharing is not Sharing.ALL
            or not recorder.is_complete
            or recorder.status not in rule.statuses
            or forbids_storing(recorder.headers)
            or not _ends_with(recorder.chunks, rule.ends_with)
        ):
            return 0.0
        now = self._shared.options.clock()
        lifetime = freshness_lifetime(recorder.status, recorder.headers, rule.ttl, now)
        return lifetime * (1 - rule.jitter * random.random())

    def _admitted_ttl(self, response: StoredResponse, ttl: float) -> float:
        """Let the rule's `admit` refuse the answer or set its ttl."""
        if self._rule.admit is None:
            return ttl
        try:
            verdict = self._rule.admit(response)
            admitted = ttl if verdict is True else float(verdict)
        except Exception as error:  # noqa: BLE001  (the user's code may raise or return anything)
            self._shared.log_once(f"admit of the rule {self._rule.path!r}", error)
            return 0.0
        return min(admitted, _LONGEST) if admitted > 0 else 0.0  # The 0 is for NaN, too.

    async def _all_tokens(self, response: StoredResponse) -> Tokens | None:
        """Return the tokens of all tags; None if there may have been a purge meanwhile."""
        tags = self._rule.tags
        if not callable(tags):
            return self._tokens
        namespace = self._shared.options.namespace
        try:
            named = _several(tags(self._question.parsed(), response))
            names = [tag_key(namespace, "tag", tag) for tag in named]
        except Exception as error:  # noqa: BLE001  (the user's code may raise anything)
            self._shared.log_once(f"tags of the rule {self._rule.path!r}", error)
            return None
        *known, mark = self._tokens
        computed = await read_tokens(self._shared.store, names)
        if await read_tokens(self._shared.store, [mark[0]]) != (mark,):
            return None
        return (*known, *computed)

    async def _write(self, response: StoredResponse, ttl: float, tokens: Tokens) -> bool:
        rule, question = self._rule, self._question
        implicit = len(self._shared.tags_of(self._coverage))
        entry = Entry(
            verifier=question.key.verifier,
            status=response.status,
            headers=response.headers,
            chunks=response.chunks,
            stored_at=self._shared.options.clock(),
            ttl=ttl,
            stale_while_revalidate=rule.stale_while_revalidate,
            stale_if_error=rule.stale_if_error,
            cost=response.cost,
            tokens=tuple(token for _, token in tokens[:implicit]),
            tags=tokens[implicit:],
        )
        kept_for = ttl + max(rule.stale_while_revalidate, rule.stale_if_error)
        names = self._shared.vary.get(question.primary.index)
        if names and question.key is not question.primary:
            marker = encode(VaryMarker(question.primary.verifier, names))
            await self._shared.store.set(question.primary.index, marker, kept_for)
        return await self._shared.store.set(question.key.index, encode(entry), kept_for)


def _ends_with(chunks: list[bytes], ending: bytes | None) -> bool:
    return ending is None or b"".join(chunks[-len(ending) :]).endswith(ending)


def _several(names: Collection[str]) -> Collection[str]:
    if isinstance(names, str):
        raise TypeError(f"tags must be several names, not the string {names!r}")
    return names
