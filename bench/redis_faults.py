"""What a dead Redis costs a request, and how soon its return is noticed.

Run `python -m bench.redis_faults`. Two uvicorn workers answer six clients that pause 3 ms between
questions; then Redis is stopped (it accepts and never answers), and killed. What is printed is the
time of a request beside that of the same load with a cache in memory and no hits.

Then the first 64 requests at once of a worker without a lifespan, whose answers Redis has: how
many were hits, and how long the slowest took. And a process is killed that answers a question which
eight others wait for in another process: when the last of them has its answer.
"""

import argparse
import asyncio
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.middleware.stores.faults import Load, accepting, load, outliving_the_owner, service
from tests.redis_servers import RedisServer, running
from tests.servers import wires

LEASE = 2.0  # Seconds.


def percentile(seconds: list[float], fraction: float) -> float:
    """Return the nearest rank, in milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] * 1000


def between(asking: Load, start: float, end: float) -> list[float]:
    """Return how long those requests took that were answered within a span of time."""
    return [seen.seconds for seen in asking.seen if start <= seen.at < end]


async def without_redis(seconds: float) -> list[float]:
    """Measure misses that no Redis has a part in."""
    with service("memory://", TTL="0.001") as port:
        async with load(port) as asking:
            await asking.until_asked()
            began = time.perf_counter()
            await asyncio.sleep(seconds)
            return between(asking, began, time.perf_counter())


async def during(
    server: RedisServer, kill: Callable[[], None], revive: Callable[[], None], seconds: float
) -> tuple[list[float], list[float], float]:
    """Return the times in the fault's first second, those after it, and the recovery's length."""
    with service(server.url) as port:
        async with load(port) as asking:
            await asking.until_hits()
            kill()
            began = time.perf_counter()
            await asyncio.sleep(seconds)
            revive()
            revived = time.perf_counter()
            await asking.until_hits(1)
            recovered = min(
                seen.at for seen in asking.seen if seen.at > revived and "hit" in seen.status
            )
            return (
                between(asking, began, began + 1),
                between(asking, began + 1, revived),
                recovered - revived,
            )


async def first_requests(server: RedisServer, count: int = 64) -> tuple[int, float]:
    """Return how many of a cold pool's first requests were hits, and the slowest's time."""
    with service(server.url, workers=1) as port:
        await accepting(port)
        async with wires(port, 1) as (wire,):
            for number in range(count):
                await Load().ask(wire, number)
    asking = Load()
    with service(server.url, workers=1, lifespan="off") as port:
        await accepting(port)
        async with wires(port, count) as opened:
            await asyncio.gather(*(asking.ask(wire, n) for n, wire in enumerate(opened)))
    return asking.count("hit"), max(seen.seconds for seen in asking.seen)


async def print_faults(server: RedisServer, turns: int, seconds: float) -> None:
    """Print a line for each fault."""
    base = [percentile(await without_redis(seconds), 0.99) for _ in range(turns)]
    bare = statistics.median(base)
    print(f"misses without Redis: p99 {bare:.1f} ms, of {turns} turns")
    print(f"{'':10}{'p99, 1st second':>17}{'added':>8}{'p99, then':>12}{'added':>8}{'back in':>10}")
    faults = {
        "stopped": (
            lambda: server.signal(signal.SIGSTOP),
            lambda: server.signal(signal.SIGCONT),
        ),
        "killed": (server.kill, server.start),
    }
    for name, (kill, revive) in faults.items():
        rows = [await during(server, kill, revive, seconds) for _ in range(turns)]
        first = statistics.median(percentile(row[0], 0.99) for row in rows)
        then = statistics.median(percentile(row[1], 0.99) for row in rows)
        back = max(row[2] for row in rows)
        print(
            f"{name:10}{first:14.1f} ms{first - bare:8.1f}{then:9.1f} ms{then - bare:8.1f}"
            f"{back:8.2f} s"
        )


async def main(turns: int, seconds: float) -> None:
    """Print all of it."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        await print_faults(server, turns, seconds)
        for _ in range(turns):
            hits, slowest = await first_requests(server)
            print(f"first 64 at once, cold pool: {hits} hits, slowest {slowest * 1000:.0f} ms")
        for number in range(turns):
            server.ask("FLUSHALL")
            calls = Path(folder) / f"calls{number}"
            after, called = await outliving_the_owner(server, calls, lease=LEASE)
            print(f"owner killed: last answer after {after:.2f} s, lease {LEASE} s, {called} calls")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each fault")
    options = parser.parse_args()
    asyncio.run(main(options.turns, options.seconds))
