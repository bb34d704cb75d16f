"""What one client is sent, and the word that says where it came from.

Rule: whatever answers a covered request goes out through here, so each answer is explained once.
"""

import math
import time

from memoserve._asgi import Message, Scope, Send, ends_response, respond, with_headers
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


class Reply:
    """The answer to one request.

    Args:
        scope: The request.
        fields: What its header says.
        send: The client's.
        record: What is known of the request.
        options: Of the cache.
    """

    __slots__ = (
        "_app_status", "_clock", "_fields", "_is_explained", "_record", "_scope", "_send",
        "forward",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        fields: RequestFields,
        send: Send,
        record: RequestRecord,
        options: Options,
    ) -> None:
        self._scope = scope
        self._fields = fields
        self._send = send
        self._record = record
        self._is_explained = options.cache_status
        self._clock = options.clock
        self.forward: Forward = "miss"  # Why the app is asked, if it is.
        self._app_status = 0  # What the app said where a stored answer is sent for it.

    def passing_by(self, reason: BypassReason) -> Send:
        """Return a `send` for the app's answer to a request that goes past the cache."""
        status_line = cache_status_bypass(reason)

        async def send_and_explain(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] >= 500:
                    self._record.outcome = "error"
                if self._is_explained:
                    message = with_headers(message, [status_line])
            await self._send(message)
            if ends_response(message):
                self._record.sent = time.perf_counter()

        return send_and_explain

    def answering(self, flight: Flight | None) -> Send:
        """Return a `send` for our own call's answer, or for that of another's flight."""
        is_cut = False

        async def send_and_explain(message: Message) -> None:
            nonlocal is_cut
            if message["type"] == "http.response.start":
                if message["status"] >= 500:
                    self._record.outcome = "error"
                if self._app_status == 304 and self._fields.is_conditional:
                    cut = self._cut(message)
                    is_cut = cut is not message
                    message = cut
                message = self._explained(message, flight)
            elif is_cut:
                message = {**message, "body": b""}
            await self._send(message)
            if ends_response(message):
                self._record.sent = time.perf_counter()

        return send_and_explain

    def _cut(self, start: Message) -> Message:
        """Answer a client's own condition, which was not put to the app that has confirmed ours."""
        now = self._clock()
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
        if self._is_explained:
            headers += cache_status_hit(math.floor(fresh_for)), age_line(int(age))
        await respond(self._send, answer.status, headers, answer.chunks)
        record.sent = time.perf_counter()

    async def decline(self) -> None:
        """Say that nothing is stored to a client that wants nothing else (RFC 9111 §5.2.1.7)."""
        self._record.status = "miss"
        headers = [(b"content-length", b"0")]
        if self._is_explained:
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

    def _explained(self, start: Message, flight: Flight | None) -> Message:
        status: int = start["status"]
        is_collapsed = self._record.status == "coalesced"
        if not is_collapsed and status >= 500:
            self._record.status = "error"
        elif flight is not None:
            headers = replayable(start.get("headers", ()), flight.withheld)
            start = {**start, "headers": headers}
        if not self._is_explained:
            return start
        lines = [
            cache_status_miss(self.forward, self._app_status or status, is_collapsed=is_collapsed)
        ]
        age = self._record.age if flight is None else flight.age
        if age is not None:
            lines.append(age_line(int(age)))
        return with_headers(start, lines)
