"""Thresholds in words: ``p99[hit] > 5ms``, ``hit_efficiency < 98%``, ``p99.b > p99.a * 1.1``.

Rule: an expression says what must *not* be; it is read completely before anything is sent, and a
number that there is not (no hit had a p99) fails nothing and is said.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loadgen.arrivals import parse_duration

__all__ = ["Expression", "Metric", "parse_expression"]

_LATENCY = re.compile(r"(?:(service|lag|first_byte)_)?(?:p(\d{1,2}(?:\.\d+)?)|(mean|max))")
_SCALARS = frozenset({
    "achievable",
    "coalesced",
    "dropped",
    "efficiency",
    "error_rate",
    "errors",
    "hit_efficiency",
    "hit_ratio",
    "rps",
    "speedup",
    "unexpected",
    "unexplained",
})  # fmt: skip
_COMPARE: Mapping[str, Callable[[float, float], bool]] = MappingProxyType({
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
})  # fmt: skip
_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:[eE]-?\d+)?)\s*(ms|s|%|)")
_TERM = re.compile(
    r"(?P<name>[a-z][a-z_]*\d*(?:\.\d+)?)(?:\[(?P<selectors>[^\]]*)\])?(?:\.(?P<side>[ab]))?"
    r"(?:\s*(?P<sign>[*/])\s*(?P<factor>\d+(?:\.\d+)?))?"
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a run."""

    name: str
    selectors: tuple[str, ...] = ()  # Outcomes and models.
    after: float = 0.0  # Seconds: what was due before does not count.
    side: str = ""  # Of a comparison: a or b.

    @property
    def latency(self) -> tuple[str, float | str] | None:
        """Which of the times, and which percentile (0 .. 1) or word; None: no latency."""
        found = _LATENCY.fullmatch(self.name)
        if found is None:
            return None
        return found[1] or "response", float(f"{found[2]}e-2") if found[2] else found[3]


@dataclass(frozen=True, slots=True)
class _Term:
    constant: float
    metric: Metric | None = None
    unit: str = ""

    def value(self, look_up: Callable[[Metric], float]) -> float:
        return self.constant * (1.0 if self.metric is None else look_up(self.metric))


@dataclass(frozen=True, slots=True)
class Expression:
    """A claim about a run that makes it fail."""

    text: str
    left: _Term
    sign: str
    right: _Term

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The figures it speaks of."""
        return tuple(term.metric for term in (self.left, self.right) if term.metric is not None)

    def failure(self, look_up: Callable[[Metric], float]) -> str | None:
        """Return a sentence if the claim is true; None: it is not, or cannot be."""
        left, right = self.left.value(look_up), self.right.value(look_up)
        if math.isnan(left) or math.isnan(right) or not _COMPARE[self.sign](left, right):
            return None
        seen = ", ".join(f"{m.name} is {self._spelled(m, look_up(m))}" for m in self.metrics)
        return f"{self.text}: {seen}"

    @staticmethod
    def _spelled(metric: Metric, value: float) -> str:
        side = f" ({metric.side})" if metric.side else ""
        if metric.latency is not None:
            return f"{value * 1e3:.2f} ms{side}"
        return f"{value:.4g}{side}"


def parse_expression(text: str) -> Expression:
    """Read ``LEFT SIGN RIGHT``, each side a figure or a number.

    Raises:
        ValueError: it does not read so, or names what there is not.
    """
    parts = re.split(r"(<=|>=|==|!=|<|>)", text)
    if len(parts) != 3:
        raise ValueError(f"a threshold reads like 'p99 > 50ms', not {text!r}")
    left, right = _term(parts[0].strip(), text), _term(parts[2].strip(), text)
    expression = Expression(text.strip(), left, parts[1], right)
    if not expression.metrics:
        raise ValueError(f"a threshold must name a figure, unlike {text!r}")
    latencies = {term.metric.latency is not None for term in (left, right) if term.metric}
    units = {term.unit for term in (left, right) if term.metric is None}
    if True in latencies and units - {"ms", "s"}:
        raise ValueError(f"a time needs its unit, ms or s, in {text!r}")
    if False in latencies and units & {"ms", "s"}:
        raise ValueError(f"what is no time has no unit of time, in {text!r}")
    return expression


_SCALE = {"ms": 1e-3, "s": 1.0, "%": 0.01, "": 1.0}


def _term(part: str, text: str) -> _Term:
    if (number := _NUMBER.fullmatch(part)) is not None:
        return _Term(float(number[1]) * _SCALE[number[2]], unit=number[2])
    found = _TERM.fullmatch(part)
    if found is None:
        raise ValueError(f"{part!r} is neither a figure nor a number, in {text!r}")
    metric = _metric(found["name"], found["selectors"] or "", found["side"] or "", text)
    factor = float(found["factor"] or 1)
    return _Term(factor if found["sign"] != "/" else 1 / factor, metric)


def _metric(name: str, selectors: str, side: str, text: str) -> Metric:
    words = [word.strip() for word in selectors.split(",") if word.strip()]
    after = [word.removeprefix("after=") for word in words if word.startswith("after=")]
    metric = Metric(
        name,
        tuple(word for word in words if not word.startswith("after=")),
        parse_duration(after[-1]) if after else 0.0,
        side,
    )
    if metric.latency is None and name not in _SCALARS:
        known = ", ".join(sorted(_SCALARS))
        raise ValueError(
            f"there is no figure {name!r} in {text!r}; there are p50 and so on, {known}"
        )
    if metric.latency is None and words:
        raise ValueError(f"only times can be asked of a part of the requests, not {name!r}")
    return metric
