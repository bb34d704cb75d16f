"""One raw ASGI exchange: a client whose every message a test can see, delay or break."""

import asyncio
import functools
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memoserve._asgi import ASGIApp, Header, Message, Receive, Scope, Send

JSON = (b"content-type", b"application/json")


def http_scope(
    *,
    method: str = "POST",
    path: str = "/v1/model",
    headers: Iterable[Header] = (JSON,),
    query_string: bytes = b"",
    **more: Any,
) -> Scope:
    """Make the scope of a request as a server would."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query_string,
        "root_path": "",
        "headers": [(b"host", b"test"), *headers],
        "client": ("127.0.0.1", 1234),
        "server": ("127.0.0.1", 80),
        "extensions": {},
        **more,
    }


@dataclass
class Call:
    """One request on its way through an app."""

    scope: Scope
    body: Sequence[bytes] = (b"{}",)
    messages: list[Message] = field(default_factory=list[Message])
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # Set: the client disconnects.
    held: asyncio.Event | None = None  # While this is not set, `send` does not return.
    broken: OSError | None = None  # What `send` raises instead of sending.
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _read: int = 0

    async def receive(self) -> Message:
        if self._read < len(self.body):
            self._read += 1
            more = self._read < len(self.body)
            return {"type": "http.request", "body": self.body[self._read - 1], "more_body": more}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.broken is not None:
            raise self.broken
        self.messages.append(message)
        self._arrived.set()
        if self.held is not None:
            await self.held.wait()
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.gone.set()  # As servers do: once the response is complete, there is no client.

    async def run(self, app: ASGIApp) -> "Call":
        await app(self.scope, self.receive, self.send)
        return self

    async def until(self, count: int) -> None:
        """Wait until so many messages have arrived."""
        while len(self.messages) < count:
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), 5)

    @property
    def status(self) -> int:
        return int(self._start["status"])

    @property
    def content(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def chunks(self) -> list[bytes]:
        bodies = [m for m in self.messages if m["type"] == "http.response.body"]
        return [message["body"] for message in bodies if message.get("body")]

    def header(self, name: bytes) -> bytes | None:
        values = [value for key, value in self._start["headers"] if key == name]
        return b", ".join(values) if values else None

    @property
    def cache_status(self) -> str:
        return (self.header(b"cache-status") or b"").decode()

    @property
    def is_complete(self) -> bool:
        return bool(self.messages) and not self.messages[-1].get("more_body", True)

    @property
    def _start(self) -> Message:
        return next(m for m in self.messages if m["type"] == "http.response.start")


async def ask(
    app: ASGIApp, body: bytes | Sequence[bytes] = b"{}", *, call: Call | None = None, **scope: Any
) -> Call:
    """Send one request through an app and wait for the call's end."""
    pieces = [body] if isinstance(body, bytes) else body
    return await (call or Call(http_scope(**scope), pieces)).run(app)


def begin(app: ASGIApp, call: Call) -> "asyncio.Task[Call]":
    """Send a request without waiting for its answer."""
    return asyncio.create_task(call.run(app))


async def settle() -> None:
    """Let everything that can run now run until it waits for somebody."""
    for _ in range(50):
        await asyncio.sleep(0)


def eager_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any] | Generator[Any, Any, Any],
    /,
    **_: Any,
) -> "asyncio.Future[Any]":
    """Make a task that has begun, as `asyncio.eager_task_factory` does from Python 3.12 on."""
    try:
        awaited = work.send(None)
    except StopIteration as end:
        done = loop.create_future()
        done.set_result(end.value)
        return done
    return asyncio.Task(_going_on(work, awaited), loop=loop)


@types.coroutine
def _going_on(
    work: Coroutine[Any, Any, Any] | Generator[Any, Any, Any], awaited: Any
) -> Generator[Any, Any, Any]:
    while True:
        try:
            step = functools.partial(work.send, (yield awaited))
        except BaseException as error:  # noqa: BLE001  (it is for the work)
            step = functools.partial(work.throw, error)
        try:
            awaited = step()
        except StopIteration as end:
            return end.value


@dataclass
class Model:
    """An app that answers with the number of the call; `gate` holds it back at its start."""

    status: int = 200
    headers: Sequence[Header] = (JSON,)
    chunks: Sequence[bytes] = ()
    gate: asyncio.Event | None = None
    error: Exception | None = None  # Raised before the response starts.
    late_error: Exception | None = None  # Raised after the first chunk.
    after: Callable[[], Awaitable[None]] | None = None  # Awaited when all is sent.
    calls: int = 0
    bodies: list[bytes] = field(default_factory=list[bytes])
    step: asyncio.Event | None = None  # Awaited before every chunk but the first.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        number = self.calls
        self.bodies.append(await read_all(receive))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        await send(
            {"type": "http.response.start", "status": self.status, "headers": list(self.headers)}
        )
        chunks = self.chunks or (b'{"call":%d}' % number,)
        for place, chunk in enumerate(chunks):
            if place and self.step is not None:
                await self.step.wait()
            if place and self.late_error is not None:
                raise self.late_error
            more = place < len(chunks) - 1
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
        if self.after is not None:
            await self.after()


async def read_all(receive: Receive) -> bytes:
    """Read a request's body as an app does."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
