"""What a log of requests says of the rule that it should be cached by.

Rule: every figure is counted, none is estimated: the hit ratio is that of a cache that sees the
log once, from empty. What is advised is a hint all the same. Whether two bodies that differ in a
field may have one answer is nothing that a log can tell, so what is asked, and by whom, is never
advised to be ignored.
"""

import itertools
import math
import statistics
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from memoserve._advise_fields import (
    ENOUGH,
    doubt_about,
    is_of_a_person,
    is_of_the_exchange,
    never_repeats,
)
from memoserve._advise_log import ABSENT, Column, Requests
from memoserve._keys import Edits, TextStep, is_array, is_object

__all__ = ["ENOUGH", "Advice", "Constant", "Hint", "Ratio", "advise"]

_WORTH = 0.001  # Of all requests must become hits, for a hint to be worth its risk.
_WORTH_KNOWING = 0.01

_TEXT_STEPS: tuple[TextStep, ...] = ("nfc", "strip", "collapse", "casefold")
_RISKY: TextStep = "casefold"  # Models do read capitals.


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the rule."""

    pointer: str
    gain: float  # What it adds to the hit ratio, where the rule does all else that it says.
    values: int  # Different ones in the log.
    example: Any
    steps: tuple[TextStep, ...] = ()
    doubt: str = ""  # Why it is not in the rule.


class Constant(msgspec.Struct, frozen=True):
    """A field that every body has, with one value."""

    pointer: str
    value: Any


class Ratio(msgspec.Struct, frozen=True):
    """The hit ratios of one size of cache and one ttl."""

    ttl: float  # Seconds; infinite: answers never grow old.
    entries: int | None  # None: there is room for all.
    now: float  # Without the advice.
    advised: float


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of the requests to one path."""

    path: str
    requests: int
    refused: int  # Bodies without a canonical form; they are keyed by their bytes.
    ratios: tuple[Ratio, ...]  # The first is that without limits.
    ignore: tuple[Hint, ...]
    text: tuple[Hint, ...]
    doubtful: tuple[Hint, ...]  # Fields whose meaning decides; not in the rule.
    risky_text: tuple[Hint, ...]
    defaults: tuple[Hint, ...]  # An absent field may mean this: the app knows.
    constants: tuple[Constant, ...]


def advise(
    requests: Requests, *, ttls: Sequence[float] = (), entries: Sequence[int] = ()
) -> Advice:
    """Say by which rule the requests to one path should be cached.

    Args:
        requests: Their columns.
        ttls: Seconds to count hits for, beside infinity; they need the log's times.
        entries: Sizes of a cache to count hits for.
    """
    table = _Table(requests)
    ignored, dropped = _ignored(table)
    doubtful = [
        table.hint(column, table.gain(column), doubt=doubt_about(column))
        for column in table.varying
        if column not in dropped and (never_repeats(column) or is_of_a_person(column))
        if not _reads_like_text(column)
    ]
    text, risky = _normalized(table)
    return Advice(
        path=requests.path,
        requests=requests.count,
        refused=requests.refused,
        ratios=_ratios(requests, table.keys(original=True), table.keys(), ttls, entries),
        ignore=tuple(ignored),
        text=tuple(text),
        doubtful=_worth(doubtful),
        risky_text=_worth(risky),
        defaults=_worth(_defaults(table)),
        constants=tuple(
            Constant(column.pointer, column.values[0])
            for column in requests.columns
            if column.is_constant and column.pointer
        ),
    )


def _worth(hints: Iterable[Hint]) -> tuple[Hint, ...]:
    found = [hint for hint in hints if hint.gain >= _WORTH_KNOWING]
    return tuple(sorted(found, key=lambda hint: -hint.gain))


class _Table:
    """The columns that can change a key, and what has been decided about them so far."""

    def __init__(self, requests: Requests) -> None:
        self.count = requests.count
        self._columns = [column for column in requests.columns if not column.is_constant]
        self.varying = [column for column in self._columns if column.pointer]
        self._codes = {id(column): column.codes for column in self._columns}
        self._hits: int | None = None

    def keys(self, *, original: bool = False) -> list[int]:
        """Return a number for each request: one for all that would share a key."""
        if original:
            return _numbered([column.codes for column in self._columns], self.count)
        return _numbered(list(self._codes.values()), self.count)

    @property
    def hits(self) -> int:
        """How many requests would be hits, with all that is decided."""
        if self._hits is None:
            self._hits = self._hits_of(list(self._codes.values()))
        return self._hits

    def drop(self, column: Column) -> None:
        """Decide that a column is ignored."""
        del self._codes[id(column)]
        self._hits = None

    def restore(self, column: Column) -> None:
        """Decide that it is not."""
        self.change(column, column.codes)

    def change(self, column: Column, codes: list[int]) -> None:
        """Decide that a column has other values."""
        self._codes[id(column)] = codes
        self._hits = None

    def codes(self, column: Column) -> list[int] | None:
        """Return what a column has by now; None if it is ignored."""
        return self._codes.get(id(column))

    def gain(self, column: Column, codes: list[int] | None = None) -> float:
        """Return what it would add to the hit ratio to ignore a column, or to change it."""
        others = [own for name, own in self._codes.items() if name != id(column)]
        return (self._hits_of(others + ([codes] if codes else [])) - self.hits) / self.count

    def hint(
        self,
        column: Column,
        gain: float,
        *,
        steps: tuple[TextStep, ...] = (),
        doubt: str = "",
    ) -> Hint:
        """Make a hint."""
        return Hint(
            pointer=column.pointer,
            gain=gain,
            values=len(column.values),
            example=column.values[0],
            steps=steps,
            doubt=doubt,
        )

    def _hits_of(self, columns: list[list[int]]) -> int:
        if not columns:
            return self.count - 1
        if len(columns) == 1:
            return self.count - len(set(columns[0]))
        return self.count - len(set(zip(*columns, strict=True)))


