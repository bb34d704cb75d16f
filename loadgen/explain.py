"""Why each request was a hit or a miss, and what the best possible cache would have done.

Rule: nothing is assumed about the traffic. The sequence that was really sent, at the times and with
the durations that were really measured, is replayed through a model cache: of `capacity` entries,
the least recently used goes first, each fresh for `ttl` seconds from the end of its inference,
concurrent duplicates coalesced. The share it reuses is *achievable*; observed reuse by achievable
reuse is the *efficiency* of the cache under test. A miss that the model cannot explain is listed by
name: it points at a key that tells apart what is equal, an eviction, or a store that failed.

The client sees when a request left and came back, not when the server took it up. Where requests
for one item overlap, a lifetime ends in between, or an entry is about to be evicted, the order is
therefore taken in the server's favour.
"""

import math
from array import array
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from functools import cached_property

from loadgen.outcome import REUSE, Outcome
from loadgen.plan import Key, Plan
from loadgen.records import Records

__all__ = ["Cause", "Explanation", "Fill", "Fills", "explain"]


class Cause(IntEnum):
    """Why a request ended as it did."""

    HIT = 0
    STALE = 1
    COALESCED = 2
    COMPULSORY = 3  # A miss: nobody had asked before.
    EXPIRED = 4  # A miss: the answer had outlived its freshness lifetime.
    CAPACITY = 5  # A miss: too much else had been asked since.
    IN_FLIGHT = 6  # A miss while the same inference was running: not coalesced.
    BYPASS = 7
    ERROR = 8
    UNKNOWN = 9  # The answer does not say.
    UNEXPLAINED = 10  # A miss of what must have been in the cache.

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Fill:
    """An inference whose answer could be stored: when it was asked for and when it was there."""

    start: float
    end: float


Fills = Mapping[Key, Fill]  # What a cache holds.


@dataclass(frozen=True)
class Explanation:
    """The replay of one run."""

    rows: Sequence[int]  # The finished requests, in the order of sending.
    causes: "array[int]"  # By row; -1 where a request has not ended.
    achieved: "array[int]"  # By row: 1 where the model cache would have answered.
    ttl: float  # Seconds, as given or as learnt from the answers.
    capacity: int | None  # Entries; None: no limit.
    unexplained: list[int]  # Rows; empty is what one wants to see.
    unexpected: list[int]  # Rows: reuse of what nobody had asked before. A warm cache, or worse.
    fills: Fills  # What the cache holds now: the start of a replay of what comes next.

    @property
    def observed(self) -> float:
        """Share of the requests that the cache answered; NaN without requests."""
        return self.reused / len(self.rows) if self.rows else math.nan

    @property
    def reused(self) -> int:
        """How many requests the cache answered."""
        return sum(self.counts[cause] for cause in _REUSED)

    @property
    def achievable_reuse(self) -> int:
        """How many requests the model cache would have answered."""
        return sum(self.achieved)

    @property
    def achievable(self) -> float:
        """Share of the requests that the model cache would have answered."""
        return self.achievable_reuse / len(self.rows) if self.rows else math.nan

    @property
    def efficiency(self) -> float:
        """Observed by achievable; 1 where there was nothing to reuse."""
        return self.reused / self.achievable_reuse if self.achievable_reuse else 1.0

    @cached_property
    def counts(self) -> Counter[Cause]:
        """How many requests each cause explains."""
        counts = Counter(self.causes)
        return Counter({cause: counts[cause] for cause in Cause if counts[cause]})


_REUSED = frozenset({Cause.HIT, Cause.STALE, Cause.COALESCED})
_SLACK = 1.0  # Cache-Status gives lifetimes in whole seconds.


def explain(
    plan: Plan,
    records: Records,
    *,
    ttl: float | None = None,
    capacity: int | None = None,
    coalesce: bool = True,
    warm: Fills | None = None,
) -> Explanation:
    """Replay a run.

    Args:
        plan: what was sent.
        records: what was measured.
        ttl: freshness lifetime in seconds; None: the longest that a hit has told, else endless.
        capacity: entries that the model cache holds, all models together; None: no limit.
        coalesce: whether the model cache lets concurrent duplicates share one inference.
        warm: what the cache held before, as `Explanation.fills` of the run before (same salt).
    """
    ttl = _learnt_ttl(records) if ttl is None else ttl
    rows = array("q", sorted(records.rows(), key=records.sent.__getitem__))
    evicted = {} if capacity is None else _evictions(plan, rows, capacity, warm or {})
    replay = _Replay(
        ttl=ttl, coalesce=coalesce, warm=warm or {}, evicted=evicted, rows=len(records)
    )
    by_key: defaultdict[Key, array[int]] = defaultdict(lambda: array("q"))
    for row in rows:
        by_key[plan.key(row)].append(row)
    for key, asked in by_key.items():
        replay.key(key, _in_order_of_service([_request(records, row) for row in asked]))
    causes = replay.causes
    return Explanation(
        rows=rows,
        causes=causes,
        achieved=array("b", [0]) * len(causes) if plan.bypass else replay.achieved,
        ttl=ttl,
        capacity=capacity,
        unexplained=[row for row, cause in enumerate(causes) if cause == Cause.UNEXPLAINED],
        unexpected=sorted(replay.unexpected),
        fills=replay.fills,
    )


_EDGE = 0.9  # Of the capacity: what lies so deep may be evicted in another order of arrival.


