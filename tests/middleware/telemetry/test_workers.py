"""The numbers of several workers, as one of them shows them."""

import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoserve._events import KeyCollided, StoreOpened
from memoserve.stores.memory import MemoryStore
from memoserve.telemetry import (
    EVENT_LOOP_LAG,
    FLIGHT_WAITERS,
    KEY_COLLISIONS,
    MODEL_DURATION,
    STORE_EVICTIONS,
    STORE_USAGE,
    WORKERS,
    Instrument,
    _workers,
    otel,
)
from memoserve.telemetry._fold import fold, lasting
from memoserve.telemetry._ledger import Series, Totals
from memoserve.telemetry._surroundings import workers_directory
from memoserve.telemetry._workers import Workers, server_directory
from memoserve.telemetry.otel import OTelObserver
from memoserve.telemetry.scrape import MetricsApp

# A worker that lives until it is told to end or is killed, and does what it reads.
WORKER = """
import sys
from memoserve._events import FollowerJoined, KeyCollided, ModelCalled
from memoserve.telemetry.otel import OTelObserver
observer = OTelObserver(directory=sys.argv[1])
observer.start()
print("started", flush=True)
for line in sys.stdin:
    match line.split():
        case ["count", times]:
            for _ in range(int(times)):
                observer.observe(KeyCollided("sentiment"))
                observer.observe(ModelCalled("sentiment", "ok", 0.25))
            observer.observe(FollowerJoined("sentiment"))
        case ["flush"]:
            observer.flush()
        case ["exit"]:
            break
    print("done", flush=True)
"""


class Worker:
    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self._line() == "started"

    def do(self, *commands: str) -> None:
        assert self.process.stdin is not None
        for command in commands:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            assert self._line() == "done"

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.communicate(timeout=60)

    def exit(self) -> None:
        self.process.communicate("exit\n", timeout=60)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def workers(directory: Path, count: int) -> Iterator[list[Worker]]:
    started: list[Worker] = []
    try:
        started.extend(Worker(directory) for _ in range(count))
        yield started
    finally:
        for worker in started:
            if worker.process.poll() is None:
                worker.end(signal.SIGKILL)


def number(totals: Totals, instrument: Instrument) -> float:
    """An instrument's number; of histograms, the count."""
    (series,) = totals.get(instrument.name, [Series((), 0)])
    return sum(series.counts) if series.counts else series.number


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[OTelObserver]:
    """One of several workers: this process."""
    observer = OTelObserver(directory=tmp_path / "workers")
    observer.start()
    assert observer.workers is not None
    yield observer
    observer.workers.close()
    otel._joined.discard(tmp_path / "workers")


@pytest.fixture
def total(observer: OTelObserver) -> Callable[[Instrument], float]:
    """What this worker would show."""
    assert observer.workers is not None
    return lambda instrument: number(observer.workers.totals(), instrument)  # type: ignore[union-attr] # It was asserted.


def test_an_observer_of_a_cache_alone_is_a_worker_too(tmp_path: Path) -> None:
    observer = OTelObserver(directory=tmp_path / "alone")

    observer.observe(StoreOpened(MemoryStore()))

    assert observer.workers is not None
    observer.workers.close()


def test_who_flushes_is_seen_by_the_others(observer: OTelObserver, tmp_path: Path) -> None:
    observer.observe(KeyCollided("sentiment"))

    observer.flush()

    (written,) = (tmp_path / "workers").glob("*-*.json")
    assert b"collisions" in written.read_bytes()


def test_every_worker_shows_the_sum(
    observer: OTelObserver, total: Callable[[Instrument], float], tmp_path: Path
) -> None:
    """Bug 58: what one worker would say of itself is a fraction of the truth."""
    observer.observe(KeyCollided("sentiment"))

    with workers(tmp_path / "workers", 2) as (first, second):
        first.do("count 3", "flush")
        second.do("count 5", "flush")
        seen = [total(each) for each in (KEY_COLLISIONS, MODEL_DURATION, FLIGHT_WAITERS, WORKERS)]

    assert seen == [9, 8, 2, 3]


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_worker_has_counted_outlives_it(
    total: Callable[[Instrument], float], tmp_path: Path, signal_number: signal.Signals
) -> None:
    with workers(tmp_path / "workers", 2) as (first, second):
        first.do("count 3", "flush")
        second.do("count 5", "flush")
        first.end(signal_number)
        seen = [
            [total(each) for each in (KEY_COLLISIONS, MODEL_DURATION, FLIGHT_WAITERS, WORKERS)]
            for _ in range(2)
        ]

    assert seen == [[8, 8, 1, 2]] * 2  # Who waited has gone with it.
    assert len(list((tmp_path / "workers").glob("*-*.json"))) == 2


