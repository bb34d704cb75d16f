"""Real servers on 127.0.0.1, and a client that shows every byte.

Rule: a server ends with the block that started it, whatever happened there; requests that will
not end are cancelled after a second.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import uvicorn

from memoserve._asgi import ASGIApp

Protocol = Literal["h11", "httptools"]


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, protocol: Protocol = "h11", **options: Any) -> AsyncGenerator[int]:
    """Serve an app with uvicorn in the running event loop; yields the port."""
    chosen: dict[str, Any] = {"ws": "none", "lifespan": "off", **options}
    config = uvicorn.Config(
        app, http=protocol, log_config=None, access_log=False, timeout_graceful_shutdown=1, **chosen
    )
    server = _PromptServer(config)
    # Listening from here on: who connects early waits in the backlog.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.leave()
            await task


class _PromptServer(uvicorn.Server):
    """One that does not look every tenth of a second whether it should leave: it is told."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), 0.1)


@dataclass
class Answer:
    """One response as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]  # Names in lower case.
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def cache_status(self) -> str:
        return ", ".join(self.all("cache-status"))


def request(
    body: bytes = b"{}",
    *,
    method: str = "POST",
    path: str = "/v1/model",
    headers: Iterable[str] = ("content-type: application/json",),
    has_length: bool = True,
) -> bytes:
    """Spell a request."""
    length = [f"content-length: {len(body)}"] if has_length else []
    lines = [f"{method} {path} HTTP/1.1", "host: test", *headers, *length]
    return "\r\n".join([*lines, "", ""]).encode() + (body if has_length else b"")


class Wire:
    """A connection of a client that does what it is told, good manners or not."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float = 10
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._patience = patience  # Seconds that anything may take.

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
        await self._writer.drain()

    async def until(self, mark: bytes) -> bytes:
        """Read on until these bytes have come."""
        return await asyncio.wait_for(self._reader.readuntil(mark), self._patience)

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        return await asyncio.wait_for(self._reader.read(-1), self._patience)

    async def answer(self, *, has_body: bool = True) -> Answer:
        """Read one whole response."""
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        answer = Answer(
            int(first.split(" ")[1]),
            [(name.lower(), value.strip()) for name, _, value in pairs],
            b"",
        )
        if not has_body:
            return answer
        if answer.all("transfer-encoding") == ["chunked"]:
            answer.body = b"".join([chunk async for chunk in self._chunks()])
        else:
            answer.body = await self._exactly(int(answer.all("content-length")[0]))
        return answer

    async def ask(self, *pieces: bytes, has_body: bool = True) -> Answer:
        """Send a request and read the response."""
        await self.send(*pieces)
        return await self.answer(has_body=has_body)

    async def _chunks(self) -> AsyncGenerator[bytes]:
        while size := int(await self.until(b"\r\n"), 16):
            yield await self._exactly(size)
            await self.until(b"\r\n")
        await self.until(b"\r\n")

    async def _exactly(self, size: int) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(size), self._patience)

    def finish_sending(self) -> None:
        """Close one half of the connection: nothing more will be asked, answers are welcome."""
        self._writer.write_eof()

    async def reset(self) -> None:
        """Break the connection off, as a process that is killed does."""
        own: socket.socket = self._writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):  # The other side was quicker.
            await self._writer.wait_closed()


async def until(condition: Callable[[], object]) -> None:
    """Give the server its turns until something has happened."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (sockets have no event for it)
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def wires(
    port: int, count: int, *, buffer: int = 0, patience: float = 10
) -> AsyncGenerator[list[Wire]]:
    """Connect several clients; `buffer` bounds what the kernel receives for each of them."""
    opened: list[Wire] = []
    try:
        for _ in range(count):
            own = socket.socket()
            own.setblocking(False)
            if buffer:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", port))
            streams = await asyncio.open_connection(sock=own, limit=2**20)
            opened.append(Wire(*streams, patience))
        yield opened
    finally:
        for wire in opened:
            await wire.close()
