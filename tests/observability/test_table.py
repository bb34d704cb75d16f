"""The table of the catalogue, in the documentation."""

import sys
from pathlib import Path

import pytest

from memoserve.telemetry import INSTRUMENTS
from observability import table as module


def test_the_documentation_lists_what_the_catalogue_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["table", "--check"])

    assert module.main() == 0, "run python -m observability.table"


def test_every_instrument_has_a_row() -> None:
    rows = module.table().splitlines()[2:]

    assert [row.split("`")[1] for row in rows] == [each.name for each in INSTRUMENTS]
    assert {row.count("|") for row in rows} == {6}


def test_a_table_that_is_out_of_date_is_found_out_and_mended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outdated = module.FILE.read_text().replace("| `memoserve.workers` |", "| `memoserve.people` |")
    (tmp_path / "README.md").write_text(outdated)
    monkeypatch.setattr(module, "FILE", tmp_path / "README.md")
    monkeypatch.setattr(sys, "argv", ["table", "--check"])
    found_out = module.main()
    monkeypatch.setattr(sys, "argv", ["table"])

    assert (found_out, module.main()) == (1, 0)
    assert "memoserve.workers" in module.FILE.read_text()
