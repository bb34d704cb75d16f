"""What would be published: the wheel, the sdist, and what they say of themselves."""

import email
import json
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from tests.documents import ROOT

PACKAGES = ("memoserve", "memoserve_integrations")


def build(folder: Path, *options: str) -> None:
    """Build what `make wheel` does, with the backend that is installed here."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        folder,
        *options,
        ROOT,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with an sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("published")
    build(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of the one wheel in a folder."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(published: Path) -> dict[str, bytes]:
    return contents(published)


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> Message:
    (name,) = [name for name in wheel if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel[name])


def test_the_sdist_builds_the_wheel_that_the_checkout_builds(
    wheel: dict[str, bytes], tmp_path: Path
) -> None:
    build(tmp_path, "--wheel")

    assert contents(tmp_path) == wheel


def test_the_wheel_holds_the_two_packages_whole(wheel: dict[str, bytes]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    sources = {
        str(path.relative_to(root))
        for root in (ROOT / "middleware", ROOT / "integrations")
        for path in root.rglob("*.py")
    }

    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert sources <= set(wheel)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel)
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


@pytest.mark.parametrize(
    "path",
    [
        "observability/grafana/dashboards/memoserve.json",
        "observability/prometheus/alerts.yml",
        "observability/prometheus/rules.yml",
    ],
)
def test_the_wheel_holds_dashboard_rules_and_alerts(wheel: dict[str, bytes], path: str) -> None:
    assert wheel[f"memoserve/_{path}"] == (ROOT / path).read_bytes()


def test_the_wheel_holds_the_schema_of_the_configuration(wheel: dict[str, bytes]) -> None:
    assert json.loads(wheel["memoserve/memoserve.schema.json"])["$schema"]


def test_the_sdist_holds_what_belongs_to_the_source(published: Path) -> None:
    (sdist,) = published.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "docs/index.md"} <= names
    assert [name for name in names if "node_modules" in name or name.endswith(".pyc")] == []


def test_an_index_would_take_it(published: Path) -> None:
    check: list[str | Path] = [
        sys.executable,
        "-m",
        "twine",
        "check",
        "--strict",
        *published.iterdir(),
    ]

    done = subprocess.run(check, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_it_says_what_it_is(metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in (metadata.get_all("Classifier") or [])
    assert set(metadata.get_all("Provides-Extra") or []) == {
        "all", "cli", "otlp", "prometheus", "redis", "zstd",
    }  # fmt: skip
