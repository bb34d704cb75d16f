"""On which line a value is."""

import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoserve._config_lines import Path, line_of, lines_of

DOCUMENT = textwrap.dedent(
    '''\
    # A comment.
    store = "memory://"

    [metrics]
    token = "a [b] = c"
    allow = [
      "10.0.0.0/8",  # ] = [
    ]
    "odd.key" = 1
    [[rules]]
    path = "/a"
    text."/text" = ["nfc"]
    [rules.defaults]
    "/n" = 1
    [[rules]]
    path = """
    [x]
    y = 1"""
    defaults = { "/a" = { b = 1 } }
    [variants.shares]
    v1 = 1'''
)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param(("store",), 2, id="first"),
        pytest.param(("metrics",), 4, id="table"),
        pytest.param(("metrics", "token"), 5, id="in-a-table"),
        pytest.param(("metrics", "allow"), 6, id="over-several-lines"),
        pytest.param(("metrics", "odd.key"), 9, id="quoted"),
        pytest.param(("rules", 0), 10, id="array-of-tables"),
        pytest.param(("rules", 0, "text", "/text"), 12, id="dotted"),
        pytest.param(("rules", 0, "defaults", "/n"), 14, id="table-in-an-array"),
        pytest.param(("rules", 1), 15, id="second-of-an-array"),
        pytest.param(("rules", 1, "path"), 16, id="text-over-several-lines"),
        pytest.param(("rules", 1, "defaults", "/a", "b"), 19, id="inline-table"),
        pytest.param(("variants", "shares", "v1"), 21, id="nested-table"),
        pytest.param(("rules", 1, "ttl"), 15, id="what-is-missing-in-a-rule"),
        pytest.param(("rules",), 1, id="an-array-as-a-whole"),
        pytest.param(("nothing",), 1, id="what-is-not-there"),
    ],
)
def test_a_value_has_the_line_where_it_begins(path: Path, line: int) -> None:
    assert line_of(lines_of(DOCUMENT), path) == line


def test_windows_line_ends_count_once() -> None:
    lines = lines_of("a = 1\r\nb = 2\r\n")

    assert line_of(lines, ("b",)) == 2


_names = st.text("abc.\"'[]= #", min_size=1, max_size=5)
_values: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 9), st.booleans(), st.text("a\n\"'[]=#{}", max_size=8)
)


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if "'''" not in value and not value.endswith("'") and not value.startswith("\n"):
        return f"'''{value}'''"
    return f'"{_escaped(value)}"'


def _escaped(text: str) -> str:
    return text.replace('"', '\\"').replace("\n", "\\n")


@settings(deadline=None)
@given(st.dictionaries(_names, _values, max_size=6))
def test_every_value_is_found_whatever_it_holds(values: dict[str, Any]) -> None:
    text, expected = "", {}
    for name, value in values.items():
        expected[name] = text.count("\n") + 1
        text += f'"{_escaped(name)}" = {_spelled(value)}\n# c\n'

    lines = lines_of(text)

    assert {name: lines[(name,)] for name in values} == expected
