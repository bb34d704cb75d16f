# ruff: noqa: T201  (a script, whose report is what it prints)
"""Twenty minutes of load on a service whose Redis has a fault every thirty seconds.

Run `python -m tests.soak`, or with `--minutes`. Every answer is compared with the model's. At the
end memory, connections and tasks of the service must be what they were after the first tenth, and
its counters must add up: requests = hit + stale + coalesced + miss + bypass + error.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis

from tests.middleware.stores.faults import Load, load, service
from tests.redis_servers import RedisServer, running

FAULT_EVERY, FAULT_SECONDS = 30.0, 5.0
Fault = Callable[[RedisServer], Awaitable[None]]


async def stop(server: RedisServer) -> None:
    """Let it accept and never answer."""
    server.signal(signal.SIGSTOP)
    await asyncio.sleep(FAULT_SECONDS)
    server.signal(signal.SIGCONT)


async def kill(server: RedisServer) -> None:
    """Let it be away."""
    server.kill()
    await asyncio.sleep(FAULT_SECONDS)
    await asyncio.to_thread(server.start)


async def flush(server: RedisServer) -> None:
    """Let it lose everything."""
    await asyncio.to_thread(server.ask, "FLUSHALL")


async def fill(server: RedisServer) -> None:
    """Let it refuse to write."""
    await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", 1)
    await asyncio.sleep(FAULT_SECONDS)
    await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", 0)


async def kill_clients(server: RedisServer) -> None:
    """Let it break connections off, again and again."""
    for _ in range(20):
        for kind in ("normal", "pubsub"):
            with contextlib.suppress(redis.RedisError):
                await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", kind)
        await asyncio.sleep(FAULT_SECONDS / 20)


FAULTS: tuple[Fault, ...] = (stop, kill, flush, fill, kill_clients)


def read_state(port: int) -> dict[str, float]:
    """Ask the service what it holds and has counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/state", timeout=10) as answer:
        state: dict[str, float] = json.load(answer)
    return state


async def state_of(port: int) -> dict[str, float]:
    return await asyncio.to_thread(read_state, port)


async def soak(url: str, server: RedisServer, seconds: float) -> bool:
    """Run it; tell whether all is as it should be."""
    with service(url, workers=1, LEASE="2", TTL="5") as port:
        async with load(port, clients=8, pause=0.002) as asking:
            began = time.perf_counter()
            await asyncio.sleep(seconds / 10)
            first = await state_of(port)
            faults = 0
            while time.perf_counter() - began < seconds:
                fault = random.choice(FAULTS)
                await fault(server)
                faults += 1
                await asyncio.sleep(min(FAULT_EVERY, seconds / 10))
                report(fault.__name__, asking, await state_of(port))
            await asking.until_hits()
        await asyncio.sleep(3)  # What runs behind ends.
        return judge(first, await state_of(port), asking, faults)


def report(fault: str, asking: Load, state: dict[str, float]) -> None:
    print(
        f"{fault:14}{len(asking.seen):9} asked, {len(asking.wrong)} wrong; RSS "
        f"{state['rss'] / 2**20:.1f} MiB, {state['sockets']:.0f} sockets, "
        f"{state['tasks']:.0f} tasks",
        flush=True,
    )


def judge(first: dict[str, float], last: dict[str, float], asking: Load, faults: int) -> bool:
    """Print what was asked for and what is, and tell whether it is so."""
    words = ("hit", "stale", "coalesced", "miss", "bypass", "error")
    counted = sum(last.get(word, 0) for word in words)
    claims = {
        f"{faults} faults, {len(asking.seen)} answers, 0 wrong": not asking.wrong,
        f"counters add up: {last['requests']:.0f} requests, {counted:.0f} by status": (
            counted == last["requests"] == len(asking.seen)
        ),
        f"RSS flat: {first['rss'] / 2**20:.1f}, {last['rss'] / 2**20:.1f} MiB": (
            last["rss"] < first["rss"] * 1.1
        ),
        f"sockets flat: {first['sockets']:.0f}, {last['sockets']:.0f}": (
            last["sockets"] <= first["sockets"]
        ),
        f"tasks flat: {first['tasks']:.0f}, {last['tasks']:.0f}": last["tasks"] <= first["tasks"],
    }
    print(Counter(seen.status.partition("; ")[2].partition("; ttl")[0] for seen in asking.seen))
    for claim, is_true in claims.items():
        print("ok   " if is_true else "WRONG", claim)
    return all(claims.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--scheme", default="", help="`tiered+` puts memory in front")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        is_well = asyncio.run(soak(f"{options.scheme}{server.url}", server, options.minutes * 60))
    sys.exit(not is_well)


if __name__ == "__main__":
    main()
