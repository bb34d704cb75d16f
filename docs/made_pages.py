"""Pages that are made from what is written elsewhere: a hook of MkDocs.

Rule: nothing is written twice. A guide that lives beside its code and the changelog become pages
when the site is built. Links are written as from file to file: one to a file that became a page
leads to that page, and one to what the site does not have keeps its words and loses its address.
"""

import posixpath
import re
from pathlib import Path
from typing import Any, TypeAlias, cast

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["MADE", "on_config", "on_files", "on_page_markdown"]

Entry: TypeAlias = "str | list[Entry] | dict[str, Entry]"  # Of the navigation, as YAML has it.

_ROOT = Path(__file__).parent.parent

# The page of the site, and the file of the project that it is made from.
MADE = {
    "changelog.md": "CHANGELOG.md",
    "load-testing.md": "loadgen/README.md",
    "reference-app.md": "reference_app/README.md",
    "security.md": "SECURITY.md",
}

_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take from the navigation what is not there, and add what it does not name."""
    pages = {path.name for path in Path(config.docs_dir).glob("*.md")} | set(MADE)
    given = cast("list[Entry]", config["nav"] or [])
    kept = [entry for entry in given if _targets(entry) & pages]
    config.nav = [*kept, *sorted(pages - {name for entry in kept for name in _targets(entry)})]
    return config


def _targets(entry: Entry) -> set[str]:
    """Return the pages that an entry of the navigation leads to, those below it included."""
    if isinstance(entry, str):
        return {entry}
    entries = list(entry.values()) if isinstance(entry, dict) else entry
    return {page for inner in entries for page in _targets(inner)}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are files elsewhere."""
    for page, source in MADE.items():
        content = (_ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to where the site has their targets."""
    uri = page.file.src_uri
    source = MADE.get(uri, f"docs/{uri}")
    parts = _FENCE.split(markdown)
    # Every second part is a block of code, in which brackets are no links.
    parts[::2] = [_LINK.sub(lambda link: _relinked(link, source), part) for part in parts[::2]]
    return "".join(parts)


def _relinked(link: re.Match[str], source: str) -> str:
    words, target, anchor = link.group(1), link.group(2), link.group(3) or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    pages = {made_from: page for page, made_from in MADE.items()}
    if path in pages:
        return f"[{words}]({pages[path]}{anchor})"
    if path.startswith("docs/"):
        return f"[{words}]({path.removeprefix('docs/')}{anchor})"
    return words
