"""The apps that `bench/redis_hits.py` compares: each answers one question from Redis, or memory.

`BENCH_REDIS` names the server.
"""

import hashlib
import os
from typing import Any

from redis.asyncio import Redis

from bench.apps import ANSWER, PATH, respond_with
from memoserve import CacheMiddleware, Rule

_URL = os.environ["BENCH_REDIS"]
_client: Any = Redis.from_url(_URL)  # pyright: ignore[reportUnknownMemberType]
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"120"),
    (b"cache-status", b"none; hit; ttl=300"),
    (b"age", b"0"),
]


async def one_get(_scope: Any, receive: Any, send: Any) -> None:
    """Do what the least app does that has its answers in Redis: one GET for each request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    key = f"bench:{hashlib.md5(body, usedforsecurity=False).hexdigest()}"
    answer = await _client.get(key)
    if answer is None:
        answer = ANSWER
        await _client.set(key, answer, ex=300)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": answer})


def cached(store: str) -> CacheMiddleware:
    """Put a cache with this store before an app that does next to nothing."""
    return CacheMiddleware(respond_with(), rules=[Rule(PATH)], store=store)


hit = cached(_URL)
memory_hit = cached("memory://")
tiered_hit = cached(f"tiered+{_URL}")
