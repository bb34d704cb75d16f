"""The processes of the stack, and their addresses.

Rule: what is started is kept in one list and ended in the opposite order, by its own id.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

__all__ = ["Replica", "Stack"]

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_PATIENCE = 240.0  # Seconds until all models are loaded, on a slow and busy machine too.
_GRACE = 20.0  # Seconds that a process has to end by itself.


class Replica:
    """One replica of the app: its port, and the process that has it at the moment."""

    def __init__(self, port: int, workers: int, environment: dict[str, str]) -> None:
        self.port = port
        self._command = [sys.executable, "-m", "reference_app", "--port", str(port)]
        if workers > 1:
            self._command += ["--workers", str(workers)]
        self._environment = environment
        self.process = self._start()

    @property
    def url(self) -> str:
        """Its own address, past nginx."""
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """End it as a roll-out does, and start its successor."""
        self.stop(signal.SIGTERM)
        self.process = self._start()

    def stop(self, how: signal.Signals) -> None:
        """End it: politely with SIGTERM; with SIGKILL all its workers at once."""
        if self.process.poll() is None:
            if how is signal.SIGKILL:
                os.killpg(self.process.pid, how)
            else:
                self.process.send_signal(how)
            _await_end(self.process)

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self._command,
            cwd=_ROOT,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )


class Stack:
    """nginx, replicas, Redis and Prometheus, from `with` on until its end.

    Args:
        port: Where nginx listens; 0 takes a free one.
        replicas: Of the app.
        workers: Of each replica.
        environment: Further settings of the app.

    Raises:
        RuntimeError: A program is not installed, or did not start.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        replicas: int = 2,
        workers: int = 2,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._port = port or _free_port()
        self._workers = workers
        self._extra = environment or {}
        self._redis_port, self._prometheus_port, *self._ports = (
            _free_port() for _ in range(2 + replicas)
        )
        self._password = secrets.token_urlsafe(16)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._cleanup = ExitStack()
        self.replicas: list[Replica] = []

    @property
    def url(self) -> str:
        """Where nginx answers."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""
        return f"http://127.0.0.1:{self._prometheus_port}"

    def __enter__(self) -> Self:
        """Start everything and wait until it answers."""
        try:
            folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory()))
            self._start_redis(folder)
            self._start_replicas()
            self._start_nginx(folder)
            self._start_prometheus(folder)
            for replica in self.replicas:
                self.wait_for(f"{replica.url}/health/ready")
            self.wait_for(f"{self.url}/health/ready")
            self.wait_for(f"{self.prometheus_url}/-/ready")
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End everything."""
        self._cleanup.close()

    def check(self) -> None:
        """See whether everything still runs.

        Raises:
            RuntimeError: Something does not.
        """
        running = {**self._processes, **{f"replica on {r.port}": r.process for r in self.replicas}}
        for name, process in running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with code {process.returncode}")

    def wait_for(self, url: str) -> None:
        """Wait until an address answers with 200.

        Raises:
            RuntimeError: It does not, or something of the stack has ended.
        """
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"{url} does not answer")

    def _start_redis(self, folder: Path) -> None:
        settings = {
            "port": str(self._redis_port),
            "bind": "127.0.0.1",
            "requirepass": self._password,
            "maxmemory": "256mb",
            "maxmemory-policy": "allkeys-lru",
            "save": "",
            "dir": str(folder),
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._start("redis-server", *arguments)

    def _start_replicas(self) -> None:
        environment = {
            "MODELS": "bundled",
            "LOG_LEVEL": "warning",
            **os.environ,
            **self._extra,
            "LOAD_FIRST": "true",
            "STORE_URL": f"redis://:{self._password}@127.0.0.1:{self._redis_port}/0",
        }
        for port in self._ports:
            replica = Replica(port, self._workers, environment)
            self._cleanup.callback(replica.stop, signal.SIGTERM)
            self.replicas.append(replica)

    def _start_nginx(self, folder: Path) -> None:
        prefix = folder / "nginx"
        (prefix / "run").mkdir(parents=True)
        shared = (_HERE / "nginx.conf").read_text(encoding="utf-8")
        (prefix / "nginx.conf").write_text(
            shared.replace("listen 8000;", f"listen 127.0.0.1:{self._port};"), encoding="utf-8"
        )
        servers = "".join(
            f"    server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;\n" for port in self._ports
        )
        (prefix / "upstream.conf").write_text(
            f"upstream app {{\n{servers}    keepalive 64;\n    keepalive_timeout 4s;\n}}\n",
            encoding="utf-8",
        )
        self._start("nginx", "-p", str(prefix), "-c", "nginx.conf", "-e", "stderr")

    def _start_prometheus(self, folder: Path) -> None:
        config = folder / "prometheus.yml"
        config.write_bytes(msgspec.yaml.encode(self._prometheus_config()))
        self._start(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self._prometheus_port}",
            "--log.level=warn",
        )

    def _prometheus_config(self) -> dict[str, Any]:
        """Return the stack's own configuration with the targets of this machine."""
        source = _ROOT / "observability" / "prometheus" / "prometheus.yml"
        config: dict[str, Any] = msgspec.yaml.decode(source.read_bytes())
        config["rule_files"] = [str(source.parent / name) for name in config["rule_files"]]
        targets = [f"127.0.0.1:{port}" for port in self._ports]
        config["scrape_configs"] = [
            {"job_name": "memoserve", "static_configs": [{"targets": targets}]}
        ]
        return config

    def _start(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if path is None:
            raise RuntimeError(f"{program} is not installed")
        process = subprocess.Popen([path, *arguments], stdout=subprocess.DEVNULL)
        self._processes[program] = process
        self._cleanup.callback(_end, process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        _await_end(process)


def _await_end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
