"""One request that a rule covers, from its key to its last byte.

Rule: every way out has one name (hit, stale, coalesced, miss, bypass, error). The app's answer
goes out before anything is stored, and the app's own exceptions pass through.
"""

import asyncio
import logging
import time
from collections.abc import Hashable

from memoserve._asgi import (
    Message,
    Receive,
    Scope,
    Send,
    ends_response,
    final_body,
    replay,
    respond,
    with_headers,
)
from memoserve._entry import Entry, VaryMarker, decode
from memoserve._errors import CorruptEntryError
from memoserve._events import (
    FollowerJoined,
    FollowerLeft,
    KeyCollided,
    RequestRecord,
    RequestStarted,
)
from memoserve._fields import vary_values
from memoserve._fill import Fill
from memoserve._flight import Client, Flight, Landing, Verdict
from memoserve._policy import (
    BypassReason,
    cache_status_bypass,
    cache_status_hit,
    cache_status_miss,
    replayable,
    vary_of,
)
from memoserve._request import Question
from memoserve._rules import Coverage
from memoserve._shared import HOT_BYTES, Shared

__all__ = ["Exchange"]

_logger = logging.getLogger("memoserve")

# With these ASGI extensions an answer can still be shared: their messages reach all clients, or
# (hints, pushes) the first one alone. An unknown one may send what cannot be repeated.
_SHAREABLE_EXTENSIONS = frozenset(
    {
        "http.response.debug",
        "http.response.early_hint",
        "http.response.pathsend",
        "http.response.push",
        "http.response.trailers",
        "tls",
    }
)

_MAX_VARY_STEPS = 3  # Whoever meets more new Vary fields than this asks the app directly.
_MAX_REFRESHES = 64  # Of stale answers at the same time; a stale answer can wait for its turn.


