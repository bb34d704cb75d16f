"""The apps that `bench/throughput.py` compares: each answers one question from a cache, or bare.

All send the same 120 bytes under the same number of header lines where that can be had.
"""

import asyncio
import time
from typing import Any

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware

PATH = "/v1/sentiment"
BODY = (
    b'{"text":"' + b"The staff were friendly, dinner was lovely. " * 2 + b'soup","max_length":40}'
)
ANSWER = b'{"label":"POSITIVE","score":0.9987,"text":"%s"}' % (b"x" * 75)


def respond_with(*extra: tuple[bytes, bytes], seconds: float = 0.0, is_busy: bool = False) -> Any:
    """Make an ASGI app that reads the body, sleeps or computes for a while, and answers."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"120"), *extra]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body", False):
            pass
        if is_busy:
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                pass
        elif seconds:
            await asyncio.sleep(seconds)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})

    return app


# A hit carries two lines more, so the bare app sends as many.
bare = respond_with((b"cache-status", b"none; fwd=bypass"), (b"age", b"0"))
hit = CacheMiddleware(respond_with(), rules=[Rule(PATH)])
hit_measured = TelemetryMiddleware(CacheMiddleware(respond_with(), rules=[Rule(PATH)]))

# Unique traffic on a handler of a millisecond: what filling and evicting costs.
computing = respond_with(seconds=0.001, is_busy=True)
computing_cached = CacheMiddleware(computing, rules=[Rule(PATH)], store="memory://?max_bytes=16mb")
sleeping = respond_with(seconds=0.001)
sleeping_cached = CacheMiddleware(sleeping, rules=[Rule(PATH)], store="memory://?max_bytes=16mb")


def litestar_cached() -> Any:
    """Return Litestar's own response cache, which covers GET."""
    from litestar import Litestar, get

    @get(PATH, cache=300)
    async def sentiment() -> dict[str, Any]:
        return {"label": "POSITIVE", "score": 0.9987, "text": "x" * 75}

    return Litestar([sentiment], logging_config=None, openapi_config=None)


def fastapi_cached() -> Any:
    """Return a FastAPI handler with fastapi-cache2, which covers GET."""
    from fastapi import FastAPI
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.inmemory import InMemoryBackend
    from fastapi_cache.decorator import cache

    app = FastAPI()
    FastAPICache.init(InMemoryBackend())

    @app.get(PATH)
    @cache(expire=300)
    async def sentiment() -> dict[str, Any]:
        return {"label": "POSITIVE", "score": 0.9987, "text": "x" * 75}

    return app
