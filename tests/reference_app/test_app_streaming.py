"""Summaries as server-sent events: piece by piece, cached, replayed, and honest about failure."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from reference_app.factory import create_app
from reference_app.settings import Settings
from tests.asgi import JSON, Call, begin, http_scope
from tests.reference_app.fake_models import fake_models
from tests.reference_app.running import Lifespan, client_of, loader, running, until_ready

QUESTION = {"text": "one two three", "stream": True}


def events(body: str) -> list[tuple[str, Any]]:
    """Parse a stream of events."""
    found: list[tuple[str, Any]] = []
    for block in body.removesuffix("\n\n").split("\n\n"):
        name, content = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(content.removeprefix("data: "))))
    return found


async def test_a_stream_has_the_pieces_and_then_the_whole() -> None:
    async with running() as client:
        response = await client.post("/v1/summarize", json=QUESTION)
        plain = await client.post("/v1/summarize", json={"text": "one two three"})

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    assert events(response.text) == [
        ("text", {"text": "one"}),
        ("text", {"text": " two"}),
        ("text", {"text": " three"}),
        ("done", plain.json()),
    ]


async def test_a_stream_is_replayed_as_a_stream() -> None:
    """With its pieces apart, as the model made them (bug 25)."""
    models = fake_models()
    lifespan = Lifespan(app := create_app(Settings(), loader=loader(models)))
    await lifespan.start()
    async with client_of(app) as client:
        await until_ready(client)
        miss, hit = [
            await begin(
                app,
                Call(http_scope(path="/v1/summarize", headers=[JSON]), [json.dumps(body).encode()]),
            )
            for body in (QUESTION, {**QUESTION, "max_length": 40})
        ]
    await lifespan.stop()

    assert "; hit" in hit.cache_status
    assert hit.chunks == miss.chunks
    assert len(hit.chunks) == 4
    assert hit.header(b"content-type") == b"text/event-stream; charset=utf-8"
    assert len(models.summarize.calls) == 2  # The warm-up's, and one.


async def test_the_plain_answer_is_another_answer() -> None:
    async with running() as client:
        await client.post("/v1/summarize", json=QUESTION)
        plain = await client.post("/v1/summarize", json={"text": "one two three"})

    assert "fwd=miss" in plain.headers["cache-status"]
    assert plain.headers["content-type"] == "application/json"


async def test_who_asks_the_same_meanwhile_reads_along() -> None:
    models = fake_models()
    async with running(models) as client:
        models.summarize.gate.clear()
        crowd = [asyncio.create_task(client.post("/v1/summarize", json=QUESTION)) for _ in "abc"]
        await asyncio.sleep(0)
        models.summarize.gate.set()
        responses = await asyncio.gather(*crowd)

    assert len({response.content for response in responses}) == 1
    assert len(models.summarize.calls) == 2


async def test_a_failure_before_the_first_piece_is_an_ordinary_error() -> None:
    models = fake_models()
    async with running(models) as client:
        models.summarize.error = OSError("broken")
        response = await client.post("/v1/summarize", json=QUESTION)

    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_failure_half_way_is_an_event_and_is_not_kept() -> None:
    """bug 24."""
    async with running() as client:
        first, second = [
            await client.post("/v1/summarize", json={"text": "one fail", "stream": True})
            for _ in "ab"
        ]

    assert first.status_code == 200
    assert [name for name, _ in events(first.text)] == ["text", "text", "error"]
    assert events(first.text)[-1][1]["detail"] == "OSError"
    assert "fwd=miss" in second.headers["cache-status"]


@pytest.mark.parametrize("stream", ['"yes"', "1", "null"])
async def test_stream_is_true_or_false(stream: str) -> None:
    async with running() as client:
        response: httpx.Response = await client.post(
            "/v1/summarize",
            content='{"text": "a", "stream": %s}' % stream,  # noqa: UP031  (braces)
            headers={"Content-Type": "application/json"},
        )

    assert response.status_code == 422
    assert "$.stream" in response.json()["detail"]
