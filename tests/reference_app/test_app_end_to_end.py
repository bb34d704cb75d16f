"""`python -m reference_app` as an operator meets it: a process, a port, signals and exit codes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "reference_app"]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", **variables}


@contextmanager
def serving(*arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and its address."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        announced = re.fullmatch(
            r"serving on (http://127\.0\.0\.1:\d+)\n", process.stdout.readline()
        )
        assert announced
        yield process, announced[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Its workers, too.
        process.communicate()


def until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while (response := client.get("/health/ready")).status_code != 200:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.05)  # Another process: there is no event to wait for.


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_server_answers_reuses_counts_and_stops(stop: signal.Signals) -> None:
    with serving() as (process, url), httpx.Client(base_url=url, timeout=30) as client:
        assert client.get("/health/live").status_code == 200
        until_ready(client)

        question = {"text": "The staff were friendly and dinner was lovely."}
        first = client.post("/v1/sentiment", json=question)
        again = client.post("/v1/sentiment", json=question)
        counted = until_counted(client, "miss", "hit")
        process.send_signal(stop)
        code = process.wait(30)

    assert (first.status_code, first.json()["label"]) == (200, "POSITIVE")
    assert first.json()["model"]["source"] == "bundled"
    assert "fwd=miss" in first.headers["cache-status"]
    assert "; hit; ttl=" in again.headers["cache-status"]
    assert again.json() == first.json()
    assert counted
    assert code == 0


def until_counted(client: httpx.Client, *statuses: str) -> bool:
    """Scrape until one request of each status is counted: that is done when its call has ended."""
    samples = [
        rf'request_duration_seconds_count\{{[^}}]*cache_status="{status}"[^}}]*\}} 1\.0'
        for status in statuses
    ]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        page = client.get("/metrics").text
        if all(re.search(sample, page) for sample in samples):
            return True
        time.sleep(0.3)  # The page is kept for a second.
    return False


def test_workers_share_a_port_and_load_before_they_answer() -> None:
    """None of them says 503 to anybody, and one that dies is replaced."""
    with (
        serving("--workers", "2") as (process, url),
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        first = client.get("/health/ready")
        statuses = [
            httpx.post(
                f"{url}/v1/sentiment", json={"text": f"It is {number}."}, timeout=120
            ).status_code
            for number in range(20)
        ]
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)

    assert first.status_code == 200
    assert statuses == [200] * 20
    assert code == 0


def test_workers_that_cannot_load_end_the_process(tmp_path: Path) -> None:
    result = finished("--port", "0", "--workers", "2", MODELS="hub", HF_HOME=str(tmp_path))

    assert result.returncode == 1
    assert "MODELS=bundled" in result.stderr
    assert "a worker could not start" in result.stderr.splitlines()[-1]


def test_lines_are_objects_if_the_operator_wants_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = finished("--port", str(taken.getsockname()[1]), LOG_FORMAT="json")

    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert result.returncode == 3
    assert any("already in use" in line["message"] for line in lines)


def test_granian_serves_it_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", port]
    process = subprocess.Popen(
        [*command, "--workers", "2", "reference_app.app:app"],
        cwd=ROOT,
        env=environment(LOAD_FIRST="true"),
        start_new_session=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until_listening(client)
            question = {"text": "The staff were friendly and dinner was lovely."}
            first = client.post("/v1/sentiment", json=question)
            again = client.post("/v1/sentiment", json=question)
        process.terminate()
        code = process.wait(60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    assert first.json()["label"] == "POSITIVE"
    assert "; hit; ttl=" in again.headers["cache-status"]  # One connection, so one worker.
    assert code == 0


def until_listening(client: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            assert client.get("/health/ready").status_code == 200
        except httpx.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # Another process: there is no event to wait for.
        else:
            return


def finished(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MODELS", "huge"), ("CACHE_TTL", "soon"), ("STORE_URL", "nowhere://")],
)
def test_a_wrong_setting_ends_the_start_with_one_clear_line(variable: str, value: str) -> None:
    result = finished("--port", "0", **{variable: value})

    assert result.returncode == 2
    assert value in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_models_that_do_not_load_end_the_process_and_say_why(tmp_path: Path) -> None:
    result = finished("--port", "0", MODELS="hub", HF_HOME=str(tmp_path))

    assert result.returncode == 1
    last_line = result.stderr.splitlines()[-1]
    assert last_line.startswith("Error: the models could not be loaded")
    assert "MODELS=bundled" in last_line


def test_a_taken_port_ends_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = finished("--port", str(taken.getsockname()[1]))

    assert result.returncode == 3
    assert "address already in use" in result.stderr.lower()
    assert result.stdout == ""


def test_help_names_the_options() -> None:
    result = finished("--help")

    assert result.returncode == 0
    assert "--host" in result.stdout
    assert "--port" in result.stdout
