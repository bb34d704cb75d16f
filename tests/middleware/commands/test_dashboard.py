"""`memoserve dashboard`: the dashboard and the rules, from a checkout and from a wheel."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from memoserve import _dashboard
from tests.middleware.commands.running import Runner

ROOT = Path(__file__).parents[3]
FILES = {
    "": "observability/grafana/dashboards/memoserve.json",
    "--rules": "observability/prometheus/rules.yml",
    "--alerts": "observability/prometheus/alerts.yml",
}


@pytest.mark.parametrize(("option", "file"), FILES.items())
def test_what_is_printed_is_what_was_tested(memoserve: Runner, option: str, file: str) -> None:
    ran = memoserve("dashboard", *([option] if option else []))

    assert (ran.code, ran.out) == (0, (ROOT / file).read_text(encoding="utf-8"))


def test_the_dashboard_is_json(memoserve: Runner) -> None:
    assert json.loads(memoserve("dashboard").out)["title"] == "memoserve"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """Build a wheel from the source distribution, as those are made who are installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return zipfile.Path(file)


@pytest.mark.parametrize("file", FILES.values())
def test_the_wheel_has_copies(wheel: zipfile.Path, file: str) -> None:
    copy = wheel / "memoserve" / "_observability" / file.removeprefix("observability/")

    assert copy.read_text(encoding="utf-8") == (ROOT / file).read_text(encoding="utf-8")


def test_a_wheel_s_copies_are_read(monkeypatch: pytest.MonkeyPatch, wheel: zipfile.Path) -> None:
    monkeypatch.setattr(_dashboard, "_CHECKOUT", Path("nowhere"))
    monkeypatch.setattr(_dashboard, "files", lambda name: wheel / name)

    assert json.loads(_dashboard.observability_file(_dashboard.DASHBOARD))["title"] == "memoserve"


def test_an_installation_without_them_says_so(
    memoserve: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_dashboard, "_CHECKOUT", Path("nowhere"))
    monkeypatch.setattr(_dashboard, "files", lambda name: tmp_path / name)

    ran = memoserve("dashboard")

    assert (ran.code, ran.out) == (1, "")
    assert "came without it" in ran.err
