"""Real redis-server processes on 127.0.0.1: alone, as a Cluster, and behind Sentinels.

Rule: each process listens on ports that were free, keeps nothing on disk but its own folder, and
ends with the block that started it.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

SLOTS = 16_384


def free_port() -> int:
    """Return a port that nobody listens on, nor on the one 10,000 higher (a Cluster's bus)."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        if port < 55_000:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port + 10_000)):
                return port


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for other processes, which have no event to set."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < deadline, "a server took too long"
        time.sleep(0.02)


class RedisServer:
    """One process; it can be killed, stopped, and started again on its port."""

    def __init__(
        self, folder: Path, *options: str, port: int = 0, is_sentinel: bool = False
    ) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        if is_sentinel:
            config = folder / "sentinel.conf"
            config.touch()
            self._command = [program, str(config), "--sentinel", *common, *options]
        else:
            self._command = [
                program,
                *common,
                "--save",
                "",
                "--repl-diskless-sync-delay",
                "0",
                *options,
            ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *options: str) -> None:
        assert self._process is None
        self._process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL)
        until(self._is_listening)

    def _is_listening(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *command: Any, password: str | None = None) -> Any:
        """Have the server answer a command, over a connection of its own."""
        client: Any = redis.Redis(port=self.port, password=password, socket_timeout=10, protocol=2)
        try:
            return client.execute_command(*command)
        finally:
            client.close()


@contextlib.contextmanager
def running(folder: Path, *options: str, **more: Any) -> Iterator[RedisServer]:
    """Run one server."""
    server = RedisServer(folder, *options, **more)
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[list[RedisServer]]:
    """Run a Cluster of three primaries, which come first, and a replica of each."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(running(folder / str(n), *CLUSTER_OPTIONS)) for n in range(6)
        ]
        form_cluster(servers)
        yield servers


CLUSTER_OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1500")


def form_cluster(servers: Sequence[RedisServer]) -> None:
    """Make one Cluster of six servers."""
    primaries, replicas = servers[:3], servers[3:]
    edges = [0, 5461, 10_923, SLOTS]
    for first, last, server in zip(edges, edges[1:], primaries, strict=False):
        server.ask("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
    for number, server in enumerate(servers):
        server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        if number:
            server.ask("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
    ids = [_text(server.ask("CLUSTER", "MYID")) for server in servers]
    until(lambda: all(_knows(server, ids) for server in servers))
    for replica, primary in zip(replicas, ids, strict=False):
        replica.ask("CLUSTER", "REPLICATE", primary)
    until(lambda: all(map(_is_up, servers)) and all(map(is_synced, replicas)))


def _knows(server: RedisServer, ids: Sequence[str]) -> bool:
    nodes = str(server.ask("CLUSTER", "NODES"))
    return all(each in nodes for each in ids) and "handshake" not in nodes


def _is_up(server: RedisServer) -> bool:
    return b"cluster_state:ok" in server.ask("CLUSTER", "INFO")


def is_synced(replica: RedisServer) -> bool:
    """Tell whether a replica has all that its primary has."""
    return bool(replica.ask("INFO", "replication").get("master_link_status") == "up")


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


@contextlib.contextmanager
def sentinels(folder: Path) -> Iterator[tuple[list[RedisServer], list[RedisServer]]]:
    """Run a master and a replica, and three Sentinels that watch them as `mymaster`."""
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(running(folder / "master"))
        replica = stack.enter_context(
            running(folder / "replica", "--replicaof", f"127.0.0.1 {master.port}")
        )
        until(lambda: is_synced(replica))
        watchers = [
            stack.enter_context(running(folder / f"sentinel{n}", is_sentinel=True))
            for n in range(3)
        ]
        for watcher in watchers:
            watcher.ask("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", master.port, 2)
            watcher.ask("SENTINEL", "SET", "mymaster", "down-after-milliseconds", 1000)
            watcher.ask("SENTINEL", "SET", "mymaster", "failover-timeout", 3000)
        until(lambda: all(_sees_all(watcher) for watcher in watchers))
        yield [master, replica], watchers


def _sees_all(watcher: RedisServer) -> bool:
    answer = watcher.ask("SENTINEL", "MASTER", "mymaster")
    fields = dict(zip(answer[::2], answer[1::2], strict=True))
    return (fields[b"num-slaves"], fields[b"num-other-sentinels"]) == (b"1", b"2")
