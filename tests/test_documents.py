"""What the documents show is what runs: README, guides, and every page of the site."""

import ast
import importlib
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml
from fastapi import FastAPI
from uvicorn.main import main as uvicorn_cli

from docs.made_parts import MADE_PARTS, PAGES, with_parts
from loadgen.cli import cli as loadgen_cli
from memoserve._commands import group as memoserve_cli
from tests.asgi import JSON, ask
from tests.documents import ROOT, Block, blocks, blocks_of, documents

PYTHON = blocks("python", "py")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def run(block: Block) -> dict[str, Any]:
    """Execute a block as a module of its own, which frameworks look up by its name."""
    module = types.ModuleType("example")
    code = compile("\n" * (block.line - 1) + block.text, block.file, "exec")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "example", module)
        exec(code, module.__dict__)  # noqa: S102  (our own text)
    return module.__dict__


@pytest.mark.parametrize(
    "block", [each for each in PYTHON if not each.reason_not_to_run], ids=lambda each: each.place
)
def test_every_python_block_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    assert run(block)


@pytest.mark.parametrize("block", PYTHON, ids=lambda each: each.place)
def test_every_python_block_parses(block: Block) -> None:
    assert ast.parse(block.text, block.file).body


def test_blocks_are_found_in_every_kind_of_document() -> None:
    """A mistake in the search would leave everything untested."""
    files = {block.file for block in PYTHON}

    assert {"README.md", "docs/index.md", "docs/http.md", "loadgen/README.md"} <= files
    assert "reference_app/README.md" in {block.file for block in blocks("console")}
    assert sum(block.file == "docs/index.md" for block in PYTHON) >= 4  # Indented ones, too.


QUICK_STARTS = [
    *blocks_of(ROOT / "README.md", "python"),
    *blocks_of(ROOT / "docs" / "index.md", "python"),
]


@pytest.mark.parametrize("block", QUICK_STARTS, ids=lambda each: each.place)
async def test_the_quick_start_of_each_host_caches(block: Block) -> None:
    app = run(block)["app"]

    async def status(body: bytes) -> str:
        return (await ask(app, body, path="/v1/sentiment", headers=[JSON])).cache_status

    assert await status(b'{"text": "good", "n": "1"}') == "memoserve; fwd=miss"
    assert "hit" in await status(b'{"n":"1","text":"g\\u006fod"}')


async def test_an_import_path_and_the_file_of_the_readme_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = blocks_of(ROOT / "README.md", "toml")
    (tmp_path / "memoserve.toml").write_text(file.text)
    monkeypatch.chdir(tmp_path)
    module, _, name = "memoserve.Memoserve".rpartition(".")
    app = FastAPI()
    app.post("/v1/sentiment")(lambda: {"label": "POSITIVE"})

    app.add_middleware(getattr(importlib.import_module(module), name))

    seen = [(await ask(app, b"{}", path="/v1/sentiment")).cache_status for _ in range(2)]
    assert seen[0] == "memoserve; fwd=miss"
    assert seen[1].startswith("memoserve; hit; ttl=")


# What each program makes of its command line, without doing it.


def _parse_click(command: click.Command) -> Callable[[list[str]], object]:
    def parse(arguments: list[str]) -> object:
        name, inner, rest = command.name or "", command, arguments
        while isinstance(inner, click.Group) and rest and not rest[0].startswith("-"):
            name, rest = rest[0], rest[1:]
            found = inner.get_command(click.Context(inner), name)
            if found is None:
                raise click.UsageError(f"there is no command {name!r}")
            inner = found
        if "--help" in rest:
            return inner
        return inner.make_context(name, list(rest), resilient_parsing=False)

    return parse


def _parse_make(arguments: list[str]) -> object:
    unknown = [name for name in arguments if "=" not in name and name not in TARGETS]
    assert unknown == []
    return arguments


def _parse_pip(arguments: list[str]) -> object:
    named = re.findall(r"memoserve\[([^\]]*)\]", " ".join(arguments))
    assert arguments[0] == "install"
    assert [name for names in named for name in names.split(",") if name not in EXTRAS] == []
    return arguments


PARSERS: dict[tuple[str, ...], Callable[[list[str]], object]] = {
    ("python", "-m", "loadgen"): _parse_click(loadgen_cli),
    ("memoserve",): _parse_click(memoserve_cli),
    ("uvicorn",): _parse_click(uvicorn_cli),
    ("make",): _parse_make,
    ("pip",): _parse_pip,
}


def parsed(command: str) -> list[object]:
    """Have every program of a command line that we know parse its own part."""
    words = shlex.shlex(command, posix=True, punctuation_chars=True)
    words.whitespace_split = True  # Else only letters make a word.
    words.commenters = ""
    done = []
    for is_operator, group in itertools.groupby(words, lambda word: word[0] in "|&>;"):
        part = [word for word in group if not _is_setting(word)]
        part = ["http://a" if word == "URL" else word for word in part]
        for program, parse in PARSERS.items():
            if not is_operator and tuple(part[: len(program)]) == program:
                done.append(parse(part[len(program) :]))
    return done


