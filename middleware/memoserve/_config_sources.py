"""What a source says, each value with its place; and what the file says.

Rule: whatever is wrong is noted with its place, and reading goes on, so that one look shows all of
it. No message repeats a secret.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo

from memoserve._config_file import AdmissionTable, ConfigFile, MetricsTable, VariantsTable
from memoserve._config_keys import allowed_for
from memoserve._config_lines import line_of, lines_of
from memoserve._config_rule import RuleTable

__all__ = [
    "KEYS",
    "PREFIX",
    "SECRETS",
    "SECTIONS",
    "Given",
    "Problem",
    "RuleSource",
    "Sources",
    "did_you_mean",
    "fields_of",
    "read_file",
    "read_rules",
    "variable_of",
    "wrong",
]

SECTIONS: Mapping[str, type[Struct]] = {
    "metrics": MetricsTable,
    "admission": AdmissionTable,
    "variants": VariantsTable,
}
SECRETS = frozenset({"secret", "metrics.token"})  # And `store`, a URL that may hold a password.

PREFIX = "MEMOSERVE_"
_LONGEST_QUOTE = 80


class Problem(Struct, frozen=True):
    """Something that is wrong."""

    place: str  # `memoserve.toml:7`, or a variable.
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"

    @property
    def order(self) -> tuple[bool, int]:
        """The lines of a file in their order, then the variables."""
        line = self.place.rpartition(":")[2]
        return (self.place.startswith(PREFIX), int(line) if line.isdecimal() else 0)


class Given(Struct, frozen=True):
    """A value, and who says so."""

    value: Any
    place: str


class RuleSource(Struct, frozen=True):
    """What is said of one rule."""

    name: str  # `rules[0]`
    place: str
    keys: Mapping[str, Given]


class Sources(Struct):
    """What one source says, or several together."""

    keys: dict[str, Given] = msgspec.field(default_factory=dict[str, Given])  # "metrics.token"
    said: set[str] = msgspec.field(default_factory=set[str])  # Keys, right or wrong.
    sections: dict[str, str] = msgspec.field(default_factory=dict[str, str])  # Name to place.
    rules: list[RuleSource] | None = None
    problems: list[Problem] = msgspec.field(default_factory=list[Problem])

    def note(self, place: str, message: str) -> None:
        """Note that something is wrong."""
        self.problems.append(Problem(place, message))

    def overridden_by(self, other: "Sources") -> "Sources":
        """Put another source over this one, which wins wherever both say something."""
        mine = {name: given for name, given in self.keys.items() if _twin(name) not in other.keys}
        return Sources(
            {**mine, **other.keys},
            self.said | other.said,
            {**self.sections, **other.sections},
            self.rules if other.rules is None else other.rules,
            [*self.problems, *other.problems],
        )


def fields_of(table: type[Struct]) -> dict[str, FieldInfo]:
    """Return the keys of a table by their names."""
    return {field.name: field for field in msgspec.structs.fields(table)}


def _keys() -> Iterator[tuple[str, FieldInfo]]:
    for name, field in fields_of(ConfigFile).items():
        if name in SECTIONS:
            yield from ((f"{name}.{key}", f) for key, f in fields_of(SECTIONS[name]).items())
        elif name != "rules":
            yield name, field


KEYS: Mapping[str, FieldInfo] = dict(_keys())  # All but those of rules.


def variable_of(name: str) -> str:
    """Return the variable that says what a key says."""
    return PREFIX + name.upper().replace(".", "_")


def _twin(name: str) -> str:
    """Return the key that says the same in another way: a secret, or the file that has it."""
    return name.removesuffix("_file") if name.endswith("_file") else f"{name}_file"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names what is spelled most like it, if anything is."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


# The file.


def read_file(path: Path) -> Sources:
    """Read a `memoserve.toml`."""
    sources = Sources()
    try:
        text = path.read_text(encoding="utf-8-sig")  # Some editors begin with a mark.
        said = tomllib.loads(text)
    except OSError as error:
        sources.note(str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        sources.note(str(path), "is no text in UTF-8")
    except (ValueError, RecursionError) as error:  # It refuses some integers by a ValueError.
        sources.note(*_syntax_error(path, str(error)))
    else:
        lines = lines_of(text)
        _read_document(sources, said, lambda *at: f"{path}:{line_of(lines, at)}")
    return sources


def _syntax_error(path: Path, message: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message)
    if found is None:  # "(at end of document)"
        return str(path), f"is no TOML: {message}"
    return f"{path}:{found[2]}", f"is no TOML: {found[1]}, at column {found[3]}"


def _read_document(sources: Sources, said: dict[str, Any], place: Callable[..., str]) -> None:
    top = fields_of(ConfigFile)
    for name, value in said.items():
        if name in SECTIONS:
            sources.sections[name] = place(name)
            if _is_table(value):
                _read_table(sources, name, value, place)
            else:
                sources.note(place(name), f"{name} must be a table, not {_quoted(value)}")
        elif name == "rules":
            read_rules(sources, value, place)
        elif name not in top:
            sources.note(place(name), f"{name!r} is no setting{_hint(name, top)}")
        else:
            _take(sources, name, value, place(name))


def _read_table(
    sources: Sources, section: str, said: dict[str, Any], place: Callable[..., str]
) -> None:
    fields = fields_of(SECTIONS[section])
    for key, value in said.items():
        if key in fields:
            _take(sources, f"{section}.{key}", value, place(section, key))
        else:
            message = f"{key!r} is no setting of [{section}]{_hint(key, fields)}"
            sources.note(place(section, key), message)


def _take(sources: Sources, name: str, value: Any, place: str) -> None:
    sources.said.add(name)
    try:
        sources.keys[name] = Given(msgspec.convert(value, KEYS[name].type), place)
    except msgspec.ValidationError:
        sources.note(place, wrong(name, KEYS[name], value))


def read_rules(sources: Sources, said: Any, place: Callable[..., str]) -> None:
    sources.rules = []
    if not _is_list(said) or not all(_is_table(each) for each in said):
        sources.note(place("rules"), f"rules must be a list of tables, not {_quoted(said)}")
        return
    for number, table in enumerate(said):
        keys = dict(_rule_keys(sources, number, table, place))
        sources.rules.append(RuleSource(f"rules[{number}]", place("rules", number), keys))


def _rule_keys(
    sources: Sources, number: int, said: dict[str, Any], place: Callable[..., str]
) -> Iterator[tuple[str, Given]]:
    fields = fields_of(RuleTable)
    for key, value in said.items():
        at = place("rules", number, key)
        name = f"rules[{number}].{key}"
        if key not in fields:
            sources.note(at, f"{name} is no setting of a rule{_hint(key, fields)}")
            continue
        try:
            yield key, Given(msgspec.convert(value, fields[key].type), at)
        except msgspec.ValidationError:
            sources.note(at, wrong(name, fields[key], value))
    if "path" not in said:
        at = place("rules", number)
        sources.note(at, f"rules[{number}].path is missing: {allowed_for(fields['path'])}")


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"


def wrong(name: str, field: FieldInfo, value: Any) -> str:
    """Say what a key may be; where words are given, which one may be meant."""
    shown = "this one" if name in SECRETS else _quoted(value)
    meant = ""
    for each in value if _is_list(value) else [value]:
        words = set(_words(field.type))
        if isinstance(each, str) and each not in words:
            meant = meant or did_you_mean(each, words)
    return f"{name} must be {allowed_for(field)}, not {shown}{meant}"


def _words(kind: Any) -> Iterator[str]:
    """Return the words of all `Literal` types within a type."""
    for argument in get_args(kind):
        if isinstance(argument, str):
            yield argument
        else:
            yield from _words(argument)


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def _is_table(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
