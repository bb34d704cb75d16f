"""The demonstration: `make demo`, or `python -m reference_app.demo`.

Rule: whatever way this ends, the server that it started ends with it. The exit code is the load
generator's.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["address_of", "main", "wait_until_ready"]

_PATIENCE = 120.0  # Seconds until the models must have been loaded, on a slow disk too.
_INTERRUPTED = 130

_RESULTS = Path("build", "demo")  # Ignored by git.
_NEXT = f"""
Where to look next
  {_RESULTS / "report.html"}         the same with plots; open it in a browser, it needs no network
  make serve                     the same app to try by hand, with a page at http://127.0.0.1:8000
  http://127.0.0.1:8000/dashboard                 what the cache does, live, while you ask it
  curl http://127.0.0.1:8000/metrics                               what Prometheus would scrape
  .venv/bin/python -m loadgen prove http://127.0.0.1:8000 --profile full    the long measurement
  README.md                      put it in front of your own app: one line
"""


def main() -> int:
    """Serve the bundled models, prove what the cache does for them, and return an exit code."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    try:
        with _serving() as url:
            _say(f"{url} is ready after {time.monotonic() - began:.0f} s: {_models(url)}")
            code = _prove(url)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except RuntimeError as error:
        _say(str(error))
        return 1
    _say(_NEXT)
    return code


@contextmanager
def _serving() -> Generator[str]:
    """Serve on a free port, in a session of its own, so that Ctrl-C reaches the client first."""
    _say("loading three models")
    environment = {"MODELS": "bundled", "LOG_LEVEL": "warning", **os.environ}
    server = subprocess.Popen(
        [sys.executable, "-m", "reference_app", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        url = address_of(server)
        wait_until_ready(server, url)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def address_of(server: "subprocess.Popen[str]") -> str:
    """Return the URL that a server says it serves on.

    Raises:
        RuntimeError: It ended before.
    """
    for line in server.stdout or ():
        if line.startswith("serving on "):
            return line.removeprefix("serving on ").strip()
    raise RuntimeError(f"the server ended with code {server.wait()} before it answered")


def wait_until_ready(server: "subprocess.Popen[str]", url: str) -> None:
    """Wait for a server's models.

    Raises:
        RuntimeError: They did not come.
    """
    deadline = time.monotonic() + _PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
                return
        except urllib.error.URLError:  # Not yet: 503, or still busy with importing.
            time.sleep(0.2)
    raise RuntimeError("the models were not loaded")


def _models(url: str) -> str:
    """Say which models are served."""
    with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:
        models = json.load(answer)["models"]
    return ", ".join(f"{task} ({model['source']})" for task, model in sorted(models.items()))


def _prove(url: str) -> int:
    command = [sys.executable, "-m", "loadgen", "prove", url, "--out", str(_RESULTS)]
    client = subprocess.Popen(command)
    try:
        return client.wait()
    except KeyboardInterrupt:
        return client.wait()  # It has had the signal, too, and reports what it measured.
    finally:
        if client.poll() is None:
            client.terminate()
            client.wait()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (this is a program for a terminal)


if __name__ == "__main__":
    sys.exit(main())
