"""Requests per second through a real server, side by side: the bare app, memoserve, and others.

Run `python bench/throughput.py` on a machine with `wrk` and two quiet cores: uvicorn has the one,
wrk the other. All servers are up all the time; their turns alternate, and what is printed is the
median of the turns and its ratio to the bare app's. Believe the ratios.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
CONNECTIONS = 16

# Name, app, method, and whether every question is a new one.
REPEATED = [
    ("bare app", "apps:bare", "POST"),
    ("memoserve, memory hit", "apps:hit", "POST"),
    ("memoserve, hit with telemetry", "apps:hit_measured", "POST"),
    ("Litestar's response cache (GET)", "apps:litestar_cached", "GET"),
    ("FastAPI with fastapi-cache2 (GET)", "apps:fastapi_cached", "GET"),
]
# A model computes; a handler that sleeps leaves the core to the server, which is then full with
# requests, so that every microsecond of a miss shows.
COMPUTING = [
    ("1 ms of computing, bare", "apps:computing", "POST"),
    ("1 ms of computing, all misses", "apps:computing_cached", "POST"),
]
SLEEPING = [
    ("1 ms of sleep, bare", "apps:sleeping", "POST"),
    ("1 ms of sleep, all misses", "apps:sleeping_cached", "POST"),
]


@contextmanager
def serving(target: str) -> Generator[str]:
    """Serve one of `bench/apps.py` on the first core; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *pinned(0), sys.executable, "-m", "uvicorn", target, "--app-dir", str(HERE),
        "--port", str(port), "--log-level", "warning", "--lifespan", "off", "--no-access-log",
    ]  # fmt: skip
    if target in {"apps:litestar_cached", "apps:fastapi_cached"}:
        command.append("--factory")
    server = subprocess.Popen(command)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/v1/sentiment"
    finally:
        server.terminate()
        server.wait()


def pinned(core: int) -> list[str]:
    """Return what keeps a program on one core, where that can be had."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ["taskset", "-c", str(cores[core])] if len(cores) > 1 else []


def wait_for(port: int) -> None:
    """Wait until a server accepts."""
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


def requests_per_second(
    url: str, method: str, seconds: float, unique: str = "", connections: int = CONNECTIONS
) -> float:
    """Have wrk ask for some seconds; whatever is no 2xx ends the measurement."""
    script = ["-s", str(HERE / "post.lua")] if method == "POST" else []
    command = [*pinned(1), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", *script, url]
    environment = {**os.environ, "UNIQUE": unique} if unique else None
    report = subprocess.check_output(command, text=True, env=environment)
    if "Non-2xx" in report or "Socket errors" in report:
        raise RuntimeError(report)
    found = re.search(r"Requests/sec:\s+([\d.]+)", report)
    if found is None:
        raise RuntimeError(report)
    return float(found[1])


def compare(
    contenders: list[tuple[str, str, str]],
    turns: int,
    *,
    unique: bool,
    connections: int = CONNECTIONS,
) -> None:
    """Print a table whose first row is what the others are measured by."""
    rates: dict[str, list[float]] = {name: [] for name, _, _ in contenders}
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(target)) for _, target, _ in contenders]
        for turn in range(-1, turns):  # The first one warms up.
            for (name, _, method), url in zip(contenders, urls, strict=True):
                salt = f"{name}-{turn}" if unique else ""
                rate = requests_per_second(url, method, 2, salt, connections)
                if turn >= 0:
                    rates[name].append(rate)
    first = rates[contenders[0][0]]
    print(f"\n{'':38}{'requests/s':>12}{'of the first':>14}{'from':>7}{'to':>7}")
    for name, measured in rates.items():
        ratios = [mine / base for mine, base in zip(measured, first, strict=True)]
        middle = statistics.median(ratios)
        print(
            f"{name:38}{statistics.median(measured):12.0f}{middle:14.2f}{min(ratios):7.2f}{max(ratios):7.2f}"
        )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="of 2 s for each contender")
    turns: int = parser.parse_args().turns
    if shutil.which("wrk") is None:
        sys.exit("bench/throughput.py needs wrk: apt-get install wrk")
    print(f"uvicorn, one worker; wrk, {CONNECTIONS} connections; medians of {turns} turns of 2 s")
    compare(REPEATED, turns, unique=False)
    compare(COMPUTING, turns, unique=True)
    compare(SLEEPING, turns, unique=True)


if __name__ == "__main__":
    main()
