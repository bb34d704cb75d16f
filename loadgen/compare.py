"""Two runs side by side, from their documents.

Rule: what is compared must be comparable: where the plans differ, that is said before any number.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from loadgen.document import SCHEMA
from loadgen.expressions import Expression, Metric

__all__ = ["broken", "compared", "differences", "document_figure", "read_document"]

Document = Mapping[str, Any]

_PARTS = ("p50", "p90", "p95", "p99", "p99.9", "max")
_RATIOS = ("observed", "achievable", "efficiency")
_PLAN = ("law", "items", "arrivals", "rate", "duration", "mix", "spelling", "churn", "seed")


def read_document(path: Path) -> Document:
    """Read a ``run.json``.

    Raises:
        ValueError: it cannot be read, or is none, or of another version.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    schema = cast("Document", document).get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{path} is no result of this version: its schema is {schema!r}")
    return cast("Document", document)


def differences(first: Document, second: Document) -> list[str]:
    """Say in what the two experiments differ."""
    a, b = first["plan"], second["plan"]
    return [f"{name}: {a[name]} and {b[name]}" for name in _PLAN if a[name] != b[name]]


def compared(first: Document, second: Document) -> list[list[str]]:
    """Return the rows of the table: figure, a, b, and b by a."""
    rows = [
        _row(f"{kind} {part}", first[kind][part], second[kind][part], 1e3, " ms")
        for kind in ("response", "service")
        for part in _PARTS
    ]
    for outcome in ("hit", "miss"):
        pair = [doc["outcomes"].get(outcome) for doc in (first, second)]
        values = [None if group is None else group["response"]["p50"] for group in pair]
        rows.append(_row(f"{outcome} p50", values[0], values[1], 1e3, " ms"))
    ratios = first["hit_ratio"], second["hit_ratio"]
    rows += [_row(part, ratios[0][part], ratios[1][part], 100, " %") for part in _RATIOS]
    rows.append(_row("answers a second", first["rps"], second["rps"], 1, ""))
    rows.append(_row("errors", first["errors"], second["errors"], 1, ""))
    return rows


def _row(name: str, a: float | None, b: float | None, scale: float, unit: str) -> list[str]:
    ratio = f"{b / a:.2f}" if a and b is not None else "–"
    return [name, _spelled(a, scale, unit), _spelled(b, scale, unit), ratio]


def _spelled(value: float | None, scale: float, unit: str) -> str:
    return "–" if value is None else f"{value * scale:,.1f}{unit}"


def document_figure(documents: Mapping[str, Document], metric: Metric) -> float:
    """Return a figure of one of two documents, by the metric's side.

    Raises:
        ValueError: no side is named, or a document does not hold this figure.
    """
    if metric.side not in documents:
        raise ValueError(f"say of which run: {metric.name}.a or {metric.name}.b")
    value = _value(documents[metric.side], metric)
    return math.nan if value is None else float(value)


def _value(document: Document, metric: Metric) -> Any:
    if metric.latency is None:
        return _scalars(document)[metric.name]
    kind, _ = metric.latency
    part = metric.name.removeprefix(f"{kind}_")
    holder = document
    if metric.selectors:
        groups = document["outcomes"] | document["models"]
        holder = groups.get(metric.selectors[0], {kind: {part: None}})
    if metric.after or len(metric.selectors) > 1 or part not in holder.get(kind, {}):
        raise ValueError(
            f"{metric.name} is not in the document; there are {', '.join(_PARTS)} and mean, "
            "of all, of one outcome or of one model"
        )
    return holder[kind][part]


def _scalars(document: Document) -> Mapping[str, Any]:
    ratios, finished = document["hit_ratio"], document["finished"]
    return {
        "achievable": ratios["achievable"],
        "coalesced": document["causes"]["coalesced"],
        "dropped": document["dropped"],
        "efficiency": ratios["efficiency"],
        "error_rate": document["errors"] / finished if finished else None,
        "errors": document["errors"],
        "hit_efficiency": ratios["efficiency"],
        "hit_ratio": ratios["observed"],
        "rps": document["rps"],
        "speedup": document["speedup"],
        "unexpected": document["unexpected_count"],
        "unexplained": document["unexplained_count"],
    }


def broken(expressions: Sequence[Expression], documents: Mapping[str, Document]) -> list[str]:
    """Return the failures of some expressions.

    Raises:
        ValueError: see `document_figure`.
    """
    found = (e.failure(lambda metric: document_figure(documents, metric)) for e in expressions)
    return [failure for failure in found if failure is not None]
