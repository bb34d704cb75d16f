"""From events to instruments, on the real SDK."""

import gc
import subprocess
import sys
import threading
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from memoserve._events import (
    BatchFinished,
    BreakerChanged,
    CacheStatus,
    Event,
    FollowerJoined,
    FollowerLeft,
    HttpRequestFinished,
    KeyCollided,
    KeyRefused,
    ModelCalled,
    Outcome,
    QueueJoined,
    QueueLeft,
    QueuePassed,
    RequestFinished,
    RequestShed,
    RequestStarted,
    ShadowCompared,
    StoreCalled,
    StoreOpened,
    StoreWritten,
)
from memoserve.stores.memory import MemoryStore, StoreUsage
from memoserve.telemetry import (
    BATCH_DURATION,
    BATCH_SIZE,
    BREAKER_OPEN,
    BREAKER_TRANSITIONS,
    BUILD_INFO,
    BYPASSES,
    DURATION_BUCKETS,
    ENTRY_AGE,
    EVENT_LOOP_LAG,
    FLIGHT_WAITERS,
    INSTRUMENTS,
    KEY_COLLISIONS,
    LABEL_OVERFLOWS,
    MODEL_DURATION,
    MODEL_TIME_SAVED,
    QUEUE_DURATION,
    QUEUE_LENGTH,
    QUEUE_SHED,
    REQUEST_ACTIVE,
    REQUEST_DURATION,
    STORE_DURATION,
    STORE_ENTRIES,
    STORE_ERRORS,
    STORE_EVICTIONS,
    STORE_LIMIT,
    STORE_USAGE,
    WORKERS,
    Instrument,
)
from memoserve.telemetry._ledger import Series, Tally
from memoserve.telemetry.otel import OTelObserver, default_observer, prepare_default_observer

Measured = Callable[[Instrument], dict[frozenset[tuple[str, str]], float]]


def finished(
    status: CacheStatus = "hit",
    *,
    model: str = "sentiment",
    variant: str = "",
    outcome: Outcome = "ok",
    saved: float = 0.0,
    age: float | None = None,
) -> RequestFinished:
    reason = "credentials" if status == "bypass" else ""
    return RequestFinished(model, variant, status, outcome, 0.002, reason, saved, age)


