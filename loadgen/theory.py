"""Theory: the hit ratio to expect of traffic before any of it is sent.

Rule: an unbounded cache without expiry misses each item once, the first time it is asked. With
independent draws (the independent reference model) rank k is asked at all within R requests with
probability ``1 - (1 - p_k) ** R``, so E[hit ratio] = 1 - sum_k(1 - (1 - p_k) ** R) / R. What is in
the cache beforehand misses never. Coalesced requests count as hits: the model did not run for them.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence

from loadgen.plan import Key, Plan

__all__ = ["expected_hit_ratio", "expected_misses", "predict"]


def expected_misses(
    probabilities: Sequence[float], requests: int, cached: Collection[int] = frozenset()
) -> float:
    """Return how many of `requests` draws ask for a rank for the first time."""
    return sum(
        # As 1 - (1 - p) ** R, without losing what is small.
        -math.expm1(requests * math.log1p(-p)) if p < 1 else float(requests > 0)
        for rank, p in enumerate(probabilities)
        if rank not in cached
    )


def expected_hit_ratio(
    probabilities: Sequence[float], requests: int, cached: Collection[int] = frozenset()
) -> float:
    """Return the expected share of hits; NaN for no requests."""
    if not requests:
        return math.nan
    return 1 - expected_misses(probabilities, requests, cached) / requests


def predict(plan: Plan, cached: Collection[Key] = frozenset()) -> float:
    """Return the expected hit ratio of a plan, its models together, before expiry.

    A plan that asks only for what is `cached` (the same plan once more, say) cannot miss; of any
    other only the law, the number of requests of each model and the content of the cache are used.
    """
    requests = Counter(plan.rows.models)
    if not requests:
        return math.nan
    keys = frozenset(cached)
    if keys and all(plan.key(row) in keys for row in range(len(plan.rows))):
        return 1.0
    misses = sum(
        expected_misses(
            plan.law.probabilities, count, {number for name, number in keys if name == model}
        )
        for model, count in requests.items()
    )
    return 1 - misses / requests.total()
