"""The ASGI messages of one HTTP exchange.

Rule: this is the only module that knows message dicts. It never invents a message, never
changes one that somebody else holds, and after a replayed body `receive` is the real one again.
Specification: ASGI 3.0, HTTP and WebSocket protocol 2.5.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

__all__ = [
    "ASGIApp",
    "Header",
    "Message",
    "Receive",
    "RequestBody",
    "ResponseRecorder",
    "Scope",
    "Send",
    "ends_response",
    "is_response_part",
    "own_copy",
    "read_body",
    "replay",
    "replaying",
    "respond",
    "with_headers",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

_RESPONSE_PARTS = frozenset(
    {
        "http.response.start",
        "http.response.body",
        "http.response.pathsend",
        "http.response.trailers",
    }
)


class RequestBody(msgspec.Struct):
    """What was read of a request's body, and the messages it came in."""

    messages: list[Message]
    chunks: list[bytes]
    size: int
    is_complete: bool  # False: over the limit, or the client left.
    is_disconnected: bool

    @property
    def content(self) -> bytes:
        """The whole body as one piece."""
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)


async def read_body(message: Message, receive: Receive, limit: int) -> RequestBody:
    """Read a request's body, whose first message is given, to its end or past `limit` bytes."""
    if message["type"] == "http.request" and not message.get("more_body", False):
        chunk = bytes(message.get("body", b""))  # Nearly always all of it is here.
        size = len(chunk)
        return RequestBody([message], [chunk], size, size <= limit, is_disconnected=False)
    body = RequestBody([], [], 0, is_complete=False, is_disconnected=False)
    while True:
        body.messages.append(message)
        if message["type"] != "http.request":
            body.is_disconnected = True
            return body
        chunk = bytes(message.get("body", b""))
        body.chunks.append(chunk)
        body.size += len(chunk)
        if body.size > limit:
            return body
        if not message.get("more_body", False):
            body.is_complete = True
            return body
        message = await receive()


def replay(messages: Iterable[Message], receive: Receive) -> Receive:
    """Make a `receive` that repeats what was read and then goes on with the connection."""
    waiting = iter(messages)

    async def replay_and_receive() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replay_and_receive


def own_copy(message: Message) -> Message:
    """Copy a message, since middleware outside (gzip, CORS) changes what it is handed."""
    copied = dict(message)
    if "headers" in copied:
        copied["headers"] = list(copied["headers"])
    return copied


def with_headers(start: Message, added: Iterable[Header]) -> Message:
    """Copy a response start with more header lines behind its own."""
    return {**start, "headers": [*start.get("headers", ()), *added]}


def is_response_part(message: Message) -> bool:
    """Tell what belongs to the response from hints, pushes and whatever else is sent."""
    return message["type"] in _RESPONSE_PARTS


def ends_response(message: Message, *, has_trailers: bool = False) -> bool:
    """Tell whether a message is the last of its response; without trailers, of its content."""
    kind: str = message["type"]
    if has_trailers:
        return kind == "http.response.trailers" and not message.get("more_trailers", False)
    if kind == "http.response.body":
        return not message.get("more_body", False)
    return kind == "http.response.pathsend"


async def respond(send: Send, status: int, headers: list[Header], chunks: Iterable[bytes]) -> None:
    """Send a whole response, its body in the given chunks; an empty one ends it where needed."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    waiting: bytes = b""
    is_first = True
    for chunk in chunks:
        if not is_first:
            await send({"type": "http.response.body", "body": waiting, "more_body": True})
        waiting = chunk
        is_first = False
    await send({"type": "http.response.body", "body": waiting, "more_body": False})


def replaying(status: int, headers: Iterable[Header], chunks: Iterable[bytes]) -> ASGIApp:
    """Return an app that answers with what is known already."""

    async def replay_response(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, status, list(headers), chunks)

    return replay_response


class ResponseRecorder(msgspec.Struct):
    """Follows what an app sends, and keeps as much of it as may be stored."""

    limit: int  # Bytes of body beyond which nothing is kept.
    is_head: bool = False
    status: int = 0  # Until the response has started.
    headers: tuple[Header, ...] = ()
    lengths: set[bytes] = msgspec.field(default_factory=set[bytes])  # That it says it has.
    chunks: list[bytes] = msgspec.field(default_factory=list[bytes])
    size: int = 0
    is_ended: bool = False
    is_plain: bool = True  # Only a start and bodies: what can be replayed on any server.

    def note(self, message: Message) -> None:
        """Take in the next message that the app sent."""
        match message["type"]:
            case "http.response.body":
                if self.is_ended or not self.status:
                    self.is_plain = False
                chunk = bytes(message.get("body", b""))
                self.is_ended = not message.get("more_body", False)
                self.size += len(chunk)
                if self.size > self.limit:
                    self.chunks.clear()
                elif chunk:
                    self.chunks.append(chunk)
            case "http.response.start":
                self.is_plain &= not self.status and not message.get("trailers", False)
                self.status = message["status"]
                headers: list[Header] = []
                for any_name, any_value in message.get("headers", ()):
                    name, value = bytes(any_name), bytes(any_value)
                    headers.append((name, value))
                    if name.lower() == b"content-length":
                        self.lengths.add(value)
                self.headers = tuple(headers)
            case _:
                self.is_plain = False

    def abandon(self) -> None:
        """Keep nothing of this response, as if it were too large."""
        self.limit = -1
        self.chunks.clear()

    @property
    def held(self) -> int:
        """Bytes of body that are kept."""
        return 0 if self.is_too_large else self.size

    @property
    def is_too_large(self) -> bool:
        """The body has outgrown the limit."""
        return self.size > self.limit

    @property
    def is_complete(self) -> bool:
        """The response ended properly, as long as it said, and all of it can be replayed."""
        is_proper = self.is_ended and self.is_plain and self.size <= self.limit
        return is_proper and (self.is_head or not self.lengths or self.is_full)

    @property
    def is_full(self) -> bool:
        """All bytes have come that the response said there would be."""
        return self.lengths == {b"%d" % self.size}
