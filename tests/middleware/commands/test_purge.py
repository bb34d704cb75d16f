"""`memoserve purge`, with a real Redis."""

import asyncio
import json
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from memoserve import CacheMiddleware, Rule
from tests.asgi import Model, ask
from tests.middleware.commands.running import Runner
from tests.redis_servers import running


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def hits_before_and_after(memoserve: Runner, url: str, namespace: str, *purge: str) -> list[bool]:
    """Ask three questions, purge, and tell which of them are hits then."""
    asked = (("/v1/a", b"{}"), ("/v1/b", b"{}"), ("/v1/b", b"[]"))
    rules = [Rule("/v1/a", tags=["news"]), Rule("/v1/b", model="b")]

    async def statuses() -> list[bool]:
        cache = CacheMiddleware(
            Model(), rules=rules, store=url, namespace=namespace, store_deadline=30
        )
        calls = [await ask(cache, body, path=path) for path, body in asked]
        await cache.aclose()
        return ["hit" in call.cache_status for call in calls]

    asyncio.run(statuses())
    assert asyncio.run(statuses()) == [True, True, True]
    ran = memoserve("purge", *purge)
    assert (ran.code, ran.err) == (0, "")
    return asyncio.run(statuses())


@pytest.mark.parametrize(
    ("purge", "expected"),
    [
        pytest.param(("--tag", "news"), [False, True, True], id="tag"),
        pytest.param(("--rule", "/v1/a"), [False, True, True], id="rule"),
        pytest.param(("--model", "b"), [True, False, False], id="model"),
        pytest.param(("--all",), [False, False, False], id="all"),
        pytest.param(("--tag", "news", "--model", "b"), [False, False, False], id="two"),
    ],
)
def test_what_is_named_is_gone_and_nothing_else(
    memoserve: Runner, redis_url: str, purge: tuple[str, ...], expected: list[bool]
) -> None:
    """bug 53."""
    namespace = f"purge-{uuid.uuid4().hex[:8]}"

    found = hits_before_and_after(
        memoserve, redis_url, namespace, *purge, "--store", redis_url, "--namespace", namespace
    )

    assert found == expected


def test_a_key_that_was_shown_can_be_purged(memoserve: Runner, redis_url: str) -> None:
    namespace = f"purge-{uuid.uuid4().hex[:8]}"
    shown = memoserve(
        "key", "[]", "--url", "http://test/v1/b", "-H", "Accept:", "--namespace", namespace,
        "--json",
    )  # fmt: skip
    key = json.loads(shown.out)["key"]

    found = hits_before_and_after(
        memoserve, redis_url, namespace, "--key", key, "--store", redis_url,
        "--namespace", namespace,
    )  # fmt: skip

    assert found == [True, True, False]


def test_store_and_namespace_may_be_configured(
    memoserve: Runner, redis_url: str, tmp_path: Path
) -> None:
    namespace = f"purge-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "other.toml"
    file.write_text(
        f'store = "{redis_url}"\nnamespace = "{namespace}"\n[[rules]]\npath = "/v1/a"\n'
    )

    found = hits_before_and_after(memoserve, redis_url, namespace, "--all", "--config", str(file))

    assert found == [False, False, False]


def test_it_says_what_was_purged(memoserve: Runner, redis_url: str) -> None:
    plain = memoserve("purge", "--tag", "a", "--tag", "b", "--all", "--store", redis_url)
    document = memoserve(
        "purge", "--tag", "a", "--store", f"tiered+{redis_url}", "--json",
        "--secret", "0123456789abcdef",
    )  # fmt: skip

    assert plain.out == "purged in namespace memoserve: tags a, b, everything\n"
    assert json.loads(document.out) == {"namespace": "memoserve", "purged": {"tags": ["a"]}}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param((), 2, "say what", id="nothing"),
        pytest.param(("--all",), 2, "say where", id="nowhere"),
        pytest.param(("--all", "--store", "memory://"), 1, "memory of one process", id="memory"),
        pytest.param(("--all", "--store", "mysql://h"), 2, "store must be a URL", id="store"),
        pytest.param(("--all", "--store", "redis://127.0.0.1:1"), 1, "cannot be asked", id="dead"),
        pytest.param(
            ("--key", "x", "--store", "redis://127.0.0.1:1"), 2, "32 hexadecimal", id="key"
        ),
        pytest.param(("--all", "--config", "nowhere.toml"), 2, "nowhere.toml", id="config"),
    ],
)
def test_what_cannot_be_purged_ends_with_a_sentence(
    memoserve: Runner, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ran = memoserve("purge", *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_a_store_that_does_not_answer_is_waited_for_only_so_long(memoserve: Runner) -> None:
    async def hole() -> int:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        async with server:
            url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ran = await asyncio.to_thread(
                memoserve, "purge", "--all", "--store", url, "--timeout", "0.2"
            )
            assert "did not answer in 0.2 s" in ran.err
            return ran.code

    assert asyncio.run(hole()) == 1


def test_without_the_extra_it_is_named(memoserve: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "memoserve.stores.redis", None)

    ran = memoserve("purge", "--all", "--store", "redis://h")

    assert ran.code == 1
    assert "memoserve[redis]" in ran.err
