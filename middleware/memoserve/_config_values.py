"""From what a key says to what a constructor takes: functions, sizes, rules.

Rule: code that is named is imported here, once, when the configuration is read; whatever it raises
then is a problem of the configuration, noted with its place.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from memoserve._asgi import ASGIApp
from memoserve._config_file import IncludeTable
from memoserve._config_keys import FUNCTION, IMPORT
from memoserve._config_sources import Given, RuleSource, did_you_mean
from memoserve._rules import Rule
from memoserve.stores._sizes import bytes_of

__all__ = ["Note", "app_named", "included_rules", "option", "place_in", "rule_from"]

Note = Callable[[str, str], None]  # Takes a place, and what is wrong there.

_SIZES = frozenset(
    {"max_request_bytes", "max_response_bytes", "max_canonical_bytes", "flight_max_bytes"}
)
_FUNCTIONS = frozenset({"when", "admit", "epoch", "tags"})


def option(name: str, value: Any) -> Any:
    """Return what a constructor takes for the value of a key.

    Raises:
        ValueError: It names a function that there is not.
    """
    if name in _SIZES:
        return bytes_of(str(value))
    if name in _FUNCTIONS and isinstance(value, str) and re.match(IMPORT, value):
        return _function(name, value)
    if name == "tags" and isinstance(value, str):
        raise ValueError(f"tags must be a list of names, or {FUNCTION}, not {value!r}")
    if name == "ttl" and value == "none":
        return None
    if name == "ends_with" and value is not None:
        return value.encode()
    return value


def rule_from(source: RuleSource, note: Note) -> Rule | None:
    """Make the rule that a table describes, if it describes one."""
    options: dict[str, Any] = {}
    is_right = "path" in source.keys
    for name, given in source.keys.items():
        try:
            options[name] = option(name, given.value)
        except ValueError as error:
            note(given.place, f"{source.name}.{error}")
            is_right = False
    while "path" in options:
        try:
            rule = Rule(**options)
        except ValueError as error:
            place = place_in(str(error), source.keys)
            note(place or source.place, f"{source.name}{'.' if place else ': '}{error}")
            is_right = False
            # Without what is wrong, so that the next try tells what else is.
            options.pop(str(error).partition(" ")[0] if place else "path", None)
        else:
            return rule if is_right else None
    return None


def place_in(message: str, keys: Mapping[str, Given]) -> str | None:
    """Return where the key was given that a constructor's message begins with, if any was."""
    given = keys.get(message.partition(" ")[0])
    return given.place if given else None


def included_rules(given: Given, note: Note) -> list[Rule]:
    """Return the rules that Python code has."""
    rules: list[Rule] = []
    for each in given.value:
        table = each if isinstance(each, IncludeTable) else IncludeTable(rules=each)
        try:
            rules += _rules_of(table)
        except ValueError as error:
            note(given.place, str(error))
    return rules


def _rules_of(table: IncludeTable) -> list[Rule]:
    found: Any = _imported("include", table.rules)
    if callable(found):
        try:
            found = found(**table.options)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise ValueError(f"include: {table.rules!r} raised {what}") from error
    elif table.options:
        raise ValueError(f"include: {table.rules!r} is no function, so it takes no options")
    rules = list(cast("Iterable[object]", found)) if isinstance(found, Iterable) else [found]
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ValueError(f"include: {table.rules!r} must be rules, not {type(rule).__name__}")
    return cast("list[Rule]", rules)


def app_named(path: str) -> ASGIApp:
    """Return the app that `module:name` names, or that `module:name()` returns.

    Raises:
        ValueError: There is none.
    """
    name = path.removesuffix("()")
    if not re.match(IMPORT, name):
        raise ValueError(f'app must be "module:app" or "module:function()", not {path!r}')
    app = _function("app", name)
    if name == path:
        return app
    try:
        made: ASGIApp = app()
    except Exception as error:
        raise ValueError(f"app: {path!r} raised {type(error).__name__}: {error}") from error
    return made


def _function(name: str, path: str) -> Callable[..., Any]:
    found: Callable[..., Any] = _imported(name, path)
    if not callable(found):
        raise ValueError(f"{name} must be a function, unlike {path!r}")
    return found


def _imported(name: str, path: str) -> Any:
    module_name, _, attributes = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        hint = "; a plain text must not look like that" if name == "epoch" else ""
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name}: {path!r} cannot be imported: {what}{hint}") from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            hint = did_you_mean(attribute, dir(found))
            raise ValueError(f"{name}: there is no {attribute!r} in {path!r}{hint}")
        found = getattr(found, attribute)
    return found
