"""An origin that speaks HTTP's own cache control, and a cache that goes by its words."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from memoserve import CacheMiddleware, MemoryStore, Rule
from memoserve._asgi import Header, Receive, Scope, Send
from tests.asgi import Call, ask, http_scope
from tests.middleware.cases import Clock

ETAG = (b"etag", b'"1"')
PATH = "/doc"


def control(line: bytes) -> Header:
    return (b"cache-control", line)


@dataclass
class Origin:
    """An app that answers with the number of the call, or says that nothing has changed."""

    headers: Sequence[Header] = ()
    status: int = 200
    update: Sequence[Header] = ()  # What a 304 says.
    is_failing: bool = False
    seen: list[Scope] = field(default_factory=list[Scope])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        await receive()
        if self.is_failing:
            raise RuntimeError("the origin is gone")
        asked = dict(scope["headers"]).get(b"if-none-match")
        is_unchanged = asked is not None and (b"etag", asked) in self.headers
        headers = list(self.update) if is_unchanged else list(self.headers)
        status = 304 if is_unchanged else self.status
        await send({"type": "http.response.start", "status": status, "headers": headers})
        has_body = status != 304 and scope["method"] != "HEAD"
        body = b"%d" % len(self.seen) if has_body else b""
        await send({"type": "http.response.body", "body": body})

    def asked(self, name: bytes) -> list[bytes | None]:
        """Return what each request had in a field."""
        return [dict(scope["headers"]).get(name) for scope in self.seen]


@dataclass
class Cached:
    """An origin behind a cache that goes by its words."""

    origin: Origin
    app: CacheMiddleware
    clock: Clock

    async def get(self, *headers: Header, method: str = "GET", **scope: Any) -> Call:
        scope = {"path": PATH, **scope}
        return await ask(self.app, b"", method=method, headers=headers, **scope)


def cached(origin: Origin, **options: Any) -> Cached:
    clock = Clock()
    cache = {name: options.pop(name) for name in {"client_control", "credentials"} & options.keys()}
    rule = Rule(
        "/{rest:path}", methods=options.pop("methods", {"GET", "HEAD"}), **{"ttl": None, **options}
    )
    app = CacheMiddleware(
        origin, rules=[rule], clock=clock, store=MemoryStore(clock=clock), **cache
    )
    return Cached(origin, app, clock)


def scope_of(method: str = "GET") -> Scope:
    return http_scope(method=method, path=PATH, headers=())


class Gate:
    """An app that starts and ends its first answer when a test says so; no-cache, both times."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.start: asyncio.Future[None] = loop.create_future()
        self.end: asyncio.Future[None] = loop.create_future()
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        number = self.calls
        await self.start
        headers = [control(b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.end
        await send({"type": "http.response.body", "body": b"%d" % number})
