"""What `import memoserve` brings, and what it leaves alone."""

import subprocess
import sys

import pytest

import memoserve


def printed_by(code: str) -> list[str]:
    """Run code in a Python of its own and return the words that it prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()


HEAVY = (
    "redis", "opentelemetry", "prometheus_client", "torch", "transformers", "litestar", "httpx",
    "starlette", "fastapi", "django", "quart", "click", "rich", "email.utils",
)  # fmt: skip


def test_importing_memoserve_imports_nothing_heavy() -> None:
    """A framework is the app's to choose, and the metrics are for who wants them (bug 58)."""
    found = printed_by(
        f"import sys\nbefore = set(sys.modules)\nimport memoserve\n"
        f"print(*[name for name in {HEAVY} if name in set(sys.modules) - before])"
    )

    assert found == []


def test_a_cache_with_plain_paths_in_memory_needs_nothing_heavy_either() -> None:
    found = printed_by(
        "import sys\nfrom memoserve import CacheMiddleware, Rule\n"
        "CacheMiddleware(print, rules=[Rule('/v1')], store='memory://')\n"
        "print(*[name for name in ('redis', 'starlette', 'opentelemetry') if name in sys.modules])"
    )

    assert found == []


@pytest.mark.parametrize("name", memoserve.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(memoserve, name).__name__ == name


def test_public_names_are_sorted_and_single() -> None:
    assert memoserve.__all__ == sorted(set(memoserve.__all__))


def test_telemetry_is_imported_when_it_is_asked_for() -> None:
    found = printed_by(
        "import sys, memoserve\n"
        "print('memoserve.telemetry.middleware' in sys.modules)\n"
        "print(memoserve.TelemetryMiddleware.__module__)"
    )

    assert found == ["False", "memoserve.telemetry.middleware"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'memoserve' has no attribute 'Cache'"):
        _ = memoserve.Cache
