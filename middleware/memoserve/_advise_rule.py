"""Advice as a rule that can be pasted: Python, and `memoserve.toml`."""

import json
from typing import Any

from memoserve._advise import Advice
from memoserve._rules import Rule

__all__ = ["python_rule", "rule_of", "toml_rule"]


def rule_of(advice: Advice) -> Rule:
    """Return the rule that is advised."""
    return Rule(advice.path, **_options(advice))


def _options(advice: Advice) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if advice.ignore:
        options["ignore"] = [hint.pointer for hint in advice.ignore]
    if advice.text:
        options["text"] = {hint.pointer: hint.steps for hint in advice.text}
    return options


def python_rule(advice: Advice) -> str:
    """Return it as it is written in Python."""
    options = _options(advice)
    if not options:
        return f"Rule({advice.path!r})"
    lines = [f"    {name}={value!r}," for name, value in options.items()]
    return "\n".join(["Rule(", f"    {advice.path!r},", *lines, ")"])


def toml_rule(advice: Advice) -> str:
    """Return it as it is written in `memoserve.toml`."""
    lines = ["[[rules]]", f"path = {_quoted(advice.path)}"]
    if advice.ignore:
        lines.append(f"ignore = [{', '.join(_quoted(hint.pointer) for hint in advice.ignore)}]")
    if advice.text:
        pairs = [
            f"{_quoted(hint.pointer)} = [{', '.join(map(_quoted, hint.steps))}]"
            for hint in advice.text
        ]
        lines.append(f"text = {{ {', '.join(pairs)} }}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Return a TOML string: what JSON escapes TOML reads, but for pairs of surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
