"""What the environment says.

Rule: a variable says what its key says in the file. One that is misspelled is a problem, so that no
secret is missed; what somebody else may mean is left alone.
"""

import difflib
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from memoserve._config_sources import (
    KEYS,
    PREFIX,
    SECTIONS,
    Given,
    Sources,
    read_rules,
    variable_of,
    wrong,
)

__all__ = ["read_environment"]

_logger = logging.getLogger("memoserve")

_VARIABLES = {variable_of(name): name for name in (*KEYS, "rules")}
_OTHER_VARIABLES = frozenset({"MEMOSERVE_APP", "MEMOSERVE_CONFIG", "MEMOSERVE_METRICS_DIR"})
# Kubernetes tells every container of every service, and one may be called `memoserve`.
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)")


def read_environment(environ: Mapping[str, str]) -> Sources:
    """Read the variables; one that is empty counts as unset, as Compose passes on `${NAME:-}`."""
    sources = Sources()
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not text or _is_kubernetes(variable, text):
            continue
        name = _VARIABLES.get(variable)
        if not _is_unicode(text):
            sources.note(variable, "is no text in UTF-8")
        elif name == "rules":
            _read_rules_variable(sources, variable, text)
        elif name is not None:
            _read_variable(sources, variable, name, text)
        elif variable not in _OTHER_VARIABLES:
            _refuse_variable(sources, variable)
    return sources


def _is_unicode(text: str) -> bool:
    """Tell whether the variable's bytes were a text: os.environ has a surrogate for each other."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_variable(sources: Sources, variable: str) -> None:
    """Take what is misspelled for wrong; what is not near to anything may be somebody else's."""
    known = (*_VARIABLES, *_OTHER_VARIABLES)
    names = {name.removeprefix(PREFIX): name for name in known}
    near = difflib.get_close_matches(variable.removeprefix(PREFIX), names, n=1, cutoff=0.7)
    if near:
        hint = f"; did you mean {names[near[0]]!r}?"
        sources.note(variable, f"is no variable of memoserve{hint}")
    else:
        _logger.warning("%s is no variable of memoserve", variable)


def _is_kubernetes(variable: str, text: str) -> bool:
    is_link = variable.endswith("_PORT") and "://" in text
    return is_link or _KUBERNETES.search(variable) is not None


def _read_rules_variable(sources: Sources, variable: str, text: str) -> None:
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        sources.note(variable, f"rules must be a list of tables in JSON; this is none: {error}")
        return
    read_rules(sources, said, lambda *_: variable)


def _read_variable(sources: Sources, variable: str, name: str, text: str) -> None:
    section = name.partition(".")[0]
    if section in SECTIONS:
        sources.sections[section] = variable
    sources.said.add(name)
    for value in _readings(text):
        try:
            sources.keys[name] = Given(msgspec.convert(value, KEYS[name].type), variable)
        except msgspec.ValidationError:
            continue
        return
    sources.note(variable, wrong(name, KEYS[name], text))


def _readings(text: str) -> Iterator[Any]:
    """Return what a text may mean: itself, JSON, or a list of names."""
    yield text
    try:
        yield msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        yield [part.strip() for part in text.split(",")]
