"""What telemetry adds to a request: microseconds of a bare app, and of one with the layer around.

Rule: both arms answer in-process with the same messages, take turns in short rounds, and are
compared by their fastest round, which the machine's other work has disturbed least.

Run it with `python bench/telemetry.py`.
"""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from memoserve import TelemetryMiddleware
from memoserve._asgi import ASGIApp, Receive, Scope, Send, respond
from memoserve._events import RequestRecord, RequestStarted
from memoserve.telemetry.otel import OTelObserver

_ROUNDS = 15
_REQUESTS = 4000


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a few bytes."""
    del scope, receive
    await respond(send, 200, [(b"content-length", b"2")], [b"ok"])


async def hit(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer like `bare`, and do to the record what a cache does on a hit in memory."""
    record: RequestRecord = scope["memoserve"]
    record.model, record.rule = "sentiment", "/v1/sentiment"
    record.emit(RequestStarted(record.model))
    record.status, record.saved, record.age = "hit", 0.05, 3.0
    await bare(scope, receive, send)
    record.sent = time.perf_counter()


async def microseconds(app: ASGIApp) -> float:
    """Return what a request takes in one round."""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        del message

    started = time.process_time()
    for _ in range(_REQUESTS):
        await app({"type": "http", "method": "POST", "path": "/v1/sentiment"}, receive, send)
    return (time.process_time() - started) / _REQUESTS * 1e6


async def main() -> None:
    """Run the rounds and print the figures."""
    observer = OTelObserver()
    layered = TelemetryMiddleware(hit, observer=observer)
    rounds = [(await microseconds(bare), await microseconds(layered)) for _ in range(_ROUNDS)]
    without, with_telemetry = (min(figures) for figures in zip(*rounds, strict=True))
    print(f"bare app              {without:6.2f} µs per request")
    print(f"telemetry, memory hit {with_telemetry:6.2f} µs per request")
    print(f"difference            {with_telemetry - without:6.2f} µs")


if __name__ == "__main__":
    asyncio.run(main())
