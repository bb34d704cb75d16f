"""What a hit in Redis costs, side by side with the least that an app could do: one GET a request.

Run `python -m bench.redis_hits` where `wrk`, `redis-server` and two quiet cores are: uvicorn has
the one, wrk and Redis share the other. Believe the ratios.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from bench.throughput import compare, pinned, wait_for

CONTENDERS = [
    ("one redis.asyncio GET a request", "redis_apps:one_get", "POST"),
    ("memoserve, Redis hit", "redis_apps:hit", "POST"),
    ("memoserve, memory before Redis", "redis_apps:tiered_hit", "POST"),
    ("memoserve, memory hit", "redis_apps:memory_hit", "POST"),
]


@contextmanager
def redis_server() -> Generator[str]:
    """Run a Redis of our own on the second core; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [*pinned(1), "redis-server", "--port", str(port), "--bind", "127.0.0.1"]
    server = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Print a table for each number of connections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="of 2 s for each contender")
    turns: int = parser.parse_args().turns
    for program in ("wrk", "redis-server"):
        if shutil.which(program) is None:
            sys.exit(f"bench/redis_hits.py needs {program}")
    with redis_server() as url:
        os.environ["BENCH_REDIS"] = url
        for connections in (16, 64):
            print(f"\nuvicorn, one worker; wrk, {connections} connections; {turns} turns of 2 s")
            compare(CONTENDERS, turns, unique=False, connections=connections)


if __name__ == "__main__":
    main()
