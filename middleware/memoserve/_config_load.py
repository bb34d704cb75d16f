"""The configuration as a whole: found, read, put together, checked.

Rule: the environment wins over the file; of a secret and the file that holds it, a source names
one; and every value remembers who said it.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from msgspec import NODEFAULT, Struct

from memoserve._config_environment import read_environment
from memoserve._config_keys import allowed_for
from memoserve._config_secrets import secret_in
from memoserve._config_sources import (
    KEYS,
    PREFIX,
    SECTIONS,
    Given,
    RuleSource,
    Sources,
    fields_of,
    read_file,
)
from memoserve._config_values import included_rules, option, rule_from
from memoserve._errors import ConfigError
from memoserve._rules import Rule

__all__ = ["FILE", "Configuration", "load", "metrics_readers"]

FILE = "memoserve.toml"

_FILES = {"secret_file": "secret", "metrics.token_file": "metrics.token"}
_NOT_OF_THE_CACHE = frozenset({"include", *_FILES})

_Table = TypeVar("_Table", bound=Struct)


class Configuration(Struct, frozen=True, kw_only=True):
    """What the file and the environment say, checked."""

    file: str  # The file that was read, or where one would be looked for.
    keys: Mapping[str, Given]  # All that is given, but rules.
    sections: Mapping[str, str]  # The tables that are given, and where they begin.
    rules: tuple[Rule, ...]
    origins: tuple[RuleSource, ...]  # Who says so, for each of the rules.

    @property
    def cache(self) -> dict[str, Any]:
        """The options of `CacheMiddleware`, its rules aside."""
        return {
            name: option(name, given.value)
            for name, given in self.keys.items()
            if "." not in name and name not in _NOT_OF_THE_CACHE
        }

    def table(self, kind: type[_Table]) -> _Table | None:
        """Return a section, unless nothing is said of it."""
        name = next(each for each, table in SECTIONS.items() if table is kind)
        if name not in self.sections:
            return None
        return kind(**{key: given.value for key, given in self.keys_of(name).items()})

    def keys_of(self, section: str) -> dict[str, Given]:
        """Return what is said of a section; of the cache, if it has no name."""
        start = f"{section}." if section else ""
        return {
            name.removeprefix(start): given
            for name, given in self.keys.items()
            if name.startswith(start) and (section or "." not in name)
        }


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    rules: Iterable[Rule] = (),
) -> Configuration:
    """Read the configuration.

    Args:
        path: The file, instead of the one that `MEMOSERVE_CONFIG` names, or `memoserve.toml` in
            the working directory if it is there.
        environ: The variables, which win.
        rules: What is cached where neither of them names a rule.

    Raises:
        ConfigError: It names everything that is wrong.
    """
    chosen = path or environ.get("MEMOSERVE_CONFIG") or None
    file = Path(chosen or FILE)
    sources = _sources(file, environ, is_chosen=chosen is not None)
    found = [*_rules(sources)] or [(rule, RuleSource("", "the code", {})) for rule in rules]
    if not found and not sources.problems:
        is_absent = chosen is None and not file.exists()
        sources.note(str(file), _no_rules(Path.cwd() if is_absent else None))
    _raise_for_problems(sources)
    return Configuration(
        file=str(file),
        keys=sources.keys,
        sections=sources.sections,
        rules=tuple(rule for rule, _ in found),
        origins=tuple(origin for _, origin in found),
    )


def _no_rules(searched: Path | None) -> str:
    where = "[[rules]] in memoserve.toml, MEMOSERVE_RULES or MEMOSERVE_INCLUDE"
    message = f"there are no rules, so nothing would be cached: set {where}"
    if searched is None:
        return message
    return f"there is no such file in {searched}, and MEMOSERVE_CONFIG names none; {message}"


def metrics_readers(
    environ: Mapping[str, str] = os.environ,
) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the token and the networks of the metrics' page that the environment names.

    Raises:
        ConfigError: A variable of the metrics is wrong, or misspelled.
    """
    prefix = f"{PREFIX}METRICS_"
    sources = read_environment({n: text for n, text in environ.items() if n.startswith(prefix)})
    _check_twins(sources)
    _read_secrets(sources, Path())
    _raise_for_problems(sources)
    token, allow = sources.keys.get("metrics.token"), sources.keys.get("metrics.allow")
    return token.value if token else None, allow.value if allow else None


def _raise_for_problems(sources: Sources) -> None:
    if sources.problems:
        raise ConfigError(*map(str, sorted(sources.problems, key=lambda problem: problem.order)))


def _sources(file: Path, environ: Mapping[str, str], *, is_chosen: bool) -> Sources:
    """Read both, and let the environment win."""
    of_file = read_file(file) if is_chosen or file.exists() else Sources()
    of_environment = read_environment(environ)
    for each in (of_file, of_environment):
        _check_twins(each)
    sources = of_file.overridden_by(of_environment)
    _read_secrets(sources, file.parent)
    _check_required(sources)
    return sources


def _rules(sources: Sources) -> Iterable[tuple[Rule, RuleSource]]:
    for source in sources.rules or ():
        rule = rule_from(source, sources.note)
        if rule is not None:
            yield rule, source
    include = sources.keys.get("include")
    if include is not None:
        for rule in included_rules(include, sources.note):
            yield rule, RuleSource("include", include.place, {})


def _check_twins(sources: Sources) -> None:
    for of_file, name in _FILES.items():
        if {of_file, name} <= sources.keys.keys():
            message = f"{of_file} and {name} say the same thing: leave one of them out"
            sources.note(sources.keys[of_file].place, message)


def _read_secrets(sources: Sources, folder: Path) -> None:
    """Put what the files hold in place of their names; in a file they are relative to it."""
    for of_file, name in _FILES.items():
        given = sources.keys.get(of_file)
        if given is None:
            continue
        is_variable = given.place.startswith("MEMOSERVE_")
        try:
            secret = secret_in(Path(given.value) if is_variable else folder / given.value)
        except ValueError as error:
            sources.note(given.place, f"{of_file}: {error}")
            continue
        if len(secret) < (16 if name == "secret" else 1):
            sources.note(given.place, f"{of_file} must hold {allowed_for(KEYS[name])}")
        sources.keys[name] = Given(secret, given.place)


def _check_required(sources: Sources) -> None:
    for section, place in sources.sections.items():
        for name, field in fields_of(SECTIONS[section]).items():
            is_optional = field.default is not NODEFAULT
            if not is_optional and f"{section}.{name}" not in sources.said:
                sources.note(place, f"{section}.{name} is missing: {allowed_for(field)}")
