"""Theory: the hit ratio to expect of traffic before any of it is sent.

Rule: draws are independent (the independent reference model) and every formula here agrees with a
simulation within 0.01 (a test). Coalesced requests count as hits: the model did not run for them.

- unbounded, no expiry: rank k is asked at all within R requests with probability
  ``1 - (1 - p) ** R``: that is its one miss. What is in the cache beforehand never misses.
- a ttl that counts from the fill: misses are a renewal process, the next one comes a ttl and an
  exponential gap after the last; in the long run, with ``x = p * rate * ttl``, a share
  ``x / (1 + x)`` hits.
- capacity, least recently used goes first: an entry lives for the *characteristic time* t in which
  that many distinct items are asked (Che 2002), a share ``1 - exp(-p * t)`` hits. Redis samples
  and counts bytes, so there it is an approximation.
"""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from loadgen.churn import Churn
from loadgen.plan import Key, Plan
from loadgen.popularity import Law, Uniform

__all__ = [
    "CacheModel",
    "Forecast",
    "characteristic_time",
    "expected_hit_ratio",
    "forecast",
    "lru_hit_ratio",
    "predict",
    "predict_by_bytes",
    "ttl_hit_ratio",
    "warnings",
]

_POINTS = 60  # Of a curve.
_EXACT_RENEWALS = 12  # Lifetimes; past them a renewal process has forgotten its start.
_ALIKE = 0.05  # Hit ratios this close are not told apart by eye.


@dataclass(frozen=True, slots=True)
class CacheModel:
    """What is known of a cache: lifetime in seconds, capacity in entries."""

    ttl: float = math.inf
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """The expected hit ratio of the first requests, with two standard deviations either side."""

    at: float  # Seconds.
    requests: int
    expected: float
    deviation: float


def expected_hit_ratio(law: Law, requests: int, cached: Collection[int] = frozenset()) -> float:
    """Return the expected share of hits of an unbounded cache; NaN for no requests."""
    return 1 - _first_misses(law, requests, cached) / requests if requests else math.nan


def ttl_hit_ratio(law: Law, rate: float, ttl: float) -> float:
    """Return the long-run hit ratio for lifetimes that count from the fill."""
    return sum(
        count * p * x / (1 + x) for p, count in law.classes if (x := p * rate * ttl) < math.inf
    )


def lru_hit_ratio(law: Law, capacity: int) -> float:
    """Return the long-run hit ratio of a cache of `capacity` entries, by Che's approximation."""
    time = characteristic_time(law, capacity)
    return sum(-count * p * math.expm1(-p * time) for p, count in law.classes)


def characteristic_time(law: Law, capacity: int) -> float:
    """Return within how many requests `capacity` distinct items are asked; all fit: infinity."""
    if capacity >= law.items:
        return math.inf
    low, high = 0.0, float(capacity)
    while _distinct(law, high) < capacity:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _distinct(law, middle) < capacity else (low, middle)
    return high


def predict(plan: Plan, cached: Collection[Key] = frozenset(), *, sent: int | None = None) -> float:
    """Return the expected hit ratio of a plan, its models together, before expiry.

    A plan that asks only for what is `cached` (the same plan once more, say) cannot miss; of any
    other only the law, the number of requests of each model and the content of the cache are used.
    Of a closed loop only the first requests are `sent`.
    """
    requests = _requests(plan, sent)
    if not requests:
        return math.nan
    keys = frozenset(cached)
    if keys and all(plan.key(row) in keys for row in range(len(plan.rows))):
        return 1.0
    misses = 0.0
    for model, count in requests.items():
        known = {number for name, number in keys if name == model}
        misses += _first_misses(plan.law, count, known)
        if plan.churn is not None:
            misses += _churn_misses(plan.law, count, plan.churn, plan.duration)
    return 1 - misses / requests.total()


def predict_by_bytes(plan: Plan) -> float:
    """Return the hit ratio to expect of a cache that is keyed by the bytes of the body.

    What is respelled is spelled like nothing else and never hits; the rest is as ever.
    """
    asked = _requests(plan)
    plain = {model: (1 - plan.spelling) * count for model, count in asked.items()}
    hits = sum(count - _first_misses(plan.law, count) for count in plain.values())
    return hits / asked.total() if asked else math.nan


def forecast(plan: Plan, cache: CacheModel) -> list[Forecast]:
    """Return the expected hit ratio over the time of a plan against a cache that starts empty.

    Churn is spread evenly over the time; with a capacity the models share it by their traffic.
    """
    requests = _requests(plan)
    duration = plan.duration if not plan.is_closed else math.nan
    if not requests or math.isnan(duration):
        return []
    points: list[Forecast] = []
    due = plan.rows.due
    for number in range(1, _POINTS + 1):
        row = max(1, round(number / _POINTS * len(due)))
        misses = variance = 0.0
        for count in requests.values():
            so_far = count * row / len(due)
            m, v = _misses(plan, cache, so_far, due[row - 1], count / requests.total())
            misses, variance = misses + m, variance + v
        points.append(Forecast(due[row - 1], row, 1 - misses / row, math.sqrt(variance) / row))
    return points


