"""On which line of a TOML file a value is.

Rule: the standard library's parser alone says what TOML means. It tells no lines, so it is given
one statement after the other, and each is as long as it takes to be complete.
"""

import tomllib
from collections.abc import Iterator
from typing import Any, TypeGuard

__all__ = ["Path", "line_of", "lines_of"]

Path = tuple[str | int, ...]


def lines_of(text: str) -> dict[Path, int]:
    """Return where each table and each value of a valid TOML document begins."""
    lines: dict[Path, int] = {}
    lengths: dict[Path, int] = {}  # Of the arrays of tables so far.
    table: Path = ()
    for number, statement in _statements(text):
        said = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _opened(said, lengths)
            lines.setdefault(table, number)
            continue
        for path in _paths(said):
            lines.setdefault((*table, *path), number)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of a value, or of the nearest thing that it is a part of."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    statement, start = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            start = number
        statement += line + "\n"
        if _is_complete(statement):
            yield start, statement
            statement = ""


def _is_complete(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _opened(said: dict[str, Any], lengths: dict[Path, int]) -> Path:
    """Return the path of the table that a header opens; a part of it may be an array's last."""
    path: list[str | int] = []
    value: Any = said
    while _is_table(value) and value:
        name, value = next(iter(value.items()))
        path.append(name)
        if isinstance(value, list):  # `[[name]]`: one more of them.
            lengths[tuple(path)] = lengths.get(tuple(path), 0) + 1
            value = {}
        if tuple(path) in lengths:
            path.append(lengths[tuple(path)] - 1)
    return tuple(path)


def _paths(said: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    for name, value in said.items():
        yield (*path, name)
        if _is_table(value):
            yield from _paths(value, (*path, name))


def _is_table(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
