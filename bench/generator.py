"""What the load generator can send from one process, and what it costs to remember it.

Rule: ratios of one run. Server and generator share the machine's cores, so each transport meets the
same server one after the other, and the plain client of httpx is in the same table.
"""

import argparse
import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

from loadgen import Plan, Poisson, Uniform
from loadgen.outcome import CacheStatus, Outcome
from loadgen.records import Records, summarize
from loadgen.runner import Run
from loadgen.target import Target
from loadgen.transport import check_url
from loadgen.verdict import Thresholds, judge
from loadgen.workers import Workers

Transport = Literal["lifo", "aiohttp", "httpx"]

_CASES: tuple[tuple[Transport, float], ...] = (
    ("httpx", 500),
    ("httpx", 1000),
    ("lifo", 500),
    ("lifo", 1000),
    ("lifo", 2000),
    ("aiohttp", 1000),
    ("aiohttp", 2000),
)
_STALL = 0.6  # Seconds of every three.


def main() -> None:
    """Measure; `--serve NAME` is what this program starts beside itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=8.0, help="seconds of each case")
    parser.add_argument("--serve", choices=["hit", "stall"])
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(arguments.serve)
        return
    print("one process, open loop, POST of JSON to uvicorn on loopback (uvloop, httptools)\n")
    with _server("hit") as url:
        _print_head()
        for transport, rate in _CASES:
            asyncio.run(_measure(url, transport, rate, arguments.duration))
    with _server("stall") as url:
        asyncio.run(_show_stall(url))
    _measure_memory()


async def _measure(url: str, transport: Transport, rate: float, duration: float) -> None:
    plan = _plan(rate, duration)
    async with Workers(Target(url=url, transport=transport)) as workers:
        run = await workers.drive(plan)
    _print_row(transport, rate, run)


def _plan(rate: float, duration: float) -> Plan:
    return Plan(
        law=Uniform(200), arrivals=Poisson(rate), duration=duration, mix={"sentiment": 1}, salt="b"
    )


def _print_head() -> None:
    print(
        "transport   asked/s  sent/s   done/s  dropped  lag p50    p99  response p50     p99   cpu"
    )


def _print_row(transport: str, rate: float, run: Run) -> None:
    records = run.records
    lag = summarize(records.lags())
    response = summarize(records.responses(records.rows()))
    findings = judge(run, run.explain(), Thresholds(), cold=False)
    verdict = max((finding.exit for finding in findings), default=0)
    print(
        f"{transport:<10} {rate:>8,.0f} {records.started / run.plan.duration:>7,.0f} "
        f"{records.finished / run.elapsed:>8,.0f} {records.dropped:>8,} "
        f"{lag.p50 * 1e3:>8.2f} {lag.p99 * 1e3:>6.1f} {response.p50 * 1e3:>13.1f} "
        f"{response.p99 * 1e3:>7.1f} {run.cpu:>5.0%}   exit {int(verdict)}"
    )


async def _show_stall(url: str) -> None:
    """Coordinated omission: the same server, asked on time and asked in turn."""
    async with Workers(Target(url=url)) as workers:
        run = await workers.drive(_plan(50, 15))
    rows = run.records.rows()
    response, service = run.records.responses(rows), run.records.services(rows)
    print(
        f"\na server that takes up nothing during {_STALL} of every 3 s, 50 requests/s:\n"
        f"  response p90 {summarize(response).p90 * 1e3:.0f} ms, "
        f"service p50 {summarize(service).p50 * 1e3:.1f} ms"
    )


def _measure_memory() -> None:
    """Record a million requests, and read every percentile of them."""
    count = 1_000_000
    before = _resident()
    records, status = Records(count), CacheStatus(Outcome.HIT, 300)
    started = time.perf_counter()
    for row in range(count):
        records.send(row, due=row, now=row)
        records.answer(row, now=row + 0.001 * (row % 997), first=row, status=200, cache=status)
    recorded = time.perf_counter()
    held = _resident() - before
    summary = summarize(records.responses(records.rows()))
    print(
        f"\n{count:,} requests recorded: {held / 1e6:.0f} MB, {(recorded - started):.1f} µs each; "
        f"exact percentiles in {time.perf_counter() - recorded:.1f} s "
        f"(p99 {summary.p99 * 1e3:.0f} ms), peak {_peak() / 1e6:.0f} MB of the whole process"
    )
    assert summary.p99 == 0.001 * 987 or abs(summary.p99 - 0.987) < 1e-6  # noqa: S101  (a benchmark checks itself)


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (no file on a disk)
        return int(file.read().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _server(name: str) -> Generator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.generator", "--serve", name],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101  (it was asked for)
        yield check_url(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()


def _serve(name: str) -> None:
    import socket  # noqa: PLC0415  (only the server needs them)

    import uvicorn  # noqa: PLC0415  (only the server process needs it)

    # With the protocol named: only then do asyncio and uvloop set TCP_NODELAY, and headers and
    # body, written one after the other, do not wait 40 ms for each other's acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        {"hit": _hit, "stall": _stalling}[name], log_level="warning", lifespan="off", ws="none"
    )
    uvicorn.Server(config).run(sockets=[listener])  # With uvloop.


async def _hit(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"20"),
        (b"cache-status", b"memoserve; hit; ttl=300"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"label":"POSITIVE"}'})


async def _stalling(scope: Any, receive: Any, send: Any) -> None:
    now = asyncio.get_running_loop().time() % 3
    if now < _STALL:
        time.sleep(_STALL - now)  # noqa: ASYNC251  (the point: nothing is taken up meanwhile)
    await _hit(scope, receive, send)


if __name__ == "__main__":
    main()
