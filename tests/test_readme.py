"""What the README shows is what runs."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.asgi import JSON, ask

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = [README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))]
PYTHON = re.findall(r"```python\n(.*?)```", "\n".join(DOCS), re.DOTALL)


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102  (our own text)
    return names


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.split("\n")[0])
def test_every_python_block_runs(block: str) -> None:
    assert run(block)


async def test_the_first_example_caches() -> None:
    app = run(PYTHON[0])["app"]

    async def status(body: bytes) -> str:
        return (await ask(app, body, path="/v1/sentiment", headers=[JSON])).cache_status

    assert await status(b'{"text": "good", "n": "1"}') == "memoserve; fwd=miss"
    assert "hit" in await status(b'{"n":"1","text":"g\\u006fod"}')


def test_every_make_target_that_is_named_exists() -> None:
    known = subprocess.check_output(["make", "help"], cwd=ROOT, text=True)  # noqa: S607
    named = set(re.findall(r"`make (\w+)`|^\$ make (\w+)", README, re.MULTILINE))

    assert named
    for target in {first or second for first, second in named}:
        assert re.search(rf"^{target}\b", known, re.MULTILINE), target


def test_every_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
