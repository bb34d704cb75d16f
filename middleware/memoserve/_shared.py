"""What the requests of one cache share: options, the store, flights, small memories, tasks.

Rule: everything here is bounded, and nothing belongs to an event loop but flights and tasks.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Hashable, Iterable, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from memoserve._asgi import ASGIApp, Scope
from memoserve._entry import Entry
from memoserve._events import (
    BreakerChanged,
    Event,
    Observer,
    RequestRecord,
    RequestStarted,
    StoreCalled,
    StoreOpened,
    tell,
)
from memoserve._flight import Flight
from memoserve._keys import Key
from memoserve._rules import Coverage, Rule
from memoserve._tags import implicit_tags, purge_mark, renew_tokens, tag_key
from memoserve._waiting import Budget
from memoserve.stores import NearStore, SharedStore, Store, open_store
from memoserve.stores.guarded import BreakerState, GuardedStore, Operation
from memoserve.stores.memory import MemoryStore

__all__ = ["HOT_BYTES", "Known", "Options", "Recent", "Shared"]

_logger = logging.getLogger("memoserve")

_DRAIN_SECONDS = 5.0
_LATER = 0.1  # Seconds until a purge that failed is tried again; then twice as long, up to 5 s,
_PURGE_ATTEMPTS = 60  # and five minutes in all: what was stored before is seldom fresh by then.
_CONNECT_SECONDS = 0.25  # By which a store that is away delays the start.
_MEMORY_SIZE = 10_000  # Keys of which something is remembered; a few megabytes at the most.
_HIT_FOR_MISS_SECONDS = 60.0  # Varnish takes 120; a deploy that mends it should show sooner.

_HOT_SIZE = 2_048  # Requests' heads and bodies, answers as they are stored and as they are sent,
HOT_BYTES = 4_096  # of at most so many bytes each: 32 MiB at the very most.

_Name = TypeVar("_Name", bound=Hashable)
_Value = TypeVar("_Value")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `CacheMiddleware`, checked."""

    namespace: str
    mode: Literal["live", "shadow"] = "live"
    client_control: Literal["ignore", "obey"]
    credentials: Collection[str] | None
    secret: bytes | None
    cache_status: bool
    max_canonical_bytes: int
    flight_max_bytes: int
    store_deadline: float
    lease: float
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not self.namespace:
            raise ValueError("namespace must not be empty")
        if set("{}") & set(self.namespace):
            # Redis Cluster puts all keys with one text in braces on one server.
            raise ValueError(f"namespace must have no braces, unlike {self.namespace!r}")
        if self.mode not in {"live", "shadow"}:
            raise ValueError(f"mode must be 'live' or 'shadow', not {self.mode!r}")
        if self.client_control not in {"ignore", "obey"}:
            raise ValueError(
                f"client_control must be 'ignore' or 'obey', not {self.client_control!r}"
            )
        if isinstance(self.credentials, str):
            raise ValueError(f"credentials must be several names, not {self.credentials!r}")
        if self.secret is not None and len(self.secret) < 16:
            raise ValueError("secret must have at least 16 bytes")
        for name in ("max_canonical_bytes", "flight_max_bytes", "store_deadline", "lease"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")


class Known(msgspec.Struct, frozen=True):
    """What is known of the requests that are spelled alike: their key, and the stored answer."""

    key: Key
    entry: Entry  # As it was decoded.
    store_keys: tuple[str, ...]  # What was looked up to find it,
    found: list[bytes | None]  # and was found.


class Recent(Generic[_Name, _Value]):
    """Remembers something of the keys that were named last."""

    def __init__(self, size: int = _MEMORY_SIZE) -> None:
        self._size = size
        self._values: OrderedDict[_Name, _Value] = OrderedDict()
        self.get = self._values.get  # What is remembered of a key, or None.

    def put(self, key: _Name, value: _Value) -> None:
        """Remember, and forget the oldest where there are too many."""
        self._values.pop(key, None)  # So that it is the newest.
        self._values[key] = value
        while len(self._values) > self._size:
            self._values.popitem(last=False)

    def forget(self, key: _Name) -> None:
        """Remember nothing of a key."""
        self._values.pop(key, None)


class Shared:
    """Everything that outlives a request."""

    def __init__(
        self,
        app: ASGIApp,
        options: Options,
        rules: Iterable[Rule],
        store: str | Store,
        observer: Observer | None,
    ) -> None:
        self.app = app
        self.options = options
        self.budget = Budget(options.flight_max_bytes)
        self.flights: dict[Hashable, Flight] = {}
        self.refreshes = 0  # Stale answers that are being replaced at this moment.
        self.vary = Recent[str, tuple[bytes, ...]]()  # Primary key -> request fields that matter.
        # What is known of requests that came in the very bytes of an earlier one: to find it out
        # anew is most of what a hit costs.
        self.spelled = Recent[Hashable, Known](_HOT_SIZE)
        self.alone = Recent[str, float]()  # Key -> until when its answers are for one client.
        self.unpurged: set[str] = set()  # Tags whose change the store has not been told of.
        self._fruitless = Recent[str, float]()  # Key -> until when its answers are not stored.
        self._logged = Recent[str, str]()
        self._tags: dict[Coverage, tuple[str, ...]] = {}
        self._own_tags: dict[Coverage, tuple[str, ...]] = {}
        self.own_observers = () if observer is None else (observer,)
        self.observers: tuple[Observer, ...] = ()  # All that were ever introduced.
        self._tasks: set[asyncio.Task[None]] = set()
        self.aloft: dict[Flight, asyncio.Task[None]] = {}
        self._source = store
        self._open()
        self.secret = self._secret_for(rules)

    # The store.

    def _open(self) -> None:
        store = open_store(self._source) if isinstance(self._source, str) else self._source
        if isinstance(store, SharedStore):
            store.join(self.options.namespace, self.options.secret)
        self._store: Store | None = store
        # If no call of the store waits for anybody.
        self.memory = store if isinstance(store, MemoryStore) else None
        self.notify(StoreOpened(store))
        # What is in memory answers at once: a deadline would only cost.
        deadline = None if isinstance(store, MemoryStore) else self.options.store_deadline
        self._guarded = GuardedStore(store, deadline, self.report, self._report_breaker)
        # Answers at once, where the store is in memory, and with nothing where it is not.
        self.look_up_now = store.look_up if isinstance(store, NearStore) else _nothing_near

    async def connect(self) -> None:
        """Have a shared store connect, and wait for it a little: first requests come at once.

        One that cannot be reached now is connected to when it is asked.
        """
        if isinstance(self._store, SharedStore):
            await asyncio.wait([self.spawn(_connect(self._store))], timeout=_CONNECT_SECONDS)

    async def look_up(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is stored under each key; a store that was closed is opened again."""
        return self.look_up_now(keys) or await self.store.get_many(keys)

    async def look_up_far(
        self, keys: Sequence[str], record: RequestRecord | None
    ) -> list[bytes | None]:
        """Ask a store that is not in memory, and note the time that a request spends on it.

        To note that of one in memory would double it.
        """
        began = time.perf_counter()
        found = await self.store.get_many(keys)
        if record is not None:
            record.store_seconds += time.perf_counter() - began
        return found

    def _look_up_anew(self, keys: Sequence[str]) -> list[bytes | None]:
        self._open()
        return self.look_up_now(keys)

    @property
    def store(self) -> GuardedStore:
        """For all that may take its time; a store that was closed is opened again."""
        if self._store is None:
            self._open()
        return self._guarded

    def report(self, operation: Operation, seconds: float, error: str) -> None:
        if self.observers:
            self.notify(StoreCalled(operation, seconds, error))

    def _report_breaker(self, state: BreakerState) -> None:
        self.notify(BreakerChanged("store", state))

    def _secret_for(self, rules: Iterable[Rule]) -> bytes:
        """Return what keys the partitions; only a store in memory can do with a random one."""
        is_needed = any(rule.private == "partition" for rule in rules)
        if self.options.secret is not None:
            return self.options.secret
        if is_needed and not isinstance(self._store, MemoryStore):
            raise ValueError("private='partition' in a store that is shared needs a secret")
        return os.urandom(32)

    # Flights.

    def register(self, key: Hashable, flight: Flight) -> None:
        """Let a flight be found under a key, too."""
        self.flights[key] = flight
        flight.keys.add(key)

    def unregister(self, flight: Flight) -> None:
        """Let nobody join a flight any more, and give back its room as it is read."""
        for key in flight.keys:
            if self.flights.get(key) is flight:
                del self.flights[key]
        flight.keys.clear()
        flight.release()

    # Small memories.

    def tags_of(self, coverage: Coverage) -> tuple[str, ...]:
        """Return the keys of the tags that all answers under one rule and model have."""
        found = self._tags.get(coverage)
        if found is None:
            name = self.options.namespace
            found = implicit_tags(name, coverage.rule.path, coverage.model)
            self._tags[coverage] = found
        return found

    def own_tags_of(self, coverage: Coverage) -> tuple[str, ...]:
        """Return the keys of the tags that a rule names, and of the mark of all purges."""
        found = self._own_tags.get(coverage)
        if found is None:
            name, tags = self.options.namespace, coverage.rule.tags
            named = () if callable(tags) else [tag_key(name, "tag", tag) for tag in tags]
            found = self._own_tags[coverage] = (*named, purge_mark(name))
        return found

    async def purge(self, tags: Collection[str]) -> None:
        """Make what carries any of these tags' tokens unusable.

        Where the store cannot be told, this process knows, and goes on trying.
        """
        if not await renew_tokens(self.store, self.options.namespace, tags):
            fresh = set(tags) - self.unpurged
            self.unpurged |= fresh
            if fresh:
                self.spawn(self._purge_later(fresh))

    async def _purge_later(self, tags: Collection[str]) -> None:
        for attempt in range(_PURGE_ATTEMPTS):
            await asyncio.sleep(_LATER * min(2.0**attempt, 50))
            if await renew_tokens(self.store, self.options.namespace, tags):
                break
        else:
            _logger.error("a change could not be told to the store for minutes: it is forgotten")
        self.unpurged -= set(tags)

    def is_unpurged(self, tags: Iterable[str]) -> bool:
        """Tell whether the store still holds what has been outdated under any of these tags."""
        return not self.unpurged.isdisjoint(tags)

    def note_alone(self, key: str) -> None:
        """Let who asks for this key ask the app without waiting for others (hit-for-miss)."""
        self.alone.put(key, self.options.clock() + _HIT_FOR_MISS_SECONDS)

    def is_alone(self, key: str) -> bool:
        """Tell whether a key's answers were for one client each, not long ago."""
        until = self.alone.get(key)
        return until is not None and until > self.options.clock()

    def note_fruitless(self, key: str) -> None:
        """Let no process wait for another's answer to this for a while: it is not stored."""
        self._fruitless.put(key, self.options.clock() + self.options.lease)

    def is_fruitless(self, key: str) -> bool:
        """Tell whether a key's answer was not stored, not long ago."""
        until = self._fruitless.get(key)
        return until is not None and until > self.options.clock()

    def log_once(self, what: str, error: Exception) -> None:
        """Log a failure that may come with every request, the first time that it does."""
        self.say_once(f"{what}: {type(error).__name__}", error)

    def say_once(self, text: str, error: Exception | None = None) -> None:
        """Log something for the first time, and not again."""
        if self._logged.get(text) is None:
            self._logged.put(text, text)
            _logger.warning("%s; this is logged once", text, exc_info=error)

    # Observers.

    def begun(self, coverage: Coverage, scope: Scope) -> tuple[RequestRecord, Scope]:
        """Begin the record of a request that has none, and return its scope with it."""
        record = RequestRecord(time.perf_counter(), (), coverage.model, coverage.rule.path)
        if self.own_observers:
            self.begin(record, coverage)
        return record, {**scope, "memoserve": record}

    def begin(self, record: RequestRecord, coverage: Coverage) -> None:
        """Have our own observer told of a request, and all of its observers know of the store.

        They also hear, from then on, of what belongs to no request.
        """
        record.model, record.rule = coverage.model, coverage.rule.path
        for observer in self.own_observers:
            if observer not in record.observers:
                record.observers += (observer,)
        for observer in record.observers:
            if observer not in self.observers:
                self.observers += (observer,)
                if self._store is not None:
                    tell(observer, StoreOpened(self._store))
            try:  # `tell`, spelled out, as every hit waits for it.
                observer.observe(RequestStarted(record.model))
            except Exception:
                _logger.exception("an observer failed at the start of a request")

    def notify(self, event: Event) -> None:
        """Tell everyone who was ever introduced."""
        for observer in self.observers:
            tell(observer, event)

    # Tasks.

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something beside the request; it is kept until it ends, and drained at the end."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)
        return task

    def _forget_task(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever waits for it has it raised; else nobody is there to care.

    def note_refreshed(self, flight: Flight) -> None:
        """Count a refresh as done, and log why it failed if it did."""
        self.refreshes -= 1
        if flight.error is not None:
            _logger.warning("a stale answer could not be refreshed", exc_info=flight.error)

    async def aclose(self) -> None:
        """Let tasks end, for 5 seconds, then cancel them; close a store that was opened here."""
        loop = asyncio.get_running_loop()
        tasks = {t for t in (*self._tasks, *self.aloft.values()) if t.get_loop() is loop}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_DRAIN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._guarded.aclose()
        if isinstance(self._source, str) and self._store is not None:
            store, self._store, self.memory = self._store, None, None
            self.look_up_now = self._look_up_anew
            await store.aclose()


def _nothing_near(_keys: Sequence[str]) -> list[bytes | None]:
    return []


async def _connect(store: SharedStore) -> None:
    with contextlib.suppress(Exception):  # Whatever it is, the breaker will say so.
        await store.connect()
