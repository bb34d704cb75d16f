"""A name for every request, in and out.

Rule: a caller's `X-Request-ID` comes back if it is short and plain; anything else is replaced. This
sits outside the cache: a reused answer must not bring back the name of another request.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["RequestIdMiddleware"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]

_HEADER = b"x-request-id"
_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


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

        await self._app(scope, receive, send_with_request_id)


def _request_id(headers: list[tuple[bytes, bytes]]) -> bytes:
    given = [value for name, value in headers if name.lower() == _HEADER]
    if len(given) == 1 and _ACCEPTABLE.fullmatch(given[0]):
        return given[0]
    return secrets.token_hex(16).encode()
