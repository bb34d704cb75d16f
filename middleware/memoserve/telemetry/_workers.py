"""The numbers of all workers of one server, so that any of them can answer for all.

Rule: what is shown comes from files only, one's own having been written first. Numbers that were
taken from memory here and from files there would go down from one scrape to the next.

In the directory, `ID.json` holds the totals of a worker, which has `ID.lock` locked as long as it
lives: the kernel unlocks it however a worker ends, and no process id that is used again can
mislead. `archive.json` holds what workers had counted that have ended, `page-*` what was rendered
last, and whoever adds up or adds a worker has `lock` locked.
"""

import contextlib
import fcntl
import functools
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from memoserve.telemetry._fold import fold, lasting
from memoserve.telemetry._ledger import Totals

__all__ = ["FLUSH_SECONDS", "Workers", "server_directory"]

_logger = logging.getLogger("memoserve")

FLUSH_SECONDS = 1.0  # What a worker may have counted in vain if it is killed.

_LOCK_PATIENCE = 5.0  # Seconds; a scrape that waits longer has failed for Prometheus anyway.
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own with mode 0700 is in there.
_STARTED_FIELD = 19  # Of /proc/PID/stat, behind the name of the program: see proc(5).


_T = TypeVar("_T")


class _Archive(msgspec.Struct):
    """What is kept of workers that have ended."""

    totals: Totals
    folded: list[str]  # Those whose files may still be there: they must not count twice.


class Workers:
    """This process as one of several.

    Args:
        directory: Where all of them meet; it is made if it is missing.
        totals: What this process has counted.

    Raises:
        OSError: The directory cannot be made or is somebody else's.
    """

    def __init__(self, directory: Path, totals: Callable[[], Totals]) -> None:
        self._directory = directory
        self._totals = totals
        self._process = os.getpid()
        self._id = f"{self._process}-{secrets.token_hex(4)}"
        self._mutex = threading.Lock()  # Threads wait for each other here, not at the file.
        self._flushing = threading.Lock()  # What is read last must be written last.
        self._join()
        self._ended = threading.Event()
        threading.Thread(
            target=_flush_again_and_again,
            args=(weakref.ref(self), self._ended),
            name="memoserve-metrics-flush",
            daemon=True,
        ).start()

    def flush(self) -> None:
        """Write down what this process has counted; one that was forked off it has no say."""
        if os.getpid() != self._process:
            return
        try:
            self._write()
        except FileNotFoundError:
            # Somebody has tidied up: systemd does, in shared memory, when a user logs out.
            self._life.close()
            self._join()

    def page(self, name: str, max_age: float, render: Callable[[Totals], bytes]) -> bytes:
        """Return what was rendered at most `max_age` seconds ago by any worker, or render anew.

        Raises:
            TimeoutError: Somebody else holds the lock, stopped by a debugger perhaps.
        """
        path = self._directory / f"page-{name}"
        with self._alone():
            with contextlib.suppress(OSError):
                if 0 <= time.time() - path.stat().st_mtime < max_age:
                    return path.read_bytes()
            page = render(self._fold())
            _replace(path, page)
        return page

    def totals(self) -> Totals:
        """Return what all workers have counted, those that have ended among them.

        Raises:
            TimeoutError: As for `page`.
        """
        with self._alone():
            return self._fold()

    def close(self) -> None:
        """Write for the last time, and be counted among those that have ended."""
        self._ended.set()
        self.flush()
        self._life.close()

    def _join(self) -> None:
        """Take a place among the workers."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            # Inside, since whoever finds it unlocked takes its worker for dead.
            self._life = self._path("lock").open("w")
            fcntl.flock(self._life, fcntl.LOCK_EX)
        self._write()
        _close_in_children(self._life)

    def _write(self) -> None:
        with self._flushing:
            _replace(self._path("json"), msgspec.json.encode(self._totals()))

    def _fold(self) -> Totals:
        self._write()
        archive = self._bury_the_dead()
        living = [_read(path, Totals) or {} for path in self._directory.glob("*-*.json")]
        return fold([archive.totals, *living])

    def _bury_the_dead(self) -> _Archive:
        """Move the numbers of workers that have ended into the archive."""
        path = self._directory / "archive.json"
        archive = _read(path, _Archive) or _Archive({}, [])
        dead = [lock.stem for lock in self._directory.glob("*-*.lock") if _is_unlocked(lock)]
        if not dead:
            return archive
        ended = [
            _read(self._path("json", each), Totals) or {}
            for each in dead
            if each not in archive.folded
        ]
        archive = _Archive(fold([archive.totals, *map(lasting, ended)]), dead)
        _replace(path, msgspec.json.encode(archive))
        for each in dead:
            for suffix in ("json.tmp", "json", "lock"):
                self._path(suffix, each).unlink(missing_ok=True)
        return archive

    def _path(self, suffix: str, worker: str = "") -> Path:
        return self._directory / f"{worker or self._id}.{suffix}"

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        with self._mutex, (self._directory / "lock").open("w") as lock:
            deadline = time.monotonic() + _LOCK_PATIENCE
            while not _try_to_lock(lock):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{lock.name} stays locked")
                time.sleep(0.005)
            yield


def server_directory() -> Path | None:
    """Return the folder of the server whose worker this process is, if that is certain.

    It is named by the parent process and the moment of its start, so that a server that is
    started anew begins anew. None where there is no /proc to read that moment in.
    """
    started = _started(os.getppid())
    if started is None:
        return None
    base = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    directory = base / f"memoserve-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} was made by somebody else")
    _remove_those_of_ended_servers(directory)
    return directory / f"{os.getppid()}-{started}"


def _remove_those_of_ended_servers(directory: Path) -> None:
    for path in directory.glob("*-*"):
        if (found := re.fullmatch(r"(\d+)-(\d+)", path.name)) is None:
            continue
        pid, started = int(found[1]), found[2]
        if _started(pid) != started:
            shutil.rmtree(path, ignore_errors=True)


def _started(pid: int) -> str | None:
    """Return when a process began, in ticks since the machine did; None if it is not there."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return status.rpartition(")")[2].split()[_STARTED_FIELD]


def _flush_again_and_again(workers: "weakref.ref[Workers]", ended: threading.Event) -> None:
    has_failed = False
    while not ended.wait(FLUSH_SECONDS):
        own = workers()
        if own is None:
            return
        try:
            own.flush()
        except OSError:
            if not has_failed:
                _logger.exception("the metrics of this worker cannot be written")
            has_failed = True
        del own


def _is_unlocked(path: Path) -> bool:
    with path.open("r") as file:
        return _try_to_lock(file)


def _try_to_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):  # Gone, or of another version.
        return None


def _close_in_children(file: IO[str]) -> None:
    """See to it that a process that is forked off does not keep its parent's lock locked."""
    os.register_at_fork(after_in_child=functools.partial(_close, weakref.ref(file)))


def _close(file: "weakref.ref[IO[str]]") -> None:
    inherited = file()
    if inherited is not None:
        inherited.close()
