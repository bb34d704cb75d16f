"""What any HTTP request took, in the words of OpenTelemetry's semantic conventions for HTTP.

Rule: this layer is there only where it was asked for, and a request is timed once, however many
such layers there are. Every word that it says comes from a closed set: the methods, schemes and
versions below, a status of three digits, the pattern of a rule.
"""

import time

from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from memoserve._events import HttpRequestFinished, RequestRecord

__all__ = ["HttpTimer"]

_OTHER = "_OTHER"  # The conventions' word for what is in no list.
_METHODS = frozenset(
    {*("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")}
)
_SCHEMES = frozenset({"http", "https"})
_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})


class HttpTimer:
    """Tell the observers of a request's record of an `HttpRequestFinished`.

    Args:
        app: What answers; inside of whoever has put the record into the scope.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        record: RequestRecord | None = scope.get("memoserve")
        # With a model already, this is inside of a cache, and would see its misses only.
        if scope["type"] != "http" or record is None or record.is_timed_as_http or record.model:
            await self._app(scope, receive, send)
            return
        record.is_timed_as_http = True
        response = _Response(send)
        raised: BaseException | None = None
        try:
            await self._app(scope, receive, response.send)
        except BaseException as error:
            raised = error
            raise
        finally:
            record.emit(_finished(scope, record, response, raised))


class _Response:
    """What has been sent of a response so far."""

    status = 0
    ended: float | None = None  # By time.perf_counter(), when the last of it had gone out.

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, message: Message) -> None:
        """Send a message on, and take note of it."""
        await self._send(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif self.status and not message.get(
            "more_body", False
        ):  # Or a file by its path: all that ends it.
            self.ended = time.perf_counter()


def _finished(
    scope: Scope, record: RequestRecord, response: _Response, raised: BaseException | None
) -> HttpRequestFinished:
    ended = time.perf_counter() if response.ended is None else response.ended
    scheme, version = scope.get("scheme", "http"), scope.get("http_version", "")
    return HttpRequestFinished(
        method=scope["method"] if scope["method"] in _METHODS else _OTHER,
        status=str(response.status) if 100 <= response.status <= 599 else "",
        route=record.rule,
        scheme=scheme if scheme in _SCHEMES else _OTHER,
        version=version if version in _VERSIONS else "",
        error=_error(response, raised),
        seconds=ended - record.started,
    )


def _error(response: _Response, raised: BaseException | None) -> str:
    """Return why a request has failed; empty if it has not."""
    if raised is not None and response.ended is None:
        return type(raised).__name__
    if response.status >= 500:
        return str(response.status)
    return "" if response.status else _OTHER