def attributes(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset((key.replace("_", "."), value) for key, value in values.items())


async def feed_everything(observer: OTelObserver, store: MemoryStore) -> None:
    """Tell of each kind of event; in a loop, since its lag is measured, too."""
    await store.set("key", b"value", 60)
    events: list[Event] = [
        StoreOpened(store),
        RequestStarted("sentiment"),
        finished("hit", variant="v1", saved=0.5, age=3.0),
        RequestStarted("sentiment"),
        finished("bypass"),
        HttpRequestFinished("POST", "500", "/v1/sentiment", "http", "1.1", "500", 0.5),
        ModelCalled("sentiment", "ok", 0.5),
        StoreWritten("sentiment", "stored"),
        StoreCalled("get", 0.001, ""),
        StoreCalled("get", 0.05, "TimeoutError"),
        FollowerJoined("sentiment"),
        FollowerLeft("sentiment"),
        KeyCollided("sentiment"),
        KeyRefused("sentiment"),
        BreakerChanged("store", "open"),
        ShadowCompared("sentiment", "equal"),
        QueueJoined("sentiment"),
        QueueLeft("sentiment"),
        QueuePassed("sentiment", 0.5),
        RequestShed("sentiment"),
        BatchFinished("sentiment", 4, 0.5),
    ]
    assert {type(event) for event in events} == set(typing.get_args(Event))
    events += [StoreCalled("get", 0.001, f"Error{number}") for number in range(100)]
    for event in events:
        observer.observe(event)


async def test_every_instrument_is_fed_as_the_catalogue_says(
    observer: OTelObserver, made: Callable[[], dict[str, Any]]
) -> None:
    store = MemoryStore()
    await feed_everything(observer, store)

    metrics = made()

    assert set(metrics) == {instrument.name for instrument in INSTRUMENTS}
    for instrument in INSTRUMENTS:
        metric = metrics[instrument.name]
        keys = {key for point in metric.data.data_points for key in point.attributes}
        assert keys == set(instrument.attributes)
        assert (metric.unit, metric.description) == (instrument.unit, instrument.description)
        assert getattr(metric.data, "is_monotonic", False) == (instrument.kind == "counter")
    await store.aclose()


def test_durations_fall_into_the_buckets_of_the_catalogue(
    observer: OTelObserver, made: Callable[[], dict[str, Any]]
) -> None:
    observer.observe(finished())

    (point,) = made()[REQUEST_DURATION.name].data.data_points

    assert point.explicit_bounds == DURATION_BUCKETS
    assert point.bucket_counts[2] == 1  # 2 ms: above 1 and up to 2.5.


def test_a_memory_hit_is_one_record(
    provider: MeterProvider, made: Callable[[], dict[str, Any]]
) -> None:
    observer = OTelObserver(provider)

    observer.observe(RequestStarted("sentiment"))
    observer.observe(finished("hit", saved=0.5, age=3.0))

    recorded = [
        name for name, metric in made().items() if hasattr(metric.data.data_points[0], "count")
    ]
    assert recorded == [REQUEST_DURATION.name]


def test_the_age_of_entries_is_measured_on_request_only(
    provider: MeterProvider, measured: Measured
) -> None:
    observer = OTelObserver(provider, entry_age=False)

    observer.observe(finished("hit", age=3.0))

    assert measured(ENTRY_AGE) == {}


def test_only_reused_answers_have_an_age_and_save_time(
    observer: OTelObserver, measured: Measured
) -> None:
    observer.observe(finished("miss"))
    observer.observe(finished("hit", saved=0.5, age=3.0))
    observer.observe(finished("stale", saved=0.25, age=400.0))
    observer.observe(finished("coalesced", saved=0.5))

    assert measured(ENTRY_AGE) == {attributes(model="sentiment"): 2}
    assert measured(MODEL_TIME_SAVED) == {attributes(model="sentiment"): 1.25}


@settings(deadline=None)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(typing.get_args(CacheStatus)),
            st.sampled_from(["sentiment", "summary"]),
            st.sampled_from(typing.get_args(Outcome)),
            st.sampled_from(["", "v1", "v2"]),
        ),
        max_size=30,
    )
)
def test_every_request_is_counted_once_under_its_own_word(
    requests: list[tuple[CacheStatus, str, Outcome, str]],
) -> None:
    """Lookups = hits + stale + coalesced + misses + bypasses + errors."""
    reader = InMemoryMetricReader()
    observer = OTelObserver(MeterProvider([reader], shutdown_on_exit=False))

    for status, model, outcome, variant in requests:
        observer.observe(RequestStarted(model))
        observer.observe(finished(status, model=model, outcome=outcome, variant=variant))

    counts: Counter[tuple[str, str, str, str]] = Counter()
    bypasses = active = 0
    for metric, point in _points(reader):
        labels = point.attributes
        if metric == REQUEST_DURATION.name:
            key = ("cache.status", "model", "outcome")
            counts[(*(labels[name] for name in key), labels.get("variant", ""))] += point.count
        bypasses += point.value if metric == BYPASSES.name else 0
        active += abs(point.value) if metric == REQUEST_ACTIVE.name else 0
    assert counts == Counter(requests)
    assert bypasses == sum(status == "bypass" for status, *_ in requests)
    assert active == 0


def _points(reader: InMemoryMetricReader) -> Iterator[tuple[str, Any]]:
    collected = reader.get_metrics_data()
    for resource in collected.resource_metrics if collected else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    yield metric.name, point


def test_what_is_under_way_goes_up_and_down(observer: OTelObserver, measured: Measured) -> None:
    observer.observe(RequestStarted("sentiment"))
    observer.observe(RequestStarted("sentiment"))
    observer.observe(FollowerJoined("sentiment"))
    during = [*measured(REQUEST_ACTIVE).items(), *measured(FLIGHT_WAITERS).items()]

    observer.observe(finished("coalesced"))
    observer.observe(FollowerLeft("sentiment"))
    after = [*measured(REQUEST_ACTIVE).items(), *measured(FLIGHT_WAITERS).items()]

    model = attributes(model="sentiment")
    assert during == [(model, 2), (model, 1)]
    assert after == [(model, 1), (model, 0)]


def test_names_without_end_end_as_other(observer: OTelObserver, measured: Measured) -> None:
    for number in range(500):
        observer.observe(ModelCalled(f"scanner-{number}", "ok", 0.1))
        observer.observe(KeyCollided(f"scanner-{number}"))
        observer.observe(StoreCalled("get", 0.1, f"Error{number}"))
        observer.observe(finished("bypass", model="scanner-0", variant=f"v{number}"))

    models = measured(MODEL_DURATION)
    overflows = measured(LABEL_OVERFLOWS)
    assert overflows[attributes(label="model")] == 800
    assert overflows[frozenset({("label", "error.type")})] == 400
    assert overflows[attributes(label="variant")] == 400
    assert len(models) == 101
    assert models[attributes(model="other", outcome="ok")] == 400
    assert measured(KEY_COLLISIONS)[attributes(model="other")] == 400
    assert measured(STORE_ERRORS)[attributes(operation="get", error_type="other")] == 400
    assert len(measured(REQUEST_DURATION)) == 101


