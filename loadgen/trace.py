"""Plans in files, and traces of others: write, read, fit.

Rule: a plan that was written and read again is the same experiment: same hash, same bytes. A trace
from elsewhere has keys and perhaps times, never texts: the first new key is item 0, the next 1.
"""

import csv
import json
import math
import operator
import random
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, islice, repeat, zip_longest
from pathlib import Path
from typing import Any, TextIO, cast

from loadgen.arrivals import Arrivals, Recorded
from loadgen.catalogue import BUNDLED, Templates
from loadgen.churn import Churn, parse_churn
from loadgen.plan import Plan, Rows
from loadgen.popularity import Law, Weights, Zipf, parse_law

__all__ = ["Fit", "fit_zipf", "read_keys", "read_plan", "write_plan"]

_SCHEMA = "memoserve.plan/1"
_TWITTER_FIELDS = 7  # timestamp, key, key size, value size, client, operation, TTL


def write_plan(plan: Plan, file: TextIO) -> None:
    """Write a header and one line per request."""
    header = {
        "schema": _SCHEMA,
        "law": str(plan.law),
        "items": plan.law.items,
        "duration": plan.duration,
        "mix": dict(plan.shares),
        "spelling": plan.spelling,
        "churn": str(plan.churn) if plan.churn else None,
        "seed": plan.seed,
        "salt": plan.salt,
        "bypass": plan.bypass,
        "requests": list(plan.catalogue.document()),
        "accept": plan.catalogue.accept,
        "sha256": plan.sha256,
    }
    file.write(json.dumps(header) + "\n")
    rows = plan.rows
    for row, due in enumerate(rows.due):
        line: dict[str, Any] = {"t": round(due, 6), "m": plan.model(row), "i": rows.items[row]}
        if rows.respelled[row]:
            line["r"] = 1
        file.write(json.dumps(line) + "\n")


def read_plan(path: Path, *, speed: float = 1.0, salt: str | None = None) -> Plan | None:
    """Read what `write_plan` has written; None: it is no such file.

    Args:
        path: the file.
        speed: 10 sends what took ten seconds in one.
        salt: a new salt, so that the cache is cold; None: the one of the file.

    Raises:
        ValueError: the file cannot be read, or is damaged.
    """
    lines = _lines(path)
    header = _json(next(lines, ""))
    if header.get("schema") != _SCHEMA:
        return None
    try:
        return _plan(header, lines, speed, salt)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _plan(header: dict[str, Any], lines: Iterable[str], speed: float, salt: str | None) -> Plan:
    requests = tuple(header["requests"])
    catalogue = Templates(requests, header["accept"]) if requests else BUNDLED
    number = {model: index for index, model in enumerate(catalogue.mix)}
    rows = Rows(array("d"), array("b"), array("q"), array("b"))
    for text in lines:
        line = json.loads(text)
        rows.due.append(line["t"] / speed)
        rows.models.append(number[line["m"]])
        rows.items.append(line["i"])
        rows.respelled.append(line.get("r", 0))
    plan = Plan(
        law=_law(header, rows),
        arrivals=Recorded(rows.due),
        duration=header["duration"] / speed,
        mix=header["mix"],
        spelling=header["spelling"],
        churn=_faster(header["churn"], speed),
        seed=header["seed"],
        salt=header["salt"],
        bypass=header["bypass"],
        catalogue=catalogue,
        recorded=rows,
    )
    if speed == 1 and plan.sha256 != header["sha256"]:
        raise ValueError("what it holds is not what its hash names")
    return plan if salt is None else replace(plan, salt=salt)


def _faster(text: str | None, speed: float) -> Churn | None:
    if text is None:
        return None
    churn = parse_churn(text)
    return replace(churn, every=churn.every / speed)


def _law(header: Mapping[str, Any], rows: Rows) -> Law:
    with suppress(ValueError):  # A file of weights may be gone.
        return parse_law(header["law"], header["items"])
    return _counted(rows.items)


def _counted(items: Iterable[int]) -> Weights:
    counts = Counter(items)
    return Weights(tuple(float(counts[item]) for item in range(max(counts) + 1)), "counted")