def test_a_worker_that_ends_has_its_last_say(
    total: Callable[[Instrument], float], tmp_path: Path
) -> None:
    with workers(tmp_path / "workers", 1) as (worker,):
        worker.do("count 3")
        worker.exit()

    assert total(KEY_COLLISIONS) == 3


def test_a_worker_writes_now_and_then_by_itself(tmp_path: Path) -> None:
    written = threading.Event()

    def totals() -> Totals:
        if threading.current_thread().name == "memoserve-metrics-flush":
            written.set()
        return {}

    own = Workers(tmp_path / "workers", totals)

    assert written.wait(timeout=60)
    own.close()


def test_a_fold_that_was_cut_short_counts_nobody_twice(
    total: Callable[[Instrument], float], tmp_path: Path
) -> None:
    """Whoever folds may be killed between the archive and the files that are in it."""
    with workers(tmp_path / "workers", 1) as (worker,):
        worker.do("count 3", "flush")
        worker.end(signal.SIGKILL)
    kept = {path: path.read_bytes() for path in (tmp_path / "workers").glob("*-*.*")}
    before = total(KEY_COLLISIONS)
    for path, content in kept.items():
        path.write_bytes(content)

    after = [total(KEY_COLLISIONS) for _ in range(2)]

    assert [before, *after] == [3, 3, 3]


def test_who_is_tidied_away_comes_back(
    observer: OTelObserver, total: Callable[[Instrument], float], tmp_path: Path
) -> None:
    """As systemd does with shared memory when a user logs out (RemoveIPC)."""
    observer.observe(KeyCollided("sentiment"))
    with workers(tmp_path / "workers", 1) as (worker,):
        worker.do("count 3", "flush")
        shutil.rmtree(tmp_path / "workers")
        observer.flush()
        worker.do("flush")
        seen = [total(each) for each in (KEY_COLLISIONS, WORKERS)]

    assert seen == [4, 2]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"memoserve.workers": 3}'])
def test_a_file_that_cannot_be_read_is_nobodys(
    total: Callable[[Instrument], float], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "workers" / "archive.json").write_bytes(content)
    (tmp_path / "workers" / "1-abc.json").write_bytes(content)

    assert total(WORKERS) == 1


def test_workers_show_one_page_until_it_is_old(observer: OTelObserver, tmp_path: Path) -> None:
    """A page of one's own would show numbers that are lower than those that another has shown."""
    folder = tmp_path / "workers"
    assert observer.workers is not None
    rendered = observer.workers.page("plain", 60, lambda totals: b"first")

    again = observer.workers.page("plain", 60, lambda totals: b"second")
    os.utime(folder / "page-plain", (0, 0))
    later = observer.workers.page("plain", 60, lambda totals: b"third")
    at_once = observer.workers.page("plain", 0, lambda totals: b"fourth")
    other = observer.workers.page("openmetrics", 60, lambda totals: b"fifth")

    assert (rendered, again, later, at_once, other) == (
        b"first", b"first", b"third", b"fourth", b"fifth",
    )  # fmt: skip


def test_the_page_is_that_of_all_workers(observer: OTelObserver, tmp_path: Path) -> None:
    observer.observe(KeyCollided("sentiment"))

    with workers(tmp_path / "workers", 1) as (worker,):
        worker.do("count 3", "flush")
        page = MetricsApp(observer).answer("GET", "")

    assert b'memoserve_key_collisions_total{model="sentiment"} 4.0' in page.body
    assert b"memoserve_workers 2.0" in page.body


