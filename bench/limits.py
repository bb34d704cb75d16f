"""What the cache holds to: stalls of the event loop, first bytes of streams, memory.

Run `python bench/limits.py`; a million requests take about two minutes, `--requests` makes it less.
"""

import argparse
import asyncio
import resource
import statistics
import time
import tracemalloc
from typing import Any

from memoserve import CacheMiddleware, MemoryStore, Rule

PATH = "/v1/model"
MEBIBYTE = 1_048_576


def scope_of(path: str = PATH) -> dict[str, Any]:
    """Return the scope of a POST of JSON."""
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"bench"), (b"content-type", b"application/json")],
    }


async def ask(app: Any, body: bytes, chunks: int = 1) -> list[float]:
    """Send one request; return when each message of its answer came."""
    pieces = [body[n * len(body) // chunks : (n + 1) * len(body) // chunks] for n in range(chunks)]
    times: list[float] = []

    async def receive() -> Any:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        return await asyncio.Event().wait()

    async def send(_message: Any) -> None:
        times.append(time.perf_counter())

    await app(scope_of(), receive, send)
    return times


async def stream(_scope: Any, receive: Any, send: Any) -> None:
    """Answer with three chunks, a little apart."""
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(3):
        await asyncio.sleep(0.001)
        body = {"type": "http.response.body", "body": b"data: x\n\n", "more_body": number < 2}
        await send(body)


async def longest_stall(app: Any, body: bytes) -> float:
    """Return the longest time in which the loop did nothing else while a body was keyed."""
    gaps: list[float] = []

    async def tick() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - before)
            before = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    gaps.clear()
    await ask(app, body, chunks=160)  # As a server delivers it: 64 KiB at a time.
    ticking.cancel()
    return max(gaps)


async def measure_stall() -> None:
    """Print how long 10 MB of JSON hold up the event loop."""
    body = b'{"text": "%s"}' % (b"x" * 10_000_000)
    rule = Rule(PATH, max_request_bytes=20_000_000)
    app = CacheMiddleware(stream, rules=[rule], flight_max_bytes=400_000_000)
    stalls = [await longest_stall(app, body) for _ in range(9)]
    bare = [await longest_stall(stream, body) for _ in range(9)]
    print(
        f"longest stall while 10 MB are keyed: {statistics.median(stalls) * 1e3:.2f} ms "
        f"(bare app {statistics.median(bare) * 1e3:.2f} ms)"
    )


async def measure_streams() -> None:
    """Print what the first byte of a stream costs, alone and for followers."""
    app = CacheMiddleware(stream, rules=[Rule(PATH)])
    first: dict[str, list[float]] = {"bare": [], "memoserve": []}
    late: list[float] = []
    for number in range(300):
        for name, target in (("bare", stream), ("memoserve", app)):
            began = time.perf_counter()
            times = await ask(target, b'{"first":%d}' % number)
            first[name].append(times[1] - began)
        everyone = await asyncio.gather(*(ask(app, b'{"all":%d}' % number) for _ in range(20)))
        late.append(max(times[1] for times in everyone) - everyone[0][1])
    added = statistics.median(first["memoserve"]) - statistics.median(first["bare"])
    print(f"first byte of a stream: {added * 1e3:.3f} ms later than without memoserve (medians)")
    print(
        f"the last of 19 followers has its first byte {statistics.median(late) * 1e3:.3f} ms "
        f"after the leader (median; worst of 300: {max(late) * 1e3:.2f} ms)"
    )


async def measure_entries() -> None:
    """Print the memory that an entry takes beside its key and its value."""
    count, key, value = 100_000, "memoserve:%032x", b"x" * 300
    store = MemoryStore(max_bytes=1_000 * MEBIBYTE)
    tracemalloc.start()
    for number in range(count):
        await store.set(key % number, value + b"%d" % number, 300)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    payload = sum(len(key % n) + len(value) + len(b"%d" % n) for n in range(count))
    print(f"memory store: {(used - payload) / count:.0f} bytes of overhead an entry")
    await store.aclose()


async def measure_flood(requests: int) -> None:
    """Print how the process grows under questions that never repeat."""
    app = CacheMiddleware(stream_at_once, rules=[Rule(PATH)], store="memory://?max_bytes=32mb")
    sizes: list[float] = []
    for number in range(requests):
        await ask(app, b'{"question":%d}' % number)
        if number % (requests // 10) == requests // 10 - 1:
            sizes.append(resident_mebibytes())
    print(f"{requests:,} unique requests, store of 32 MiB; resident MiB after each tenth:")
    print("  " + " ".join(f"{size:.0f}" for size in sizes))


async def stream_at_once(_scope: Any, receive: Any, send: Any) -> None:
    """Answer 200 bytes."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 200})


def resident_mebibytes() -> float:
    """Return what this process has in memory now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  (no path of ours)
            return int(statm.read().split()[1]) * resource.getpagesize() / MEBIBYTE
    except OSError:  # Elsewhere only the peak is known.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main(requests: int) -> None:
    """Print all of it."""
    await measure_stall()
    await measure_streams()
    await measure_entries()
    await measure_flood(requests)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    asyncio.run(main(parser.parse_args().requests))
