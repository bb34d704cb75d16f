"""The Dockerfile, as far as it can be judged without building: see build-image.sh for that."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_all_that_the_wheel_is_made_of_is_given_to_the_image() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    needed = {Path(each).parts[0] for each in (*wheel["packages"], *wheel["force-include"])}

    first_stage = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1]

    copied = {line.split()[1] for line in first_stage.splitlines() if line.startswith("COPY ")}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert needed <= copied - {"pyproject.toml"} <= sent
