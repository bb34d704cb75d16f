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


def test_an_ordinary_answer_is_stored_without_an_import() -> None:
    """The parser of structured fields would hold up the event loop for 8 ms."""
    code = """
import asyncio, sys
from memoserve import CacheMiddleware, Rule

class Shelf:  # A store of somebody's own, for which an answer takes the long way.
    kept = {}
    async def get(self, key): return self.kept.get(key)
    async def set(self, key, value, ttl): self.kept[key] = value
    async def delete(self, key): self.kept.pop(key, None)
    async def aclose(self): pass

async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})

async def receive(): return {"type": "http.request", "body": b"{}"}
async def send(message): pass

scope = {"type": "http", "method": "POST", "path": "/x", "headers": []}
cache = CacheMiddleware(app, rules=[Rule("/x")], store=Shelf())
asyncio.run(cache(scope, receive, send))
print(len(Shelf.kept), *[name for name in ("http_sf",) if name in sys.modules])
"""

    assert printed_by(code) == ["5"]
