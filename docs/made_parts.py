"""Parts of the pages that are made from what is written elsewhere.

`python -m docs.made_parts` writes them between their marks; a test fails where it was forgotten.

Rule: who reads a page as a file reads all of it, and what is in two places is copied by a program.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_type_hints

from memoserve._cache_status import BypassReason
from memoserve._events import (
    BreakerChanged,
    CacheStatus,
    Outcome,
    ShadowCompared,
    StoreCalled,
    WriteResult,
)
from memoserve.telemetry import (
    BREAKER_TRANSITIONS,
    BYPASSES,
    CACHE_STATUS,
    INSTRUMENTS,
    OPERATION,
    OUTCOME,
    REASON,
    RESULT,
    SHADOW_COMPARISONS,
    STATE,
    STORE_WRITES,
    Instrument,
)
from observability.table import table

__all__ = ["MADE_PARTS", "PAGES", "main", "with_parts"]

_ROOT = Path(__file__).parent.parent
PAGES = sorted((_ROOT / "docs").glob("*.md"))

_PART = re.compile(r"(<!-- made: ([a-z]+) -->\n).*?(?=<!-- /made -->)", re.DOTALL)
_MEASURED = re.compile(r"^## Measured\n\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)


def with_parts(text: str) -> str:
    """Return a page with its parts made anew.

    Raises:
        KeyError: It marks a part that is not known.
    """
    return _PART.sub(lambda part: f"{part[1]}\n{MADE_PARTS[part[2]]().strip()}\n\n", text)


def _labels() -> str:
    """Return the closed sets of label values, as the code declares them."""
    rows: list[tuple[str, list[Instrument], Any]] = [
        (CACHE_STATUS, _having(CACHE_STATUS), CacheStatus),
        (OUTCOME, _having(OUTCOME), Outcome),
        (REASON, [BYPASSES], BypassReason),
        (RESULT, [STORE_WRITES], WriteResult),
        (RESULT, [SHADOW_COMPARISONS], get_type_hints(ShadowCompared)["result"]),
        (OPERATION, _having(OPERATION), get_type_hints(StoreCalled)["operation"]),
        (STATE, [BREAKER_TRANSITIONS], get_type_hints(BreakerChanged)["state"]),
    ]
    lines = ["| label | of | values |", "|---|---|---|"]
    for label, instruments, values in rows:
        names = _listed(each.name for each in instruments)
        lines.append(f"| `{label}` | {names} | {_listed(get_args(values))} |")
    return "\n".join(lines)


def _having(label: str) -> list[Instrument]:
    return [each for each in INSTRUMENTS if label in each.attributes]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _measured() -> str:
    """Return what the README says was measured."""
    found = _MEASURED.search((_ROOT / "README.md").read_text(encoding="utf-8"))
    if found is None:
        raise ValueError("README.md has no section called Measured")
    return found[1]


MADE_PARTS: dict[str, Callable[[], str]] = {
    "catalogue": table,
    "labels": _labels,
    "measured": _measured,
}


def main() -> None:
    """Write them."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(with_parts(text), encoding="utf-8")


if __name__ == "__main__":
    main()
