"""The Compose file: valid, and saying what the rest of the project says."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reference_app.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
STACK = ROOT / "reference_app" / "stack"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.yaml.decode(COMPOSE.read_bytes())["services"]
    return found


def test_it_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(COMPOSE)], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stdout


def test_only_three_ports_are_published(services: dict[str, Any]) -> None:
    published = {name: each["ports"] for name, each in services.items() if "ports" in each}

    assert published == {
        "proxy": ["8000:8000"],
        "prometheus": ["9090:9090"],
        "grafana": ["3002:3000"],
    }


def test_redis_is_a_bounded_cache_with_a_password(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])

    assert "--maxmemory 256mb --maxmemory-policy allkeys-lru" in command
    assert "--requirepass" in command


def test_every_service_is_bounded_and_those_that_stay_are_watched(services: dict[str, Any]) -> None:
    staying = {name: each for name, each in services.items() if "profiles" not in each}

    assert all(each["deploy"]["resources"]["limits"]["memory"] for each in staying.values())
    # The image of the app has a check of its own; that of the exporter has no shell for one.
    unwatched = {name for name, each in staying.items() if "healthcheck" not in each}
    assert unwatched == {"app", "redis-exporter"}


def test_the_app_is_given_settings_that_exist(services: dict[str, Any]) -> None:
    known = {field.name.upper() for field in msgspec.structs.fields(Settings)}

    assert set(services["app"]["environment"]) <= known


def test_the_defaults_are_settings_that_work(services: dict[str, Any]) -> None:
    environment = {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        for name, value in services["app"]["environment"].items()
    }

    settings = Settings.from_environment(environment)

    assert settings.models == "hub"
    assert settings.store_url == "redis://:memoserve@redis:6379/0"


def test_what_is_mounted_from_here_is_here(services: dict[str, Any]) -> None:
    mounts = [
        volume.split(":")[0] for each in services.values() for volume in each.get("volumes", ())
    ]

    here = [mount for mount in mounts if mount.startswith("./")]
    assert len(here) == 5
    assert [mount for mount in here if not (ROOT / mount).exists()] == []


def test_nginx_hangs_up_before_the_app_does() -> None:
    """Else a request may meet a connection that the app is closing."""
    found = re.search(r"keepalive_timeout (\d+)s", (STACK / "upstream.conf").read_text("utf-8"))

    assert found
    assert int(found[1]) < 5  # uvicorn's own timeout.


def test_nginx_takes_larger_bodies_than_the_app() -> None:
    """So that a body that is too large is told so by the app, which says what to change."""
    found = re.search(r"client_max_body_size (\d+)m", (STACK / "nginx.conf").read_text("utf-8"))

    assert found
    assert int(found[1]) * 2**20 > Settings(max_text_chars=100_000).max_body_bytes
