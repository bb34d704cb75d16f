"""The files that a run or a proof leaves.

Rule: a file that cannot be written is one line and an exit code; it takes nothing else with it.
What is written is complete or absent: each file is made beside its place and then moved there.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.explain import Explanation
from loadgen.exports import write_csv, write_hgrm
from loadgen.report_page import has_plotly, report_page
from loadgen.runner import Run
from loadgen.summaries import junit, markdown
from loadgen.verdict import Exit, Finding

__all__ = ["Outputs", "Result", "worst", "write_text"]


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured; a proof has no single run."""

    findings: Sequence[Finding]
    document: Mapping[str, Any]
    run: Run | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """Where files go; None: nowhere."""

    folder: Path | None = None  # For run.json, report.html, requests.csv and latency.hgrm.
    json: Path | None = None
    junit: Path | None = None
    summary: Path | None = None  # Markdown, appended: $GITHUB_STEP_SUMMARY is shared.

    def write(
        self, document: Mapping[str, Any], result: Result, expressions: Sequence[str]
    ) -> bool:
        """Write them all, say which cannot be, and return whether all could."""
        text = json.dumps(document, indent=1) + "\n"
        wanted: list[tuple[Path | None, Callable[[], str]]] = [
            (self.json, lambda: text),
            (self.junit, lambda: junit(result.findings, expressions, _seconds(document))),
        ]
        if self.folder is not None:
            wanted.append((self.folder / "run.json", lambda: text))
            if has_plotly():
                wanted.append((self.folder / "report.html", lambda: report_page(document)))
            if result.run is not None and result.explanation is not None:
                run, explanation = result.run, result.explanation
                wanted += [
                    (self.folder / "requests.csv", lambda: _text(write_csv, run, explanation)),
                    (self.folder / "latency.hgrm", lambda: _text(write_hgrm, run)),
                ]
        written = [write_text(path, make()) for path, make in wanted if path is not None]
        if self.summary is not None:
            written.append(write_text(self.summary, markdown(document), append=True))
        return all(written)


def write_text(path: Path, text: str, *, append: bool = False) -> bool:
    """Write a file, complete or not at all; say in one line why it cannot be, and return False."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if append or (path.exists() and not path.is_file()):  # A terminal, a pipe.
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
            return True
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(text, encoding="utf-8", newline="")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        print(f"Error: cannot write the result: {path}: {error.strerror or error}", file=sys.stderr)
        return False
    return True


def _text(write: Callable[..., None], *arguments: Any) -> str:
    file = io.StringIO(newline="")
    write(*arguments, file)
    return file.getvalue()


def _seconds(document: Mapping[str, Any]) -> float:
    arms = document.get("arms") or {"run": document}
    return float(sum(arm["elapsed"] for arm in arms.values()))


def worst(code: Exit, *, written: bool) -> Exit:
    """Return the exit code when a file could not be written, too."""
    return code if written else max(code, Exit.USAGE)
