"""The three routes, over models of no weight: what is accepted, what is refused, and how."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_app.results import SummaryTask
from reference_app.settings import Settings
from tests.reference_app.fake_models import fake_models
from tests.reference_app.running import JSON, running

SMALL = Settings(max_text_chars=100)
CARD = {"version": "v1", "source": "random"}


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        pytest.param(
            "/v1/sentiment",
            {"text": "good bread"},
            {
                "label": "POSITIVE",
                "score": 0.75,
                "scores": {"NEGATIVE": 0.25, "POSITIVE": 0.75},
                "model": {"name": "sentiment", **CARD},
            },
            id="sentiment",
        ),
        pytest.param(
            "/v1/summarize",
            {"text": "one two three four five six seven eight nine", "max_length": 8},
            {
                "summary": "one two three four five six seven eight",
                "tokens": 8,
                "truncated": True,
                "model": {"name": "summarize", **CARD},
            },
            id="summarize",
        ),
        pytest.param(
            "/v1/answer",
            {"question": "Who?", "context": " Mira came."},
            {
                "answer": "Mira",
                "score": 0.5,
                "start": 1,
                "end": 5,
                "model": {"name": "answer", **CARD},
            },
            id="answer",
        ),
    ],
)
async def test_a_question_gets_its_model_s_answer(
    path: str, body: dict[str, Any], answer: dict[str, Any]
) -> None:
    async with running() as client:
        response = await client.post(path, json=body)

    assert response.status_code == 200
    assert response.json() == answer


async def test_a_summary_has_forty_tokens_unless_asked_otherwise() -> None:
    models = fake_models()
    async with running(models) as client:
        await client.post("/v1/summarize", json={"text": "one two"})

    assert models.summarize.calls[-1] == SummaryTask("one two", 40)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        pytest.param(b"", 400, "the body is empty", id="empty"),
        pytest.param(b"{", 400, "not JSON", id="cut-off"),
        pytest.param(b'{"text": "a"} b', 400, "not JSON", id="trailing"),
        pytest.param(b"\xef\xbb\xbf" + b'{"text": "a"}', 400, "not JSON", id="byte-order-mark"),
        pytest.param(b'{"text": "\xff"}', 400, "not JSON", id="not-utf-8"),
        pytest.param(b'{"\xff": 1}', 400, "not JSON", id="name-not-utf-8"),
        pytest.param(rb'{"text": "\ud800"}', 400, "not JSON", id="lone-surrogate"),
        pytest.param(b"null", 422, "Expected `object`", id="null"),
        pytest.param(b'"text"', 422, "Expected `object`", id="string"),
        pytest.param(b"[" * 1_000, 422, "Expected `object`", id="deep"),
        pytest.param(b"{}", 422, "missing required field `text`", id="missing"),
        pytest.param(b'{"text": 1}', 422, "$.text", id="number-for-text"),
        pytest.param(b'{"text": null}', 422, "$.text", id="null-for-text"),
        pytest.param(b'{"text": ["a"]}', 422, "$.text", id="array-for-text"),
        pytest.param(b'{"text": ""}', 422, "$.text", id="empty-text"),
        pytest.param(rb'{"text": " \n "}', 422, "$.text", id="blank-text"),
        pytest.param(b'{"text": "%s"}' % (b"a" * 101), 422, "length <= 100", id="long-text"),
        pytest.param(b'{"text": "a", "txet": 1}', 422, "unknown field `txet`", id="unknown"),
        pytest.param(b'{"text": "a", "max_length": "40"}', 422, "$.max_length", id="string-number"),
        pytest.param(b'{"text": "a", "max_length": true}', 422, "$.max_length", id="true-number"),
        pytest.param(b'{"text": "a", "max_length": 7}', 422, ">= 8", id="short-length"),
        pytest.param(b'{"text": "a", "max_length": 129}', 422, "<= 128", id="long-length"),
        pytest.param(b'{"text": "a", "max_length": 1e999}', 422, "$.max_length", id="overflow"),
        pytest.param(
            b'{"text": "a", "max_length": ' + b"9" * 5_000 + b"}", 422, "range", id="digits"
        ),
        pytest.param(b'{"text": "%s"}' % (b"a" * 20_000), 413, "at most", id="large"),
    ],
)
async def test_a_wrong_body_is_a_problem_that_says_why(
    body: bytes, status: int, detail: str
) -> None:
    models = fake_models()
    async with running(models, SMALL) as client:
        asked_while_loading = len(models.summarize.calls)
        response = await client.post("/v1/summarize", content=body, headers=JSON)

    assert_is_problem(response, status)
    assert detail in response.json()["detail"]
    assert len(models.summarize.calls) == asked_while_loading


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"Content-Type": "text/plain"}, id="text"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, id="form"),
        pytest.param({"Content-Type": ";;"}, id="malformed"),
        pytest.param({**JSON, "Content-Encoding": "gzip"}, id="compressed"),
    ],
)
async def test_a_body_that_does_not_claim_to_be_json_is_refused(headers: dict[str, str]) -> None:
    async with running() as client:
        response = await client.post("/v1/sentiment", content=b'{"text": "a"}', headers=headers)

    assert_is_problem(response, 415)
    assert "application/json" in response.json()["detail"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_json_may_be_claimed_in_any_spelling(content_type: str) -> None:
    async with running() as client:
        response = await client.post(
            "/v1/sentiment", content=b'{"text": "a"}', headers={"Content-Type": content_type}
        )

    assert response.status_code == 200


async def test_a_large_body_without_a_length_is_refused_too() -> None:
    async def endless() -> Any:
        for _ in range(20):
            yield b" " * 1_000

    async with running(settings=SMALL) as client:
        response = await client.post("/v1/sentiment", content=endless(), headers=JSON)

    assert_is_problem(response, 413)


async def test_a_length_that_is_no_number_is_refused() -> None:
    async with running() as client:
        response = await client.post(
            "/v1/sentiment", content=b'{"text": "a"}', headers={**JSON, "Content-Length": "long"}
        )

    assert_is_problem(response, 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/sentiment", 405), ("DELETE", "/health/live", 405)],
)
async def test_what_is_not_there_is_a_problem(method: str, path: str, status: int) -> None:
    async with running() as client:
        response = await client.request(method, path)

    assert_is_problem(response, status)
    assert ("allow" in response.headers) == (status == 405)


async def test_a_bug_is_a_problem_that_gives_nothing_away(caplog: pytest.LogCaptureFixture) -> None:
    models = fake_models()
    async with running(models) as client:
        models.sentiment.error = RuntimeError("the secret of the house")
        response = await client.post("/v1/sentiment", json={"text": "a"})

    assert_is_problem(response, 500)
    assert "secret" not in response.text
    assert "the secret of the house" in caplog.text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
members = st.sampled_from(["text", "max_length", "question", "context", "extra"])
json_bodies = st.dictionaries(members, json_values).map(lambda value: json.dumps(value).encode())


@settings(max_examples=100, deadline=None)
@given(
    path=st.sampled_from(["/v1/sentiment", "/v1/summarize", "/v1/answer"]),
    body=st.binary() | json_bodies,
)
async def test_no_body_is_our_fault(path: str, body: bytes) -> None:
    async with running() as client:
        response = await client.post(path, content=body, headers=JSON)

    if response.status_code != 200:
        assert response.status_code in {400, 422}
        assert_is_problem(response, response.status_code)


async def test_the_schema_states_the_limits_and_the_problems() -> None:
    async with running(settings=SMALL) as client:
        schema = (await client.get("/schema/openapi.json")).json()
        as_yaml = await client.get("/schema/openapi.yaml")

    operation = schema["paths"]["/v1/summarize"]["post"]
    request = schema["components"]["schemas"]["SummarizeRequest"]["properties"]
    assert request["text"]["maxLength"] == 100
    assert (request["max_length"]["minimum"], request["max_length"]["maximum"]) == (8, 128)
    assert set(operation["responses"]) == {"200", "400", "413", "415", "422", "503"}
    assert set(operation["responses"]["422"]["content"]) == {"application/problem+json"}
    assert "/v1/summarize" in as_yaml.text


@pytest.mark.parametrize("task", ["sentiment", "summarize", "answer"])
async def test_the_schema_s_examples_work(task: str) -> None:
    async with running() as client:
        schema = (await client.get("/schema")).json()
        properties = schema["components"]["schemas"][f"{task.title()}Request"]["properties"]
        body = {name: field["examples"][0] for name, field in properties.items()}
        response = await client.post(f"/v1/{task}", json=body)

    assert response.status_code == 200


def assert_is_problem(response: httpx.Response, status: int) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"status", "title", "detail"}
    assert problem["status"] == status
