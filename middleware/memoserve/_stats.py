"""What a service's numbers say of the time between two scrapes.

Rule: a figure is made of differences, never of totals, and a counter that is lower than before
began anew in between, so that all of it is new. Names come from the catalogue.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from memoserve import telemetry as catalogue
from memoserve.telemetry import Instrument, prometheus_label, prometheus_names

__all__ = ["STATUSES", "Latency", "ModelFigures", "Scrape", "Stats", "figures", "read_page"]

STATUSES = ("hit", "stale", "coalesced", "miss", "bypass", "error")

_REUSED = frozenset({"hit", "stale", "coalesced"})
_IN_SHADOW = "shadow"  # The reason of bypasses that were looked up.
_Labels = tuple[tuple[str, str], ...]  # Sorted.
_Series = Mapping[_Labels, float]


class Scrape(msgspec.Struct, frozen=True):
    """One page of metrics: all samples by name and labels."""

    time: float  # Seconds of a clock that only grows.
    samples: Mapping[str, _Series]


class Latency(msgspec.Struct, frozen=True):
    """Two percentiles, in seconds, as far as the buckets tell; NaN where there was nothing."""

    p50: float
    p95: float


class ModelFigures(msgspec.Struct, frozen=True):
    """The figures of one model."""

    model: str
    rate: float  # Requests a second.
    hit_ratio: float  # Of what did not bypass; NaN if that was nothing.
    latencies: Mapping[str, Latency]  # By what the cache did.
    saved: float  # Seconds of the model's time, in all of the interval.
    bypasses: Mapping[str, float] = {}  # By the reason.
    shadow: Mapping[str, float] = {}  # Comparisons of shadow mode, by the result.

    @property
    def shadow_hit_ratio(self) -> float:
        """The hit ratio that shadow mode promises; NaN if it looked nothing up."""
        asked = self.bypasses.get(_IN_SHADOW, 0.0)
        return sum(self.shadow.values()) / asked if asked else math.nan


class Stats(msgspec.Struct, frozen=True):
    """What happened between two scrapes."""

    seconds: float
    models: tuple[ModelFigures, ...]  # The busiest first.
    store_errors: Mapping[str, float]  # By operation and kind of error.
    open_breakers: tuple[str, ...]
    workers: float  # 0: not said.


def read_page(text: str, time: float) -> Scrape:
    """Read a page of metrics, in the text format of Prometheus.

    Raises:
        ValueError: It is none, or has nothing of memoserve in it.
        ModuleNotFoundError: The extra `prometheus` is not installed.
    """
    try:
        # Imported here, as other commands do without it.
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415
    except ModuleNotFoundError as error:
        message = "reading metrics needs prometheus-client: pip install 'memoserve[prometheus]'"
        raise ModuleNotFoundError(message, name=error.name) from error
    samples: dict[str, dict[_Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("memoserve_"):
                labels = tuple(sorted(sample.labels.items()))
                samples.setdefault(sample.name, {})[labels] = float(sample.value)
    if not samples:
        raise ValueError("there is nothing of memoserve on this page")
    return Scrape(time, samples)


def figures(before: Scrape | None, after: Scrape) -> Stats:
    """Return what happened in between; since the counters began, if there is nothing before."""
    counts = _increases(before, after, f"{_base(catalogue.REQUEST_DURATION)}_count")
    buckets = _increases(before, after, f"{_base(catalogue.REQUEST_DURATION)}_bucket")
    saved, bypasses, shadow = (
        _increases(before, after, prometheus_names(instrument)[0])
        for instrument in (
            catalogue.MODEL_TIME_SAVED, catalogue.BYPASSES, catalogue.SHADOW_COMPARISONS,
        )
    )  # fmt: skip
    seconds = math.nan if before is None else after.time - before.time
    names = {_label(labels, catalogue.MODEL) for labels in counts}
    models = [
        msgspec.structs.replace(
            _model(name, seconds, counts, buckets, saved),
            bypasses=_by(catalogue.REASON, name, bypasses),
            shadow=_by(catalogue.RESULT, name, shadow),
        )
        for name in sorted(names)
    ]
    busiest = sorted(models, key=lambda model: -_of(counts, catalogue.MODEL, model.model))
    return Stats(
        seconds=seconds,
        models=tuple(busiest),
        store_errors=_store_errors(before, after),
        open_breakers=tuple(
            sorted(
                _label(labels, catalogue.BREAKER)
                for labels, value in _series(after, catalogue.BREAKER_OPEN).items()
                if value > 0
            )
        ),
        workers=sum(_series(after, catalogue.WORKERS).values()),
    )


def _model(
    name: str, seconds: float, counts: _Series, buckets: _Series, saved: _Series
) -> ModelFigures:
    own = {labels: n for labels, n in counts.items() if _label(labels, catalogue.MODEL) == name}
    by_status = {status: _of(own, catalogue.CACHE_STATUS, status) for status in STATUSES}
    asked = sum(by_status.values()) - by_status["bypass"]
    reused = sum(by_status[status] for status in _REUSED)
    return ModelFigures(
        model=name,
        rate=sum(by_status.values()) / seconds,
        hit_ratio=reused / asked if asked else math.nan,
        latencies={status: _latency(name, status, buckets) for status, n in by_status.items() if n},
        saved=_of(saved, catalogue.MODEL, name),
    )


def _by(key: str, model: str, series: _Series) -> dict[str, float]:
    """Return what was counted of a model, by one label; the largest first."""
    found: dict[str, float] = {}
    for labels, count in series.items():
        if count and _label(labels, catalogue.MODEL) == model:
            found[_label(labels, key)] = found.get(_label(labels, key), 0.0) + count
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _latency(model: str, status: str, buckets: _Series) -> Latency:
    ladder: dict[float, float] = {}
    for labels, count in buckets.items():
        is_model = _label(labels, catalogue.MODEL) == model
        if is_model and _label(labels, catalogue.CACHE_STATUS) == status:
            bound = float(dict(labels)["le"])
            ladder[bound] = ladder.get(bound, 0.0) + count
    steps = sorted(ladder.items())
    return Latency(_quantile(0.5, steps), _quantile(0.95, steps))


def _quantile(share: float, steps: Sequence[tuple[float, float]]) -> float:
    """Return a quantile as Prometheus does: on a line within its bucket."""
    if not steps or not steps[-1][1]:
        return math.nan
    rank = share * steps[-1][1]
    for (low, below), (high, count) in itertools.pairwise([(0.0, 0.0), *steps]):
        if count >= rank:
            if math.isinf(high):
                return low
            return low + (high - low) * (rank - below) / (count - below)
    return math.nan  # The counts of a torn page need not grow.


def _store_errors(before: Scrape | None, after: Scrape) -> dict[str, float]:
    found: dict[str, float] = {}
    name = prometheus_names(catalogue.STORE_ERRORS)[0]
    for labels, count in _increases(before, after, name).items():
        kind = f"{_label(labels, catalogue.OPERATION)} {_label(labels, catalogue.ERROR_TYPE)}"
        if count:
            found[kind] = found.get(kind, 0.0) + count
    return found


def _increases(before: Scrape | None, after: Scrape, name: str) -> dict[_Labels, float]:
    earlier: _Series = {} if before is None else before.samples.get(name, {})
    increases: dict[_Labels, float] = {}
    for labels, value in after.samples.get(name, {}).items():
        since = earlier.get(labels, 0.0)
        increases[labels] = value - since if value >= since else value
    return increases


def _series(scrape: Scrape, instrument: Instrument) -> _Series:
    return scrape.samples.get(prometheus_names(instrument)[0], {})


def _base(histogram: Instrument) -> str:
    return prometheus_names(histogram)[0].removesuffix("_bucket")


def _of(series: _Series, key: str, value: str) -> float:
    return sum(n for labels, n in series.items() if _label(labels, key) == value)


def _label(labels: Iterable[tuple[str, str]], key: str) -> str:
    return dict(labels).get(prometheus_label(key), "")
