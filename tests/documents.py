"""What the project's documents show: blocks of code, found wherever they are.

Rule: a page that is added is covered without an edit here. A Python block that must not run says
so in its first line, where readers see it: `# Not run by the tests: needs a GPU.`
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

# Folders that hold no document of ours.
_ELSEWHERE = {"node_modules", ".venv", "site", "dist", "build", "bundled"}

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_NOT_RUN = re.compile(r"# Not run by the tests: (?P<reason>.{10,})\n")
_COMMAND = re.compile(r"^\$ (?P<command>.*?)(?:\s{2,}#.*)?$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block, with the indentation of its surroundings taken away."""

    file: str  # From the project's root.
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it is, as an editor takes it."""
        return f"{self.file}:{self.line}"

    @property
    def reason_not_to_run(self) -> str:
        """What its first line says, or nothing."""
        found = _NOT_RUN.match(self.text)
        return found["reason"] if found else ""

    @property
    def commands(self) -> list[str]:
        """What a reader is to type; lines that end with a backslash go on."""
        return [found["command"] for found in _COMMAND.finditer(self.text.replace("\\\n", " "))]


def documents() -> list[Path]:
    """Return every Markdown file of the project but the cards of models."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not (_ELSEWHERE | {".git"}).intersection(path.relative_to(ROOT).parts)
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


def blocks(*languages: str) -> list[Block]:
    """Return all blocks of these languages."""
    return [block for path in documents() for block in blocks_of(path, *languages)]


def blocks_of(path: Path, *languages: str) -> Iterator[Block]:
    """Return one document's blocks of these languages."""
    text = path.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        if found["language"] in languages:
            line = text.count("\n", 0, found.start("text")) + 1
            file = str(path.relative_to(ROOT))
            yield Block(file, line, found["language"], textwrap.dedent(found["text"]))
