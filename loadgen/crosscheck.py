"""What the server has counted, beside what was seen from here.

Rule: two countings of one thing must agree, or neither is shown as a fact. The server counts a
request a little after its last byte, so it is given a moment.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from loadgen.outcome import Outcome
from loadgen.transport import FetchError, fetch_text
from memoserve.telemetry import CACHE_STATUS, REQUEST_DURATION, prometheus_label, prometheus_names

__all__ = [
    "Counts",
    "MetricsError",
    "disagreement",
    "quiet_counts",
    "read_counts",
    "settled_counts",
]

Counts = Counter[Outcome]

_OUTCOMES = {str(outcome): outcome for outcome in Outcome}
_SAMPLE = next(name for name in prometheus_names(REQUEST_DURATION) if name.endswith("_count"))
_LABEL = prometheus_label(CACHE_STATUS)
_ATTEMPTS = 30
_PAUSE = 0.1  # Seconds between them.


class MetricsError(Exception):
    """There is no page of metrics, or it does not count requests; the message says which."""


async def read_counts(url: str) -> Counts:
    """Return how many requests the server has counted, by what its cache did.

    Raises:
        MetricsError: The page cannot be had or read.
    """
    try:
        text = await fetch_text(url)
        families = list(text_string_to_metric_families(text))
    except (FetchError, ValueError) as error:
        raise MetricsError(f"{url} shows no metrics: {error}") from error
    counts = Counts()
    for family in families:
        for sample in family.samples:
            outcome = _OUTCOMES.get(sample.labels.get(_LABEL, ""))
            if sample.name == _SAMPLE and outcome is not None:
                counts[outcome] += int(sample.value)
    return counts


async def quiet_counts(url: str) -> Counts:
    """Return what the server has counted when it has counted all that was sent before.

    Raises:
        MetricsError: The page cannot be had or read.
    """
    counts = await read_counts(url)
    for _ in range(_ATTEMPTS):
        await asyncio.sleep(_PAUSE)
        before, counts = counts, await read_counts(url)
        if before == counts:
            break
    return counts


async def settled_counts(url: str, before: Counts, seen: Mapping[Outcome, int]) -> Counts:
    """Return what the server has counted since `before`, as soon as that is what was seen.

    Raises:
        MetricsError: The page cannot be had or read.
    """
    counted = Counts()
    for _ in range(_ATTEMPTS):
        counted = Counts(await read_counts(url))
        counted.subtract(before)
        if disagreement(counted, seen) is None:
            break
        await asyncio.sleep(_PAUSE)
    return counted


def disagreement(counted: Mapping[Outcome, int], seen: Mapping[Outcome, int]) -> str | None:
    """Return in words where two countings differ; None: nowhere."""
    different = [
        f"{outcome} {seen.get(outcome, 0)} here, {counted.get(outcome, 0)} there"
        for outcome in Outcome
        if outcome is not Outcome.UNKNOWN and seen.get(outcome, 0) != counted.get(outcome, 0)
    ]
    return ", ".join(different) or None
