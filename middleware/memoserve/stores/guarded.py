"""A store that cannot harm a request.

Rule: a call that fails or takes longer than the deadline is a miss for a lookup and nothing for
a write; it is reported. When the store seems dead nobody calls it but a probe, behind the scenes:

    state       calls           becomes     when
    closed      go through      half_open   one took longer than the deadline, or 3 in a row failed
    half_open   are refused     closed      the probe, which starts at once, succeeds
                                open        it fails; then all connections are dropped
    open        are refused     half_open   a quarter of a second has passed

So a request waits once for a dead server, never twice, and a server that was only busy is back
after one probe. A store that is busy (`StoreBusyError`) or that has refused a write (full,
read-only: `StoreRefusedError`) is not dead. Libraries that break circuits (pybreaker, purgatory)
let a request be the probe, so they do not fit.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Literal, TypeVar, TypeVarTuple

from memoserve._errors import StoreBusyError, StoreRefusedError
from memoserve.stores import BatchStore, Lease, LeaseEnd, SharedStore, Store
from memoserve.stores._deadline import Deadline

__all__ = ["BreakerState", "GuardedStore", "Operation"]

_logger = logging.getLogger("memoserve")

_Result = TypeVar("_Result")
_Otherwise = TypeVar("_Otherwise")
_Arguments = TypeVarTuple("_Arguments")
_Many = Callable[[Sequence[str]], Awaitable[list[bytes | None]]]
_Add = Callable[[str, bytes, float], Awaitable[bytes]]
Operation = Literal["get", "set", "delete", "lease"]
BreakerState = Literal["closed", "half_open", "open"]

_FAILURES = 3  # In a row, of those that come at once and so cost a request little.
_PROBE_SECONDS = 0.75
_PAUSE_SECONDS = 0.25  # Both together bound how late a server's return is noticed.
_LOG_INTERVAL = 60.0  # Seconds in which one failure is logged, and no other.
_MOST_ORPHANS = 1_000
_MOST_TRIES = 60  # To give back a lease that has long run out by then.
_PROBE_KEY = "memoserve:probe"


def _ignore_change(_: BreakerState) -> None:
    """Tell nobody."""


class GuardedStore:
    """Calls a store for at most `deadline` seconds at a time, and never raises.

    Args:
        store: The store that does the work.
        deadline: Seconds after which a call is given up; None for as long as it takes, and then
            the store is never taken for dead.
        report: Told of every call that was made and not cancelled: its operation, its seconds,
            and the name of its error, empty for success.
        on_change: Told of every new state.
    """

    def __init__(
        self,
        store: Store,
        deadline: float | None,
        report: Callable[[Operation, float, str], None],
        on_change: Callable[[BreakerState], None] = _ignore_change,
    ) -> None:
        self._store = store
        self._deadline = deadline
        self._report = report
        self._on_change = on_change
        self._many: _Many = store.get_many if isinstance(store, BatchStore) else self._get_each
        self._add: _Add = store.add if isinstance(store, BatchStore) else self._get_or_set
        self._shared = store if isinstance(store, SharedStore) else None
        self.state: BreakerState = "closed"
        self._failures = 0  # In a row.
        self._told: set[asyncio.Future[LeaseEnd]] = set()  # Of those who wait for leases.
        self._orphans: dict[str, str] = {}  # Leases that may have been given, unheard.
        self._logged_at = -math.inf
        self._probing: asyncio.Task[None] | None = None
        self._freeing: asyncio.Task[None] | None = None

    async def get(self, key: str, /) -> bytes | None:
        """Return what is kept; None, too, if the store cannot say."""
        return await self._call("get", self._store.get, key, otherwise=None)

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each key; nothing at all if the store cannot say."""
        nothing: list[bytes | None] = [None] * len(keys)
        if self._shared is None or self._deadline is None or self.state != "closed":
            return await self._call("get", self._many, keys, otherwise=nothing)
        started = time.perf_counter()  # `_call`, spelled out: this is what every hit waits for.
        error, found = "", nothing
        try:
            found = await self._shared.get_many_within(keys, self._deadline)
            self._failures = 0
        except Exception as raised:  # noqa: BLE001  (a store's client may raise anything)
            error = type(raised).__name__
            self._note_failure("get", raised)
        self._report("get", time.perf_counter() - started, error)
        return found

    async def set(self, key: str, value: bytes, ttl: float, /) -> bool:
        """Keep the value; False if the store did not."""
        done = await self._call("set", self._store.set, key, value, ttl, otherwise=False)
        return done is not False

    async def add(self, key: str, value: bytes, ttl: float, /) -> bytes | None:
        """Keep the value unless there is one; return what is there, None if the store cannot say.

        A store that cannot do both in one step does them one after the other.
        """
        return await self._call("set", self._add, key, value, ttl, otherwise=None)

    async def delete(self, key: str, /) -> bool:
        """Forget the key; False if the store did not."""
        done = await self._call("delete", self._store.delete, key, otherwise=False)
        return done is not False

    @property
    def has_leases(self) -> bool:
        """Whether it is of any use to try for a lease."""
        return self._shared is not None and self.state == "closed"

    async def take_lease(self, key: str, owner: str, seconds: float, /) -> Lease | None:
        """Take the lease of a key; None if the store has none, or cannot say."""
        if (store := self._shared) is None:
            return None
        lease = await self._call("lease", store.take_lease, key, owner, seconds, otherwise=None)
        if lease is None:
            self._note_orphan(key, owner)
        return lease

    async def renew_lease(self, key: str, owner: str, seconds: float, /) -> bool:
        """Have it for longer; False if it is not ours, or the store cannot say."""
        if (store := self._shared) is None:
            return False
        return await self._call("lease", store.renew_lease, key, owner, seconds, otherwise=False)

    async def end_lease(
        self, key: str, owner: str, end: LeaseEnd, value: bytes = b"", ttl: float = 0.0, /
    ) -> bool:
        """Give it back, with a value; tell whether that is kept."""
        if (store := self._shared) is None:
            return False
        operation: Operation = "set" if value else "lease"
        is_kept = await self._call(
            operation, store.end_lease, key, owner, end, value, ttl, otherwise=None
        )
        if is_kept is None:
            self._note_orphan(key, owner)
        return bool(is_kept)

    @contextlib.contextmanager
    def await_lease(self, key: str, /) -> Generator[asyncio.Future[LeaseEnd]]:
        """Hear how another's lease ends; the future is cancelled where that cannot be heard."""
        if self._shared is not None and self.state == "closed":
            with self._shared.await_lease(key) as told:
                self._told.add(told)
                try:
                    yield told
                finally:
                    self._told.discard(told)
        else:
            deaf: asyncio.Future[LeaseEnd] = asyncio.get_running_loop().create_future()
            deaf.cancel()
            yield deaf

    async def aclose(self) -> None:
        """Stop probing; the store itself is not closed."""
        loop = asyncio.get_running_loop()
        own = [task for task in (self._probing, self._freeing) if task and task.get_loop() is loop]
        self._probing = self._freeing = None
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)

    async def _call(
        self,
        operation: Operation,
        call: Callable[[*_Arguments], Awaitable[_Result]],
        *arguments: *_Arguments,
        otherwise: _Otherwise,
    ) -> _Result | _Otherwise:
        """Return what the call returns, or something else if it fails."""
        if self.state != "closed":
            self._ensure_probing()
            return otherwise
        started = time.perf_counter()
        error = ""
        result: _Result | _Otherwise = otherwise
        try:
            if self._deadline is None:
                result = await call(*arguments)
            else:
                async with Deadline(self._deadline):
                    result = await call(*arguments)
        except Exception as raised:  # noqa: BLE001  (a store's client may raise anything)
            error = type(raised).__name__
            self._note_failure(operation, raised)
        else:
            self._failures = 0
        self._report(operation, time.perf_counter() - started, error)
        return result

    async def _get_each(self, keys: Sequence[str]) -> list[bytes | None]:
        return list(await asyncio.gather(*map(self._store.get, keys)))

    async def _get_or_set(self, key: str, value: bytes, ttl: float, /) -> bytes:
        found = await self._store.get(key)
        if found is None:
            await self._store.set(key, value, ttl)
        return value if found is None else found

    # The breaker.

    def _note_failure(self, operation: Operation, error: Exception) -> None:
        self._log(error)
        is_answer = isinstance(error, StoreRefusedError) and operation != "get"
        if is_answer or isinstance(error, StoreBusyError) or self._deadline is None:
            return
        self._failures += 1
        if self.state == "closed" and (
            isinstance(error, TimeoutError) or self._failures >= _FAILURES
        ):
            self._change("half_open")
            self._ensure_probing()

    def _log(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            _logger.warning("the store fails, so answers are not cached: %r", error)

    def _change(self, state: BreakerState) -> None:
        self.state = state
        if state != "closed":
            for told in tuple(self._told):  # A dead server tells of no end.
                told.get_loop().call_soon_threadsafe(told.cancel)
        self._on_change(state)

    def _ensure_probing(self) -> None:
        """Have a probe under way; one whose event loop has ended is replaced."""
        task = self._probing
        if task is None or task.done() or task.get_loop().is_closed():
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        was_open = False
        while not await self._is_alive():
            was_open = True
            self._change("open")
            if self._shared is not None:
                await self._shared.reconnect()
            await asyncio.sleep(_PAUSE_SECONDS)
            self._change("half_open")
        await self._free_orphans(1)
        if was_open:
            _logger.warning("the store works again")
            self._logged_at = -math.inf
        self._failures = 0
        self._change("closed")
        self._free_later()

    def _note_orphan(self, key: str, owner: str) -> None:
        if len(self._orphans) < _MOST_ORPHANS:
            self._orphans[key] = owner
        if self.state == "closed":
            self._free_later()

    def _free_later(self) -> None:
        if self._orphans and (self._freeing is None or self._freeing.done()):
            freeing = self._free_orphans(_MOST_TRIES)
            self._freeing = asyncio.get_running_loop().create_task(freeing)

    async def _free_orphans(self, most_tries: int) -> None:
        """Give back leases that a server may have given before, or when, it came back.

        Otherwise who asks for their keys would wait for them to run out.
        """
        for _ in range(most_tries):
            if (store := self._shared) is None or not self._orphans:
                break
            orphans, self._orphans = self._orphans, {}
            freeing = (store.end_lease(key, owner, "failed") for key, owner in orphans.items())
            # Each gives up after a second.
            ends = await asyncio.gather(*freeing, return_exceptions=True)
            for (key, owner), end in zip(orphans.items(), ends, strict=True):
                if isinstance(end, StoreRefusedError):  # Full, or a replica for the moment.
                    self._orphans[key] = owner
            if self._orphans and most_tries > 1:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _is_alive(self) -> bool:
        deadline = self._deadline or _PROBE_SECONDS
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                if self._shared is not None:
                    await self._shared.ping(deadline)
                else:
                    async with asyncio.timeout(deadline):
                        await self._store.get(_PROBE_KEY)
        except Exception as error:  # noqa: BLE001  (a store's client may raise anything)
            self._log(error)
            return False
        return True
