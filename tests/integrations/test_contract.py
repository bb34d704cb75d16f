"""One contract for every host: the cache works in it, and the rest of it works as before.

`contract.py` says how to add a host. "bug N" names a class of failure that other caches have had.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from starlette.applications import Starlette
from starlette.routing import Mount

from memoserve import MemoryStore, Rule
from tests.integrations.contract import Diary, Host
from tests.redis_servers import RedisServer, running, until
from tests.servers import serving

CLASSES = {
    "bentoml": "BentoMLHost",
    "django": "DjangoHost",
    "fastapi": "FastAPIHost",
    "litestar": "LitestarHost",
    "litserve": "LitServeHost",
    "quart": "QuartHost",
    "ray_serve": "RayServeHost",
    "starlette": "StarletteHost",
}
# `make hosts` names those whose packages have an environment of their own.
CHOSEN = os.environ.get("CONTRACT_HOSTS", "starlette fastapi litestar quart django").split()


def named(name: str) -> Host:
    host: Host = getattr(import_module(f"tests.integrations.in_{name}"), CLASSES[name])()
    return host


HOSTS = [named(name) for name in CHOSEN]

ROOT = Path(__file__).parents[2]
MODEL = "/v1/model"
# What two servers, or two answers of one, do not say alike.
_OF_ONE_EXCHANGE = {"date", "cache-status", "age", "x-bentoml-request-id", "x-request-id"}

Given = tuple[Host, Diary]
Test = Callable[..., Any]


def claim(name: str) -> Callable[[Test], Any]:
    """Run a test with every host that does not say that it lacks this."""
    hosts = [host for host in HOSTS if name not in host.lacks]
    if not hosts:
        return lambda _: None  # A test of nothing would count as one that was skipped.
    return pytest.mark.parametrize("host", hosts, ids=[host.name for host in hosts])


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def label(host: Host, of: str) -> str:
    """Return a label that no other test has, since a process has one set of metrics."""
    return f"{of}-of-{host.name}"


@contextlib.asynccontextmanager
async def client_of(
    host: Host, diary: Diary, options: Mapping[str, Any] | None, **more: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    async with (
        host.serve(diary, options, **more) as url,
        httpx.AsyncClient(base_url=url, timeout=60, verify=False) as client,  # noqa: S501 - no TLS.
    ):
        yield client


async def ask(client: httpx.AsyncClient, text: str = "a", path: str = MODEL) -> httpx.Response:
    return await client.post(path, json={"text": text})


def status(answer: httpx.Response) -> str:
    return str(answer.headers.get("cache-status", ""))


def seen(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], str]:
    """Return what of an answer must be as without memoserve."""
    port = str(answer.request.url.port)  # It is in redirects.
    kept = [
        (name, value.replace(port, "port"))
        for name, value in answer.headers.multi_items()
        if name not in _OF_ONE_EXCHANGE
    ]
    return answer.status_code, sorted(kept), answer.text


# The cache.


@claim("cache")
async def test_a_hit_does_not_run_the_handler(host: Host, diary: Diary) -> None:
    async with client_of(host, diary, {"rules": [Rule(MODEL)]}) as client:
        first = await ask(client)
        second = await client.post(
            MODEL, content=b'{ "text" : "\\u0061" }', headers={"content-type": "application/json"}
        )

    assert (first.status_code, status(first)) == (200, "memoserve; fwd=miss")
    assert status(second).startswith("memoserve; hit; ttl=")
    assert int(second.headers["age"]) >= 0
    assert first.json() == second.json() == {"answer": "A", "call": 1}
    assert second.headers["content-type"] == first.headers["content-type"]
    assert diary.count("model") == 1


@claim("cache")
async def test_many_at_once_cost_one_call(host: Host, diary: Diary) -> None:
    """bug 33."""
    async with client_of(host, diary, {"rules": [Rule(MODEL)]}) as client:
        asked = [asyncio.create_task(ask(client, "held")) for _ in range(5)]
        await diary.until("model")
        await client.get("/v1/plain")  # By now they have all arrived.
        diary.open("held")
        answers = await asyncio.gather(*asked)

    assert {answer.text for answer in answers} == {answers[0].text}
    said = [status(answer).partition("; ttl")[0] for answer in answers]
    assert said.count("memoserve; fwd=miss") == 1
    assert set(said) <= {"memoserve; fwd=miss", "memoserve; fwd=miss; collapsed", "memoserve; hit"}
    assert diary.count("model") == 1


@claim("cache")
async def test_requests_with_credentials_pass_by(host: Host, diary: Diary) -> None:
    """bug 14."""
    async with client_of(host, diary, {"rules": [Rule(MODEL)]}) as client:
        await ask(client)
        for field in ({"authorization": "Bearer a"}, {"cookie": "session=a"}):
            answer = await client.post(MODEL, json={"text": "a"}, headers=field)
            assert status(answer) == "memoserve; fwd=bypass; detail=credentials"

    assert diary.count("model") == 3


@claim("cache")
async def test_what_no_rule_covers_is_untouched(host: Host, diary: Diary) -> None:
    async with client_of(host, diary, {"rules": [Rule(MODEL)]}) as client:
        plain = await client.get("/v1/plain")
        other_method = await client.get(MODEL)

    assert (plain.status_code, plain.text, status(plain)) == (200, "plain", "")
    assert (other_method.status_code, status(other_method)) == (405, "")


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        pytest.param({"namespace": ""}, "namespace", id="value"),
        pytest.param(
            {"namespce": "a"}, r"\(\) has no option 'namespce'; .* 'namespace'", id="name"
        ),
    ],
)
@claim("cache")
async def test_wrong_options_fail_before_anything_is_served(
    host: Host, diary: Diary, option: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        async with client_of(host, diary, {"rules": [Rule(MODEL)], **option}):
            pass


# The metrics.


@claim("metrics")
async def test_the_metrics_count_by_rule_and_model(host: Host, diary: Diary) -> None:
    """bugs 56, 57."""
    name = label(host, "counted")
    rules = [Rule(MODEL, model=name), Rule("/v1/models/{model}/infer", models=[f"a-{name}"])]
    async with client_of(host, diary, {"rules": rules}) as client:
        for _ in range(3):
            await ask(client)
        for model in (f"a-{name}", f"a-{name}", f"unlisted-{name}"):
            await ask(client, path=f"/v1/models/{model}/infer")
        page = await client.get("/metrics")

    assert page.status_code == 200
    assert counts(page.text, name) == {"hit": 2, "miss": 1}
    assert counts(page.text, f"a-{name}") == {"hit": 1, "miss": 1}
    assert 'model="other"' in page.text
    assert f"unlisted-{name}" not in page.text
    assert diary.count("model") == 3


def counts(page: str, model: str) -> dict[str, int]:
    """Return how many requests of a model ended in which way."""
    found: dict[str, int] = {}
    for line in page.splitlines():
        if line.startswith("memoserve_request_duration_seconds_count{") and (
            f'model="{model}"' in line
        ):
            status = line.partition('cache_status="')[2].partition('"')[0]
            found[status] = found.get(status, 0) + int(float(line.rpartition(" ")[2]))
    return found


@claim("metrics")
async def test_the_metrics_go_where_they_are_wanted(host: Host, diary: Diary) -> None:
    options = {"rules": [Rule(MODEL)], "metrics_path": "/internal/numbers"}
    async with client_of(host, diary, options) as client:
        assert (await client.get("/internal/numbers")).status_code == 200
        assert (await client.get("/metrics")).status_code == 404


@claim("metrics")
async def test_the_metrics_are_for_those_who_have_the_token(host: Host, diary: Diary) -> None:
    options = {"rules": [Rule(MODEL)], "metrics_token": "right"}
    async with client_of(host, diary, options) as client:
        refused = await client.get("/metrics")
        wrong = await client.get("/metrics", headers={"authorization": "Bearer wrong"})
        page = await client.get("/metrics", headers={"authorization": "Bearer right"})

    assert (refused.status_code, wrong.status_code, page.status_code) == (401, 401, 200)
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert "memoserve_" not in refused.text + wrong.text


@claim("metrics")
async def test_the_metrics_are_for_those_who_are_allowed(host: Host, diary: Diary) -> None:
    options = {"rules": [Rule(MODEL)], "metrics_allow": ["192.0.2.0/24"]}  # Nobody is there.
    async with client_of(host, diary, options) as client:
        assert (await client.get("/metrics")).status_code == 403


@claim("inside")
async def test_a_token_in_the_environment_protects_the_metrics(
    host: Host, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMOSERVE_METRICS_TOKEN", "right")
    async with client_of(host, diary, {"rules": [Rule(MODEL)]}) as client:
        refused = await client.get("/metrics")
        page = await client.get("/metrics", headers={"authorization": "Bearer right"})

    assert (refused.status_code, page.status_code) == (401, 200)


@claim("metrics")
async def test_the_metrics_can_be_left_out(host: Host, diary: Diary) -> None:
    async with client_of(host, diary, {"rules": [Rule(MODEL)], "metrics_path": None}) as client:
        await ask(client)

        assert (await client.get("/metrics")).status_code == 404
        assert "hit" in status(await ask(client))


# What the host does.

REQUESTS: dict[str, tuple[str, str, bytes]] = {
    "answer": ("POST", MODEL, b'{"text":"a"}'),
    "plain": ("GET", "/v1/plain", b""),
    "unknown": ("POST", "/v1/nowhere", b"{}"),
    "method": ("GET", MODEL, b""),
    "preflight": ("OPTIONS", MODEL, b""),
    "own-404": ("POST", MODEL, b'{"text":"missing"}'),
    "handled": ("POST", MODEL, b'{"text":"gone"}'),
    "exception": ("POST", MODEL, b'{"text":"failing"}'),
    "invalid": ("POST", MODEL, b'{"no":"text"}'),
    "malformed": ("POST", MODEL, b"{"),
    "mounted": ("POST", "/sub/model", b'{"text":"a"}'),
    "slash": ("POST", MODEL + "/", b'{"text":"a"}'),
}


@claim("errors")
async def test_everything_is_answered_as_without_memoserve(host: Host, tmp_path: Path) -> None:
    """bugs 21, 23, 49: errors of the host are its own, word for word, and are not stored."""
    found: list[dict[str, Any]] = []
    for options in (None, {"rules": [Rule("/{rest:path}")]}):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        async with client_of(host, Diary(folder), options) as client:
            found.append({name: await exchange(client, name) for name in REQUESTS})
        found[-1]["model"] = Diary(folder).count("model")

    assert found[1] == found[0]


async def exchange(client: httpx.AsyncClient, name: str) -> Any:
    """Send a request, and a failing one again."""
    method, path, body = REQUESTS[name]
    headers = {"content-type": "application/json"} if body else {}
    first = await client.request(method, path, content=body, headers=headers)
    if first.status_code < 400:
        return seen(first)
    again = await client.request(method, path, content=body, headers=headers)
    return seen(first), seen(again)


@claim("streams")
@pytest.mark.parametrize("way", ["covered", "bypassed", "not-covered"])
async def test_a_stream_comes_chunk_by_chunk(host: Host, diary: Diary, way: str) -> None:
    """bug 22: the second piece is not made before the client has the first."""
    rule = Rule(MODEL if way == "not-covered" else "/v1/stream")
    headers = {"authorization": "Bearer a"} if way == "bypassed" else {}
    async with (
        client_of(host, diary, {"rules": [rule]}) as client,
        client.stream("POST", "/v1/stream", headers=headers) as answer,
    ):
        chunks = answer.aiter_raw()
        first = await anext(chunks)
        diary.open("more")
        rest = [chunk async for chunk in chunks]

    assert (first, b"".join(rest)) == (b"one", b"two")
    assert answer.headers.get("content-length") is None


@claim("streams")
async def test_a_stream_is_shared_and_replayed(host: Host, diary: Diary) -> None:
    """bug 25."""
    diary.open("more")
    async with client_of(host, diary, {"rules": [Rule("/v1/stream")]}) as client:
        answers = [await client.post("/v1/stream") for _ in range(2)]

    assert [answer.text for answer in answers] == ["onetwo", "onetwo"]
    assert "hit" in status(answers[1])
    assert diary.count("stream") == 1


@claim("background")
async def test_background_work_runs_when_the_answer_has_gone(host: Host, diary: Diary) -> None:
    """It runs once: a hit has no call of the app, and nothing behind it."""
    async with client_of(host, diary, {"rules": [Rule("/v1/behind")]}) as client:
        first = await client.post("/v1/behind")
        assert diary.count("behind") == 0
        diary.open("behind")
        await diary.until("behind")
        second = await client.post("/v1/behind")

    assert first.text == second.text
    assert "hit" in status(second)
    assert diary.count("behind") == 1


@claim("lifespan")
async def test_the_lifespan_of_the_app_runs(host: Host, diary: Diary) -> None:
    """bug 27."""
    async with client_of(host, diary, {"rules": [Rule(MODEL)]}) as client:
        await ask(client)
        assert diary.events() == ["startup", "model"]

    assert diary.events() == ["startup", "model", "shutdown"]


@claim("closing")
@pytest.mark.parametrize("whose", ["memoserve's", "the caller's"])
async def test_the_store_is_closed_by_whoever_opened_it(
    host: Host, diary: Diary, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[MemoryStore] = []

    async def close(self: MemoryStore) -> None:
        closed.append(self)
        await aclose(self)

    aclose = MemoryStore.aclose
    monkeypatch.setattr(MemoryStore, "aclose", close)
    store = "memory://" if whose == "memoserve's" else MemoryStore()
    async with client_of(host, diary, {"rules": [Rule(MODEL)], "store": store}) as client:
        await ask(client)
        assert closed == []

    assert len(closed) == (1 if whose == "memoserve's" else 0)


@claim("shared-store")
async def test_redis_is_connected_to_at_the_start_and_let_go_of_at_the_end(
    host: Host, diary: Diary, redis_server: RedisServer
) -> None:
    """bug 27: and what is under way then is stored."""

    def connections() -> int:
        return len(redis_server.ask("CLIENT", "LIST").splitlines()) - 1  # Without our own.

    options = {"rules": [Rule(MODEL)], "store": redis_server.url, "namespace": host.name}
    named = {"host": "test"}  # A host is part of the key, and each server has a port of its own.
    async with client_of(host, diary, options) as client:
        await client.get("/v1/plain")  # No rule covers it: only the start has connected.
        connected = connections()
        await client.post(MODEL, json={"text": "a"}, headers=named)
    until(lambda: connections() == 0)
    async with client_of(host, diary, options) as client:
        again = await client.post(MODEL, json={"text": "a"}, headers=named)

    assert connected > 0
    assert "hit" in status(again)


@claim("websockets")
async def test_websockets_work(host: Host, diary: Diary) -> None:
    """bug 27."""
    rule = Rule("/{rest:path}", methods={"GET", "POST"})
    async with (
        host.serve(diary, {"rules": [rule]}) as url,
        websockets.connect(url.replace("http://", "ws://") + "/ws") as socket,
    ):
        for text in ("one", "two"):
            await socket.send(text)
            assert await socket.recv() == text


@claim("mounted")
async def test_a_mounted_app_is_covered_by_its_whole_path(host: Host, diary: Diary) -> None:
    """bug 27."""
    async with client_of(host, diary, {"rules": [Rule("/sub/model")]}) as client:
        answers = [await ask(client, path="/sub/model") for _ in range(2)]
        elsewhere = await ask(client)

    assert [status(answer).split(";")[1] for answer in answers] == [" fwd=miss", " hit"]
    assert answers[0].json() == answers[1].json()
    assert status(elsewhere) == ""
    assert diary.count("model") == 2


@claim("root_path")
async def test_rules_match_what_follows_the_root_path(host: Host, diary: Diary) -> None:
    """bug 27: behind a proxy that serves the app under a prefix."""
    name = label(host, "rooted")
    rules = [Rule(MODEL, model=name)]
    async with client_of(host, diary, {"rules": rules}, root_path="/api") as client:
        answers = [await ask(client) for _ in range(2)]
        page = await client.get("/metrics")

    assert [answer.status_code for answer in answers] == [200, 200]
    assert "hit" in status(answers[1])
    assert counts(page.text, name) == {"hit": 1, "miss": 1}


@claim("inside")
async def test_it_works_within_another_app(host: Host, diary: Diary) -> None:
    """bug 27: the app's own rules do not know where it was mounted; nobody starts it."""
    outer = Starlette(routes=[Mount("/outer", host.app(diary, {"rules": [Rule(MODEL)]}))])
    async with (
        serving(outer) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/outer", timeout=60) as client,
    ):
        answers = [await ask(client) for _ in range(2)]
        page = await client.get("/metrics")

    assert [answer.status_code for answer in answers] == [200, 200]
    assert "hit" in status(answers[1])
    assert page.status_code == 200
    assert diary.count("model") == 1


@claim("openapi")
async def test_openapi_lists_what_it_listed(host: Host, tmp_path: Path) -> None:
    documents: list[Any] = []
    for options in (None, {"rules": [Rule("/{rest:path}", methods={"GET", "POST"})]}):
        folder = tmp_path / str(len(documents))
        folder.mkdir()
        async with client_of(host, Diary(folder), options) as client:
            documents.append(json.loads((await client.get(host.schema_path)).text))

    assert MODEL in documents[0]["paths"]
    assert documents[1]["paths"].keys() == documents[0]["paths"].keys()
    assert documents[1].get("components") == documents[0].get("components")


# What is lacked.


@pytest.mark.parametrize("host", HOSTS, ids=[host.name for host in HOSTS])
def test_what_a_host_lacks_is_documented(host: Host) -> None:
    pages = sorted((ROOT / "docs").glob("*.md"))
    documented = " ".join(" ".join(page.read_text().split()) for page in pages)

    assert [reason for reason in host.lacks.values() if reason not in documented] == []
