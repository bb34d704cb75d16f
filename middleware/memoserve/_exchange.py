"""One request that a rule covers, from its key to its last byte.

Rule: every way out has one name (hit, stale, coalesced, miss, bypass, error).
"""

import logging
import time
from collections.abc import Hashable, Mapping

from memoserve._asgi import Message, Receive, Scope, Send, replay
from memoserve._cache_status import BypassReason
from memoserve._client import Verdict
from memoserve._entry import Entry, VaryMarker, decode
from memoserve._errors import CorruptEntryError
from memoserve._events import KeyCollided, RequestRecord
from memoserve._fields import Lines, RequestFields
from memoserve._reply import Reply
from memoserve._request import Question
from memoserve._rules import Coverage
from memoserve._shared import HOT_BYTES, Known, Shared
from memoserve._upstream import Upstream, Withheld

__all__ = ["Exchange"]

_logger = logging.getLogger("memoserve")

_MAX_VARY_STEPS = 3  # Whoever meets more new Vary fields than this asks the app directly.


class Exchange:
    """One request."""

    __slots__ = (
        "_coverage", "_fallback", "_question", "_recalled", "_receive", "_record", "_reply",
        "_scope", "_send", "_shared", "_upstream", "_vary_steps",
    )  # fmt: skip

    _question: Question
    _reply: Reply
    _upstream: Upstream

    def __init__(
        self,
        shared: Shared,
        coverage: Coverage,
        record: RequestRecord | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if record is None:
            record, scope = shared.begun(coverage, scope)
        self._shared = shared
        self._coverage = coverage
        self._record = record
        self._scope = scope
        self._receive = receive
        self._send = send

    async def run(
        self,
        keyed: list[Lines] | None,
        message: Message | None,
        name: Hashable,
        recalled: Mapping[str, bytes | None] | None,
    ) -> None:
        """Answer a request that may have to be read on, looked up, or put to the app.

        Args:
            keyed: Its header fields that belong to the key, if no other matters.
            message: The first of its body, if it was received already.
            name: What the key follows from, if it can be named.
            recalled: What was looked up in the store at this moment, if anything was.
        """
        shared, record, scope = self._shared, self._record, self._scope
        fields = self._coverage.fields.read(scope) if keyed is None else RequestFields(keyed)
        self._question = question = Question(shared, self._coverage, scope, record, fields)
        self._reply = reply = Reply(scope, fields, self._send, record, shared.options)
        self._upstream = Upstream(
            shared, question, record, reply, self._receive, scope, self._lookup
        )
        self._fallback: Entry | None = None  # A stored answer that is better than a failure.
        self._vary_steps = 0
        self._recalled = recalled
        try:
            reason = await question.read(message, self._receive, name)
            if reason is not None:
                await self._pass_by(reason)
            elif shared.options.mode == "shadow":
                await self._answer_in_shadow()
            else:
                await self._answer()
        finally:
            shared.budget.used -= question.body.size
            del self._upstream  # Each refers to the other, and to the request's body.

    async def _pass_by(self, reason: BypassReason) -> None:
        """Let the app answer, with everything streamed both ways."""
        self._record.status, self._record.reason = "bypass", reason
        receive = replay(self._question.body.messages, self._receive)
        await self._shared.app(self._scope, receive, self._reply.passing_by(reason))

    async def _answer_in_shadow(self) -> None:
        """Let the app answer, whatever the store has."""
        demands, fields = self._question.demands, self._question.fields
        entry = await self._lookup()
        if entry is None or not self._would_serve(entry):
            entry, is_for_us = None, not (demands.only_if_cached or fields.is_ranged)
        else:  # Half an answer says nothing of the whole one.
            is_for_us = not (fields.asks_for_less or self._scope["method"] == "HEAD")
        if is_for_us:
            await self._upstream.call_in_shadow(entry)
        else:
            await self._pass_by("shadow")

    def _would_serve(self, entry: Entry) -> bool:
        """Tell whether the app would not be asked, but for the mode."""
        demands, in_store = self._question.demands, entry.since(self._shared.options.clock())
        age, fresh_for = entry.initial_age + in_store, entry.ttl - in_store
        return fresh_for > 0 and not demands.no_cache and demands.accepts(age, fresh_for)

    # From the store.

    async def _answer(self) -> None:
        """Find the answer in the store, or else get it from the app."""
        demands, reply = self._question.demands, self._reply
        entry = await self._lookup()
        if entry is None and self._shared.flights:
            flight = self._upstream.unjoinable()
            if flight is not None:
                await flight.kept()
                entry = await self._lookup()
        if entry is not None:
            if await self._serve_if_usable(entry):
                return
            reply.forward = "stale"
            self._upstream.stale = entry
        if entry is not None and self._is_fresh(entry):
            reply.forward = "request"
        if demands.only_if_cached:
            await reply.decline()
        elif self._question.fields.is_ranged:
            await self._pass_by("partial")  # The app knows how to answer with a part.
        else:
            has_fallback = self._fallback is not None
            withheld = await self._upstream.fetch(1, has_fallback=has_fallback)
            if withheld is not None:
                await self._find_another(withheld)

    def _is_fresh(self, entry: Entry) -> bool:
        return entry.since(self._shared.options.clock()) < entry.ttl

    async def _serve_if_usable(self, entry: Entry) -> bool:
        """Send a stored answer if it is fresh, or may be used though it is not."""
        demands, now = self._question.demands, self._shared.options.clock()
        in_store = entry.since(now)
        age, fresh_for = entry.initial_age + in_store, entry.ttl - in_store
        if -fresh_for < entry.stale_if_error:
            self._fallback = entry
        if demands.no_cache:
            return False
        if fresh_for > 0:
            is_usable = demands.accepts(age, fresh_for)
        else:
            is_refreshed = demands.accepts(age, 0) and -fresh_for < entry.stale_while_revalidate
            if is_refreshed:
                self._upstream.stale = entry
                self._upstream.refresh()
            is_usable = is_refreshed or (
                entry.may_be_stale and demands.accepts_stale(age, fresh_for)
            )
        if is_usable:
            await self._reply.serve(entry, now)
        return is_usable

    async def _lookup(self) -> Entry | None:
        """Return what is stored for this request, fresh or stale."""
        shared = self._shared
        keys = (self._question.key.index, *self._question.tags)
        self._record.key = keys[0]
        recalled, self._recalled = self._recalled, None  # It counts for now, and no longer.
        if recalled and tuple(recalled) == keys:
            found = [*recalled.values()]
        else:
            began = time.perf_counter()
            found = shared.look_up_now(keys) or await shared.store.get_many(keys)
            self._record.store_seconds += time.perf_counter() - began
        raw, *tokens = found
        self._question.tokens = tokens
        item = None if raw is None or shared.is_unpurged(keys[1:]) else self._read(raw)
        if item is None:
            return None
        if isinstance(item, VaryMarker):
            return await self._lookup_variant(item)
        if item.tokens != tuple(tokens):
            return None  # Purged.
        if item.tags:
            return item if await self._has_current_tags(item) else None
        self._remember(item, keys, found)
        return item

    def _read(self, raw: bytes) -> Entry | VaryMarker | None:
        """Decode what is stored under this request's key, if it belongs there."""
        try:
            item = decode(raw)
        except CorruptEntryError as error:
            self._shared.log_once("an entry cannot be read", error)
            return None
        if item.verifier != self._question.key.verifier:
            self._record.emit(KeyCollided(self._coverage.model))
            return None
        return item

    def _remember(self, entry: Entry, keys: tuple[str, ...], found: list[bytes | None]) -> None:
        """Keep an answer in memory as it was decoded, for requests that are spelled as this one."""
        question, raw, shared = self._question, found[0], self._shared
        is_hot = raw is not None and len(raw) <= HOT_BYTES and shared.options.mode == "live"
        if (
            question.name is not None
            and is_hot
            and question.key is question.primary
            and question.has_short_head()
        ):
            shared.spelled.put(question.name, Known(question.key, entry, keys, found))

    async def _lookup_variant(self, marker: VaryMarker) -> Entry | None:
        """Look again under the key that a marker leads to."""
        question = self._question
        if question.key is not question.primary:
            return None  # A marker where an answer should be.
        self._shared.vary.put(question.primary.index, marker.names)
        question.apply_vary()
        return await self._lookup()

    async def _has_current_tags(self, entry: Entry) -> bool:
        """Tell whether none of an entry's own tags was purged."""
        tokens = await self._shared.look_up([key for key, _ in entry.tags])
        return tokens == [token for _, token in entry.tags]

    # From the app.

    async def _find_another(self, withheld: Withheld | None) -> None:
        """Find another answer where the app's is not for this client."""
        while withheld is not None:
            if self._fallback is not None and withheld.has_failed:
                await self._serve_instead(withheld, self._fallback)
                return
            if withheld.verdict is not Verdict.FAILED:
                await self._ask_as_a_variant(withheld)
                return
            has_fallback = self._fallback is not None
            withheld = await self._upstream.fetch(2, has_fallback=has_fallback)

    async def _ask_as_a_variant(self, withheld: Withheld) -> None:
        """Ask again, now that it is known on which fields the answer depends."""
        self._vary_steps += 1
        self._question.apply_vary()
        if withheld.verdict is Verdict.ALONE or self._vary_steps > _MAX_VARY_STEPS:
            await self._upstream.call_alone(has_fallback=False)
        else:
            await self._answer()

    async def _serve_instead(self, withheld: Withheld, fallback: Entry) -> None:
        """Send a stale answer in the place of a failure (RFC 5861 §4)."""
        _logger.warning("the app failed; a stale answer is sent", exc_info=withheld.error)
        await self._reply.serve(fallback, self._shared.options.clock())
