"""The same request with and without the layer, compared message by message.

Rule: whatever an app sends, does and raises happens behind the layer as it happens without it,
in the same order; the `cache-status` line at the end of the headers is the only addition.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import ASGIApp, Header, Message
from memoserve._policy import replayable
from tests.asgi import Call, http_scope, settle

Log = list[Any]  # What the client was sent (messages) and what the app says it did (strings).
MakeApp = Callable[[Log], ASGIApp]

METHODS = ("GET", "HEAD", "QUERY", "POST")
ANY_PATH = "/{rest:path}"

# The ways through the layer on which the app is asked; uncovered paths are the first of them.
WAYS: Mapping[str, Rule] = {
    "uncovered": Rule("/elsewhere", methods=METHODS),
    "miss": Rule(ANY_PATH, methods=METHODS, private="share", model="m"),
    "miss-alone": Rule(ANY_PATH, methods=METHODS, private="share", model="m", coalesce=False),
    "bypass": Rule(ANY_PATH, methods=METHODS, private="share", model="m", when=lambda body: False),
    "bypass-large": Rule(
        ANY_PATH, methods=METHODS, private="share", model="m", max_request_bytes=1
    ),
    "shadow": Rule(ANY_PATH, methods=METHODS, private="share", model="m"),
}


def mode_of(way: str) -> Literal["live", "shadow"]:
    """Return the mode of a cache on this way."""
    return "shadow" if way == "shadow" else "live"


class RemoteStore:
    """A store that takes turns of the event loop, as every store behind a socket does."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def get(self, key: str, /) -> bytes | None:
        await settle()
        return self._values.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await settle()
        self._values[key] = value

    async def delete(self, key: str, /) -> None:
        self._values.pop(key, None)

    async def aclose(self) -> None:
        self._values.clear()


@dataclass(frozen=True)
class Case:
    """One request, and whether its answer is one that a cache may keep."""

    path: str
    method: str = "GET"
    headers: tuple[Header, ...] = ()
    body: tuple[bytes, ...] = (b"",)
    is_kept: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def call(self, log: Log, spec_version: str = "2.3") -> Call:
        path, _, query = self.path.partition("?")
        scope = http_scope(
            method=self.method, path=path, headers=self.headers, query_string=query.encode()
        )
        scope["asgi"] = {"version": "3.0", "spec_version": spec_version}
        return Call({**scope, **self.more}, self.body, messages=log)


@dataclass
class Seen:
    """One exchange as client and app saw it."""

    log: Log
    error: str

    @property
    def messages(self) -> list[Message]:
        return [item for item in self.log if not isinstance(item, str)]

    @property
    def start(self) -> Message:
        return next(m for m in self.messages if m["type"] == "http.response.start")

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages)

    @property
    def cache_status(self) -> bytes:
        return b", ".join(v for name, v in self.start["headers"] if name == b"cache-status")


async def look(app: ASGIApp, log: Log, case: Case, spec_version: str = "2.3") -> Seen:
    """Send the request and note everything that happens; the log starts anew."""
    log.clear()
    error = ""
    try:
        await asyncio.wait_for(case.call(log, spec_version).run(app), 10)
    except Exception as raised:  # noqa: BLE001  (whatever it is, it must be the same)
        error = f"{type(raised).__name__}: {raised}"
    return Seen([_comparable(item) for item in log], error)


def behind(way: str, app: ASGIApp) -> CacheMiddleware:
    """Put the layer before an app, with a store that takes its time."""
    return CacheMiddleware(
        app, rules=[WAYS[way]], mode=mode_of(way), store=RemoteStore(), store_deadline=10
    )


async def check_way(make: MakeApp, case: Case, way: str, spec_version: str = "2.3") -> None:
    """Require that a request which reaches the app is served as without the layer."""
    is_covered = way != "uncovered" and case.method in METHODS
    status = await check_alike(
        make,
        lambda log: behind(way, make(log)),
        case,
        spec_version=spec_version,
        times=2 if way == "shadow" else 1,  # What would have been a hit is one, too.
    )

    assert (b"fwd=" in status) is is_covered
    assert way != "bypass" or not is_covered or b"bypass" in status


async def check_alike(
    make: MakeApp,
    make_layered: MakeApp,
    case: Case,
    *,
    spec_version: str = "2.3",
    times: int = 1,
) -> bytes:
    """Require that two apps show the same; return the `cache-status` that only one may have."""
    log: Log = []
    bare, layered = [
        [await look(app, log, case, spec_version) for _ in range(times)][-1]
        for app in (make(log), make_layered(log))
    ]

    status = layered.cache_status
    for start in (m for m in layered.messages if m["type"] == "http.response.start"):
        start["headers"] = [pair for pair in start["headers"] if pair[0] != b"cache-status"]
    assert layered.error == bare.error
    assert layered.log == bare.log
    return status


async def check_hit(make: MakeApp, case: Case) -> None:
    """Require that the second answer is the first one again, or that the app is asked again."""
    log: Log = []
    bare = await look(make(log), log, case)
    cache = behind("miss", make(log))
    await look(cache, log, case)

    again = await look(cache, log, case)

    assert again.start["status"] == bare.start["status"]
    assert (b"hit" in again.cache_status) is case.is_kept
    if case.is_kept:
        assert again.body == bare.body
        assert again.start["headers"][:-2] == list(replayable(bare.start["headers"]))
        assert [item for item in again.log if isinstance(item, str)] == []


def _comparable(item: Any) -> Any:
    """Take out what differs from second to second: the time in gzip and in signed cookies."""
    if isinstance(item, str):
        return item
    item = dict(item)
    item.pop("info", None)  # Of `http.response.debug`: objects of this one request.
    if "headers" in item:
        item["headers"] = [
            (bytes(name), re.sub(rb"session=[^;]{20,};", b"session=signed;", value))
            for name, value in item["headers"]
        ]
    if bytes(item.get("body", b""))[:2] == b"\x1f\x8b":
        item["body"] = b"\x1f\x8b" + item["body"][2:4] + b"time" + item["body"][8:]
    return item