def test_a_hundred_thousand_names_leave_the_series_as_many_as_they_were(
    observer: OTelObserver,
) -> None:
    """Bug 56."""

    def series() -> int:
        return sum(len(each) for each in observer.totals().values())

    seen = []
    for number in range(100_000):
        observer.observe(RequestStarted(f"scanner-{number}"))
        observer.observe(finished("miss", model=f"scanner-{number}"))
        if number in (200, 99_999):
            seen.append(series())

    assert seen[0] == seen[1] < 1000


def test_what_grows_seldom_begins_at_nothing(observer: OTelObserver, measured: Measured) -> None:
    """Of a counter that first shows up as 1, Prometheus' increase() is 0."""
    observer.observe(RequestStarted("sentiment"))

    for instrument in (KEY_COLLISIONS, MODEL_TIME_SAVED):
        assert measured(instrument) == {attributes(model="sentiment"): 0}
    assert set(measured(LABEL_OVERFLOWS).values()) == {0}


def test_a_failing_store_is_timed_and_counted_with_its_error(
    observer: OTelObserver, measured: Measured
) -> None:
    observer.observe(StoreCalled("get", 0.001, ""))
    observer.observe(StoreCalled("set", 0.05, "TimeoutError"))

    failure = attributes(operation="set", error_type="TimeoutError")
    assert measured(STORE_ERRORS) == {failure: 1}
    assert measured(STORE_DURATION) == {attributes(operation="get"): 1, failure: 1}


async def test_stores_of_one_name_are_added_up(observer: OTelObserver, measured: Measured) -> None:
    stores = [MemoryStore(max_bytes=1000), MemoryStore(max_bytes=2000)]
    for store in [*stores, stores[0]]:
        observer.observe(StoreOpened(store))

    for key in ("first", "second", "third"):
        await stores[0].set(key, bytes(400), 60)

    name = attributes(store="memory")
    assert measured(STORE_LIMIT) == {name: 3000}
    assert measured(STORE_ENTRIES) == {name: 1}
    assert measured(STORE_EVICTIONS) == {name: 2}
    assert measured(STORE_USAGE) == {name: stores[0].usage().bytes}
    await stores[0].aclose()


def test_a_store_is_not_kept_alive_by_being_measured(
    observer: OTelObserver, measured: Measured
) -> None:
    store = MemoryStore()
    observer.observe(StoreOpened(store))
    before = measured(STORE_LIMIT)

    del store
    gc.collect()
    after = measured(STORE_LIMIT)
    observer.observe(StoreOpened(MemoryStore()))

    assert len(before) == 1
    assert after == {}


class PlainStore:
    """What every store can do, and nothing else."""

    async def get(self, key: str, /) -> bytes | None: ...
    async def set(self, key: str, value: bytes, ttl: float, /) -> None: ...
    async def delete(self, key: str, /) -> None: ...
    async def aclose(self) -> None: ...


def test_a_store_that_cannot_say_how_full_it_is_is_no_trouble(
    observer: OTelObserver, measured: Measured
) -> None:
    observer.observe(StoreOpened(PlainStore()))

    assert measured(STORE_USAGE) == {}


def test_a_breaker_is_open_until_it_is_closed(observer: OTelObserver, measured: Measured) -> None:
    """While it is being tried, what is behind it is left alone all the same."""
    seen = []
    observer.observe(StoreOpened(PlainStore()))
    for state in ("open", "half_open", "open", "half_open", "closed"):
        seen.append(measured(BREAKER_OPEN)[attributes(breaker="store")])
        observer.observe(BreakerChanged("store", state))

    assert seen == [0, 1, 1, 1, 1]
    assert measured(BREAKER_OPEN) == {attributes(breaker="store"): 0}
    assert measured(BREAKER_TRANSITIONS) == {
        attributes(breaker="store", state="open"): 2,
        attributes(breaker="store", state="half_open"): 2,
        attributes(breaker="store", state="closed"): 1,
    }


def test_a_store_in_memory_has_no_breaker(observer: OTelObserver, measured: Measured) -> None:
    observer.observe(StoreOpened(MemoryStore()))

    assert measured(BREAKER_OPEN) == measured(BREAKER_TRANSITIONS) == {}


def test_a_queue_and_its_batches_are_measured(observer: OTelObserver, measured: Measured) -> None:
    for _ in range(3):
        observer.observe(QueueJoined("sentiment"))
    observer.observe(QueueLeft("sentiment"))
    observer.observe(QueuePassed("sentiment", 0.25))
    observer.observe(RequestShed("sentiment"))
    observer.observe(BatchFinished("sentiment", 4, 0.5))

    model = attributes(model="sentiment")
    assert measured(QUEUE_LENGTH) == {model: 2}
    assert measured(QUEUE_SHED) == {model: 1}
    (size,) = observer.totals()[BATCH_SIZE.name]
    (taken,) = observer.totals()[BATCH_DURATION.name]
    (waited,) = observer.totals()[QUEUE_DURATION.name]
    assert (size.number, taken.number, waited.number) == (4, 0.5, 0.25)


