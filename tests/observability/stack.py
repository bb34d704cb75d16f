"""The reference app with Redis, its exporter and Prometheus around it: real programs, free ports.

Rule: whatever was started ends with the block that started it.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

__all__ = ["PROGRAMS", "Stack", "running"]

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ("redis-server", "prometheus", "prometheus-redis-exporter")

QUESTIONS = [
    f"The staff at table {number} were friendly and dinner was lovely." for number in range(40)
]
REPORT = (
    "A storm reached Leeds on Friday. The wind tore the roof off the theatre. 310 homes lost power."
)
CONTEXT = "Mira Castell founded Juno Energy in 1982. Juno Energy makes watches."


@dataclass
class Stack:
    """What runs, and how to ask it."""

    apps: list[str]
    prometheus: str
    redis: "subprocess.Popen[bytes]"
    client: httpx.AsyncClient
    started: float = field(default_factory=time.time)

    async def query(self, expr: str, *, is_instant: bool = False) -> list[dict[str, Any]]:
        """Return the series that Prometheus answers with, over all the time since the start."""
        now = time.time()
        if is_instant:
            path, span = "query", {"time": now}
        else:
            path, span = "query_range", {"start": self.started, "end": now, "step": 1}
        answer = await self.client.post(
            f"{self.prometheus}/api/v1/{path}", data={"query": expr, **span}
        )
        assert answer.status_code == 200, f"{expr}: {answer.text}"
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    async def load(self, seconds: float) -> None:
        """Send all kinds of requests, several at once."""
        end = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < end:
            rounds += 1
            await asyncio.gather(*(self._round(app, rounds) for app in self.apps))

    async def load_until(self, app: str, metric: str) -> None:
        """Send requests until an app shows a metric."""
        async with asyncio.timeout(120):
            while metric not in (await self.client.get(f"{app}/metrics")).text:
                await self.load(1)

    async def _round(self, app: str, number: int) -> None:
        same = {"text": f"Nobody has asked this before: {number} of {app}"}
        body = b'{"text": "twice", "text": "the same name"}'
        json_type = {"content-type": "application/json"}
        ask = self.client.post
        await asyncio.gather(
            *(
                ask(f"{app}/v1/sentiment", json={"text": QUESTIONS[(number + n) % 40]})
                for n in range(6)
            ),
            *(ask(f"{app}/v1/sentiment", json=same) for _ in range(3)),
            ask(f"{app}/v1/summarize", json={"text": f"{REPORT} {number % 12}"}),
            ask(f"{app}/v1/answer", json={"question": "Who founded it?", "context": CONTEXT}),
            ask(f"{app}/v1/sentiment", json=same, headers={"authorization": "Bearer mine"}),
            ask(f"{app}/v1/sentiment", content=body, headers=json_type),
        )

    @contextlib.contextmanager
    def redis_hanging(self) -> Generator[None]:
        """Let Redis take connections and answer none, as a machine does that swaps."""
        self.redis.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.redis.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Stack]:
    """Start everything, wait until it answers, and end it."""
    redis_port, exporter_port, prometheus_port, *app_ports = free_ports(5)
    store = f"redis://127.0.0.1:{redis_port}/0"
    with contextlib.ExitStack() as ending:
        redis = start(
            ending, "redis-server", "--port", redis_port, "--save", "", "--maxmemory", "64mb"
        )
        start(
            ending, "prometheus-redis-exporter", "--redis.addr", f"redis://127.0.0.1:{redis_port}",
            "--web.listen-address", f"127.0.0.1:{exporter_port}",
        )  # fmt: skip
        # One with several workers and Redis, one alone with a memory that is too small.
        serve(ending, app_ports[0], workers=2, STORE_URL=store)
        # And two variants, since the dashboard compares them.
        variants = {"CANARY": "bundled", "CANARY_SHARE": "0.5"}
        serve(ending, app_ports[1], workers=1, STORE_URL="memory://?max_bytes=20kb", **variants)
        config = configured(folder, app_ports, exporter_port)
        start(
            ending, "prometheus", f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{prometheus_port}", "--log.level=warn",
        )  # fmt: skip
        async with httpx.AsyncClient(timeout=60) as client:
            apps = [f"http://127.0.0.1:{port}" for port in app_ports]
            stack = Stack(apps, f"http://127.0.0.1:{prometheus_port}", redis, client)
            for url in (*(f"{app}/health/ready" for app in apps), f"{stack.prometheus}/-/ready"):
                await until_ready(client, url)
            stack.started = time.time()
            yield stack


def start(
    ending: contextlib.ExitStack, program: str, *arguments: object, **variables: str
) -> "subprocess.Popen[bytes]":
    """Start a program that ends with the stack."""
    process = subprocess.Popen(
        [program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ending.callback(end, process)
    return process


def end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)  # Who is stopped cannot end.
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(ending: contextlib.ExitStack, port: int, workers: int, **variables: str) -> None:
    start(
        ending, sys.executable, "-m", "uvicorn", "reference_app.app:app", "--port", port,
        "--workers", workers, "--log-level", "warning", LOG_LEVEL="error", **variables,
    )  # fmt: skip


def configured(folder: Path, app_ports: list[int], exporter_port: int) -> Path:
    """Write the project's own configuration down, with these addresses and a shorter interval."""
    source = ROOT / "observability" / "prometheus"
    for rules in ("rules.yml", "alerts.yml"):
        shutil.copy(source / rules, folder / rules)
    config = yaml.safe_load((source / "prometheus.yml").read_text())
    config["global"].update(scrape_interval="1s", scrape_timeout="1s", evaluation_interval="1s")
    targets = {"memoserve": app_ports, "redis": [exporter_port]}
    for job in config["scrape_configs"]:
        if (ports := targets.get(job["job_name"])) is not None:
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    config["scrape_configs"] = [j for j in config["scrape_configs"] if j["job_name"] in targets]
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML.
    return folder / "prometheus.yml"


async def until_ready(client: httpx.AsyncClient, url: str) -> None:
    async with asyncio.timeout(180):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as ending:
        sockets = [
            ending.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [each.getsockname()[1] for each in sockets]


def numbers(series: dict[str, Any]) -> list[float]:
    """Return what a series says that is a number."""
    pairs = series.get("values") or [series["value"]]
    return [float(value) for _, value in pairs if not re.match(r"NaN|[+-]?Inf", value)]
