"""Totals as the text that Prometheus reads.

Rule: no metric can spoil the page for the others, and the event loop beside waits for some lines
at the most: they are encoded a few series at a time, and the GIL is given away in between.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator

try:
    from prometheus_client import Metric
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"metrics for Prometheus need {error.name}: pip install 'memoserve[prometheus]'",
        name=error.name,
    ) from error

from memoserve.telemetry import INSTRUMENTS, Instrument, Kind, prometheus_family, prometheus_label
from memoserve.telemetry._ledger import Series, Totals

__all__ = ["OPENMETRICS", "Collector", "content_type", "families", "render"]

_logger = logging.getLogger("memoserve")

_SERIES_AT_ONCE = 8  # Of a histogram about 150 lines, which take half a millisecond.
# Not 0: a thread that only offers the GIL takes it again before the loop has woken up.
_PAUSE = 50e-6

OPENMETRICS = "application/openmetrics-text"
_END = b"# EOF\n"

_TYPES: dict[Kind, str] = {
    "histogram": "histogram",
    "counter": "counter",
    "updown": "gauge",
    "gauge": "gauge",
}
_UNITS = {"s": "seconds", "By": "bytes"}


def content_type(*, openmetrics: bool) -> str:
    """Return the type of a page: OpenMetrics 1.0, or Prometheus' text 0.0.4."""
    return choose_encoder(OPENMETRICS if openmetrics else "")[1]


def render(parts: Iterable[Iterable[Metric]], *, openmetrics: bool = False) -> bytes:
    """Render families, which may come in pieces one after the other.

    A family whose name an earlier part has had is left out.
    """
    encode, _ = choose_encoder(OPENMETRICS if openmetrics else "")
    pages: list[bytes] = []
    taken: set[str] = set()
    for part in parts:
        begun: set[str] = set()
        for family in _each(part):
            if family.name not in taken:
                pages.append(_encoded(encode, family, is_begun=family.name in begun))
                begun.add(family.name)
                time.sleep(_PAUSE)
        taken |= begun
    return b"".join(pages) + (_END if openmetrics else b"")


def families(totals: Totals) -> Iterator[Metric]:
    """Return the families of what is in the catalogue and has numbers, in pieces."""
    for instrument in INSTRUMENTS:
        series = totals.get(instrument.name, [])
        for start in range(0, len(series), _SERIES_AT_ONCE):
            yield _family(instrument, series[start : start + _SERIES_AT_ONCE])


class _One(Collector):
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


def _each(part: Iterable[Metric]) -> Iterator[Metric]:
    try:
        yield from part
    except Exception:
        _logger.exception("metrics are left out: they cannot be collected")


def _encoded(encode: Callable[[Collector], bytes], family: Metric, *, is_begun: bool) -> bytes:
    try:
        page = encode(_One(family)).removesuffix(_END)
    except Exception:
        _logger.exception("%s is left out: it cannot be rendered", family.name)
        return b""
    if not is_begun:
        return page
    return b"".join(line for line in page.splitlines(keepends=True) if not line.startswith(b"#"))


def _family(instrument: Instrument, series: Iterable[Series]) -> Metric:
    family = Metric(
        prometheus_family(instrument),
        instrument.description,
        _TYPES[instrument.kind],
        _UNITS.get(instrument.unit, ""),
    )
    names = [prometheus_label(key) for key in instrument.attributes]
    for each in series:
        labels = {name: value for name, value in zip(names, each.values, strict=False) if value}
        if instrument.kind == "histogram":
            _add_histogram(family, instrument, each, labels)
        else:
            suffix = "_total" if instrument.kind == "counter" else ""
            family.add_sample(family.name + suffix, labels, each.number)
    return family


def _add_histogram(
    family: Metric, instrument: Instrument, series: Series, labels: dict[str, str]
) -> None:
    total = 0
    for bound, count in zip((*map(str, instrument.buckets), "+Inf"), series.counts, strict=True):
        total += count
        family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, total)
    family.add_sample(f"{family.name}_count", labels, total)
    family.add_sample(f"{family.name}_sum", labels, series.number)
