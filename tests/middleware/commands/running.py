"""Run `memoserve` in this process, as its console script does."""

import sys
from dataclasses import dataclass

import pytest

from memoserve.cli import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


class Runner:
    """Calls the command line and keeps what it prints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ran:
        self._monkeypatch.setattr(sys, "argv", ["memoserve", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = self._capsys.readouterr()
        assert isinstance(caught.value.code, int)
        assert "Traceback" not in printed.err
        return Ran(caught.value.code, printed.out, printed.err)
