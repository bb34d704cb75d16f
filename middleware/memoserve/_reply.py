"""What one client is sent, and the word that says where it came from.

Rule: whatever answers a covered request goes out through here, so each answer is explained once.
"""

import math
import time

from memoserve._asgi import Message, Send, final_body, respond, with_headers
from memoserve._entry import Entry
from memoserve._events import RequestRecord
from memoserve._flight import Flight
from memoserve._policy import (
    BypassReason,
    age_line,
    cache_status_bypass,
    cache_status_hit,
    cache_status_miss,
    replayable,
)

__all__ = ["Reply", "serve"]


async def serve(
    send: Send, record: RequestRecord, entry: Entry, age: float, *, is_explained: bool
) -> None:
    """Send a stored answer: `asgi.respond`, spelled out, as every hit waits for this."""
    fresh_for = entry.ttl - age
    record.status = "hit" if fresh_for > 0 else "stale"
    record.saved, record.age = entry.cost, age
    headers = [*entry.headers]
    if is_explained:
        headers += cache_status_hit(math.floor(fresh_for)), age_line(int(age))
    await send({"type": "http.response.start", "status": entry.status, "headers": headers})
    *firsts, last = entry.chunks or (b"",)
    for chunk in firsts:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": last, "more_body": False})
    record.sent = time.perf_counter()


class Reply:
    """The answer to one request.

    Args:
        send: The client's.
        record: What is known of the request.
        is_explained: Whether answers carry `Cache-Status` and `Age`.
    """

    __slots__ = ("_is_explained", "_record", "_send", "is_forced")

    def __init__(self, send: Send, record: RequestRecord, *, is_explained: bool) -> None:
        self._send = send
        self._record = record
        self._is_explained = is_explained
        self.is_forced = False  # The client does not want what is stored.

    def passing_by(self, reason: BypassReason) -> Send:
        """Return a `send` for the app's answer to a request that goes past the cache."""
        status_line = cache_status_bypass(reason)

        async def send_and_explain(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note_status(message["status"])
                if self._is_explained:
                    message = with_headers(message, [status_line])
            await self._send_on(message)

        return send_and_explain

    def answering(self, flight: Flight | None) -> Send:
        """Return a `send` for our own call's answer, or for that of another's flight."""

        async def send_and_explain(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note_status(message["status"])
                message = self._explained(message, flight)
            await self._send_on(message)

        return send_and_explain

    async def serve(self, entry: Entry, age: float) -> None:
        """Send a stored answer."""
        await serve(self._send, self._record, entry, age, is_explained=self._is_explained)

    async def decline(self) -> None:
        """Say that nothing is stored to a client that wants nothing else (RFC 9111 §5.2.1.7)."""
        self._record.status = "miss"
        headers = [(b"content-length", b"0")]
        if self._is_explained:
            headers.append(cache_status_miss(is_forced=False, is_collapsed=False, status=504))
        await respond(self._send, 504, headers, ())
        self._record.sent = time.perf_counter()

    def note_failure(self) -> None:
        """Call it an error if the app raised before the client had its whole answer."""
        if self._record.sent is None:
            self._record.status = "error"

    async def _send_on(self, message: Message) -> None:
        await self._send(message)
        if final_body(message):
            self._record.sent = time.perf_counter()

    def _note_status(self, status: int) -> None:
        if status >= 500:
            self._record.outcome = "error"

    def _explained(self, start: Message, flight: Flight | None) -> Message:
        status: int = start["status"]
        if flight is None and status >= 500:
            self._record.status = "error"
        elif flight is not None:
            start = {**start, "headers": replayable(start.get("headers", ()))}
        if not self._is_explained:
            return start
        lines = [
            cache_status_miss(
                is_forced=self.is_forced, is_collapsed=flight is not None, status=status
            )
        ]
        if flight is not None:
            lines.append(age_line(int(flight.age)))
        return with_headers(start, lines)
