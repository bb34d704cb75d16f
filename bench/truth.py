"""What Prometheus believes of four workers, beside what their clients know.

Rule: the same requests are counted twice, by memoserve and by OpenTelemetry's own Prometheus
exporter in each worker, and the same Prometheus scrapes both. The clients' count is the truth.

Run it with `python bench/truth.py [SECONDS]` where Debian's `prometheus` is installed.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
APP = "tests.middleware.telemetry.served:app"
WORKERS = 4
# Above uvicorn's keep-alive of 5 s, so that each scrape may meet another worker.
INTERVAL = 6
OURS = "memoserve_request_duration_seconds_count"
PLAIN = "plain_requests_total"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def configuration(port: int) -> dict[str, Any]:
    """Return a Prometheus configuration that scrapes both pages of one server."""
    jobs = [
        {
            "job_name": name,
            "metrics_path": path,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for name, path in (("memoserve", "/metrics"), ("plain", "/plain"))
    ]
    interval = f"{INTERVAL}s"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": jobs,
    }


async def ask_for(seconds: float, url: str, per_second: float) -> int:
    """Send new questions at a steady rate; return how many were answered."""
    answered = 0
    limits = httpx.Limits(max_keepalive_connections=0)  # Every request may meet another worker.
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            response = await client.post(f"{url}/v1/sentiment", json={"text": str(answered)})
            answered += response.status_code == 200
            await asyncio.sleep(1 / per_second)
    return answered


async def measure(seconds: float, prometheus: str, url: str) -> None:
    """Let traffic come and go, and print who saw how much of it."""
    async with httpx.AsyncClient(timeout=60) as client:

        async def query(expr: str) -> float:
            answer = await client.get(f"{prometheus}/api/v1/query", params={"query": expr})
            result = answer.json()["data"]["result"]
            return float(result[0]["value"][1]) if result else 0.0

        # One request first, so that the series are there before what is counted.
        started = time.monotonic()
        early = await ask_for(1, url, 10)
        await asyncio.sleep(3 * INTERVAL)
        true = await ask_for(seconds, url, 20)
        await asyncio.sleep(3 * INTERVAL)
        span = int(time.monotonic() - started)
        print(f"{true} requests were answered in {seconds:.0f} s; {early} before, to begin with")
        print(f"{'':28}{'counted':>9}{'increase()':>12}{'off by':>9}{'resets':>8}{'peak rate':>11}")
        for name, metric in (("memoserve", OURS), ("OpenTelemetry's exporter", PLAIN)):
            counted = await query(f"sum(increase({metric}[{span}s]))")
            resets = await query(f"max(resets({metric}[{span}s]))")
            last = await query(f"sum({metric})") - early
            rate = f"sum(rate({metric}[{4 * INTERVAL}s]))"
            peak = await query(f"max_over_time(({rate})[{span}s:{INTERVAL}s])")
            off = (counted - true) / true
            print(f"{name:28}{last:9.0f}{counted:12.0f}{off:9.1%}{resets:8.0f}{peak:9.1f}/s")


async def main() -> None:
    """Start four workers and Prometheus, and measure."""
    # Prometheus stretches what it saw to the ends of the range, by an interval at the most.
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 180.0
    port, prometheus_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ending:
        config = Path(folder) / "prometheus.yml"
        config.write_text(json.dumps(configuration(port)))
        commands = [
            [
                sys.executable, "-m", "uvicorn", APP, "--workers", str(WORKERS),
                "--port", str(port), "--log-level", "warning",
            ],
            [
                "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{prometheus_port}", "--log.level=error",
            ],
        ]  # fmt: skip
        for command in commands:
            process = subprocess.Popen(command, cwd=ROOT)  # noqa: ASYNC220 - it starts at once.
            ending.callback(process.wait)
            ending.callback(process.terminate)
        await asyncio.sleep(5)
        await measure(seconds, f"http://127.0.0.1:{prometheus_port}", f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    asyncio.run(main())