def test_a_lock_that_stays_locked_is_an_error_and_no_hang(
    observer: OTelObserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_workers, "_LOCK_PATIENCE", 0.0)

    with (tmp_path / "workers" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        page = MetricsApp(observer).answer("GET", "")

    assert page.status == 503


def test_who_was_forked_off_neither_keeps_alive_nor_speaks_for_its_parent(
    observer: OTelObserver,
) -> None:
    """A worker's own process pool must not make it look alive when it is dead."""
    own = observer.workers
    assert own is not None
    reading, writing = os.pipe()

    pid = os.fork()
    if pid == 0:  # pragma: no cover - what a process covers that leaves at once is lost.
        own._totals = lambda: os._exit(1)
        own.flush()
        os.write(writing, b"closed" if own._life.closed else b"open")
        os._exit(0)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert os.read(reading, 10) == b"closed"
    os.close(reading)
    os.close(writing)


def test_another_process_does_not_write_in_ones_name(
    observer: OTelObserver, tmp_path: Path
) -> None:
    own = observer.workers
    assert own is not None
    with workers(tmp_path / "workers", 1) as (worker,):
        own._process = worker.process.pid
        observer.observe(KeyCollided("sentiment"))
        own.flush()
    own._process = os.getpid()

    (written,) = (tmp_path / "workers").glob(f"{os.getpid()}-*.json")
    assert b"collisions" not in written.read_bytes()


def test_a_lock_of_ones_own_is_closed_by_who_inherits_it(tmp_path: Path) -> None:
    file: IO[str] = (tmp_path / "lock").open("w")
    reference = weakref.ref(file)

    _workers._close(reference)
    is_closed = file.closed
    del file
    _workers._close(reference)

    assert is_closed


def test_who_holds_the_lock_for_a_moment_is_waited_for(
    observer: OTelObserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = (tmp_path / "workers" / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    monkeypatch.setattr("time.sleep", lambda seconds: lock.close())

    page = MetricsApp(observer).answer("GET", "")

    assert page.status == 200


def test_a_second_observer_in_one_place_stays_alone(
    observer: OTelObserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second = OTelObserver(directory=tmp_path / "workers")

    second.start()

    assert second.workers is None
    assert "a second observer" in caplog.text


def test_a_place_that_cannot_be_made_costs_the_sum_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    observer = OTelObserver(directory=tmp_path / "file" / "workers")

    observer.start()

    assert observer.workers is None
    assert "cannot be added up" in caplog.text
    assert MetricsApp(observer).answer("GET", "").status == 200


def test_a_worker_that_cannot_write_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()
    attempts = 0

    class Full:
        def flush(self) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 3:
                ended.set()
            raise OSError("no space")

    full = Full()
    monkeypatch.setattr(_workers, "FLUSH_SECONDS", 0.0)

    _workers._flush_again_and_again(lambda: full, ended)  # type: ignore[arg-type] # A stand-in.

    assert attempts == 3
    assert caplog.text.count("cannot be written") == 1


def test_flushing_ends_with_whoever_flushes() -> None:
    _workers.FLUSH_SECONDS, seconds = 0.0, _workers.FLUSH_SECONDS
    try:
        _workers._flush_again_and_again(lambda: None, threading.Event())  # type: ignore[arg-type]
    finally:
        _workers.FLUSH_SECONDS = seconds


# Who is a worker.


def test_alone_there_is_nobody_to_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two programs that one shell has started must not be added up."""
    monkeypatch.delenv("MEMOSERVE_METRICS_DIR", raising=False)
    observer = OTelObserver()

    observer.start()

    assert observer.workers is None


def _directory_of_a_child(queue: "multiprocessing.SimpleQueue[str | None]") -> None:
    found = workers_directory(None)
    queue.put(None if found is None else str(found))


def test_who_was_started_by_multiprocessing_is_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMOSERVE_METRICS_DIR", raising=False)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    children = [context.Process(target=_directory_of_a_child, args=(queue,)) for _ in range(2)]

    for child in children:
        child.start()
    found = {queue.get() for _ in children}
    for child in children:
        child.join()

    (directory,) = found
    assert directory is not None
    assert f"/memoserve-{os.getuid()}/{os.getpid()}-" in directory


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMOSERVE_METRICS_DIR", str(tmp_path))
    chosen = workers_directory(None)
    monkeypatch.setenv("MEMOSERVE_METRICS_DIR", "")
    refused = workers_directory(None)
    argument = workers_directory(tmp_path / "other")

    assert (chosen, refused, argument) == (tmp_path, None, tmp_path / "other")


@pytest.fixture
def in_tmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(_workers, "_SHARED_MEMORY", tmp_path)
    return tmp_path / f"memoserve-{os.getuid()}"


def test_what_servers_left_that_have_ended_is_removed(in_tmp: Path) -> None:
    parent = f"{os.getppid()}-{_workers._started(os.getppid())}"
    for name in (parent, f"{os.getppid()}-1", "999999999-5", "not-ours"):
        (in_tmp / name).mkdir(parents=True)

    found = server_directory()

    assert found == in_tmp / parent
    assert {path.name for path in in_tmp.iterdir()} == {parent, "not-ours"}


def test_a_folder_that_somebody_else_has_made_is_not_trusted(in_tmp: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    in_tmp.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PermissionError, match="somebody else"):
        server_directory()


def test_without_a_process_table_nothing_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workers, "_started", lambda pid: None)

    assert server_directory() is None


def test_without_shared_memory_there_is_a_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_workers, "_SHARED_MEMORY", tmp_path / "missing")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    found = server_directory()

    assert found is not None
    assert found.parent.parent == tmp_path


# The sum itself.

SERIES = st.builds(
    Series,
    st.sampled_from([("sentiment",), ("answer",)]),
    st.integers(0, 1000).map(float),
)
PARTS = st.lists(
    st.dictionaries(
        st.sampled_from([KEY_COLLISIONS.name, FLIGHT_WAITERS.name, EVENT_LOOP_LAG.name]),
        st.lists(SERIES, max_size=2, unique_by=lambda each: each.values),
    ),
    max_size=5,
)


@given(parts=PARTS)
def test_counters_and_states_add_up_and_of_gauges_the_largest_counts(parts: list[Totals]) -> None:
    folded = fold(parts)

    for name in (KEY_COLLISIONS.name, FLIGHT_WAITERS.name, EVENT_LOOP_LAG.name):
        combine = max if name == EVENT_LOOP_LAG.name else sum
        for values in (("sentiment",), ("answer",)):
            numbers = [s.number for part in parts for s in part.get(name, []) if s.values == values]
            found = [series.number for series in folded.get(name, []) if series.values == values]
            assert found == ([combine(numbers)] if numbers else [])


@given(parts=PARTS)
def test_adding_up_leaves_the_parts_as_they_were(parts: list[Totals]) -> None:
    before = [{name: [(s.values, s.number) for s in part[name]] for name in part} for part in parts]

    fold(parts)

    after = [{name: [(s.values, s.number) for s in part[name]] for name in part} for part in parts]
    assert after == before


def test_one_store_of_all_workers_is_counted_once() -> None:
    part: Totals = {
        STORE_USAGE.name: [Series(("redis",), 700, is_shared=True), Series(("memory",), 50)],
        STORE_EVICTIONS.name: [Series(("redis",), 7, is_shared=True), Series(("memory",), 5)],
    }

    folded = fold([part, part, lasting(part)])

    assert {s.values: s.number for s in folded[STORE_USAGE.name]} == {
        ("redis",): 700, ("memory",): 100,
    }  # fmt: skip
    assert {s.values: s.number for s in folded[STORE_EVICTIONS.name]} == {
        ("redis",): 7, ("memory",): 15,
    }  # fmt: skip


def test_what_another_version_has_counted_is_left_out() -> None:
    other: Totals = {
        "memoserve.of.tomorrow": [Series((), 1)],
        MODEL_DURATION.name: [Series(("sentiment", "ok"), 1.0, [1, 2])],
    }
    own: Totals = {MODEL_DURATION.name: [Series(("sentiment", "ok"), 2.0, [1, 2, 3])]}

    folded = fold([other, own])

    assert folded == own
    assert "memoserve.of.tomorrow" not in lasting(other)
