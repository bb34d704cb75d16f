"""Servers that are processes of their own.

Rule: what was started is ended, by its id, with all that it has started itself: it gets a session
of its own for that.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

__all__ = ["HostEndedError", "free_port", "read_options", "running", "write_options"]

ROOT = Path(__file__).parent.parent.parent
_PATIENCE = 120.0  # Seconds until a server that does not start has failed.


class HostEndedError(ValueError):
    """The server has refused to start, and says why."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def write_options(folder: Path, options: Mapping[str, Any] | None) -> None:
    """Leave the options of the contract for a process; with None it is to do without memoserve."""
    (folder / "options").write_bytes(pickle.dumps(options))


def read_options(folder: Path) -> dict[str, Any] | None:
    options: dict[str, Any] | None = pickle.loads((folder / "options").read_bytes())  # noqa: S301  (ours)
    return options


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str], folder: Path, *, url: str, path: str, **environment: str
) -> AsyncGenerator[subprocess.Popen[bytes]]:
    """Run a Python module as a server, from when it answers at this path until the block ends.

    Raises:
        HostEndedError: It ended before it answered.
    """
    log, deadline = folder / "log", time.monotonic() + _PATIENCE
    process = _start(command, log, environment)
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            while not await _answers(client, path):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise HostEndedError(_read(log))
                await asyncio.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(_end, process)


def _start(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
        )


async def _answers(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path)).status_code == 200
    except httpx.TransportError:
        return False


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for it, and end what it leaves of its session."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # Of the session that began with it.
    process.wait()
