"""What is imported without the extra that it needs says which one it is."""

import subprocess
import sys

import pytest

# What is not installed, what is done all the same, and the extra that brings it.
MISSING = [
    ("redis", "import memoserve.stores.redis", "redis"),
    ("redis", "import memoserve.stores.tiered", "redis"),
    ("redis", "from memoserve.stores import open_store; open_store('redis://a')", "redis"),
    ("redis", "from memoserve.stores import open_store; open_store('tiered+redis://a')", "redis"),
    ("prometheus_client", "import memoserve.telemetry.scrape", "prometheus"),
    ("prometheus_client", "import memoserve_integrations.starlette", "prometheus"),
    ("prometheus_client", "import memoserve_integrations.litestar", "prometheus"),
    (
        "prometheus_client",
        "import memoserve; memoserve.TelemetryMiddleware(print, metrics_port=1)",
        "prometheus",
    ),
    ("click", "import memoserve.cli; memoserve.cli.main()", "cli"),
    ("opentelemetry.sdk", "import memoserve.telemetry._push", "otlp"),
    ("opentelemetry.exporter", "import memoserve.telemetry._push", "otlp"),
]
ZSTD = "from memoserve.stores import open_store; open_store('redis://a?compress=zstd')"
if sys.version_info < (3, 14):
    MISSING.append(("backports.zstd", ZSTD, "zstd"))


@pytest.mark.parametrize(("package", "statement", "extra"), MISSING)
def test_a_missing_extra_is_named(package: str, statement: str, extra: str) -> None:
    program = f"import sys\nsys.modules[{package!r}] = None\n{statement}"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert f"memoserve[{extra}]" in done.stderr.strip().splitlines()[-1]


PLAIN = [
    "import memoserve, memoserve.telemetry, memoserve.stores, memoserve_integrations",
    "import memoserve; [getattr(memoserve, name) for name in memoserve.__all__]",
    "import memoserve; memoserve.TelemetryMiddleware(print)",
    "from memoserve.stores import open_store; open_store('memory://')",
]


@pytest.mark.parametrize("statement", PLAIN)
def test_what_needs_no_extra_works_without_any(statement: str) -> None:
    absent = ("redis", "prometheus_client", "opentelemetry.sdk", "click", "rich", "litestar")
    program = f"import sys\nfor name in {absent}: sys.modules[name] = None\n{statement}"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
