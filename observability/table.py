"""The catalogue as a table: `python -m observability.table [--check]` keeps README.md's current.

Rule: what is said of an instrument is said in the catalogue, and copied from there.
"""

import sys
from pathlib import Path

from memoserve.telemetry import INSTRUMENTS, Instrument, prometheus_names

__all__ = ["FILE", "main", "table"]

FILE = Path(__file__).parent / "README.md"

_BEGIN, _END = "<!-- made by observability.table -->\n", "<!-- end -->\n"


def table() -> str:
    """Return the table, in Markdown."""
    rows = [
        "| instrument | in Prometheus | kind, unit | labels | what it is |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*rows, *map(_row, INSTRUMENTS), ""])


def _row(instrument: Instrument) -> str:
    name = prometheus_names(instrument)[0].removesuffix("_bucket")
    labels = ", ".join(f"`{key}`" for key in instrument.attributes)
    kind = f"{instrument.kind}, {instrument.unit}"
    said = f"{instrument.description}{' Opt-in.' if instrument.is_opt_in else ''}"
    return f"| `{instrument.name}` | `{name}` | {kind} | {labels} | {said} |"


def main() -> int:
    """Write the table into README.md, or with `--check` say whether it is there."""
    text = FILE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    new = before + _BEGIN + table() + _END + rest.partition(_END)[2]
    if sys.argv[1:] == ["--check"]:
        return int(new != text)
    FILE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
