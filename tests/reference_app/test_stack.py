"""The whole stack as processes: nginx, two replicas of two workers, Redis, Prometheus."""

import itertools
import json
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from reference_app.stack.__main__ import main
from reference_app.stack.processes import Stack

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(
        not all(shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin") for name in
                ("nginx", "redis-server", "prometheus")),
        reason="needs nginx, redis-server and prometheus",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        yield stack


class Load:
    """Clients that ask through nginx until they are told to stop, and note what they get."""

    def __init__(self, url: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self.asked = 0
        self._url = url
        self._stop = threading.Event()
        self._numbers = itertools.count()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120) as client:
            while not self._stop.is_set():
                number = next(self._numbers)
                question = {"text": f"It is {number // 2} o'clock."}  # Each is asked twice.
                try:
                    response = client.post("/v1/sentiment", json=question)
                    self.outcomes[str(response.status_code)] += 1
                except httpx.HTTPError as error:
                    self.outcomes[repr(error)] += 1
                self.asked += 1

    def go_on(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        until, deadline = self.asked + count, time.monotonic() + 240
        while self.asked < until:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def load(stack: Stack, clients: int = 4) -> Iterator[Load]:
    load = Load(stack.url)
    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(load.run) for _ in range(clients)]
        try:
            yield load
        finally:
            load.stop()
    for each in running:
        each.result()


def test_an_answer_of_one_replica_is_a_hit_on_the_other(stack: Stack) -> None:
    question = {"text": "The staff were friendly and dinner was lovely."}
    first, second = (
        httpx.post(
            f"{replica.url}/v1/sentiment", json=question, timeout=60, headers={"Host": "shop"}
        )
        for replica in stack.replicas
    )

    assert "fwd=miss" in first.headers["cache-status"]
    assert "; hit" in second.headers["cache-status"]
    assert second.json() == first.json()


def test_a_stream_comes_through_the_proxy_piece_by_piece(stack: Stack) -> None:
    body = {"text": "A storm reached Leeds on Friday. 310 homes lost power.", "stream": True}
    pieces: list[str] = []
    with httpx.stream("POST", f"{stack.url}/v1/summarize", json=body, timeout=60) as response:
        lines = list(response.iter_lines())
    pieces = [json.loads(line[6:])["text"] for line in lines if line.startswith('data: {"text"')]

    assert len(pieces) > 3
    assert "event: done" in lines


def test_a_replica_that_is_killed_costs_no_request_but_one_half_answered(stack: Stack) -> None:
    """A head that has gone out cannot be taken back: nginx asks the other one for all else.

    uvicorn writes head and body by two system calls, whatever the loop, and the first one wakes
    nginx up: on a busy machine the process may well be killed between the two.
    """
    with load(stack) as asking:
        asking.go_on(50)
        stack.replicas[0].stop(signal.SIGKILL)
        asking.go_on(100)
        stack.replicas[0].restart()
        stack.wait_for(f"{stack.replicas[0].url}/health/ready")
        asking.go_on(50)

    failed = Counter(asking.outcomes)
    del failed["200"]
    assert all("without sending complete message body" in outcome for outcome in failed), failed
    assert failed.total() <= 1


def test_a_rolling_restart_costs_no_request(stack: Stack) -> None:
    with load(stack) as asking:
        for replica in stack.replicas:
            asking.go_on(50)
            replica.restart()
            stack.wait_for(f"{replica.url}/health/ready")
        asking.go_on(50)

    assert asking.outcomes == Counter({"200": asking.asked})


def test_prometheus_scrapes_every_replica(stack: Stack) -> None:
    deadline = time.monotonic() + 120
    query = {"query": 'up{job="memoserve"}'}
    up: list[Any] = []
    while time.monotonic() < deadline and [each["value"][1] for each in up] != ["1", "1"]:
        answer = httpx.get(f"{stack.prometheus_url}/api/v1/query", params=query, timeout=30)
        up = answer.json()["data"]["result"]
        time.sleep(0.2)  # It scrapes when it likes.

    assert len(up) == 2


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)

    with pytest.raises(RuntimeError, match="redis-server is not installed"):
        Stack().__enter__()


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    result = CliRunner().invoke(main, ["--port", "0", "--replicas", "1"])
    for each, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
        signal.signal(each, handler)

    assert result.exit_code == 1
    assert "redis-server is not installed" in result.output


def test_a_process_that_ends_ends_the_wait(stack: Stack) -> None:
    process = stack._processes["prometheus"]
    process.terminate()
    process.wait(60)

    with pytest.raises(RuntimeError, match="prometheus ended with code"):
        stack.wait_for(f"{stack.prometheus_url}/-/ready")