def _is_setting(word: str) -> bool:
    return re.fullmatch(r"[A-Z_]+=.*", word) is not None


COMMANDS = [(b, command) for b in blocks("console", "sh", "bash") for command in b.commands]


@pytest.mark.parametrize(
    ("block", "command"), COMMANDS, ids=[f"{b.place}-{c}" for b, c in COMMANDS]
)
def test_every_command_is_understood(block: Block, command: str, tmp_path: Path) -> None:
    try:
        parsed(command)
    except click.ClickException as error:
        pytest.fail(f"{block.place}: {command}: {error.format_message()}")


def test_commands_are_really_parsed() -> None:
    assert len([1 for _, command in COMMANDS if parsed(command)]) >= 10
    with pytest.raises(click.NoSuchOption):
        parsed("python -m loadgen run URL --no-such-option")
    with pytest.raises(AssertionError):
        parsed("pip install 'memoserve[no-such-extra]'")
    with pytest.raises(AssertionError):
        parsed("make no-such-target")


def _our_own_settings() -> Block:
    """Make a block that is always there, since a table must not be empty."""
    return Block("pyproject.toml", 1, "toml", (ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize(
    "block", [_our_own_settings(), *blocks("toml", "json", "yaml")], ids=lambda each: each.place
)
def test_every_block_of_settings_is_well_formed(block: Block) -> None:
    readers: dict[str, Callable[[str], Any]] = {
        "toml": tomllib.loads,
        "json": json.loads,
        "yaml": yaml.safe_load,
    }

    assert readers[block.language](block.text)


OURS = [
    each
    for each in blocks("toml")
    if not re.search(r"^\[(tool|project)\b", each.text, re.MULTILINE)
]


@pytest.mark.parametrize("block", OURS, ids=lambda each: each.place)
def test_every_configuration_fits_the_schema(block: Block) -> None:
    """Not more than that: what a page names need not be on this machine."""
    schema = json.loads((files("memoserve") / "memoserve.schema.json").read_text())

    jsonschema.validate(tomllib.loads(block.text), schema)


def test_a_configuration_with_a_mistake_does_not_fit() -> None:
    schema = json.loads((files("memoserve") / "memoserve.schema.json").read_text())

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"rules": [{"path": "/v1", "tll": 3}]}, schema)


def test_every_make_target_that_is_named_exists() -> None:
    named = {
        name
        for path in documents()
        for name in re.findall(r"`make ([a-z-]+)`", path.read_text(encoding="utf-8"))
    }

    assert named
    assert named - TARGETS == set()


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    """As files of a checkout, which is where most readers are."""
    text = re.sub(r"```.*?```|`[^`]*`", "`code`", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)

    assert [link for link in links if "://" not in link and _is_lost(path, link)] == []


def _is_lost(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = path.parent / name if name else path
    if not target.exists():
        return True
    # The site has an anchor for each object of the API; as a file, that page is just opened.
    return anchor != "" and name != "api.md" and anchor not in _anchors(target)


def _anchors(path: Path) -> set[str]:
    text = re.sub(
        r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    return {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


def test_a_lost_link_is_noticed() -> None:
    page = ROOT / "docs" / "tuning.md"

    assert _is_lost(page, "load-testing.md")
    assert _is_lost(page, "metrics.md#no-such-title")
    assert _is_lost(page, "#no-such-title")
    assert not _is_lost(page, "metrics.md#labels")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_is_made_in_a_page_is_current(path: Path) -> None:
    """`python -m docs.made_parts` makes it anew."""
    text = path.read_text(encoding="utf-8")

    assert with_parts(text) == text


def test_every_part_that_is_made_is_in_a_page() -> None:
    marks = [
        name for path in PAGES for name in re.findall(r"<!-- made: (\w+) -->", path.read_text())
    ]

    assert sorted(marks) == sorted(MADE_PARTS)


def test_a_part_that_is_out_of_date_is_made_anew() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

    assert with_parts(page.replace("`too_large`, `uncacheable`", "`too_large`")) == page


def test_the_comparison_says_what_the_caches_do() -> None:
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    compare = [sys.executable, "bench/features.py"]

    done = subprocess.run(compare, cwd=ROOT, capture_output=True, text=True, check=True)

    assert len(done.stdout.splitlines()) > 8
    assert done.stdout in page, f"docs/comparison.md should say:\n{done.stdout}"


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]

    done = subprocess.run([*build, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    metrics = (tmp_path / "metrics" / "index.html").read_text(encoding="utf-8")
    assert "memoserve.flight.waiters" in metrics
    assert "method-override" in metrics
    comparison = (tmp_path / "comparison" / "index.html").read_text(encoding="utf-8")
    assert "requests/s" in comparison
    tuning = (tmp_path / "tuning" / "index.html").read_text(encoding="utf-8")
    assert 'href="../load-testing/"' in tuning  # In the file, it leads to loadgen/README.md.
