"""What one client is sent, and the word that says where it came from.

Rule: whatever answers a covered request goes out through here, so each answer is explained once.
"""

import math
import time

import msgspec

from memoserve._asgi import Message, Scope, Send, ends_response, own_copy, respond, with_headers
from memoserve._cache_status import (
    NOT_CACHED,
    BypassReason,
    Forward,
    age_line,
    cache_status_bypass,
    cache_status_hit,
    cache_status_miss,
)
from memoserve._conditional import Answer, conditions_of, selected
from memoserve._entry import Entry
from memoserve._events import RequestRecord
from memoserve._fields import RequestFields
from memoserve._flight import Flight
from memoserve._policy import replayable
from memoserve._shared import Options

__all__ = ["Reply"]


class Reply(msgspec.Struct, eq=False):
    """The answer to one request."""

    _scope: Scope
    _fields: RequestFields
    _send: Send  # The client's.
    _record: RequestRecord
    _options: Options
    forward: Forward = "miss"  # Why the app is asked, if it is.
    _flight: Flight | None = None  # Another's, whose answer this is.
    _is_cut: bool = False  # Of the app's answer only the head is sent.
    _app_status: int = 0  # What the app said where a stored answer is sent for it.

    def passing_by(self, reason: BypassReason) -> Send:
        """Return a `send` for the app's answer to a request that goes past the cache."""
        status_line = cache_status_bypass(reason)

        async def send_and_explain(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] >= 500:
                    self._record.outcome = "error"
                if self._options.cache_status:
                    message = with_headers(message, [status_line])
            await self._send(message)
            if ends_response(message):
                self._record.sent = time.perf_counter()

        return send_and_explain

    def answering(self, flight: Flight | None) -> Send:
        """Return a `send` for our own call's answer, or for that of another's flight."""
        self._flight, self._is_cut = flight, False
        return self._send_and_explain

    async def _send_and_explain(self, message: Message) -> None:
        """Send a message on, as one of this client's own: others may get it, too.

        Middleware outside (gzip, CORS) changes what it is handed.
        """
        match message["type"]:
            case "http.response.body":
                await self._send({**message, "body": b""} if self._is_cut else {**message})
            case "http.response.start":
                await self._send(self._explained(message))
            case _:
                await self._send(own_copy(message))
        if ends_response(message):
            self._record.sent = time.perf_counter()

    def _explained(self, start: Message) -> Message:
        """Copy a response's start, and say in it how the answer came to be."""
        status: int = start["status"]
        record, flight = self._record, self._flight
        if status >= 500:
            record.outcome = "error"
        if self._app_status == 304 and self._fields.is_conditional:
            cut = self._cut(start)
            self._is_cut = cut is not start
            start, status = cut, cut["status"]
        headers = start.get("headers", ())
        is_collapsed = record.status == "coalesced"
        if not is_collapsed and status >= 500:
            record.status = "error"
        elif flight is not None:
            headers = replayable(headers, flight.withheld)
        if not self._options.cache_status:
            return {**start, "headers": [*headers]}
        line = cache_status_miss(
            self.forward, self._app_status or status, is_collapsed=is_collapsed
        )
        age = record.age if flight is None else flight.age
        lines = [line] if age is None else [line, age_line(int(age))]
        return {**start, "headers": [*headers, *lines]}

    def _cut(self, start: Message) -> Message:
        """Answer a client's own condition, which was not put to the app that has confirmed ours."""
        now = self._options.clock()
        answer = Answer(start["status"], start["headers"], (), now)
        conditions = conditions_of(self._scope["headers"])
        unchanged = selected(answer, conditions, self._scope["method"], now)
        if unchanged is answer:
            return start
        return {**start, "status": unchanged.status, "headers": unchanged.headers}

    async def serve(self, entry: Entry, now: float) -> None:
        """Send a stored answer, or of it what the request's conditions ask for."""
        answer: Answer | Entry = entry
        method = self._scope["method"]
        if self._fields.is_conditional or self._fields.is_ranged or method == "HEAD":
            made_at = entry.stored_at - entry.initial_age
            whole = Answer(entry.status, entry.headers, entry.chunks, made_at)
            answer = selected(whole, conditions_of(self._scope["headers"]), method, now)
        record, in_store = self._record, entry.since(now)
        fresh_for, age = entry.ttl - in_store, entry.initial_age + in_store
        record.status = "hit" if fresh_for > 0 else "stale"
        record.saved, record.age = entry.cost, age
        headers = [*answer.headers]
        if self._options.cache_status:
            headers += cache_status_hit(math.floor(fresh_for)), age_line(int(age))
        await respond(self._send, answer.status, headers, answer.chunks)
        record.sent = time.perf_counter()

    async def decline(self) -> None:
        """Say that nothing is stored to a client that wants nothing else (RFC 9111 §5.2.1.7)."""
        self._record.status = "miss"
        headers = [(b"content-length", b"0")]
        if self._options.cache_status:
            headers.append(NOT_CACHED)
        await respond(self._send, 504, headers, ())
        self._record.sent = time.perf_counter()

    def note_app_status(self, status: int) -> None:
        """Remember what the app said where a stored answer is sent for it."""
        self._app_status = status

    def note_failure(self) -> None:
        """Call it an error if the app raised before the client had its whole answer."""
        if self._record.sent is None and self._record.status != "bypass":
            self._record.status = "error"