def _numbered(columns: list[list[int]], count: int) -> list[int]:
    if not columns:
        return [0] * count
    known: dict[tuple[int, ...], int] = {}
    return [known.setdefault(row, len(known)) for row in zip(*columns, strict=True)]


# Fields to ignore.


def _ignored(table: _Table) -> tuple[list[Hint], list[Column]]:
    """Ignore what names one exchange, as far as that makes hits: of several, all at once.

    Two fields that never repeat make no hit when only one of them is ignored.
    """
    dropped = [column for column in table.varying if is_of_the_exchange(column)]
    for column in dropped:
        table.drop(column)
    for column in list(dropped):
        before = table.hits
        table.restore(column)
        if before - table.hits < _WORTH * table.count:
            dropped.remove(column)
        else:
            table.drop(column)
    hints: list[Hint] = []
    for column in dropped:
        advised = table.hits
        table.restore(column)
        hints.append(table.hint(column, (advised - table.hits) / table.count))
        table.drop(column)
    return hints, dropped


def _reads_like_text(column: Column) -> bool:
    """Tell whether values are what models are asked: to ignore that is never right."""
    texts = [value for value in itertools.islice(column.values, 1000) if isinstance(value, str)]
    return bool(texts) and statistics.fmean(map(_spaces, texts)) >= 1


def _spaces(text: str) -> int:
    return len(text.split()) - 1


# Texts to normalize.


def _normalized(table: _Table) -> tuple[list[Hint], list[Hint]]:
    """Take those steps of normalization that make hits; return them, and those with a risk."""
    hints: list[Hint] = []
    risky: list[Hint] = []
    for column in table.varying:
        if table.codes(column) is None or not _has_texts(column):
            continue
        taken: tuple[TextStep, ...] = ()
        gained = 0.0
        for step in _TEXT_STEPS:
            codes = _with_steps(column, (*taken, step))
            gain = 0.0 if codes is None else table.gain(column, codes)
            if codes is None or gain < _WORTH:
                continue
            if step == _RISKY:
                doubt = "models do read capitals"
                risky.append(table.hint(column, gain, steps=(step,), doubt=doubt))
            else:
                taken = (*taken, step)
                gained += gain
                table.change(column, codes)
        if taken:
            hints.append(table.hint(column, gained, steps=taken))
    return hints, risky


def _has_texts(column: Column) -> bool:
    return any(isinstance(value, str) for value in column.values)


def _with_steps(column: Column, steps: tuple[TextStep, ...]) -> list[int] | None:
    """Return the codes of a column after normalization; None if that merges nothing."""
    change = _changing(steps)
    known: dict[str, int] = {}
    merged: list[int] = []
    for code, value in enumerate(column.values):
        merged.append(known.setdefault(change(value), code) if isinstance(value, str) else code)
    if len(known) == sum(isinstance(value, str) for value in column.values):
        return None
    merged.append(ABSENT)  # Where a negative code leads.
    return [merged[code] for code in column.codes]


def _changing(steps: tuple[TextStep, ...]) -> Callable[[str], str]:
    """Return what a rule does to a text, by the code that does it."""
    edits = Edits(text={"/0": steps})

    def change(text: str) -> str:
        holder = [text]
        edits.apply(holder)
        return holder[0]

    return change


# Defaults.


def _defaults(table: _Table) -> Iterable[Hint]:
    """Say which fields, where absent, may mean what they mostly are."""
    for column in table.varying:
        codes = table.codes(column)
        absent = column.codes.count(ABSENT)
        if codes is None or not absent:
            continue
        common = statistics.mode(code for code in column.codes if code != ABSENT)
        value = column.values[common]
        if value is None or is_object(value) or is_array(value) or _reads_like_text(column):
            continue
        filled = [common if code == ABSENT else code for code in codes]
        yield msgspec.structs.replace(
            table.hint(column, table.gain(column, filled), doubt="the app may take another"),
            example=value,
        )


# Hit ratios.


def _ratios(
    requests: Requests,
    now: Sequence[int],
    advised: Sequence[int],
    ttls: Sequence[float],
    entries: Sequence[int],
) -> tuple[Ratio, ...]:
    order = list(range(requests.count))
    if requests.times:
        order.sort(key=requests.times.__getitem__)
    times = [requests.times[row] for row in order] if requests.times else [0.0] * requests.count
    sequences = [[keys[row] for row in order] for keys in (now, advised)]
    return tuple(
        Ratio(ttl, room, *(_replayed(keys, times, ttl, room) for keys in sequences))
        for ttl, room in itertools.product((math.inf, *ttls), (None, *entries))
    )


def _replayed(
    keys: Sequence[int], times: Sequence[float], ttl: float, entries: int | None
) -> float:
    """Return the share of hits in a cache with so many entries, least recently used go first."""
    stored: OrderedDict[int, float] = OrderedDict()
    hits = 0
    for key, time in zip(keys, times, strict=True):
        since = stored.get(key)
        if since is not None and time - since < ttl:
            hits += 1
            stored.move_to_end(key)
            continue
        stored[key] = time
        stored.move_to_end(key)
        if entries is not None and len(stored) > entries:
            stored.popitem(last=False)
    return hits / len(keys)
