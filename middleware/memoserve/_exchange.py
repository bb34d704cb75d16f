"""One request that a rule covers, from its key to its last byte.

Rule: every way out has one name (hit, stale, coalesced, miss, bypass, error).
"""

import logging
import time
from collections.abc import Sequence

from memoserve._asgi import Message, Receive, Scope, Send, replay, whole_body
from memoserve._cache_status import BypassReason
from memoserve._entry import Entry, VaryMarker, decode
from memoserve._errors import CorruptEntryError
from memoserve._events import KeyCollided, RequestRecord, RequestStarted
from memoserve._fields import RequestFields
from memoserve._flight import Verdict
from memoserve._reply import Reply, serve
from memoserve._request import Question, spelling
from memoserve._rules import Coverage
from memoserve._shared import HOT_BYTES, Known, Shared
from memoserve._upstream import Upstream, Withheld

__all__ = ["Exchange"]

_logger = logging.getLogger("memoserve")

_MAX_VARY_STEPS = 3  # Whoever meets more new Vary fields than this asks the app directly.


class Exchange:
    """One request."""

    __slots__ = (
        "_coverage", "_fallback", "_is_outermost", "_question", "_receive", "_record", "_reply",
        "_scope", "_send", "_shared", "_stale", "_vary_steps",
    )  # fmt: skip

    _question: Question
    _reply: Reply

    def __init__(
        self, shared: Shared, coverage: Coverage, scope: Scope, receive: Receive, send: Send
    ) -> None:
        record: RequestRecord | None = scope.get("memoserve")
        self._is_outermost = record is None
        if record is None:
            record = RequestRecord(time.perf_counter())
        self._shared = shared
        self._scope = scope
        self._receive = receive
        self._send = send
        self._record = record
        self._coverage = coverage

    async def run(self) -> None:
        """Answer the request."""
        record, coverage, shared = self._record, self._coverage, self._shared
        record.model, record.rule = coverage.model, coverage.rule.path
        shared.introduce(record)
        if record.observers:
            record.emit(RequestStarted(record.model))
        tracer = record.tracer
        token = None if tracer is None else tracer.begin(record, self._scope)
        try:
            fields = shared.filter_for(coverage).read(self._scope)
            # What has more to say may go past the cache, and then its body is not ours to read.
            message = await self._receive() if fields.is_plain else None
            entry = None if message is None else await self._recalled(message, fields)
            if entry is None:
                await self._ask(message, fields)
            else:
                options = shared.options
                await serve(
                    self._send,
                    record,
                    entry,
                    entry.since(options.clock()),
                    answer=entry,
                    is_explained=options.cache_status,
                )
        except BaseException as error:
            record.fail(error)
            raise
        finally:
            if tracer is not None:
                tracer.leave(token)
            if self._is_outermost:
                record.finish(time.perf_counter())

    async def _recalled(self, message: Message, fields: RequestFields) -> Entry | None:
        """Return the answer to a request that came in these bytes before, if it still holds."""
        known, shared = self._recall(message, fields), self._shared
        if known is None:
            return None
        keys = known.store_keys
        found = shared.look_up_now(keys) or await self._look_up(keys)
        if found != known.found or shared.is_unpurged(keys):
            return None  # It was evicted, replaced or purged.
        self._record.key = keys[0]
        return known.entry

    def _recall(self, message: Message, fields: RequestFields) -> Known | None:
        """Find what is known of a request that came in these bytes before, and is fresh.

        It is the short way of what `_ask` does, where nothing has to be read, parsed or decoded,
        and finds nothing that would not be found there.
        """
        coverage, shared = self._coverage, self._shared
        content = whole_body(message)
        is_short = content is not None and len(content) <= HOT_BYTES
        if not (is_short and coverage.is_plain) or self._scope["method"] == "HEAD":
            return None
        name = spelling(coverage, self._scope, fields, self._record.variant, content)
        known = shared.spelled.get(name)
        if known is None or (entry := known.entry) is None:
            return None
        if shared.vary.get(known.key.index) is not None:
            return None  # It is known by now that a field matters that is not in the spelling.
        return known if shared.options.clock() - entry.stored_at < entry.ttl else None

    async def _ask(self, message: Message | None, fields: RequestFields) -> None:
        """Answer a request that may have to be read on, looked up, or put to the app."""
        shared, record = self._shared, self._record
        question = Question(shared, self._coverage, self._scope, record, fields)
        self._question = question
        self._reply = Reply(self._scope, fields, self._send, record, shared.options)
        self._stale: Entry | None = None  # A stored answer that is not fresh.
        self._fallback: Entry | None = None  # The same, if it is better than a failure.
        self._vary_steps = 0
        try:
            reason = await question.read(message, self._receive)
            if reason is None:
                await self._answer()
            else:
                await self._pass_by(reason)
        finally:
            question.close()

    async def _pass_by(self, reason: BypassReason) -> None:
        """Let the app answer, with everything streamed both ways."""
        self._record.status, self._record.reason = "bypass", reason
        receive = replay(self._question.body.messages, self._receive)
        await self._shared.app(self._scope_for_app(), receive, self._reply.passing_by(reason))

    def _scope_for_app(self) -> Scope:
        """Return the scope that the app is called with; the server's own stays as it was."""
        return {**self._scope, "memoserve": self._record} if self._is_outermost else self._scope

    # From the store.

    async def _answer(self) -> None:
        """Find the answer in the store, or else get it from the app."""
        demands, reply = self._question.demands, self._reply
        entry = await self._lookup()
        if entry is None and await self._upstream(None).kept():
            entry = await self._lookup()
        if entry is not None:
            if await self._serve_if_usable(entry):
                return
            reply.forward = "stale"
            self._stale = entry
        if entry is not None and self._is_fresh(entry):
            reply.forward = "request"
        if demands.only_if_cached:
            await reply.decline()
        elif self._question.fields.is_ranged:
            await self._pass_by("partial")  # The app knows how to answer with a part.
        else:
            await self._fetch(attempt=1)

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
                self._upstream(entry).refresh()
            is_usable = is_refreshed or (
                entry.may_be_stale and demands.accepts_stale(age, fresh_for)
            )
        if is_usable:
            await self._reply.serve(entry, now)
        return is_usable

    async def _look_up(self, keys: Sequence[str]) -> list[bytes | None]:
        """Ask a store that is not in memory, and note the time that it takes.

        To note that of one in memory would double it.
        """
        began = time.perf_counter()
        found = await self._shared.store.get_many(keys)
        self._record.store_seconds += time.perf_counter() - began
        return found

    async def _lookup(self) -> Entry | None:
        """Return what is stored for this request, fresh or stale."""
        shared = self._shared
        keys = (self._question.key.index, *self._question.tags)
        self._record.key = keys[0]
        began = time.perf_counter()
        found = shared.look_up_now(keys) or await shared.store.get_many(keys)
        self._record.store_seconds += time.perf_counter() - began
        raw, *tokens = found
        self._question.tokens = dict(zip(keys[1:], tokens, strict=True))
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
        known, raw = self._question.known, found[0]
        is_small = raw is not None and len(raw) <= HOT_BYTES
        if known is not None and is_small and self._question.key is self._question.primary:
            known.store_keys, known.found, known.entry = keys, found, entry

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

    def _upstream(self, stale: Entry | None) -> Upstream:
        return Upstream(
            self._shared,
            self._question,
            self._reply,
            self._receive,
            self._scope_for_app(),
            self._lookup,
            stale,
        )

    async def _fetch(self, attempt: int) -> None:
        """Have the app answer, and find another answer where that one is not for this client."""
        upstream = self._upstream(self._stale)
        withheld = await upstream.fetch(attempt, has_fallback=self._fallback is not None)
        if withheld is None:
            return
        if self._fallback is not None and withheld.has_failed:
            await self._serve_instead(withheld, self._fallback)
        elif withheld.verdict is not Verdict.FAILED:
            await self._ask_as_a_variant(withheld)
        else:
            await self._fetch(attempt=2)

    async def _ask_as_a_variant(self, withheld: Withheld) -> None:
        """Ask again, now that it is known on which fields the answer depends."""
        self._vary_steps += 1
        self._question.apply_vary()
        if withheld.verdict is Verdict.ALONE or self._vary_steps > _MAX_VARY_STEPS:
            await self._upstream(self._stale).call_alone(has_fallback=False)
        else:
            await self._answer()

    async def _serve_instead(self, withheld: Withheld, fallback: Entry) -> None:
        """Send a stale answer in the place of a failure (RFC 5861 §4)."""
        _logger.warning("the app failed; a stale answer is sent", exc_info=withheld.error)
        await self._reply.serve(fallback, self._shared.options.clock())
