"""A service in several processes, load on it, and a network that can be broken.

Rule: every answer is compared with what the model says; whatever is done to Redis meanwhile, none
may be wrong and none may fail.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.middleware.stores.fault_app import answer_to
from tests.redis_servers import RedisServer, free_port
from tests.servers import Wire, request, until, wires

QUESTIONS = 60


@contextlib.contextmanager
def service(
    store: str, *, workers: int = 2, port: int = 0, lifespan: str = "auto", **environment: str
) -> Iterator[int]:
    """Serve the app of `fault_app` with uvicorn; yields the port."""
    port = port or free_port()
    command = [
        sys.executable, "-m", "uvicorn", "tests.middleware.stores.fault_app:app",
        "--port", str(port), "--workers", str(workers), "--no-access-log", "--log-level", "warning",
        "--timeout-graceful-shutdown", "1", "--lifespan", lifespan,
    ]  # fmt: skip
    server = subprocess.Popen(
        command, env={**os.environ, "STORE": store, **environment}, start_new_session=True
    )
    try:
        yield port
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(timeout=10)


async def accepting(port: int) -> None:
    """Wait until a server accepts."""

    def accepts() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    async with asyncio.timeout(60):
        while not accepts():  # noqa: ASYNC110  (another process has no event for it)
            await asyncio.sleep(0.05)


@dataclass
class Seen:
    """One answer: when it came, how long it took, and where from."""

    at: float
    seconds: float
    status: str


@dataclass
class Load:
    """Clients that ask without a pause, and what they saw."""

    seen: list[Seen] = field(default_factory=list[Seen])
    wrong: list[str] = field(default_factory=list[str])
    is_over: bool = False

    def count(self, word: str, since: float = 0.0) -> int:
        return sum(word in seen.status for seen in self.seen if seen.at >= since)

    async def until_hits(self, count: int = 30) -> None:
        """Wait for so many hits from now on: Redis is in use."""
        since = time.perf_counter()
        await self._until(lambda: self.count("hit", since) >= count)

    async def until_asked(self, count: int = 200) -> None:
        """Wait for so many answers of any kind from now on."""
        goal = len(self.seen) + count
        await self._until(lambda: len(self.seen) >= goal)

    async def lasting(self, seconds: float) -> None:
        """Wait, as a fault lasts."""
        await asyncio.sleep(seconds)

    async def _until(self, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(60):
            while not condition():
                assert not self.wrong, self.wrong[:3]
                await asyncio.sleep(0.02)

    async def ask(self, wire: Wire, number: int, ms: int = 2) -> None:
        began = time.perf_counter()
        answer = await wire.ask(request(b'{"n":%d,"ms":%d}' % (number, ms)))
        now = time.perf_counter()
        self.seen.append(Seen(now, now - began, answer.cache_status))
        if answer.status != 200 or answer.body != answer_to(number):
            self.wrong.append(f"{number}: {answer.status} {answer.body[:80]!r}")

    async def keep_asking(self, wire: Wire, pause: float) -> None:
        while not self.is_over:
            await self.ask(wire, random.randrange(QUESTIONS))
            await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def load(port: int, clients: int = 6, pause: float = 0.003) -> AsyncGenerator[Load]:
    """Ask all the time; at the end, nothing may have been wrong."""
    await accepting(port)
    asking = Load()
    async with wires(port, clients) as opened:
        tasks = [asyncio.create_task(asking.keep_asking(wire, pause)) for wire in opened]
        try:
            yield asking
        finally:
            asking.is_over = True
            results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results == [None] * clients, [each for each in results if each]
    assert asking.wrong == []


async def outliving_the_owner(
    server: RedisServer, calls: Path, *, lease: float, waiters: int = 8
) -> tuple[float, int]:
    """Kill who answers a question that others wait for; the others' model takes 50 ms.

    Returns the seconds from the kill to the last of their answers, and how often a model was
    called in all.
    """
    asking, file, seconds = Load(), str(calls), str(lease)
    with (
        service(server.url, workers=1, CALLS=file, LEASE=seconds) as doomed,
        service(server.url, workers=1, CALLS=file, LEASE=seconds, MOST_MS="50") as other,
    ):
        await accepting(doomed)
        await accepting(other)
        async with wires(doomed, 1) as (victim,), wires(other, waiters) as opened:
            lost = asyncio.create_task(asking.ask(victim, 7, ms=60_000))
            await until(lambda: count_of(calls) == 1)
            waiting = [asyncio.create_task(asking.ask(wire, 7, ms=60_000)) for wire in opened]
            await asking.lasting(0.3)
            os.kill(_first_caller(calls), signal.SIGKILL)
            killed = time.perf_counter()
            await asyncio.gather(*waiting)
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)
    assert asking.wrong == []
    return max(seen.at for seen in asking.seen) - killed, count_of(calls)


def _first_caller(calls: Path) -> int:
    return int(calls.read_text().split()[0])


def count_of(calls: Path) -> int:
    """Return how often the model was called."""
    return len(calls.read_text().splitlines()) if calls.exists() else 0


Mode = Literal["pass", "slow", "reset", "hole"]


class Proxy:
    """A network before a server, which can be slow, break off, or swallow everything."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.mode: Mode = "pass"
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; on the same port again after `refuse`."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port or free_port()
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Break all connections off, and take no new ones."""
        if self._server is not None:
            self._server.close()
        self.break_off()
        await asyncio.sleep(0)

    def become(self, mode: Mode) -> None:
        self.mode = mode
        if mode == "reset":
            self.break_off()

    def break_off(self) -> None:
        for writer in tuple(self._writers):
            own: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(inner)
            await asyncio.gather(
                self._pump(reader, inner), self._pump(inner_reader, writer), return_exceptions=True
            )
            self._writers.discard(inner)
            inner.close()
        except OSError:
            pass  # The server is not there, and this end of the line says so by closing.
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            if self.mode == "slow":
                await asyncio.sleep(0.1)  # Each way, so a round trip takes 200 ms.
            while self.mode == "hole":  # noqa: ASYNC110  (a mode is set from outside)
                await asyncio.sleep(0.02)
            if self.mode == "reset" and random.random() < 0.3:
                self.break_off()
            writer.write(chunk)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def proxied(target: int) -> AsyncGenerator[Proxy]:
    """Put a network before a server."""
    proxy = Proxy(target)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.refuse()