def test_an_event_of_another_version_is_ignored(
    observer: OTelObserver, made: Callable[[], dict[str, Any]]
) -> None:
    before = set(made())

    observer.observe(object())  # type: ignore[arg-type] # What a newer core might emit.

    assert set(made()) == before == {WORKERS.name, BUILD_INFO.name, LABEL_OVERFLOWS.name}


async def test_the_lag_is_that_of_the_loop_which_serves(
    observer: OTelObserver, measured: Measured
) -> None:
    before = measured(EVENT_LOOP_LAG)

    observer.observe(RequestStarted("sentiment"))

    assert before == {}
    assert list(measured(EVENT_LOOP_LAG)) == [frozenset()]


def test_nothing_is_lost_between_threads() -> None:
    """Several event loops in one process may share an observer."""
    tally = Tally()
    other = threading.Thread(target=lambda: tally.add(1, ("sentiment",)))

    class One(float):
        """An amount during whose addition another thread adds, too, if it can."""

        def __radd__(self, number: float) -> float:
            other.start()
            other.join(timeout=0.05)
            return number + 1

    tally.add(One(), ("sentiment",))
    other.join()

    assert tally.read() == [Series(("sentiment",), 2)]


def test_two_observers_cannot_count_everything_twice(provider: MeterProvider) -> None:
    OTelObserver(provider)

    with pytest.raises(ValueError, match="OTelObserver already"):
        OTelObserver(provider)


def test_the_applications_provider_is_used(
    global_provider: MeterProvider, measured: Measured
) -> None:
    observer = OTelObserver()

    observer.observe(KeyCollided("sentiment"))

    assert measured(KEY_COLLISIONS) == {attributes(model="sentiment"): 1}


def test_the_default_joins_an_observer_on_the_applications_provider(
    global_provider: MeterProvider,
) -> None:
    mine = OTelObserver()

    assert default_observer() is mine


def test_the_default_is_made_on_the_applications_provider(
    global_provider: MeterProvider, measured: Measured
) -> None:
    prepare_default_observer()
    first = default_observer()

    first.observe(KeyCollided("sentiment"))

    assert default_observer() is first
    assert measured(KEY_COLLISIONS) == {attributes(model="sentiment"): 1}


def test_without_a_provider_the_numbers_are_kept_all_the_same(fresh_process: None) -> None:
    prepare_default_observer()
    first = default_observer()

    first.observe(KeyCollided("sentiment"))

    assert default_observer() is first
    assert first.totals()[KEY_COLLISIONS.name] == [Series(("sentiment",), 1)]


def test_what_the_application_exports_and_what_is_shown_agree(
    observer: OTelObserver, measured: Measured
) -> None:
    for status in typing.get_args(CacheStatus):
        observer.observe(finished(status, saved=0.5))

    (saved,) = observer.totals()[MODEL_TIME_SAVED.name]
    counts = {
        series.values: sum(series.counts) for series in observer.totals()[REQUEST_DURATION.name]
    }
    assert measured(MODEL_TIME_SAVED) == {attributes(model="sentiment"): saved.number}
    assert sorted(counts.values()) == sorted(measured(REQUEST_DURATION).values()) == [1] * 6


def test_a_reading_that_fails_costs_itself_and_one_line(
    observer: OTelObserver, measured: Measured, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(MemoryStore):
        def usage(self) -> StoreUsage:
            raise RuntimeError("no idea")

    store = Broken()
    observer.observe(StoreOpened(store))

    readings = [measured(STORE_USAGE), measured(STORE_USAGE), measured(WORKERS)]

    assert readings == [{}, {}, {frozenset(): 1}]
    told = [entry.message for entry in caplog.records if "usage" in entry.message]
    assert told == ["memoserve.store.usage cannot be read; this is logged once"]


def test_a_checkout_has_no_version(
    monkeypatch: pytest.MonkeyPatch, provider: MeterProvider, measured: Measured
) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    OTelObserver(provider)

    assert measured(BUILD_INFO) == {attributes(version="unknown"): 1}


def test_what_is_missing_has_a_name_and_a_remedy() -> None:
    script = """
import sys
sys.modules["prometheus_client"] = None  # As if it were not installed.
import memoserve.telemetry.middleware  # It counts without.
import memoserve.telemetry.scrape
"""

    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.endswith("prometheus_client: pip install 'memoserve[prometheus]'")
