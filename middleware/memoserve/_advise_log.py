"""A log of request bodies, as columns of values.

Rule: a body is read as it is for its key, so two rows are equal exactly where two keys would be.
What has no canonical form is kept as its bytes and has no members to speak of.
"""

import itertools
from collections.abc import Hashable, Iterable
from typing import Any, Literal

import msgspec

from memoserve._errors import UnkeyableBodyError
from memoserve._keys import canonical_json, is_array, is_object

__all__ = ["Column", "LogError", "Logged", "Requests", "read_log", "tabulate"]

Form = Literal["auto", "bodies", "records"]

_RECORD_MEMBERS = frozenset({"path", "body", "time"})
_LONGEST_ARRAY = 8  # Elements; a longer one is one value: nobody edits a vector's numbers.
_MOST_MEMBERS = 64  # Of an object; that with more has data for names.
_DEEPEST = 6
_SAMPLE = 2_000  # Bodies from which the places are learned.

ABSENT = -1  # The code of a member that a body does not have.


class LogError(ValueError):
    """A line is not what the log is said to hold."""


class Logged(msgspec.Struct, frozen=True):
    """One request of a log."""

    path: str
    body: bytes
    time: float | None


class _Record(msgspec.Struct, forbid_unknown_fields=False):
    body: msgspec.Raw
    path: str | None = None
    time: float | None = None


class Column:
    """What the bodies have in one place, as codes."""

    def __init__(self, pointer: str) -> None:
        self.pointer = pointer
        self.codes: list[int] = []  # For each body; ABSENT where it has none.
        self.values: list[Any] = []  # By their code.
        self._known: dict[Hashable, int] = {}

    def add(self, row: int, value: Any) -> None:
        """Note the value of a row; rows before it that were not noted have none."""
        name = _name_of(value)
        code = self._known.get(name)
        if code is None:
            code = self._known[name] = len(self.values)
            self.values.append(value)
        codes = self.codes
        if len(codes) < row:
            codes.extend(itertools.repeat(ABSENT, row - len(codes)))
        codes.append(code)

    def end(self, rows: int) -> None:
        """Note that there are no more rows."""
        self.codes.extend(itertools.repeat(ABSENT, rows - len(self.codes)))
        self._known.clear()

    @property
    def present(self) -> int:
        """How many bodies have it."""
        return len(self.codes) - self.codes.count(ABSENT)

    @property
    def is_constant(self) -> bool:
        """All bodies have it, with one value."""
        return len(self.values) == 1 and ABSENT not in self.codes


class Requests(msgspec.Struct, frozen=True):
    """The requests to one path."""

    path: str
    columns: tuple[Column, ...]
    count: int
    times: tuple[float, ...]  # Empty unless every one of them has one.
    refused: int  # Of them have no canonical form.


def read_log(lines: Iterable[bytes], *, form: Form = "auto", path: str = "/") -> list[Logged]:
    """Read a log of one JSON text per line.

    Args:
        lines: The log; empty lines are no requests.
        form: `"bodies"`: each line is a body. `"records"`: each is an object with the member
            `body`, and perhaps `path` and `time` (seconds); a `body` that is a string holds the
            body's text. `"auto"`: records if the first line has no members but these.
        path: Where a body is sent that does not say it.

    Raises:
        LogError: A line is no such record.
    """
    found: list[Logged] = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line:
            continue
        if form == "auto":
            form = "records" if _is_record(line) else "bodies"
        found.append(Logged(path, line, None) if form == "bodies" else _record(number, line, path))
    return found


def _is_record(line: bytes) -> bool:
    try:
        value = msgspec.json.decode(line)
    except msgspec.MsgspecError:
        return False
    return is_object(value) and "body" in value and value.keys() <= _RECORD_MEMBERS


