"""Small ASGI apps that stand in for a cached model server."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Key = tuple[str, str | bytes]

_LOOKUP = 0.001  # Seconds of a hit.


async def read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        body += chunk
        if not message.get("more_body", False):
            return body


async def answer(
    send: Send,
    cache_status: str | None = None,
    *,
    status: int = 200,
    body: bytes = b'{"label":"POSITIVE"}',
    content_type: bytes = b"application/json",
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if cache_status is not None:
        headers.append((b"cache-status", cache_status.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


class CachedApp:
    """An ideal cache in front of a model that takes `inference` seconds: no expiry, coalescing.

    With `raw_keys` it is keyed by the bytes of the body, which is the mistake to be found.
    """

    def __init__(
        self, *, inference: float = 0.0, raw_keys: bool = False, ttl: int = 300, obey: bool = True
    ) -> None:
        self.inference = inference
        self.raw_keys = raw_keys
        self.ttl = ttl
        self.obey = obey
        self.entries: dict[Key, asyncio.Event] = {}
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        if scope["method"] == "OPTIONS":  # The warm-up of a worker.
            return await answer(send, status=405)
        self.requests += 1
        key = self._key(scope["path"], await read_body(receive))
        if self.obey and (b"cache-control", b"no-store") in scope["headers"]:
            await asyncio.sleep(self.inference)
            return await answer(send, "memoserve; fwd=bypass; detail=no-store")
        filled = self.entries.get(key)
        if filled is None:
            filled = self.entries[key] = asyncio.Event()
            await asyncio.sleep(self.inference)
            filled.set()
            return await answer(send, "memoserve; fwd=miss; stored")
        if filled.is_set():
            await asyncio.sleep(_LOOKUP)
            return await answer(send, f"memoserve; hit; ttl={self.ttl}")
        await filled.wait()
        return await answer(send, "memoserve; fwd=miss; collapsed")

    def _key(self, path: str, body: bytes) -> Key:
        return path, body if self.raw_keys else json.dumps(json.loads(body), sort_keys=True)
