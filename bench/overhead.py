"""What the cache costs in the process: a hit, a miss, and importing it.

Run `python bench/overhead.py`. Every figure is the best of several alternated rounds in one run,
on whatever machine this is: compare figures of one run, and ratios between runs.
"""

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from memoserve import CacheMiddleware, Rule

CALLS, ROUNDS = 10_000, 9

NUMBERS = itertools.count()

ANSWER = b'{"label":"POSITIVE","score":0.99}' + b" " * 87
BODY = json.dumps(
    {"text": "The staff were friendly, dinner was lovely. " * 2, "max_length": 40}
).encode()
SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/sentiment",
    "raw_path": b"/v1/sentiment",
    "query_string": b"",
    "root_path": "",
    "headers": [
        (b"host", b"127.0.0.1:8000"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"user-agent", b"bench"),
        (b"content-length", b"%d" % len(BODY)),
        (b"content-type", b"application/json"),
    ],
}


async def app(_scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer, as little as an app can do."""
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"120")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


async def receive() -> Any:
    """Deliver the request's body."""
    return {"type": "http.request", "body": BODY, "more_body": False}


async def receive_another() -> Any:
    """Deliver a body that nobody has sent before."""
    body = BODY[:-1] + b',"seed":%d}' % next(NUMBERS)
    return {"type": "http.request", "body": body, "more_body": False}


async def send(_message: Any) -> None:
    """Take what is sent."""


async def seconds_per_call(target: Any, receive: Any) -> float:
    """Time raw ASGI calls, one after the other."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await target(dict(SCOPE), receive, send)
    return (time.perf_counter() - began) / CALLS


def cached(path: str = "/v1/sentiment", **options: Any) -> CacheMiddleware:
    """Put a cache in front of the app that is full before the measurement ends."""
    return CacheMiddleware(app, rules=[Rule(path, **options)], store="memory://?max_bytes=16mb")


async def measure_calls() -> None:
    """Print microseconds for each kind of request, and what memoserve adds."""
    targets = {
        "bare app": (app, receive),
        "memory hit": (cached(), receive),
        "no rule matches": (cached("/v1/other"), receive),
        "miss, coalescing": (cached(), receive_another),
        "miss, not stored": (cached(min_cost=60), receive),
        "miss, alone": (cached(coalesce=False), receive_another),
    }
    best = dict.fromkeys(targets, float("inf"))
    for _ in range(ROUNDS):
        for name, (target, body) in targets.items():
            best[name] = min(best[name], await seconds_per_call(target, body))
    bare = best["bare app"]
    print(f"{len(BODY)} bytes of JSON, raw ASGI calls, best of {ROUNDS} x {CALLS}")
    print(f"{'':20}{'us':>8}{'added':>9}{'ratio':>8}")
    for name, seconds in best.items():
        added, ratio = (seconds - bare) * 1e6, seconds / bare
        print(f"{name:20}{seconds * 1e6:8.1f}{added:9.1f}{ratio:8.1f}")


def seconds_to_import(module: str) -> float:
    """Return the median of ten cold imports, each in a process of its own."""
    # As pip installs it: compiled, whatever this environment says of writing bytecode.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    code = (
        "import time; began = time.perf_counter()\n"
        f"import {module}\n"
        "print(time.perf_counter() - began)"
    )
    command = [sys.executable, "-c", code]
    runs = [float(subprocess.check_output(command, env=environment)) for _ in range(11)]
    return statistics.median(runs[1:])  # The first one may have compiled it.


def measure_imports() -> None:
    """Print what importing memoserve adds to importing asyncio."""
    base, full = seconds_to_import("asyncio"), seconds_to_import("asyncio, memoserve")
    print(f"\nimport asyncio {base * 1e3:.1f} ms, with memoserve {full * 1e3:.1f} ms:", end=" ")
    print(f"{(full - base) * 1e3:.1f} ms more")


if __name__ == "__main__":
    asyncio.run(measure_calls())
    measure_imports()
