"""What keeps the app up: variants, admission, breakers, adaptive ttls, purges, lists of models."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from reference_app.settings import Settings
from tests.asgi import settle
from tests.reference_app.fake_models import fake_models
from tests.reference_app.running import running

TOKEN = "a-token-of-the-operator"  # noqa: S105  (of no operator)
ASK = {"text": "a"}


def cache_status(response: httpx.Response) -> str:
    return str(response.headers.get("cache-status", ""))


def ttl_of(response: httpx.Response) -> int:
    found = re.search(r"; hit; ttl=(-?\d+)", cache_status(response))
    assert found, cache_status(response)
    return int(found[1])


async def test_every_model_is_listed() -> None:
    async with running(settings=Settings(canary="random"), canary=fake_models("v2")) as client:
        response = await client.get("/v1/models")

    models = response.json()["models"]
    assert [(model["variant"], model["task"], model["version"]) for model in models] == [
        (variant, task, version)
        for variant, version in (("stable", "v1"), ("canary", "v2"))
        for task in ("sentiment", "summarize", "answer")
    ]
    assert models[0]["load_seconds"] == 0.25
    assert models[0]["device"] == "cpu"
    assert "cache-status" not in response.headers


# Variants.


async def test_a_canary_answers_its_share_and_is_cached_apart() -> None:
    models, canary = fake_models("v1"), fake_models("v2")
    async with running(models, Settings(canary="random"), canary) as client:
        versions = {}
        for variant in ("stable", "canary", "stable", "canary"):
            response = await client.post(
                "/v1/sentiment", json=ASK, headers={"X-Model-Variant": variant}
            )
            assert response.headers["x-model-variant"] == variant
            versions[variant] = response.json()["model"]["version"]

    assert versions == {"stable": "v1", "canary": "v2"}
    assert "; hit" in cache_status(response)
    assert [len(each.sentiment.calls) for each in (models, canary)] == [2, 2]


async def test_a_client_keeps_its_variant() -> None:
    settings = Settings(canary="random", canary_share=0.5)
    async with running(settings=settings, canary=fake_models("v2")) as client:
        seen = [
            (
                await client.post(
                    "/v1/sentiment", json=ASK, headers={"X-Client-ID": f"client-{number}"}
                )
            ).headers["x-model-variant"]
            for number in (*range(20), *range(20))
        ]

    assert seen[:20] == seen[20:]
    assert set(seen) == {"stable", "canary"}


async def test_without_a_canary_there_are_no_variants() -> None:
    async with running() as client:
        response = await client.post("/v1/sentiment", json=ASK)

    assert "x-model-variant" not in response.headers


# Admission.


async def test_over_capacity_misses_are_refused_and_hits_are_not() -> None:
    models = fake_models()
    async with running(models, Settings(concurrency=1, queue_size=1)) as client:
        await client.post("/v1/sentiment", json={"text": "known"})
        models.sentiment.gate.clear()
        models.sentiment.entered.clear()
        waiting = [
            asyncio.create_task(client.post("/v1/sentiment", json={"text": str(number)}))
            for number in range(2)
        ]
        await asyncio.to_thread(models.sentiment.entered.wait, 30)
        await settle()
        shed = await client.post("/v1/sentiment", json={"text": "too many"})
        hit = await client.post("/v1/sentiment", json={"text": "known"})
        other = await client.post("/v1/answer", json={"question": "q", "context": "c"})
        models.sentiment.gate.set()
        answered = await asyncio.gather(*waiting)

    assert shed.status_code == 503
    assert shed.headers["content-type"] == "application/problem+json"
    assert int(shed.headers["retry-after"]) >= 1
    assert "; hit" in cache_status(hit)
    assert other.status_code == 200
    assert [response.status_code for response in answered] == [200, 200]


async def test_health_is_told_however_busy_the_models_are() -> None:
    models = fake_models()
    async with running(models, Settings(concurrency=1, queue_size=0)) as client:
        models.sentiment.gate.clear()
        models.sentiment.entered.clear()
        busy = asyncio.create_task(client.post("/v1/sentiment", json=ASK))
        await asyncio.to_thread(models.sentiment.entered.wait, 30)
        ready = await client.get("/health/ready")
        models.sentiment.gate.set()
        await busy

    assert ready.status_code == 200


async def test_more_calls_than_a_batcher_takes_are_a_503() -> None:
    """Only where admission lets more in than the batcher holds."""
    models = fake_models()
    async with running(models, Settings(concurrency=1_000)) as client:
        models.sentiment.gate.clear()
        models.sentiment.entered.clear()
        calls = [asyncio.create_task(client.post("/v1/sentiment", json={"text": "first"}))]
        await asyncio.to_thread(models.sentiment.entered.wait, 30)
        calls += [
            asyncio.create_task(client.post("/v1/sentiment", json={"text": str(number)}))
            for number in range(257)
        ]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        models.sentiment.gate.set()
        responses = await asyncio.gather(*calls)

    refused = [response for response in responses if response.status_code == 503]
    assert len(refused) == len(done) == 1
    assert refused[0].headers["retry-after"] == "1"
    assert "wait already" in refused[0].json()["detail"]


# Breakers.


async def test_a_model_that_keeps_failing_answers_at_once_that_it_does() -> None:
    models = fake_models()
    async with running(models, Settings(breaker_failures=2, breaker_pause=60)) as client:
        models.sentiment.error = OSError("broken")
        statuses = [
            (await client.post("/v1/sentiment", json={"text": str(number)})).status_code
            for number in range(2)
        ]
        refused = await client.post("/v1/sentiment", json={"text": "refused"})

    assert statuses == [500, 500]
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) in {59, 60}
    assert "keeps failing" in refused.json()["detail"]
    assert len(models.sentiment.calls) == 3  # The warm-up's, and two.


async def test_while_a_model_fails_what_is_cached_is_served_stale() -> None:
    models = fake_models()
    settings = Settings(cache_ttl=0.01, breaker_failures=1, breaker_pause=60)
    async with running(models, settings) as client:
        await client.post("/v1/sentiment", json=ASK)
        await asyncio.sleep(0.02)  # The app has no clock to move.
        models.sentiment.error = OSError("broken")
        failing = await client.post("/v1/sentiment", json=ASK)
        refused = await client.post("/v1/sentiment", json=ASK)

    for response in (failing, refused):
        assert response.status_code == 200
        assert ttl_of(response) <= 0
    assert len(models.sentiment.calls) == 3  # The warm-up's, the first, and the one that failed.


# Adaptive ttl.


@pytest.mark.parametrize(
    ("path", "body", "source", "ttl"),
    [
        pytest.param("/v1/sentiment", {"text": "good"}, "bundled", 500, id="half-sure-of-a-label"),
        pytest.param("/v1/answer", {"question": "q", "context": "c"}, "hub", 500, id="half-sure"),
        pytest.param("/v1/summarize", {"text": "a"}, "bundled", 1000, id="no-score"),
        pytest.param("/v1/sentiment", {"text": "good"}, "random", 1000, id="scores-of-noise"),
    ],
)
async def test_the_surer_a_model_is_the_longer_its_answer_lives(
    path: str, body: dict[str, Any], source: Any, ttl: int
) -> None:
    async with running(fake_models(source=source), Settings(cache_ttl=1000)) as client:
        await client.post(path, json=body)
        response = await client.post(path, json=body)

    assert ttl_of(response) in {ttl, ttl - 1}


# Administration.


async def purge(client: httpx.AsyncClient, body: Any, token: str = TOKEN) -> httpx.Response:
    return await client.post(
        "/admin/purge", json=body, headers={"Authorization": f"Bearer {token}"}
    )


@pytest.mark.parametrize(
    ("body", "is_gone"),
    [({"model": "sentiment"}, True), ({"everything": True}, True), ({"model": "answer"}, False)],
    ids=str,
)
async def test_an_operator_purges_answers(body: dict[str, Any], is_gone: bool) -> None:
    async with running(settings=Settings(admin_token=TOKEN)) as client:
        await client.post("/v1/sentiment", json=ASK)
        purged = await purge(client, body)
        again = await client.post("/v1/sentiment", json=ASK)

    assert purged.status_code == 200
    assert ("fwd=miss" in cache_status(again)) is is_gone


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "é"}])
async def test_nobody_else_does(headers: dict[str, str]) -> None:
    async with running(settings=Settings(admin_token=TOKEN)) as client:
        encoded = {name.encode(): value.encode() for name, value in headers.items()}
        response = await client.post("/admin/purge", json={"everything": True}, headers=encoded)

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body", [{}, {"everything": False}, {"model": "other"}, {"all": True}], ids=str
)
async def test_a_purge_of_nothing_is_refused(body: dict[str, Any]) -> None:
    async with running(settings=Settings(admin_token=TOKEN)) as client:
        assert (await purge(client, body)).status_code == 422


async def test_without_a_token_there_is_no_such_route() -> None:
    async with running() as client:
        assert (await purge(client, {"everything": True}, "")).status_code == 404
