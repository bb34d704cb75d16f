"""How one request has the app answer: in a call that is under way, or in one of its own.

Rule: the app's answer goes out before anything is stored, and the app's own exceptions pass
through.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable

import msgspec

from memoserve._asgi import (
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    ends_response,
    own_copy,
    replay,
    replaying,
)
from memoserve._client import Client, Landing, Verdict
from memoserve._conditional import validators_of, without_conditions
from memoserve._entry import Entry
from memoserve._events import FollowerJoined, FollowerLeft, RequestRecord, ShadowCompared
from memoserve._fields import vary_values
from memoserve._fill import Fill
from memoserve._flight import Flight
from memoserve._policy import vary_of
from memoserve._reply import Reply
from memoserve._request import Question
from memoserve._shadow import are_equal
from memoserve._shared import Shared
from memoserve._validation import validating
from memoserve._waiting import Part

__all__ = ["Upstream", "Withheld"]

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

_MAX_REFRESHES = 64  # Of stale answers at the same time; a stale answer can wait for its turn.


class Withheld(msgspec.Struct):
    """An answer of the app that its client does not get."""

    error: Exception | None = None  # What the app raised.
    has_failed: bool = True  # A stale answer would be better.
    verdict: Verdict = Verdict.FAILED


class Upstream(msgspec.Struct, eq=False):
    """The app, as one request sees it."""

    _shared: Shared
    _question: Question
    _record: RequestRecord
    _reply: Reply  # Where the answer goes.
    _receive: Receive  # The client's.
    _scope: Scope  # What the app is called with.
    _find: Callable[[], Awaitable[Entry | None]]  # Looks the question up in the store.
    stale: Entry | None = None  # An answer of which the app may say that it still holds.

    def fetch(self, attempt: int, *, has_fallback: bool) -> Awaitable[Withheld | None]:
        """Have the app answer.

        Returns:
            An answer that is not this client's, so that another one must be found; else None.
        """
        if not self._may_share():
            return self.call_alone(has_fallback=has_fallback)
        key = self._question.flight_key()
        flight = self._shared.flights.get(key)
        if flight is not None and self._may_join(flight):
            return self._follow(flight, has_fallback=has_fallback)
        return self._lead(key, attempt, has_fallback=has_fallback)

    def unjoinable(self) -> Flight | None:
        """Return a call whose answer can be had when it is stored, but not before."""
        flight = self._shared.flights.get(self._question.flight_key())
        if flight is None or (self._may_join(flight) and self._may_share()):
            return None
        return flight

    async def call_alone(self, *, has_fallback: bool) -> Withheld | None:
        """Call the app in this task, for this request alone."""
        self._record.status = "miss"
        return await self._call(self._reply.answering(None), self._keep, has_fallback=has_fallback)

    async def call_in_shadow(self, known: Entry | None) -> None:
        """Call the app as if there were no cache, and store its answer or compare it."""
        self._record.status, self._record.reason = "bypass", "shadow"

        async def compare(fill: Fill, _cost: float) -> None:
            if known is not None and fill.recorder.is_complete:
                largest = self._shared.options.max_canonical_bytes
                is_equal = are_equal(known, fill.recorder, largest)
                record = self._record
                record.emit(ShadowCompared(record.model, "equal" if is_equal else "different"))

        answer, is_new = self._reply.passing_by("shadow"), known is None
        settle = self._keep if is_new else compare
        await self._call(answer, settle, has_fallback=False, may_keep=is_new)

    async def _call(
        self,
        answer: Send,
        settle: Callable[[Fill, float], Awaitable[None]],
        *,
        has_fallback: bool,
        may_keep: bool = True,
    ) -> Withheld | None:
        fill = Fill(self._shared, self._question, self._scope["method"])
        if may_keep:
            await fill.begin()
        started = time.perf_counter()
        cost = 0.0
        is_withheld = False  # For a stale answer is better.
        part = Part(self._shared.budget)

        async def send(message: Message) -> None:
            nonlocal cost, is_withheld
            if message["type"] == "http.response.start":
                message = own_copy(message)  # Its fields may be an iterator.
                is_withheld = has_fallback and message["status"] >= 500
            fill.recorder.note(message)
            if not part.take(fill.recorder.held):
                fill.recorder.abandon()
                part.take(0)
            cost = time.perf_counter() - started
            if message["type"] == "http.response.start":
                fill.judge(message)
            if is_withheld:
                return
            await answer(message)
            if ends_response(message):
                await settle(fill, cost)

        has_raised = False
        try:
            receive = replay(self._question.body.messages, self._receive)
            app = self._shared.app if self.stale is None else self._confirming(self.stale)
            await app(self._scope, receive, send)
        except Exception as error:
            has_raised = True
            if has_fallback and not fill.recorder.status:
                return Withheld(error)
            self._reply.note_failure()
            raise
        finally:
            part.take(0)
            fill.report(cost, has_raised=has_raised)
        return Withheld() if is_withheld else None

    async def _keep(self, fill: Fill, cost: float) -> None:
        if fill.keep_at_once(cost):
            return
        if self._shared.memory is not None:
            await fill.keep(cost)  # It waits for nobody.
        else:
            # Shielded: apps that listen for a disconnect cancel their own `send` after this.
            await asyncio.shield(self._shared.spawn(fill.keep(cost)))

    def refresh(self) -> None:
        """Have one call of the app replace a stale answer, behind what is sent now."""
        shared, record, key = self._shared, self._record, self._question.flight_key()
        if key in shared.flights or shared.refreshes >= _MAX_REFRESHES:
            return
        own_record = RequestRecord(
            time.perf_counter(), model=record.model, rule=record.rule, variant=record.variant
        )
        scope = {
            **self._scope,
            "memoserve": own_record,
            "method": self._question.keyed_method,  # The whole answer, whatever this client wants.
            "headers": without_conditions(self._scope["headers"]),
        }
        flight, landed = self._take_off(key, scope, attempt=1, client=None, finish=True)
        shared.refreshes += 1
        landed.add_done_callback(lambda _: shared.note_refreshed(flight))

    def _may_share(self) -> bool:
        extensions = self._scope.get("extensions")
        question = self._question
        return (
            question.coverage.rule.coalesce is not False
            and not question.demands.no_cache  # A call under way may have begun too early.
            # A 304 or 206 is for who has the answer, or a part of it, already.
            and not question.fields.is_conditional
            and not question.fields.is_ranged
            # Its answer is no GET's, whose key it has.
            and self._scope["method"] == question.keyed_method
            and (not extensions or _SHAREABLE_EXTENSIONS.issuperset(extensions))
            and not self._shared.is_alone(question.key.index)
        )

    def _may_join(self, flight: Flight) -> bool:
        """Tell whether a flight's answer will be complete and young enough for this request."""
        is_awaited = flight.verdict is None
        if not flight.is_joinable or self._is_outdated(flight):
            return False
        return is_awaited or not self._question.demands.is_choosy

    def _is_outdated(self, flight: Flight) -> bool:
        """Tell whether a purge has come since the flight took off, as far as that is known."""
        question, then = self._question, dict(flight.tokens)
        # A tag that has been learned since has not been read.
        now = zip(question.tags, question.tokens, strict=False)
        if then and (found := self._shared.look_up_now([*then])):
            now = zip(then, found, strict=True)
        return any(token is not None and token != then.get(tag, token) for tag, token in now)

    def _confirming(self, stale: Entry) -> ASGIApp:
        """Return what has the app confirm a stale answer, if it can, and else the app itself."""
        shared, question = self._shared, self._question
        if not question.is_validatable or not validators_of(stale.headers):
            return shared.app
        return validating(shared.app, stale, question.body.messages, self._reply.note_app_status)

    async def _lead(self, key: Hashable, attempt: int, *, has_fallback: bool) -> Withheld | None:
        """Call the app for this request and for all who ask the same meanwhile."""
        self._record.status = "miss"
        client = Client(self._receive, self._reply.answering(None), has_fallback=has_fallback)
        finish = self._question.coverage.rule.finish
        flight, landed = self._take_off(key, self._scope, attempt, client, finish=finish)
        landing = await flight.deliver(client)
        if landing is Landing.WITHHELD and has_fallback:
            return Withheld(flight.error)
        if landing is Landing.LEFT:
            self._record.outcome = "cancelled"
        try:
            await flight.over()
            landed.result()  # It was cancelled, if it was.
        except Exception:
            self._reply.note_failure()
            raise
        return None

    def _take_off(
        self, key: Hashable, scope: Scope, attempt: int, client: Client | None, *, finish: bool
    ) -> "tuple[Flight, asyncio.Task[None]]":
        """Begin a call of the app for a client, if there is one; others can join from now on."""
        shared = self._shared
        fill = Fill(shared, self._question, scope["method"])
        flight = Flight(scope, client, fill, shared.budget, attempt=attempt, finish=finish)
        shared.register(key, flight)
        task = asyncio.get_running_loop().create_task(self._fly(flight, fill))
        if not task.done():  # As an eager one may be.
            shared.aloft[flight] = task
        return flight, task

    async def _fly(self, flight: Flight, fill: Fill) -> None:
        try:
            entry = None
            if self._shared.memory is None:
                entry = await fill.take_turn(self._find_fresh)
            if entry is None:
                await fill.begin()
                flight.tokens = fill.tokens or ()
                app = self._shared.app if self.stale is None else self._confirming(self.stale)
                await flight.run(app, self._question.body.messages)
            else:
                fill.is_replay = True
                self._note_reuse(flight, entry)
                await flight.run(replaying(entry.status, entry.headers, entry.chunks), ())
        finally:
            flight.end()
            if flight.keys:
                self._shared.unregister(flight)
            fill.end_turn("failed")  # Unless it has ended otherwise.
            fill.report(flight.cost, has_raised=flight.error is not None)
            self._shared.aloft.pop(flight, None)

    async def _find_fresh(self) -> Entry | None:
        """Return what another process has stored, if it will do for this request."""
        entry = await self._find()
        if entry is None or entry.status >= 500:
            return None
        in_store = entry.since(self._shared.options.clock())
        age, fresh_for = entry.initial_age + in_store, entry.ttl - in_store
        is_wanted = fresh_for > 0 and self._question.demands.accepts(age, fresh_for)
        return entry if is_wanted else None

    def _note_reuse(self, flight: Flight, entry: Entry) -> None:
        """Let everyone in a flight know that its answer was another process's."""
        age = entry.initial_age + entry.since(self._shared.options.clock())
        flight.saved, flight.aged = entry.cost, age
        record: RequestRecord = flight.scope["memoserve"]
        record.status, record.saved, record.age = "coalesced", entry.cost, age

    async def _follow(self, flight: Flight, *, has_fallback: bool) -> Withheld | None:
        """Share the answer of a call that is under way."""
        record = self._record
        client = Client(
            self._receive,
            self._reply.answering(flight),
            has_fallback=has_fallback,
            wants=lambda start: self._is_meant(flight, start),
        )
        record.status = "coalesced"
        flight.join(client)
        record.emit(FollowerJoined(record.model))
        if record.tracer is not None:
            record.tracer.follow(record, flight.scope["memoserve"])
        try:
            landing = await flight.deliver(client)
        finally:
            record.emit(FollowerLeft(record.model))
        if landing is Landing.WITHHELD:
            verdict = flight.verdict or Verdict.FAILED
            return Withheld(flight.error, has_failed=flight.has_failed, verdict=verdict)
        if landing is Landing.LEFT:
            record.outcome = "cancelled"
        else:
            record.saved = flight.cost if flight.saved is None else flight.saved
        return None

    def _is_meant(self, flight: Flight, start: Message) -> bool:
        """Tell whether this request is alike in all that the flight's answer varies on."""
        names = sorted(vary_of(start.get("headers", ())))
        ours = vary_values(self._scope["headers"], names)
        return ours == vary_values(flight.scope["headers"], names)
