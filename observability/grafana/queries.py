"""The expressions of the dashboard.

Rule: metrics are named by the catalogue, so that a dashboard cannot ask for what is not there, and
what is nothing is 0 where that is meant, not a gap: `or 0 *` keeps the labels.
"""

from memoserve import telemetry as catalogue
from memoserve.telemetry import Instrument, prometheus_family, prometheus_names

__all__ = [
    "ALL", "CACHEABLE", "ERROR_RATIO", "HIT_RATIO", "OF", "OFFLOAD", "OF_MODEL", "RANGE_SAVED",
    "REQUESTS", "REUSED", "SAVED", "SPENT", "WINDOW", "name", "now", "quantile", "rate",
]  # fmt: skip

OF = 'job=~"$job", instance=~"$instance"'
OF_MODEL = f'{OF}, model=~"$model"'
WINDOW = "[$__rate_interval]"


def name(instrument: Instrument, part: str = "") -> str:
    """Return the name of an instrument's samples; `part` is `_count`, `_sum` or `_bucket`."""
    name = prometheus_family(instrument) + part if part else prometheus_names(instrument)[0]
    if name not in prometheus_names(instrument):
        raise ValueError(f"{instrument.name} has no {part!r}")
    return name


def rate(instrument: Instrument, part: str = "", more: str = "", of: str = OF_MODEL) -> str:
    """Return how fast a counter grows; `more` are further matchers."""
    matchers = f"{of}, {more}" if more else of
    return f"rate({name(instrument, part)}{{{matchers}}}{WINDOW})"


def now(instrument: Instrument, of: str = OF_MODEL) -> str:
    """Return a gauge as it is."""
    return f"{name(instrument)}{{{of}}}"


def quantile(q: float, instrument: Instrument, *by: str, of: str = OF_MODEL) -> str:
    """Return a quantile, and nothing where nothing was measured (it would not be a number)."""
    buckets = f"sum by ({', '.join(('le', *by))}) ({rate(instrument, '_bucket', of=of)})"
    labels = ", ".join(by)
    total = f"sum by ({labels}) ({rate(instrument, '_count', of=of)}) > 0"
    return f"histogram_quantile({q}, {buckets}) and on ({labels}) {total}"


REQUESTS = catalogue.REQUEST_DURATION
ALL = rate(REQUESTS, "_count")
REUSED = rate(REQUESTS, "_count", 'cache_status=~"hit|stale|coalesced"')
CACHEABLE = rate(REQUESTS, "_count", 'cache_status!="bypass"')
FAILED = rate(REQUESTS, "_count", 'outcome="error"')
SAVED = rate(catalogue.MODEL_TIME_SAVED)
SPENT = rate(catalogue.MODEL_DURATION, "_sum")
HIT_RATIO = (
    f"(sum by (model) ({REUSED}) or 0 * sum by (model) ({CACHEABLE}))"
    f" / (sum by (model) ({CACHEABLE}) > 0)"
)
ERROR_RATIO = (
    f"(sum by (model) ({FAILED}) or 0 * sum by (model) ({ALL})) / (sum by (model) ({ALL}) > 0)"
)
OFFLOAD = (
    f"sum by (model) ({SAVED}) / ((sum by (model) ({SAVED})"
    f" + (sum by (model) ({SPENT}) or 0 * sum by (model) ({SAVED}))) > 0)"
)
RANGE_SAVED = f"sum(increase({name(catalogue.MODEL_TIME_SAVED)}{{{OF_MODEL}}}[$__range]))"
