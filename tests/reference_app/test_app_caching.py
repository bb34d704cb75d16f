"""What the cache in front of this app reuses, and what it must not."""

import asyncio
import threading
from collections import Counter
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from memoserve import MemoryStore
from reference_app.factory import create_app
from reference_app.settings import Settings
from tests.reference_app.fake_models import fake_models
from tests.reference_app.running import Lifespan, client_of, running, until_ready


def cache_status(response: httpx.Response) -> str:
    return str(response.headers.get("cache-status", ""))


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        pytest.param(
            "/v1/sentiment", b'{"text": "a \\u00e9"}', '{ "text":"a é"}'.encode(), id="sentiment"
        ),
        pytest.param(
            "/v1/summarize",
            b'{"text": "a b"}',
            b'{"max_length": 40, "text": "a b"}',
            id="summarize-default",
        ),
        pytest.param(
            "/v1/answer",
            b'{"question": "q", "context": "c"}',
            b'{"context": "c", "question": "q"}',
            id="answer",
        ),
    ],
)
async def test_one_question_in_two_spellings_costs_one_inference(
    path: str, first: bytes, second: bytes
) -> None:
    models = fake_models()
    model = getattr(models, path.rpartition("/")[2])
    async with running(models) as client:
        headers = {"Content-Type": "application/json"}
        miss = await client.post(path, content=first, headers=headers)
        hit = await client.post(path, content=second, headers=headers)

    assert cache_status(miss).startswith("memoserve; fwd=miss")
    assert cache_status(hit).startswith("memoserve; hit; ttl=")
    assert hit.content == miss.content
    assert len(model.calls) == 2  # The warm-up's, and one.


async def test_another_length_is_another_question() -> None:
    async with running() as client:
        await client.post("/v1/summarize", json={"text": "a b", "max_length": 40})
        response = await client.post("/v1/summarize", json={"text": "a b", "max_length": 41})

    assert "fwd=miss" in cache_status(response)


async def test_a_reused_answer_has_a_name_of_its_own() -> None:
    async with running() as client:
        first = await client.post(
            "/v1/sentiment", json={"text": "a"}, headers={"X-Request-ID": "1"}
        )
        again = await client.post(
            "/v1/sentiment", json={"text": "a"}, headers={"X-Request-ID": "2"}
        )

    assert first.headers.get_list("x-request-id") == ["1"]
    assert "; hit" in cache_status(again)
    assert again.headers.get_list("x-request-id") == ["2"]


async def test_the_operator_sets_how_long_an_answer_lives() -> None:
    async with running(settings=Settings(cache_ttl=7)) as client:
        await client.post("/v1/sentiment", json={"text": "a"})
        response = await client.post("/v1/sentiment", json={"text": "a"})

    assert cache_status(response) in {"memoserve; hit; ttl=7", "memoserve; hit; ttl=6"}


async def test_a_client_may_go_around_the_cache() -> None:
    models = fake_models()
    async with running(models) as client:
        await client.post("/v1/sentiment", json={"text": "a"})
        response = await client.post(
            "/v1/sentiment", json={"text": "a"}, headers={"Cache-Control": "no-store"}
        )

    assert "fwd=bypass" in cache_status(response)
    assert len(models.sentiment.calls) == 3


@pytest.mark.parametrize("body", [b"{", b'{"text": 1}'])
async def test_a_problem_is_not_reused(body: bytes) -> None:
    async with running() as client:
        headers = {"Content-Type": "application/json"}
        responses = [
            await client.post("/v1/sentiment", content=body, headers=headers) for _ in "ab"
        ]

    assert all("fwd=miss" in cache_status(response) for response in responses)
    assert not any("stored" in cache_status(response) for response in responses)


@pytest.mark.parametrize("path", ["/health/ready", "/metrics", "/"])
async def test_the_rest_of_the_app_is_not_cached(path: str) -> None:
    async with running() as client:
        await client.get(path)
        response = await client.get(path)

    assert "cache-status" not in response.headers


async def test_other_weights_do_not_find_the_answers_of_these(monkeypatch: Any) -> None:
    """One store under two deployments, and the first again."""
    store = MemoryStore()
    monkeypatch.setattr("reference_app.factory.CacheMiddleware", _with_store(store))

    outcomes = []
    for version in ("v1", "v2", "v1"):
        async with running(fake_models(version)) as client:
            response = await client.post("/v1/sentiment", json={"text": "a"})
            outcomes.append(
                ("; hit" in cache_status(response), response.json()["model"]["version"])
            )

    assert outcomes == [(False, "v1"), (False, "v2"), (True, "v1")]


def _with_store(store: MemoryStore) -> Any:
    from memoserve import CacheMiddleware

    def make(app: Any, **options: Any) -> CacheMiddleware:
        return CacheMiddleware(app, **{**options, "store": store})

    return make


async def test_what_is_asked_while_models_load_is_not_stored() -> None:
    may_load = threading.Event()

    def load(_settings: Settings) -> Any:
        assert may_load.wait(30)
        return {"stable": fake_models()}

    lifespan = Lifespan(app := create_app(Settings(), loader=load))
    await lifespan.start()
    async with client_of(app) as client:
        early = await client.post("/v1/sentiment", json={"text": "a"})
        may_load.set()
        await until_ready(client)
        first = await client.post("/v1/sentiment", json={"text": "a"})
    await lifespan.stop()

    assert (early.status_code, first.status_code) == (503, 200)
    assert "fwd=bypass" in cache_status(early)
    assert "fwd=miss" in cache_status(first)


async def test_a_crowd_with_one_question_costs_one_inference() -> None:
    models = fake_models()
    async with running(models) as client:
        models.sentiment.gate.clear()
        models.sentiment.entered.clear()
        crowd = [
            asyncio.create_task(client.post("/v1/sentiment", json={"text": "a"})) for _ in range(20)
        ]
        await asyncio.to_thread(models.sentiment.entered.wait, 30)
        models.sentiment.gate.set()
        responses = await asyncio.gather(*crowd)

    assert len(models.sentiment.calls) == 2  # The warm-up's, and one.
    assert {response.status_code for response in responses} == {200}


async def test_metrics_tell_hits_from_misses() -> None:
    async with running() as client:
        before = await finished_requests(client)
        for _ in range(3):
            await client.post("/v1/answer", json={"question": "q", "context": "c"})
    async with running() as client:  # A fresh page: it is rendered once a second at most.
        after = await finished_requests(client)

    assert after["miss"] - before["miss"] == 1
    assert after["hit"] - before["hit"] == 2


async def finished_requests(client: httpx.AsyncClient) -> Counter[str]:
    """Requests to /v1/answer by what the cache did; the process's other tests included."""
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            is_count = sample.name == "memoserve_request_duration_seconds_count"
            if is_count and sample.labels["model"] == "answer":
                counts[sample.labels["cache_status"]] += int(sample.value)
    return counts