def _record(number: int, line: bytes, path: str) -> Logged:
    try:
        record = _records.decode(line)
    except (msgspec.MsgspecError, ValueError) as error:
        raise LogError(f"line {number} is no record with a body: {error}") from error
    body = bytes(record.body)
    if body.startswith(b'"'):
        text: str = msgspec.json.decode(body)
        body = text.encode("utf-8", "surrogatepass")
    return Logged(record.path or path, body, record.time)


_records = msgspec.json.Decoder(_Record)


def tabulate(log: Iterable[Logged]) -> list[Requests]:
    """Return the requests of each path as columns, the path with the most first."""
    by_path: dict[str, list[Logged]] = {}
    for logged in log:
        by_path.setdefault(logged.path, []).append(logged)
    tables = [_table(path, entries) for path, entries in by_path.items()]
    return sorted(tables, key=lambda table: -table.count)


def _table(path: str, log: list[Logged]) -> Requests:
    root = _Place("", 0)
    for logged in itertools.islice(log, _SAMPLE):
        root.learn(_parsed(logged.body))
    refused = 0
    unread = Column("")  # What has no canonical form.
    for row, logged in enumerate(log):
        value = _parsed(logged.body)
        if value is _UNREAD:
            refused += 1
            unread.add(row, logged.body.decode("latin-1"))
        else:
            root.add(row, value)
    columns = tuple(column for column in (*root.columns(), unread) if column.codes)
    for column in columns:
        column.end(len(log))
    times = tuple(logged.time for logged in log if logged.time is not None)
    return Requests(path, columns, len(log), times if len(times) == len(log) else (), refused)


_UNREAD = object()


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(canonical_json(body))
    except UnkeyableBodyError:
        return _UNREAD


class _Place:
    """A place in the bodies: where to put a value, or the values within it.

    What places there are is learned from the first bodies. What comes up later goes into one
    column for each place, so that a value is always put away in the same way.
    """

    def __init__(self, pointer: str, depth: int) -> None:
        self._pointer = pointer
        self._depth = depth
        self._members: dict[str, _Place] = {}
        self._elements: list[_Place] = []
        self._whole = Column(pointer)  # Values that are not looked into,
        self._rest = Column("")  # and members that were not known of.

    def learn(self, value: Any) -> None:
        """Make places for what is within a value."""
        if self._depth == _DEEPEST or value is _UNREAD:
            return
        if is_object(value):
            for name, each in value.items():
                if name not in self._members and len(self._members) < _MOST_MEMBERS:
                    self._members[name] = self._within(name)
                if name in self._members:
                    self._members[name].learn(each)
        elif is_array(value) and len(value) <= _LONGEST_ARRAY:
            while len(self._elements) < len(value):
                self._elements.append(self._within(str(len(self._elements))))
            for place, each in zip(self._elements, value, strict=False):
                place.learn(each)

    def _within(self, name: str) -> "_Place":
        escaped = name.replace("~", "~0").replace("/", "~1")
        return _Place(f"{self._pointer}/{escaped}", self._depth + 1)

    def add(self, row: int, value: Any) -> None:
        """Put a value away."""
        if self._members and is_object(value) and value:
            rest: dict[str, Any] = {}
            for name, each in value.items():
                place = self._members.get(name)
                if place is None:
                    rest[name] = each
                else:
                    place.add(row, each)
            if rest:
                self._rest.add(row, rest)
        elif is_array(value) and 0 < len(value) <= len(self._elements):
            for place, each in zip(self._elements, value, strict=False):
                place.add(row, each)
        else:
            self._whole.add(row, value)

    def columns(self) -> Iterable[Column]:
        """Return all columns at and within this place."""
        yield from (self._whole, self._rest)
        for place in (*self._members.values(), *self._elements):
            yield from place.columns()


def _name_of(value: Any) -> Hashable:
    """Return what two values share only if they are one in JSON: 1 is neither 1.0 nor true."""
    if isinstance(value, str):
        return value
    if is_object(value) or is_array(value):
        return msgspec.json.encode(value)
    return (value.__class__, value)
