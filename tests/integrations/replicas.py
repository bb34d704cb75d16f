"""Several processes of one host are one cache with one Redis, and have one page of metrics.

`make hosts` runs this, in an environment that has the hosts.
"""

import asyncio
import contextlib
import importlib.util
import time
from collections.abc import AsyncGenerator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from memoserve import Rule
from tests.documents import Block, blocks_of
from tests.integrations.contract import Diary
from tests.integrations.in_litserve import MODULE
from tests.integrations.in_ray_serve import Cluster
from tests.integrations.processes import ROOT, free_port, running, write_options
from tests.integrations.test_contract import MODEL, counts, status
from tests.redis_servers import RedisServer
from tests.redis_servers import running as redis_running

LABEL = "shared-by-all"


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_running(tmp_path / "redis") as server:
        yield server


def leave_options(diary: Diary, redis: RedisServer) -> None:
    rule = Rule(MODEL, model=LABEL)
    write_options(diary.folder, {"rules": [rule], "store": redis.url})


async def ask(url: str, text: str) -> httpx.Response:
    """Ask over a connection of its own, so that any of the processes may have it."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return await client.post(url + MODEL, json={"text": text})


async def prove(url: str, diary: Diary) -> list[httpx.Response]:
    """Ask many times, at once and in turn, and see that the model was asked once for each text."""
    asked = [asyncio.create_task(ask(url, "held")) for _ in range(10)]
    await diary.until("model")
    diary.open("held")
    answers = await asyncio.gather(*asked)
    answers += [await ask(url, text) for text in ("b", "c") for _ in range(10)]

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 3
    assert diary.count("model") == 3
    assert sum("fwd=miss" in status(answer) for answer in answers[10:]) == 2
    return answers


async def prove_the_page(url: str, answers: list[httpx.Response]) -> None:
    """See that the page of any process tells of all requests; it is a second behind."""
    expected, counted = len(answers), 0
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        deadline = time.monotonic() + 60
        while counted < expected and time.monotonic() < deadline:
            counted = sum(counts((await client.get("/metrics")).text, LABEL).values())
            await asyncio.sleep(0.2)

    assert counted == expected


async def test_two_replicas_of_ray_serve(diary: Diary, redis: RedisServer) -> None:
    leave_options(diary, redis)
    cluster = Cluster.of_this_process()
    await asyncio.to_thread(cluster.ask, str(diary.folder), "/", "2")
    url = f"http://127.0.0.1:{cluster.port}"
    try:
        answers = await prove(url, diary)
        await prove_the_page(url, answers)
    finally:
        await asyncio.to_thread(cluster.ask)

    assert len({answer.headers["x-replica"] for answer in answers}) == 2


async def test_two_api_servers_of_litserve(diary: Diary, redis: RedisServer) -> None:
    leave_options(diary, redis)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [*MODULE, str(diary.folder), str(port), "", "2"]
    async with running(command, diary.folder, url=url, path="/health"):
        await prove_the_page(url, await prove(url, diary))


async def test_openai_rules_suit_a_server_of_others(diary: Diary) -> None:
    """LitServe's edition of OpenAI's API, which nobody here has written, and OpenAI's client."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["tests.integrations.openai_on_litserve", str(diary.folder), str(port)]
    async with (
        running(command, diary.folder, url=url, path="/health"),
        AsyncOpenAI(api_key="sk-1", base_url=url + "/v1", max_retries=0) as client,
    ):
        for _ in range(2):
            assert await said(client, stream=False) == "cba"
            assert await said(client, stream=True) == "cba"

    assert diary.count("model") == 2


async def said(client: AsyncOpenAI, *, stream: bool) -> str:
    question: list[Any] = [{"role": "user", "content": "a b c"}]
    ask = client.chat.completions.create
    if not stream:
        whole = await ask(model="m", messages=question, temperature=0)
        return whole.choices[0].message.content or ""
    pieces = await ask(model="m", messages=question, temperature=0, stream=True)
    return "".join([piece.choices[0].delta.content or "" async for piece in pieces])


async def test_two_workers_of_bentoml(diary: Diary, redis: RedisServer) -> None:
    leave_options(diary, redis)
    async with bentoml_serving(diary) as url:
        await prove_the_page(url, await prove(url, diary))


@contextlib.asynccontextmanager
async def bentoml_serving(diary: Diary) -> AsyncGenerator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["bentoml", "serve", "tests.integrations.in_bentoml:Served"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "BENTOML_HOME": str(diary.folder / "bentoml"),
        "CONTRACT_FOLDER": str(diary.folder),
        "MEMOSERVE_METRICS_DIR": str(diary.folder / "metrics"),
        "PYTHONPATH": str(ROOT),
    }
    async with running(command, diary.folder, url=url, path="/readyz", **environment):
        yield url


PAGE = (ROOT / "docs" / "serving.md").read_text()
EXAMPLES = list(blocks_of(ROOT / "docs" / "serving.md", "python"))


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.place)
def test_the_examples_are_what_the_hosts_take(block: Block, tmp_path: Path) -> None:
    name = f"example_{block.line}"
    (tmp_path / f"{name}.py").write_text(block.text)
    spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    spec.loader.exec_module(module)

    assert "Shouting" in vars(module)


def test_every_host_has_an_example() -> None:
    assert len(EXAMPLES) == 3


def test_the_versions_are_those_of_the_page() -> None:
    named = {"litserve": "LitServe", "bentoml": "BentoML", "ray": "Ray Serve"}

    assert [each for each in named if f"| {named[each]} | {version(each)} |" not in PAGE] == []