class Exchange:
    """One request."""

    __slots__ = (
        "_coverage", "_fallback", "_is_forced", "_is_outermost", "_question", "_receive", "_record",
        "_rule", "_scope", "_send", "_shared", "_vary_steps",
    )  # fmt: skip

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
        self._rule = coverage.rule
        self._coverage = coverage
        self._question = Question(shared, coverage, scope, record)
        self._fallback: Entry | None = None  # A stale answer that is better than a failure.
        self._is_forced = False  # The client does not want what is stored.
        self._vary_steps = 0

    async def run(self) -> None:
        """Answer the request."""
        record, question = self._record, self._question
        record.model, record.rule = self._coverage.model, self._rule.path
        self._shared.introduce(record)
        if record.observers:
            record.emit(RequestStarted(record.model))
        try:
            reason = await question.read(self._receive)
            if reason is None:
                await self._answer()
            else:
                await self._pass_by(reason)
        except BaseException as error:
            record.fail(error)
            raise
        finally:
            question.close()
            if self._is_outermost:
                record.finish(time.perf_counter())

    async def _pass_by(self, reason: BypassReason) -> None:
        """Let the app answer, with everything streamed both ways."""
        self._record.status, self._record.reason = "bypass", reason
        status_line = cache_status_bypass(reason)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note_status(message["status"])
                if self._shared.options.cache_status:
                    message = with_headers(message, [status_line])
            await self._send_on(message)

        receive = replay(self._question.body.messages, self._receive)
        await self._shared.app(self._scope_for_app(), receive, send)

    def _scope_for_app(self) -> Scope:
        """Return the scope that the app is called with; the server's own stays as it was."""
        return {**self._scope, "memoserve": self._record} if self._is_outermost else self._scope

    async def _send_on(self, message: Message) -> None:
        await self._send(message)
        if final_body(message):
            self._record.sent = time.perf_counter()

    def _note_status(self, status: int) -> None:
        if status >= 500:
            self._record.outcome = "error"

    # From the store.

    async def _answer(self) -> None:
        """Find the answer in the store, or else get it from the app."""
        demands = self._question.demands
        entry = None if demands.no_cache else await self._lookup()
        self._is_forced = demands.no_cache
        if entry is not None:
            age = max(0.0, self._shared.options.clock() - entry.stored_at)
            fresh_for = entry.ttl - age
            self._is_forced = not demands.accepts_age(age)
            if not self._is_forced and -fresh_for < entry.stale_while_revalidate:
                if fresh_for <= 0:
                    self._refresh()
                await self._serve(entry, age)
                return
            if -fresh_for < entry.stale_if_error:
                self._fallback = entry
        if demands.only_if_cached:
            await self._decline()
        else:
            await self._fetch(attempt=1)

    async def _lookup(self) -> Entry | None:
        """Return what is stored for this request, fresh or stale."""
        shared = self._shared
        keys = (self._question.key.index, *shared.tags_of(self._coverage))
        raw, *tokens = shared.look_up_now(keys) or await shared.store.get_many(keys)
        found = None if raw is None else self._read(raw)
        if found is None:
            return None
        if isinstance(found, VaryMarker):
            return await self._lookup_variant(found)
        if found.tokens != tuple(tokens):
            return None  # Purged.
        return found if not found.tags or await self._has_current_tags(found) else None

    def _read(self, raw: bytes) -> Entry | VaryMarker | None:
        """Decode what is stored under this request's key, if it belongs there."""
        key = self._question.key
        known = self._shared.decoded.get(key.index)
        found: Entry | VaryMarker
        if known is not None and known[0] is raw:
            found = known[1]
        else:
            try:
                found = decode(raw)
            except CorruptEntryError as error:
                self._shared.log_once("an entry cannot be read", error)
                return None
            if isinstance(found, Entry) and len(raw) <= HOT_BYTES:
                self._shared.decoded.put(key.index, (raw, found))
        if found.verifier != key.verifier:
            self._record.emit(KeyCollided(self._coverage.model))
            return None
        return found

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

    async def _serve(self, entry: Entry, age: float) -> None:
        """Send a stored answer."""
        record = self._record
        fresh_for = entry.ttl - age
        record.status = "hit" if fresh_for > 0 else "stale"
        record.saved, record.age = entry.cost, age
        headers = list(entry.headers)
        if self._shared.options.cache_status:
            headers += (cache_status_hit(fresh_for), (b"age", b"%d" % age))
        await self._send(
            {"type": "http.response.start", "status": entry.status, "headers": headers}
        )
        *firsts, last = entry.chunks or (b"",)
        for chunk in firsts:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
        record.sent = time.perf_counter()

    async def _decline(self) -> None:
        """Say that nothing is stored to a client that wants nothing else (RFC 9111 §5.2.1.7)."""
        self._record.status = "miss"
        headers = [(b"content-length", b"0")]
        if self._shared.options.cache_status:
            headers.append(cache_status_miss(is_forced=False, is_collapsed=False, status=504))
        await respond(self._send, 504, headers, ())
        self._record.sent = time.perf_counter()

    # From the app.

    async def _fetch(self, attempt: int) -> None:
        """Have the app answer: in a call that is under way, or in one of our own."""
        if not self._may_share():
            await self._call_alone()
            return
        flight = self._shared.flights.get(self._flight_key())
        if flight is not None and flight.is_joinable:
            await self._follow(flight)
        else:
            await self._lead(attempt)

    def _may_share(self) -> bool:
        extensions = self._scope.get("extensions")
        question = self._question
        return (
            self._rule.coalesce is not False
            and not question.demands.no_cache  # A call under way may have begun too early.
            and not question.fields.is_conditional  # A 304 is for who has the answer already.
            and (not extensions or _SHAREABLE_EXTENSIONS.issuperset(extensions))
            and not self._shared.is_alone(question.key.index)
        )

    def _flight_key(self) -> Hashable:
        key = self._question.key
        extensions = self._scope.get("extensions")
        offered = frozenset(extensions) if extensions else None
        return (asyncio.get_running_loop(), key.index, key.verifier, offered)

    async def _call_alone(self) -> None:
        """Call the app in this task, for this request alone."""
        self._record.status = "miss"
        fill = Fill(self._shared, self._question)
        await fill.begin()
        started = time.perf_counter()
        cost = 0.0
        answer = self._answering(None)

        async def send(message: Message) -> None:
            nonlocal cost
            fill.recorder.note(message)
            cost = time.perf_counter() - started
            if message["type"] == "http.response.start":
                fill.judge(message)
            await answer(message)
            if ends_response(message, has_trailers=False):
                # Shielded: apps that listen for a disconnect cancel their own `send` after this.
                await asyncio.shield(self._shared.spawn(fill.keep(cost)))

        has_raised = False
        try:
            receive = replay(self._question.body.messages, self._receive)
            await self._shared.app(self._scope_for_app(), receive, send)
        except Exception:
            has_raised = True
            self._note_failure()
            raise
        finally:
            fill.report(cost, has_raised=has_raised)

    def _note_failure(self) -> None:
        """Call it an error if the app raised before the client had its whole answer."""
        if self._record.sent is None:
            self._record.status = "error"

    async def _lead(self, attempt: int) -> None:
        """Call the app for this request and for all who ask the same meanwhile."""
        self._record.status = "miss"
        flight, landed = self._take_off(self._scope_for_app(), attempt, finish=self._rule.finish)
        client = Client(
            self._receive,
            self._answering(None),
            is_leader=True,
            has_fallback=self._fallback is not None,
        )
        flight.join(client)
        landing = await flight.deliver(client)
        if landing is Landing.WITHHELD and self._fallback is not None:
            await self._serve_instead(flight, self._fallback)
            return
        if landing is Landing.LEFT:
            self._record.outcome = "cancelled"
        try:
            await asyncio.shield(landed)
        except Exception:
            self._note_failure()
            raise

    def _take_off(
        self, scope: Scope, attempt: int, *, finish: bool
    ) -> "tuple[Flight, asyncio.Task[None]]":
        """Begin a call of the app that others can join from now on."""
        shared = self._shared
        fill = Fill(shared, self._question)

        def judge(start: Message) -> Verdict:
            verdict = fill.judge(start)
            if verdict is Verdict.SHARED:
                shared.register(self._flight_key(), flight)  # Its Vary may have changed the key.
            return verdict

        async def keep(ended: Flight) -> None:
            await fill.keep(ended.cost)
            shared.unregister(ended)

        flight = Flight(
            scope, fill.recorder, shared.budget, judge, keep, attempt=attempt, finish=finish
        )
        shared.register(self._flight_key(), flight)
        return flight, shared.spawn(self._fly(flight, fill))

    async def _fly(self, flight: Flight, fill: Fill) -> None:
        try:
            await fill.begin()
            await flight.run(self._shared.app, self._question.body.messages)
        finally:
            self._shared.unregister(flight)
            fill.report(flight.cost, has_raised=flight.error is not None)

    def _refresh(self) -> None:
        """Have one call of the app replace a stale answer, behind what is sent now."""
        shared = self._shared
        if self._flight_key() in shared.flights or shared.refreshes >= _MAX_REFRESHES:
            return
        record = RequestRecord(time.perf_counter(), model=self._record.model, rule=self._rule.path)
        scope = {**self._scope, "memoserve": record}
        _, landed = self._take_off(scope, attempt=1, finish=True)
        shared.refreshes += 1
        landed.add_done_callback(shared.note_refreshed)

    async def _follow(self, flight: Flight) -> None:
        """Share the answer of a call that is under way."""
        record = self._record
        client = Client(
            self._receive,
            self._answering(flight),
            has_fallback=self._fallback is not None,
            wants=lambda start: self._is_meant(flight, start),
        )
        record.status = "coalesced"
        flight.join(client)
        record.emit(FollowerJoined(record.model))
        try:
            landing = await flight.deliver(client)
        finally:
            record.emit(FollowerLeft(record.model))
        if landing is Landing.WITHHELD:
            await self._ask_again(flight)
        elif landing is Landing.LEFT:
            record.outcome = "cancelled"
        else:
            record.saved = flight.cost

    def _is_meant(self, flight: Flight, start: Message) -> bool:
        """Tell whether this request is alike in all that the flight's answer varies on."""
        names = sorted(vary_of(start.get("headers", ())))
        ours = vary_values(self._scope["headers"], names)
        return ours == vary_values(flight.scope["headers"], names)

    async def _ask_again(self, flight: Flight) -> None:
        """Find another answer than the one that a flight withheld."""
        if flight.verdict is Verdict.FAILED:
            if self._fallback is not None:
                await self._serve_instead(flight, self._fallback)
            else:
                await self._fetch(attempt=2)
            return
        self._vary_steps += 1
        self._question.apply_vary()
        if flight.verdict is Verdict.ALONE or self._vary_steps > _MAX_VARY_STEPS:
            await self._call_alone()
        else:
            await self._answer()

    async def _serve_instead(self, flight: Flight, fallback: Entry) -> None:
        """Send a stale answer in the place of a failure (RFC 5861 §4)."""
        _logger.warning("the app failed; a stale answer is sent", exc_info=flight.error)
        age = max(0.0, self._shared.options.clock() - fallback.stored_at)
        await self._serve(fallback, age)

    def _answering(self, flight: Flight | None) -> Send:
        """Return a `send` that says where the answer came from: our call, or another's flight."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note_status(message["status"])
                message = self._explained(message, flight)
            await self._send_on(message)

        return send

    def _explained(self, start: Message, flight: Flight | None) -> Message:
        status: int = start["status"]
        if flight is None and status >= 500:
            self._record.status = "error"
        elif flight is not None:
            start = {**start, "headers": replayable(start.get("headers", ()))}
        if not self._shared.options.cache_status:
            return start
        lines = [
            cache_status_miss(
                is_forced=self._is_forced, is_collapsed=flight is not None, status=status
            )
        ]
        if flight is not None:
            lines.append((b"age", b"%d" % flight.age))
        return with_headers(start, lines)
