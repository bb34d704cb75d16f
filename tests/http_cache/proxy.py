"""A small reverse proxy as an ASGI app, so that HTTP's own test suite can look through the cache.

It changes nothing on the way but what uvicorn cannot send: the suite's status 999, which says that
a request should have been conditional, becomes 599.
"""

from typing import Self

import httpx

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send

_NOT_FORWARDED = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"upgrade", b"host"}
)
_SUITE_FAILURE, _SENDABLE_FAILURE = 999, 599


class ReverseProxy:
    """Passes requests on to one origin."""

    def __init__(self, origin: str) -> None:
        # A connection for each request: the origin closes idle ones while they are being reused.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            base_url=origin, timeout=30, trust_env=False, limits=limits
        )
        # Nothing that the client did not say.
        self._client.headers.clear()

    async def __aenter__(self) -> Self:
        """Nothing has to be opened."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on; a connection that breaks is for the server to report."""
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        url = scope["raw_path"].decode("ascii")
        if scope["query_string"]:
            url += "?" + scope["query_string"].decode("ascii")
        headers = [
            (name, value.strip())
            for name, value in scope["headers"]
            if name.lower() not in _NOT_FORWARDED
        ]
        request = self._client.build_request(scope["method"], url, headers=headers, content=body)
        if not body and "content-length" in request.headers and scope["method"] == "GET":
            del request.headers["content-length"]
        answer = await self._client.send(request, stream=True)
        try:
            await self._pass_back(answer, send)
        finally:
            await answer.aclose()

    async def _pass_back(self, answer: httpx.Response, send: Send) -> None:
        status = answer.status_code
        listed = answer.headers.get("connection", "").lower().encode().split(b",")
        dropped = _NOT_FORWARDED.union(name.strip() for name in listed)
        start: Message = {
            "type": "http.response.start",
            "status": _SENDABLE_FAILURE if status == _SUITE_FAILURE else status,
            "headers": [
                (name.lower(), value)
                for name, value in answer.headers.raw
                if name.lower() not in dropped
            ],
        }
        await send(start)
        async for chunk in answer.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def cached(app: ASGIApp) -> CacheMiddleware:
    """Put a cache before an app that goes by the responses' own words."""
    rule = Rule(
        "/test/{rest:path}",
        methods={"GET", "HEAD"},
        ttl=None,
        stale_if_error=60,
        private="share",
        heuristic=0.1,
    )
    return CacheMiddleware(app, rules=[rule], client_control="obey")
