"""The whole app on the bundled models: what a visitor types, and what an attacker would."""

from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import pytest_asyncio
import torch

from reference_app.factory import create_app
from reference_app.settings import MAX_QUESTION_CHARS, Settings
from tests.reference_app.running import Lifespan, client_of, until_ready

SETTINGS = Settings(max_text_chars=2_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncGenerator[httpx.AsyncClient, None]:
    """One app for all, since loading takes seconds."""
    threads = torch.get_num_threads()
    lifespan = Lifespan(app := create_app(SETTINGS))
    await lifespan.start()
    async with client_of(app) as client:
        await until_ready(client)
        yield client
    await lifespan.stop()
    torch.set_num_threads(threads)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The staff were friendly and dinner was lovely.", "POSITIVE"),
        ("The soup was cold and the waiter was rude.", "NEGATIVE"),
    ],
)
async def test_a_feeling_is_told(client: httpx.AsyncClient, text: str, label: str) -> None:
    answer = (await client.post("/v1/sentiment", json={"text": text})).json()

    assert answer["label"] == label
    assert answer["score"] == answer["scores"][label] == max(answer["scores"].values())


async def test_the_page_s_report_is_summarized(client: httpx.AsyncClient) -> None:
    report = (await example(client, "SummarizeRequest"))["text"]

    answer = (await client.post("/v1/summarize", json={"text": report})).json()

    assert all(fact in answer["summary"] for fact in ("Leeds", "theatre", "310"))
    assert len(answer["summary"]) < len(report)
    assert not answer["truncated"]


async def test_a_question_is_answered_from_its_context(client: httpx.AsyncClient) -> None:
    body = await example(client, "AnswerRequest")

    answer = (await client.post("/v1/answer", json=body)).json()

    assert answer["answer"] == "Mira Castell"
    assert body["context"][answer["start"] : answer["end"]] == answer["answer"]


async def test_readiness_names_what_is_loaded(client: httpx.AsyncClient) -> None:
    models = (await client.get("/health/ready")).json()["models"]
    answer = (await client.post("/v1/sentiment", json={"text": "It is fine."})).json()

    assert {model["source"] for model in models.values()} == {"bundled"}
    assert len({model["version"] for model in models.values()}) == 3
    assert answer["model"]["version"] == models["sentiment"]["version"]


async def test_the_same_question_has_the_same_answer_without_the_cache(
    client: httpx.AsyncClient,
) -> None:
    around = {"Cache-Control": "no-store"}
    for task in ("Sentiment", "Summarize", "Answer"):
        body = await example(client, f"{task}Request")
        first, second = [
            await client.post(f"/v1/{task.lower()}", json=body, headers=around) for _ in "ab"
        ]

        assert "fwd=bypass" in second.headers["cache-status"]
        assert first.content == second.content


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a", id="letter"),
        pytest.param("?!", id="punctuation"),
        pytest.param("\x00\x1f\u200b\ufeff.", id="control"),
        pytest.param("😀👩‍👩‍👧‍👦" * 50, id="emoji"),
        pytest.param("日本語のテキスト", id="japanese"),
        pytest.param("e\u0301" * 300, id="combining"),
        pytest.param("word " * 400, id="many-words"),
        pytest.param("a" * 2_000, id="one-long-word"),
        pytest.param("[CLS] [SEP] [MASK] </s> <pad>", id="special-tokens"),
    ],
)
async def test_no_text_is_too_odd(client: httpx.AsyncClient, text: str) -> None:
    question = text[:MAX_QUESTION_CHARS]

    responses = [
        await client.post("/v1/sentiment", json={"text": text}),
        await client.post("/v1/summarize", json={"text": text, "max_length": 8}),
        await client.post("/v1/answer", json={"question": question, "context": text}),
    ]

    assert [response.status_code for response in responses] == [200, 200, 200]


async def test_one_forward_pass_has_the_threads_that_the_operator_allows(
    client: httpx.AsyncClient,
) -> None:
    """Torch counts for each thread: those that started before the loader keep their own."""
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(torch.get_num_threads).result() == SETTINGS.torch_threads


async def example(client: httpx.AsyncClient, name: str) -> dict[str, str]:
    """The example body that the schema shows."""
    schema = (await client.get("/schema")).json()
    properties = schema["components"]["schemas"][name]["properties"]
    return {key: field["examples"][0] for key, field in properties.items() if "examples" in field}
