"""A name for every request, in and out, and for its log lines.

Rule: a caller's `X-Request-ID` comes back if it is short and plain; anything else is replaced. This
sits outside the cache: a reused answer must not bring back the name of another request.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from msgspec import Struct

__all__ = ["ASGIApp", "CurrentRequest", "RequestIdMiddleware", "current_request"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]

_HEADER = b"x-request-id"
_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
# Version, trace, parent, flags; what a later version appends is not ours to read (W3C Trace
# Context §3.2). All zeros name nothing.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-.*")


class CurrentRequest(Struct, frozen=True):
    """What the log lines of a request say of it."""

    request_id: str
    trace_id: str = ""
    span_id: str = ""


_current: ContextVar[CurrentRequest | None] = ContextVar("reference_app_request", default=None)
current_request = _current.get


class RequestIdMiddleware:
    """Put `X-Request-ID` on every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Pass the call on, and add the field to the response it starts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope["headers"])

        async def send_with_request_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (_HEADER, request_id)]
                message = {**message, "headers": headers}
            await send(message)

        token = _current.set(_described(request_id, scope["headers"]))
        try:
            await self._app(scope, receive, send_with_request_id)
        finally:
            _current.reset(token)


def _request_id(headers: list[tuple[bytes, bytes]]) -> bytes:
    given = [value for name, value in headers if name.lower() == _HEADER]
    if len(given) == 1 and _ACCEPTABLE.fullmatch(given[0]):
        return given[0]
    return secrets.token_hex(16).encode()


def _described(request_id: bytes, headers: list[tuple[bytes, bytes]]) -> CurrentRequest:
    for name, value in headers:
        if name.lower() == b"traceparent" and (found := _TRACEPARENT.fullmatch(value)):
            return CurrentRequest(request_id.decode(), found[1].decode(), found[2].decode())
    return CurrentRequest(request_id.decode())