def read_keys(
    path: Path, model: str, arrivals: Callable[[], Arrivals], *, speed: float = 1.0, **plan: Any
) -> Plan:
    """Read a trace of one key per line, or Twitter's CSV (then with its times).

    Args:
        path: the file.
        model: which model all of it asks.
        arrivals: makes the arrivals where the trace has no times.
        speed: 10 sends what took ten seconds in one.
        plan: the other options of the plan.

    Raises:
        ValueError: the file cannot be read, or holds no request.
    """
    items, stamps = _items(path)
    law = _counted(items)
    process = Recorded(_spread(stamps, speed)) if stamps else arrivals()
    empty = Plan(law=law, arrivals=process, duration=1.0, mix={model: 1.0}, **plan)
    rng = random.Random(f"{empty.seed}/arrivals")
    due = array("d", islice(process.times(_FOR_EVER, rng), len(items)))
    number, spelling = empty.models.index(model), random.Random(f"{empty.seed}/spelling")
    rows = Rows(
        due=due,
        models=array("b", [number]) * len(items),
        items=items,
        respelled=array("b", (spelling.random() < empty.spelling for _ in items)),
    )
    return replace(empty, duration=math.nextafter(max(due[-1], 1e-3), math.inf), recorded=rows)


_FOR_EVER = 1e12


def _items(path: Path) -> tuple["array[int]", "array[float]"]:
    seen: dict[str, int] = {}
    items, stamps = array("q"), array("d")
    for fields in csv.reader(_lines(path)):
        timed = len(fields) == _TWITTER_FIELDS
        items.append(seen.setdefault(fields[1] if timed else ",".join(fields), len(seen)))
        if timed:
            stamps.append(_stamp(path, fields[0]))
    if not items or (stamps and len(stamps) != len(items)):
        raise ValueError(f"{path} has no key, or lines of two kinds")
    return items, stamps


def _stamp(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path}: a time in seconds must be a number, not {text!r}") from None


def _spread(stamps: "array[float]", speed: float) -> "array[float]":
    """Spread what shares a stamp, since traces count in whole seconds."""
    due = array("d")
    first = stamps[0]
    for stamp, same in groupby(sorted(stamps)):
        count = len(list(same))
        due.extend((stamp - first + number / count) / speed for number in range(count))
    return due


@dataclass(frozen=True, slots=True)
class Fit:
    """The Zipf law that is most likely behind some counts."""

    law: Zipf
    error: float  # Standard error of the exponent.
    requests: int
    distance: float  # Largest difference of the cumulated shares (Kolmogorov-Smirnov).


def fit_zipf(path: Path, items: int | None = None) -> Fit:
    """Estimate the exponent of a trace by maximum likelihood.

    Args:
        path: a plan, or a trace of keys; each model of a plan has a catalogue of its own.
        items: size of the catalogue; None: as many as occur, which is too few for a short trace
            and makes the exponent too small.

    Raises:
        ValueError: the file cannot be read, or holds fewer than two keys.
    """
    plan = read_plan(path)
    models = plan.rows.models if plan else repeat(0)
    asked = plan.rows.items if plan else _items(path)[0]
    counted: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for model, item in zip(models, asked, strict=False):
        counted[model][item] += 1
    ranked = [sorted(counts.values(), reverse=True) for counts in counted.values()]
    counts = [sum(same) for same in zip_longest(*ranked, fillvalue=0)]  # By rank.
    size = max(len(counts), items or 0)
    if size < 2:
        raise ValueError(f"{path} has one key only: any exponent fits")
    exponent, error = _most_likely(counts, size)
    law = Zipf(size, exponent)
    return Fit(law, error, sum(counts), _distance(counts, law))


_EXPONENTS = (0.0, 8.0)


def _most_likely(counts: Sequence[int], size: int) -> tuple[float, float]:
    """Solve: the mean of ln(rank) under the law is the one that was observed (it falls with s)."""
    requests = sum(counts)
    observed = sum(count * math.log(rank) for rank, count in enumerate(counts, 1)) / requests
    logs = [math.log(rank) for rank in range(1, size + 1)]
    low, high = _EXPONENTS
    mean = square = 0.0
    for _ in range(50):
        middle = (low + high) / 2
        weights = [math.exp(-middle * log) for log in logs]
        total = sum(weights)
        mean = sum(map(operator.mul, weights, logs)) / total
        square = sum(weight * log * log for weight, log in zip(weights, logs, strict=True)) / total
        low, high = (middle, high) if mean > observed else (low, middle)
        if high - low < 1e-6:
            break
    spread = max(square - mean * mean, 1e-12)
    return (low + high) / 2, 1 / math.sqrt(requests * spread)


def _distance(counts: Sequence[int], law: Zipf) -> float:
    requests, observed, expected, distance = sum(counts), 0.0, 0.0, 0.0
    for rank, count in enumerate(counts):
        observed += count / requests
        expected += law.probability(rank)
        distance = max(distance, abs(observed - expected))
    return distance


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines that are not blank."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _json(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