def _evictions(plan: Plan, rows: Iterable[int], capacity: int, warm: Fills) -> "dict[int, _State]":
    """Return the requests whose answer least-recently-used eviction has thrown out, or may have."""
    ordered = sorted(warm, key=lambda key: warm[key].end)
    sizes = (max(1, int(_EDGE * capacity)), capacity)
    inner, outer = (OrderedDict.fromkeys(ordered[-size:]) for size in sizes)
    seen, evicted = set(warm), dict[int, _State]()
    for row in rows:
        key = plan.key(row)
        if key in seen and key not in inner:
            evicted[row] = _State.AT_THE_EDGE if key in outer else _State.EVICTED
        seen.add(key)
        for cache, size in zip((inner, outer), sizes, strict=True):
            cache[key] = None
            cache.move_to_end(key)
            if len(cache) > size:
                cache.popitem(last=False)
    return evicted


@dataclass(frozen=True, slots=True)
class _Request:
    row: int
    sent: float
    done: float
    outcome: Outcome
    complete: bool  # A 2xx answer: something that can be stored.


def _request(records: Records, row: int) -> _Request:
    return _Request(
        row,
        records.sent[row],
        records.done[row],
        Outcome(records.outcome[row]),
        complete=200 <= records.status[row] < 300,
    )


def _learnt_ttl(records: Records) -> float:
    told = [ttl for ttl in records.ttl if ttl >= 0]  # No NaN: those compare false.
    return max(told) + _SLACK if told else math.inf


def _in_order_of_service(requests: Sequence[_Request]) -> list[_Request]:
    """Put a reuse behind a miss that was sent while it was open: that miss may have led it."""
    order: dict[int, tuple[float, bool]] = {}
    next_miss = math.inf
    for request in reversed(requests):
        if request.outcome is Outcome.MISS:
            next_miss = request.sent
        led = request.outcome in REUSE and next_miss < request.done
        order[request.row] = (next_miss, True) if led else (request.sent, False)
    return sorted(requests, key=lambda request: order[request.row])


class _State(Enum):
    """What a model cache has for a request."""

    ABSENT = auto()
    IN_FLIGHT = auto()
    FRESH = auto()
    PERHAPS = auto()  # The lifetime ended while the request was under way.
    EXPIRED = auto()
    AT_THE_EDGE = auto()  # Next to be evicted.
    EVICTED = auto()


class _Replay:
    """Two caches side by side: what the one under test must hold, and the best possible one."""

    def __init__(
        self,
        *,
        ttl: float,
        coalesce: bool,
        warm: Fills,
        evicted: Mapping[int, _State],
        rows: int,
    ) -> None:
        self._ttl = ttl
        self._coalesce = coalesce
        self._evicted = evicted
        self.fills: dict[Key, Fill] = dict(warm)
        self._ideal: dict[Key, Fill] = dict(warm)
        self.causes = array("b", [-1]) * rows
        self.achieved = array("b", [0]) * rows
        self.unexpected: list[int] = []

    def key(self, key: Key, requests: Iterable[_Request]) -> None:
        """Replay everything that asked for one item."""
        for request in requests:
            self.causes[request.row] = self._cause(key, request)
            self.achieved[request.row] = self._is_achievable(key, request)

    def _cause(self, key: Key, request: _Request) -> Cause:
        state = self._state(self.fills.get(key), request)
        if request.outcome is not Outcome.MISS:
            if request.outcome in REUSE and state is _State.ABSENT:
                self.unexpected.append(request.row)
                self.fills[key] = Fill(request.sent, request.done)
            return _NO_MISS[request.outcome]
        if request.complete:
            self.fills[key] = Fill(request.sent, request.done)
        return _WHY_MISSED[state]

    def _is_achievable(self, key: Key, request: _Request) -> bool:
        match self._state(self._ideal.get(key), request):
            case _State.FRESH:
                return True
            case _State.IN_FLIGHT if self._coalesce:
                return True
            case _State.PERHAPS | _State.EXPIRED if request.outcome is Outcome.STALE:
                reused = True
            case _State.PERHAPS | _State.AT_THE_EDGE | _State.EVICTED:
                reused = request.outcome in REUSE
            case _:
                reused = False
        if request.complete and (not reused or request.outcome is Outcome.STALE):
            self._ideal[key] = Fill(request.sent, request.done)
        return reused

    def _state(self, fill: Fill | None, request: _Request) -> _State:
        if fill is None:
            return _State.ABSENT
        if request.sent < fill.end:
            return _State.IN_FLIGHT
        if request.done < fill.start + self._ttl - _SLACK:
            return self._evicted.get(request.row, _State.FRESH)
        return _State.PERHAPS if request.sent <= fill.end + self._ttl else _State.EXPIRED


_NO_MISS = {
    Outcome.HIT: Cause.HIT,
    Outcome.STALE: Cause.STALE,
    Outcome.COALESCED: Cause.COALESCED,
    Outcome.BYPASS: Cause.BYPASS,
    Outcome.ERROR: Cause.ERROR,
    Outcome.UNKNOWN: Cause.UNKNOWN,
}
_WHY_MISSED = {
    _State.ABSENT: Cause.COMPULSORY,
    _State.IN_FLIGHT: Cause.IN_FLIGHT,
    _State.FRESH: Cause.UNEXPLAINED,
    _State.PERHAPS: Cause.EXPIRED,
    _State.EXPIRED: Cause.EXPIRED,
    _State.AT_THE_EDGE: Cause.CAPACITY,
    _State.EVICTED: Cause.CAPACITY,
}