def warnings(plan: Plan, cache: CacheModel) -> list[str]:
    """Say what this scenario cannot show, before it is run."""
    found: list[str] = []
    expected = predict(plan)
    even = sum(
        count * expected_hit_ratio(Uniform(plan.law.items), count)
        for count in _requests(plan).values()
    ) / max(1, len(plan.rows))
    if not isinstance(plan.law, Uniform) and expected - even < _ALIKE:
        found.append(
            f"cannot tell {plan.law} from uniform: {expected:.1%} is expected, and uniform traffic "
            f"would reach {even:.1%}; take more --items or fewer requests"
        )
    if cache.ttl < math.inf and cache.ttl >= plan.duration and not plan.is_closed:
        found.append(
            f"never exercises the ttl: {cache.ttl:g} s outlast the {plan.duration:g} s of the run"
        )
    return found


def _requests(plan: Plan, sent: int | None = None) -> Counter[str]:
    counts = Counter(plan.rows.models[:sent])
    return Counter({plan.models[model]: count for model, count in counts.items()})


def _asked(p: float, requests: float) -> float:
    """Return 1 - (1 - p) ** requests without losing what is small."""
    return -math.expm1(requests * math.log1p(-p)) if p < 1 else float(requests > 0)


def _distinct(law: Law, requests: float) -> float:
    return sum(-count * math.expm1(-p * requests) for p, count in law.classes)


def _first_misses(law: Law, requests: float, cached: Collection[int] = frozenset()) -> float:
    """Return how many draws ask for a rank for the first time."""
    misses = sum(count * _asked(p, requests) for p, count in law.classes)
    known = (law.probability(rank) for rank in cached if rank < law.items)
    return misses - sum(_asked(p, requests) for p in known)


def _churn_misses(law: Law, requests: float, churn: Churn, duration: float) -> float:
    """Return how many first requests come on top, since items are replaced.

    In each epoch an item that has been there for `a` epochs is asked for the first time with
    probability ``q ** a * (1 - q)``, where q is the probability that an epoch does not ask for it.
    """
    epochs = math.ceil(duration / churn.every)
    misses = 0.0
    for rank in range(min(churn.top, law.items)):
        p = law.probability(rank)
        q = 1 - _asked(p, requests / epochs)
        unasked = 1.0  # The probability that nobody has asked for the item of this rank.
        for _ in range(epochs):
            misses += unasked * (1 - q)
            unasked = unasked * q * (1 - churn.share) + churn.share
        misses -= _asked(p, requests)
    return misses


def _misses(
    plan: Plan, cache: CacheModel, requests: float, seconds: float, share: float
) -> tuple[float, float]:
    """Return the mean and the variance of one model's misses in its first requests."""
    mean = variance = once = 0.0
    rate = requests / seconds if seconds else 0.0
    capacity = None if cache.capacity is None else max(1, round(cache.capacity * share))
    life = math.inf if capacity is None else characteristic_time(plan.law, capacity)
    for p, count in plan.law.classes:
        first = _asked(p, requests)
        renewed = _renewals(p * rate, cache.ttl, seconds) if cache.ttl < seconds else first
        evicted = max(0.0, requests - life) * p * math.exp(-p * life) if life < math.inf else 0.0
        m = max(first, renewed, _asked(p, min(requests, life)) + evicted)
        mean += count * m
        once += count * p * (1 - first)
        variance += count * (m * (1 - m) if m < 1 else m / (1 + p * rate * cache.ttl) ** 2)
    if cache.ttl >= seconds and life == math.inf:
        # Who asks for one item does not ask for another: items are not independent.
        variance = max(0.0, variance - requests * once * once)
    if plan.churn is not None:
        extra = _churn_misses(plan.law, requests, plan.churn, max(seconds, plan.churn.every))
        mean, variance = mean + extra, variance + extra
    return mean, variance


def _renewals(rate: float, ttl: float, seconds: float) -> float:
    """Return the mean number of misses, the n-th n - 1 lifetimes and n gaps after the start."""
    if seconds > _EXACT_RENEWALS * ttl:
        cycle = ttl + 1 / rate
        # The renewal theorem: m(t) = t / mean + second moment / (2 mean²), the start being a gap.
        second = cycle * cycle + 1 / rate**2
        return (seconds - 1 / rate) / cycle + second / (2 * cycle * cycle)
    return sum(
        _erlang(number + 1, rate * (seconds - number * ttl))
        for number in range(math.floor(seconds / ttl) + 1)
    )


def _erlang(events: int, mean: float) -> float:
    """Return the probability of at least so many Poisson events."""
    if mean <= 0:
        return 0.0
    term = total = math.exp(-mean)
    for number in range(1, events):
        term *= mean / number
        total += term
    return 1 - total
