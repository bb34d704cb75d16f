"""The public test suite for HTTP caches, through a real server, against what is expected of us.

`expected.toml` names each test that does not pass, with the reason.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import tomllib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from memoserve._asgi import ASGIApp
from tests.http_cache.proxy import ReverseProxy, cached
from tests.servers import serving

HERE = Path(__file__).parent
SUITE = HERE / "node_modules" / "http-cache-tests"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not SUITE.exists(),
    reason="needs Node and the npm package http-cache-tests: tests/system-packages.sh",
)

Results = dict[str, tuple[str, bool]]  # Test to its kind, and whether it passed.


@contextlib.asynccontextmanager
async def origin() -> AsyncGenerator[str]:
    """Run the suite's own origin server; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        "npm_config_protocol": "http",
        "npm_config_port": str(port),
        "npm_config_pidfile": os.devnull,
    }
    server = await asyncio.create_subprocess_exec(
        "node", "--no-warnings", "server/server.mjs",
        cwd=SUITE, env={**os.environ, **environment}, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _accepts(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        await server.wait()


async def _accepts(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.05)


async def results_of(app: ASGIApp) -> Results:
    """Run the whole suite against an app in front of its origin."""
    async with serving(app, date_header=False, server_header=False) as port:
        runner = await asyncio.create_subprocess_exec(
            "node", "--no-warnings", str(HERE / "run.mjs"), str(SUITE), f"http://127.0.0.1:{port}",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(300):
            output, _ = await runner.communicate()
    report = json.loads(output)
    return {name: (kind, result is True) for name, (kind, result) in report.items()}


def expected_failures() -> dict[str, dict[str, str]]:
    return tomllib.loads((HERE / "expected.toml").read_text(encoding="utf-8"))


async def test_the_suite_says_what_is_expected_of_every_test() -> None:
    """RFC 9111 as its editors test it (bug 30, bug 36, bug 48, bug 49, bug 51, bug 55)."""
    expected = expected_failures()
    either = expected.pop("either")

    async with origin() as url, ReverseProxy(url) as proxy:
        results = await results_of(cached(proxy))

    failed: dict[str, set[str]] = {kind: set() for kind in expected}
    for name, (kind, has_passed) in results.items():
        if not has_passed and name not in either:
            failed[kind].add(name)
    unlike = {kind: failed[kind] ^ set(names) for kind, names in expected.items()}
    assert not any(unlike.values()), unlike
    assert len(results) > 300


async def test_nothing_passes_without_the_cache_that_fails_with_it() -> None:
    """The proxy alone, to see that the suite can fail; and that the cache breaks nothing."""
    expected = expected_failures()

    async with origin() as url, ReverseProxy(url) as proxy:
        results = await results_of(proxy)

    passed = {name for name, (kind, has_passed) in results.items() if has_passed}
    broken = passed & {name for names in expected.values() for name in names}
    by_the_text = {name for name in expected["required"] if name.startswith("age-parse-")}
    assert broken - set(expected["either"]) == by_the_text
    assert sum(kind == "optimal" for name, (kind, _) in results.items() if name in passed) == 1
