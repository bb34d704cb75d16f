"""What clients have counted against what is shown, behind real servers with several workers.

The client knows the truth; it asks each question anew, so that every request is counted once.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import httpx
import pytest

from memoserve.telemetry import REQUEST_DURATION, prometheus_names
from memoserve.telemetry._workers import FLUSH_SECONDS

APP = "tests.middleware.telemetry.served:app"
COUNT = prometheus_names(REQUEST_DURATION)[1]


def command(server: str, workers: int, port: int) -> list[str]:
    """How one starts a server."""
    python = [sys.executable, "-m"]
    return {
        "uvicorn": [
            *python, "uvicorn", APP, "--workers", f"{workers}", "--port", f"{port}",
            "--log-level", "warning",
        ],
        "gunicorn": [
            *python, "gunicorn", APP, "--workers", f"{workers}", "--bind", f"127.0.0.1:{port}",
            "--worker-class", "asgi", "--log-level", "warning",
        ],
        "granian": [
            *python, "granian", APP, "--interface", "asgi", "--workers", f"{workers}",
            "--port", f"{port}", "--log-level", "warning", "--respawn-failed-workers",
        ],
    }[server]  # fmt: skip


@dataclass
class Server:
    """A server under load, and what its clients know."""

    url: str
    client: httpx.AsyncClient
    answered: int = 0
    pids: set[int] = field(default_factory=set[int])

    async def ask(self, count: int) -> None:
        """Ask new questions until so many were answered; connections may break on the way."""
        while count:
            with contextlib.suppress(httpx.TransportError):
                question = {"text": f"question {self.answered}"}
                response = await self.client.post(f"{self.url}/v1/sentiment", json=question)
                assert response.status_code == 200
                self.answered += 1
                self.pids.add(int(response.content))
                count -= 1

    async def shown(self, *, where: str = "/metrics", name: str = COUNT) -> float:
        """Ask, over a connection of its own, what was counted."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                async with httpx.AsyncClient(timeout=60) as scraper:
                    page = (await scraper.get(f"{self.url}{where}")).raise_for_status().text
                found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)
                return sum(map(float, found))

    async def workers(self) -> float:
        return await self.shown(name="memoserve_workers")

    async def until_there_are(self, workers: int) -> None:
        """Wait until all workers have started, since each counts from then on."""
        async with asyncio.timeout(120):
            while await self.workers() != workers:  # noqa: ASYNC110 - other processes have no event.
                await asyncio.sleep(0.05)

    async def until_all_is_written(self) -> None:
        """Wait until every worker must have written down what it knows."""
        async with asyncio.timeout(120):
            while await self.shown() < self.answered:  # noqa: ASYNC110 - as above.
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.5 * FLUSH_SECONDS)  # Would anything be counted twice, it came now.


@contextlib.asynccontextmanager
async def serving(server: str, workers: int) -> AsyncGenerator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {**os.environ, "OTEL_SDK_DISABLED": ""}
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and is waited for below.
        command(server, workers, port), env=environment
    )
    # Every request may meet another worker: nothing is kept alive.
    limits = httpx.Limits(max_keepalive_connections=0)
    try:
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            running = Server(f"http://127.0.0.1:{port}", client)
            await running.until_there_are(workers)
            yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("server", "workers"),
    [("uvicorn", 1), ("uvicorn", 4), ("gunicorn", 4), ("granian", 4)],
)
async def test_every_request_is_shown_once(server: str, workers: int) -> None:
    """Bug 57, bug 58."""
    async with serving(server, workers) as running:
        before = await running.shown()

        await asyncio.gather(*(running.ask(25) for _ in range(8)))
        await running.until_all_is_written()

        seen = [await running.shown() for _ in range(5)]
        plain = [await running.shown(where="/plain", name="plain_requests_total") for _ in range(5)]

    assert before == 0
    assert seen == [200] * 5
    assert (len(running.pids) > 1) == (workers > 1)
    assert (plain == seen) == (workers == 1)  # What one worker alone knows.


@pytest.mark.faults
async def test_killed_and_ended_workers_cost_no_more_than_their_last_second() -> None:
    """Bug 58: 200 scrapes while a worker is killed and another one ends; nothing ever goes down."""
    async with serving("uvicorn", 4) as running:
        await asyncio.gather(*(running.ask(50) for _ in range(4)))
        victims = sorted(running.pids)[:2]
        seen: list[float] = []

        async def scrape() -> None:
            for number in range(200):
                if number == 60:
                    os.kill(victims[0], signal.SIGKILL)
                if number == 120:
                    os.kill(victims[1], signal.SIGTERM)
                seen.append(await running.shown())
                await asyncio.sleep(0.05)

        scraping = asyncio.create_task(scrape())
        await asyncio.gather(scraping, *(_ask_until(running, scraping) for _ in range(2)))
        await running.until_there_are(4)
        await asyncio.sleep(1.5 * FLUSH_SECONDS)
        shown = await running.shown()

    assert len(seen) == 200
    assert seen == sorted(seen)
    # The scrapes took ten seconds or more, so that in a second, all four workers together have
    # answered a tenth of all at the most.
    assert running.answered * 0.9 <= shown
    # A request may be counted whose answer its client never got, since the worker died.
    assert shown <= running.answered + 2


async def _ask_until(running: Server, scraping: "asyncio.Task[None]") -> None:
    while not scraping.done():
        await running.ask(1)
