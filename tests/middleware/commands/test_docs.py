"""The examples of docs/cli.md print what it says."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.middleware.commands.running import Runner

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
SHOWN = [
    (command, output.strip("\n"))
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]
QUESTIONS = "The soup was hot.", "The room was cold.", "The soup was hot. ", "We will come again."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write the files that the examples go by."""
    (body,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (command,) = re.findall(r"```sh\n(curl.*?)```", PAGE, re.DOTALL)
    (tmp_path / "body.json").write_text(body)
    (tmp_path / "request.sh").write_text(command)
    bodies = (
        {
            "text": QUESTIONS[n % 4],
            "top": 3,
            "request_id": f"{n:04x}",
            "user": ["ann", "bob"][n // 7 % 2],
        }
        for n in range(200)
    )
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, bodies)))
    return tmp_path


def test_there_are_examples() -> None:
    assert len(SHOWN) >= 5


@pytest.mark.parametrize(("command", "output"), SHOWN)
def test_an_example_prints_what_is_shown(
    memoserve: Runner, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, output: str
) -> None:
    monkeypatch.chdir(folder)
    program, *arguments = shlex.split(command)

    ran = memoserve(*arguments)

    assert program == "memoserve"
    assert "\n".join(line.rstrip() for line in ran.out.splitlines()) == output
    assert ran.err == ""
