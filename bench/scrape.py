"""What scrapes cost a worker's event loop: its lag while the page is read five times a second.

Rule: the loop under measurement answers hits all the while, as in production; another process
asks for the page as Prometheus does, and every page is rendered anew.

Run it with `python bench/scrape.py`.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from memoserve import CacheMiddleware, Rule, TelemetryMiddleware
from memoserve._events import ModelCalled, RequestFinished
from memoserve.telemetry.otel import OTelObserver
from memoserve.telemetry.scrape import MetricsApp

SECONDS = 8.0
PER_SECOND = 5
SERIES = 200
BODY = b'{"text":"The staff were friendly and dinner was lovely."}'


def filled() -> OTelObserver:
    """Return an observer with as many histogram series as asked for."""
    observer = OTelObserver()
    for number in range(SERIES // 2):
        observer.observe(ModelCalled(f"model-{number}", "ok", 0.01))
        observer.observe(RequestFinished(f"model-{number}", "", "miss", "ok", 0.02, "", 0.0, None))
    return observer


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer as a small model would."""
    if scope["type"] != "http":
        return
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[int]:
    """Serve in the running loop, which is the one that is measured."""
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn gives no other sign.
        await asyncio.sleep(0.01)
    yield int(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    await task


async def lags(work: Any) -> list[float]:
    """Return by how many milliseconds each turn of the loop came late, while work is done."""
    late: list[float] = []
    task = asyncio.create_task(work)
    while not task.done():
        due = time.perf_counter() + 0.001
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - due) * 1000)
    await task
    return late


async def hits(port: int) -> None:
    """Ask the same all the time over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        b"POST /v1/sentiment HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
    )
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        writer.write(request)
        await reader.readuntil(b"{}")
        await asyncio.sleep(0.002)
    writer.close()


SCRAPER = """
import http.client, statistics, sys, time
port, per_second, seconds = map(float, sys.argv[1:])
connection = http.client.HTTPConnection("127.0.0.1", int(port))
took, end = [], time.monotonic() + seconds
while time.monotonic() < end:
    began = time.perf_counter()
    connection.request("GET", "/metrics")
    size = len(connection.getresponse().read())
    took.append((time.perf_counter() - began) * 1000)
    time.sleep(1 / per_second)
print(len(took), statistics.median(took), size / 1024)
"""


async def scraping(port: int) -> tuple[int, float, float]:
    """Read the page from another process; return how often, milliseconds (median) and KiB."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRAPER, str(port), str(PER_SECOND), str(SECONDS),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    count, median, size = output.split()
    return int(count), float(median), float(size)


async def main() -> None:
    """Measure without scrapes, then with them."""
    observer = filled()
    cached = CacheMiddleware(answer, rules=[Rule("/v1/sentiment")])
    measured: Any = TelemetryMiddleware(cached, observer=observer)
    metrics = MetricsApp(observer, max_age=0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (metrics if scope.get("path") == "/metrics" else measured)(scope, receive, send)

    async with serving(app) as port:
        quiet = await lags(hits(port))
        scraper = asyncio.create_task(scraping(port))
        scraped = await lags(hits(port))
        count, median, size = await scraper
    for name, late in (("without scrapes", quiet), (f"{PER_SECOND} scrapes a second", scraped)):
        late.sort()
        print(
            f"{name:22} loop late by {statistics.mean(late):6.3f} ms (mean),"
            f" {late[int(len(late) * 0.99)]:6.2f} (p99), {late[-1]:6.2f} (worst)"
        )
    print(f"a page has {size:.0f} KiB and came after {median:.1f} ms (median)")
    extra = (statistics.mean(scraped) - statistics.mean(quiet)) * len(scraped) / count
    print(f"of the loop's time, a scrape of {SERIES} histogram series takes {extra:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main())
