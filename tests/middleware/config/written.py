"""Write what follows from the keys of the configuration: its schema, and its reference.

`python -m tests.middleware.config.written` does so; tests fail where it was forgotten.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from memoserve._config_file import ConfigFile, IncludeTable, json_schema
from memoserve._config_keys import allowed_for, meaning_of
from memoserve._config_rule import RuleTable
from memoserve._config_sources import SECTIONS, fields_of, variable_of

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "middleware" / "memoserve" / "memoserve.schema.json"
PAGE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / "docs" / "examples" / "memoserve.toml"
TABLES: dict[str, type[msgspec.Struct]] = {
    "": ConfigFile,
    "rules": RuleTable,
    "include": IncludeTable,
    **SECTIONS,
}


def reference(section: str) -> str:
    """Return the table of Markdown that describes a section's keys."""
    return "\n".join(_rows(section)) + "\n"


def page(text: str) -> str:
    """Return the page with its tables and its example written anew."""
    _, _, toml = EXAMPLE.read_text().partition("\n")  # The line about the schema has a path.
    example = f"```toml\n{toml}```\n"
    text = re.sub(
        r"(?<=<!-- example -->\n).*?(?=<!-- /example -->)",
        lambda _: example,
        text,
        flags=re.DOTALL,
    )
    return re.sub(
        r"(<!-- keys: (\w*) -->\n).*?(?=<!-- /keys -->)",
        lambda found: f"{found[1]}\n{reference(found[2])}\n",
        text,
        flags=re.DOTALL,
    )


def _rows(section: str) -> Iterator[str]:
    has_variables = section not in {"rules", "include"}
    yield f"| key | default | {'variable | ' if has_variables else ''}allowed | meaning |"
    yield f"|---|---|{'---|' if has_variables else ''}---|---|"
    for name, field in fields_of(TABLES[section]).items():
        if name in {*SECTIONS, "rules"}:
            continue
        variable = f"`{variable_of(f'{section}.{name}' if section else name)}` | "
        cells = [f"`{name}`", _default(field), allowed_for(field), meaning_of(field)]
        key, default, allowed, meaning = (cell.replace("|", "\\|") for cell in cells)
        yield f"| {key} | {default} | {variable if has_variables else ''}{allowed} | {meaning} |"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return "`{}`"
    if field.default is msgspec.NODEFAULT:
        return "required"
    return "none" if field.default is None else f"`{json.dumps(field.default)}`"


def main() -> None:
    """Write them."""
    SCHEMA.write_text(json.dumps(json_schema(), indent=2) + "\n")
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
