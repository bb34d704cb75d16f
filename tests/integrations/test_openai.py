"""The rules for OpenAI's API, asked by OpenAI's own client over HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from openai import APIError, AsyncAzureOpenAI, AsyncOpenAI

from memoserve import CacheMiddleware, Rule, StoredResponse
from memoserve._rules import RuleBook
from memoserve_integrations.openai import openai_rules
from tests.asgi import http_scope
from tests.integrations.openai_server import Failure, Server
from tests.servers import serving

MODEL = "reverser"
SURE: dict[str, Any] = {"temperature": 0}

Ask = Callable[..., Awaitable[tuple[str, Any]]]


@contextlib.asynccontextmanager
async def asking(server: Server, **options: Any) -> AsyncGenerator[AsyncOpenAI]:
    """Serve the model behind a cache with these options of the rules; yields a client."""
    app = CacheMiddleware(server.app, rules=openai_rules(**options))
    async with (
        serving(app) as port,
        AsyncOpenAI(
            api_key="sk-1", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0
        ) as client,
    ):
        yield client


async def embed(client: AsyncOpenAI, text: str = "a b c", **fields: Any) -> tuple[str, Any]:
    raw = await client.embeddings.with_raw_response.create(model=MODEL, input=text, **fields)
    return raw.headers["cache-status"], await _parsed(raw)


async def chat(client: AsyncOpenAI, text: str = "a b c", **fields: Any) -> tuple[str, Any]:
    fields = {"messages": [{"role": "user", "content": text}], **fields}
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, **fields)
    return raw.headers["cache-status"], await _parsed(raw)


async def complete(client: AsyncOpenAI, text: str = "a b c", **fields: Any) -> tuple[str, Any]:
    raw = await client.completions.with_raw_response.create(model=MODEL, prompt=text, **fields)
    return raw.headers["cache-status"], await _parsed(raw)


async def respond(client: AsyncOpenAI, text: str = "a b c", **fields: Any) -> tuple[str, Any]:
    fields = {"input": text, "store": False, **fields}
    raw = await client.responses.with_raw_response.create(model=MODEL, **fields)
    return raw.headers["cache-status"], await _parsed(raw)


async def _parsed(raw: Any) -> Any:
    """Return the answer as the client reads it: an object, or all events of a stream."""
    parsed = raw.parse()
    if not hasattr(parsed, "__aiter__"):
        return parsed.model_dump()
    return [event.model_dump() async for event in parsed]


generating = pytest.mark.parametrize(
    "ask",
    [
        pytest.param(chat, id="chat"),
        pytest.param(complete, id="completions"),
        pytest.param(respond, id="responses"),
    ],
)


@pytest.mark.parametrize(
    ("ask", "fields"),
    [
        pytest.param(embed, {}, id="embeddings"),
        pytest.param(embed, {"encoding_format": "float"}, id="embeddings-as-numbers"),
        pytest.param(chat, SURE, id="chat"),
        pytest.param(chat, {"seed": 7, "temperature": 1.5, "n": 2}, id="chat-with-a-seed"),
        pytest.param(chat, {**SURE, "stream": True}, id="chat-streamed"),
        pytest.param(complete, SURE, id="completions"),
        pytest.param(complete, {**SURE, "stream": True}, id="completions-streamed"),
        pytest.param(respond, SURE, id="responses"),
        pytest.param(respond, {**SURE, "stream": True}, id="responses-streamed"),
    ],
)
async def test_the_second_time_the_client_gets_the_same_without_the_model(
    ask: Ask, fields: dict[str, Any]
) -> None:
    """A stream comes event by event, its last one included (bug 25)."""
    server = Server()
    async with asking(server) as client:
        first = await ask(client, **fields)
        second = await ask(client, **fields)

    assert first[0] == "memoserve; fwd=miss"
    assert second[0].startswith("memoserve; hit")
    assert first[1] == second[1]
    assert len(server.asked) == 1


async def test_what_the_client_reads_is_what_the_model_said() -> None:
    async with asking(Server()) as client:
        for _ in range(2):
            _, vector = await embed(client)
            _, answer = await chat(client, **SURE)
            _, pieces = await chat(client, **SURE, stream=True)
            _, events = await respond(client, **SURE, stream=True)

            assert vector["data"][0]["embedding"] == [5.0, 0.5]
            assert answer["choices"][0]["message"]["content"] == "c b a"
            words = [piece["choices"][0]["delta"]["content"] for piece in pieces]
            assert words == ["c", "b", "a", None]
            assert [event["type"] for event in events] == [
                "response.created",
                *["response.output_text.delta"] * 3,
                "response.completed",
            ]


async def test_many_who_ask_at_once_watch_one_stream() -> None:
    server = Server(gate=asyncio.Event())
    assert server.gate is not None
    async with asking(server) as client:
        ask = client.chat.completions.create
        messages: Any = [{"role": "user", "content": "a b c"}]
        streams = [
            await ask(model=MODEL, messages=messages, temperature=0, stream=True) for _ in range(5)
        ]
        firsts = [(await anext(aiter(stream))).choices[0].delta.content for stream in streams]
        server.gate.set()
        rests = [[piece async for piece in stream] for stream in streams]

    assert firsts == ["c"] * 5
    assert {len(rest) for rest in rests} == {3}
    assert len(server.asked) == 1


@generating
async def test_a_stream_is_no_answer_to_who_wants_an_object(ask: Ask) -> None:
    """Bug 25."""
    server = Server()
    async with asking(server) as client:
        for fields in ({"stream": True}, {"stream": False}, {}):
            await ask(client, **SURE, **fields)

    assert [body.get("stream") for body in server.asked] == [True, False]  # Absent is False.


def rule_of(endpoint: str, **options: Any) -> Rule:
    return next(rule for rule in openai_rules(prefix="", **options) if rule.path == f"/{endpoint}")


def is_asked_once(endpoint: str, body: Any, **options: Any) -> bool:
    when = rule_of(endpoint, **options).when
    assert when is not None
    return bool(when(body))


def with_content(*parts: dict[str, Any]) -> dict[str, Any]:
    return {**SURE, "messages": [{"role": "user", "content": list(parts)}]}


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


CHAT, COMPLETIONS, RESPONSES = "chat/completions", "completions", "responses"
GREEDY: dict[str, Any] = {**SURE, "store": False}


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        pytest.param(CHAT, {"messages": []}, id="sampled"),
        pytest.param(CHAT, {"temperature": 0.1, "top_p": 0.1}, id="nearly-greedy"),
        pytest.param(COMPLETIONS, {"prompt": "a"}, id="sampled-completion"),
        pytest.param(RESPONSES, {"input": "a", "store": False}, id="sampled-response"),
        pytest.param(CHAT, {"seed": -1}, id="seed-that-means-any"),
        pytest.param(CHAT, {"seed": 2**32 - 1}, id="the-same-in-32-bits"),
        pytest.param(CHAT, {"seed": None}, id="no-seed"),
        pytest.param(CHAT, {"temperature": False}, id="no-number"),
        pytest.param(CHAT, [SURE], id="no-object"),
        pytest.param(CHAT, {**SURE, "tools": "all"}, id="no-tools"),
        pytest.param(CHAT, {**SURE, "store": True}, id="stored"),
        pytest.param(CHAT, {**SURE, "web_search_options": {}}, id="searches"),
        pytest.param(CHAT, {**SURE, "audio": {"voice": "x"}}, id="audio"),
        pytest.param(CHAT, {**SURE, "prompt_cache_options": {"prewarm": True}}, id="prewarms"),
        pytest.param(CHAT, with_content(picture("https://example.org/now.png")), id="picture"),
        pytest.param(CHAT, with_content({"type": "file", "file": {"file_id": "f"}}), id="file"),
        pytest.param(
            CHAT,
            {**SURE, "messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]},
            id="earlier-audio",
        ),
        pytest.param("embeddings", with_content(picture("http://x/a.png")), id="embedded-picture"),
        pytest.param("embeddings", ["a"], id="no-embedding"),
        pytest.param(RESPONSES, SURE, id="response-stored-by-default"),
        pytest.param(RESPONSES, {**SURE, "store": None}, id="response-stored-by-null"),
        pytest.param(RESPONSES, {**SURE, "store": True}, id="response-stored"),
        pytest.param(RESPONSES, {**GREEDY, "background": True}, id="background"),
        pytest.param(RESPONSES, {**GREEDY, "previous_response_id": "r"}, id="continued"),
        pytest.param(RESPONSES, {**GREEDY, "conversation": {"id": "c"}}, id="conversation"),
        pytest.param(RESPONSES, {**GREEDY, "prompt": {"id": "p"}}, id="prompt-kept-there"),
        pytest.param(
            RESPONSES, {**GREEDY, "input": [{"type": "item_reference", "id": "m"}]}, id="reference"
        ),
        *(
            pytest.param(RESPONSES, {**GREEDY, "tools": [{"type": kind}]}, id=f"tool-{kind}")
            for kind in ("web_search", "file_search", "code_interpreter", "mcp", "shell", "")
        ),
    ],
)
def test_what_cannot_be_repeated_or_has_an_effect_passes_by(endpoint: str, body: Any) -> None:
    """Bug 54."""
    assert not is_asked_once(endpoint, body)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"url": {"type": "string"}}}}
TOOL_CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f"}}],
}


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        pytest.param(CHAT, {"temperature": 0.0}, id="greedy"),
        pytest.param(CHAT, {"seed": 0, "temperature": 1, "n": 3}, id="seeded"),
        pytest.param(CHAT, {**SURE, "store": False, "tools": None, "audio": None}, id="nulls"),
        pytest.param(CHAT, {**SURE, "tools": [TOOL, {"type": "custom"}]}, id="callers-tools"),
        pytest.param(CHAT, {**SURE, "messages": [TOOL_CALL]}, id="tool-was-called"),
        pytest.param(CHAT, {**SURE, "prompt_cache_options": {"ttl": "12h"}}, id="prompt-cache"),
        pytest.param(CHAT, with_content(picture("data:image/png;base64,AA")), id="own-picture"),
        pytest.param(CHAT, with_content({"type": "text", "text": "https://x.org"}), id="text"),
        pytest.param(COMPLETIONS, {**SURE, "prompt": ["a", "b"]}, id="completion"),
        pytest.param("embeddings", {"input": [[1, 2], [3]]}, id="tokens"),
        pytest.param(
            RESPONSES, {**GREEDY, "prompt": None, "input": [{"role": "user"}]}, id="items"
        ),
    ],
)
def test_what_can_be_repeated_is_asked_once(endpoint: str, body: Any) -> None:
    assert is_asked_once(endpoint, body)


def test_a_server_that_stores_nothing_unasked_can_be_named() -> None:
    assert is_asked_once(RESPONSES, SURE, stores_by_default=False)
    assert not is_asked_once(RESPONSES, {**SURE, "store": True}, stores_by_default=False)


@generating
async def test_sampled_answers_go_past_the_cache(ask: Ask) -> None:
    server = Server()
    async with asking(server) as client:
        statuses = [(await ask(client))[0] for _ in range(2)]

    assert statuses == ["memoserve; fwd=bypass; detail=when"] * 2
    assert len(server.asked) == 2


WHO: dict[str, Any] = {
    "user": "u",
    "metadata": {"run": "1"},
    "safety_identifier": "s",
    "prompt_cache_key": "p",
}


async def test_who_asks_is_not_what_is_asked() -> None:
    server = Server()
    async with asking(server) as client:
        await chat(client, **SURE)
        await chat(client, **SURE, **WHO, prompt_cache_retention="24h")
        await embed(client)
        await embed(client, user="u")
        await complete(client, **SURE)
        await complete(client, **SURE, user="u")

    assert len(server.asked) == 3


async def test_nobody_is_sent_the_name_of_another() -> None:
    """A response object repeats who asked."""
    server = Server()
    async with asking(server) as client:
        answers = [await respond(client, **SURE, user=user) for user in ("a", "b", "a")]

    assert [answer["user"] for _, answer in answers] == ["a", "b", "a"]
    assert len(server.asked) == 2


async def test_an_answer_that_repeats_metadata_is_not_kept() -> None:
    server = Server(repeats_metadata=True)
    async with asking(server) as client:
        answers = [await chat(client, **SURE, metadata={"run": run}) for run in ("1", "2")]

    assert [answer["metadata"]["run"] for _, answer in answers] == ["1", "2"]


async def test_what_may_change_the_answer_belongs_to_the_key() -> None:
    """Bug 3."""
    others: list[dict[str, Any]] = [
        {"model": "other"},
        {"max_tokens": 5},
        {"logprobs": True},
        {"service_tier": "flex"},
        {"cache_salt": "a"},  # Of vLLM: it keeps users apart (bug 15).
        {"a_field_of_tomorrow": 1},
    ]
    server = Server()
    async with asking(server) as client:
        statuses = [(await chat(client, **SURE, extra_body=each))[0] for each in ({}, *others)]

    assert set(statuses) == {"memoserve; fwd=miss"}
    assert len(server.asked) == 1 + len(others)


@generating
@pytest.mark.parametrize("stream", [False, True], ids=["object", "stream"])
async def test_an_answer_that_went_wrong_is_not_kept(ask: Ask, *, stream: bool) -> None:
    """Bug 50."""
    failures = [Failure.LENGTH, Failure.FILTER, Failure.ERROR]
    server = Server()
    async with asking(server) as client:
        for failure in failures * 2:
            with contextlib.suppress(APIError):  # The client's way to read an error in a stream.
                await ask(client, f"a {failure}", **SURE, stream=stream)

    assert len(server.asked) == 2 * len(failures)


@generating
async def test_a_stream_without_its_last_event_is_not_kept(ask: Ask) -> None:
    """Bug 24."""
    server = Server()
    async with asking(server) as client:
        for _ in range(2):
            await ask(client, f"a b {Failure.BREAK}", **SURE, stream=True)

    assert len(server.asked) == 2


async def test_an_error_in_place_of_embeddings_is_not_kept() -> None:
    server = Server()
    async with asking(server) as client:
        for _ in range(2):
            with pytest.raises(ValueError, match="No embedding data"):
                await embed(client, Failure.ERROR)

    assert len(server.asked) == 2


@generating
@pytest.mark.parametrize("stream", [False, True], ids=["object", "stream"])
async def test_answers_cut_on_purpose_can_be_kept(ask: Ask, *, stream: bool) -> None:
    server = Server()
    async with asking(server, truncated=True) as client:
        for failure in (Failure.LENGTH, Failure.FILTER):
            for _ in range(2):
                await ask(client, f"a {failure}", **SURE, stream=stream)

    assert len(server.asked) == 3


def admits(endpoint: str, *chunks: bytes, content_type: bytes = b"text/event-stream") -> bool:
    admit = rule_of(endpoint).admit
    assert admit is not None
    headers = ((b"content-type", content_type),)
    return bool(admit(StoredResponse(200, headers, chunks, 0.0)))


STOP = b'data: {"choices":[{"index":0,"finish_reason":"stop"}]}\n\n'
COMPLETED = b'data: {"type":"response.completed","response":{"status":"completed"}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("endpoint", "chunks", "expected"),
    [
        pytest.param(CHAT, [STOP, DONE], True, id="whole"),
        pytest.param(CHAT, [STOP.replace(b"\n", b"\r\n"), DONE], True, id="other-line-ends"),
        pytest.param(CHAT, [b": ping\n\n", STOP, DONE], True, id="comment"),
        pytest.param(CHAT, [STOP[:9], STOP[9:] + DONE], True, id="chunks-are-no-events"),
        pytest.param(
            CHAT, [b'data: {"choices":[],\ndata: "usage":{}}\n\n', STOP, DONE], True, id="two-lines"
        ),
        pytest.param(CHAT, [STOP, DONE[:-1]], False, id="last-event-is-not-whole"),
        pytest.param(CHAT, [STOP], False, id="not-done"),
        pytest.param(CHAT, [DONE], False, id="nothing-said"),
        pytest.param(CHAT, [], False, id="empty"),
        pytest.param(CHAT, [STOP, b"data: oops\n\n", DONE], False, id="no-json"),
        pytest.param(
            CHAT, [STOP, STOP.replace(b"0", b"1").replace(b'"stop"', b"null"), DONE], False,
            id="one-choice-without-end",
        ),
        pytest.param(RESPONSES, [COMPLETED], True, id="response"),
        pytest.param(RESPONSES, [COMPLETED, DONE], True, id="response-done"),
        pytest.param(RESPONSES, [b'data: {"type":"error"}\n\n', COMPLETED], False, id="error"),
        pytest.param(RESPONSES, [b"data: oops\n\n", COMPLETED], False, id="response-no-json"),
        pytest.param(RESPONSES, [COMPLETED.replace(b"\n\n", b"\n")], False, id="response-cut"),
        pytest.param(RESPONSES, [DONE], False, id="no-response"),
    ],
)  # fmt: skip
def test_a_stream_is_kept_if_its_end_was_seen(
    endpoint: str, chunks: list[bytes], *, expected: bool
) -> None:
    """Bug 24."""
    assert admits(endpoint, *chunks) is expected


@pytest.mark.parametrize("endpoint", ["embeddings", CHAT, COMPLETIONS, RESPONSES])
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b"<html>"])
def test_what_cannot_be_read_is_not_kept(endpoint: str, body: bytes) -> None:
    assert not admits(endpoint, body, content_type=b"application/json")


async def test_each_key_has_answers_of_its_own() -> None:
    """Bug 14."""
    server = Server()
    async with asking(server) as client:
        for caller in (client, client.with_options(api_key="sk-2"), client):
            await chat(caller, **SURE)
        await chat(client.with_options(project="other"), **SURE)

    assert len(server.asked) == 3


async def test_keys_that_only_pay_can_share() -> None:
    server = Server()
    async with asking(server, private="share") as client:
        for caller in (client, client.with_options(api_key="sk-2")):
            await chat(caller, **SURE)

    assert len(server.asked) == 1


async def test_deployments_of_azure_have_their_names_in_the_metrics() -> None:
    server = Server()
    rules = openai_rules(prefix="/openai/deployments/{model}", models=["small"])
    async with (
        serving(CacheMiddleware(server.app, rules=rules)) as port,
        AsyncAzureOpenAI(
            api_key="k",
            api_version="2026-10-01",
            azure_endpoint=f"http://127.0.0.1:{port}",
            azure_deployment="small",
            max_retries=0,
        ) as client,
    ):
        statuses = [(await chat(client, **SURE))[0] for _ in range(2)]

    coverage = RuleBook(rules).find(http_scope(path="/openai/deployments/small/chat/completions"))
    assert "hit" in statuses[1]
    assert coverage is not None
    assert coverage.model == "small"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"prefix": "/v1/"}, id="prefix"),
        pytest.param({"prefix": "v1"}, id="no-path"),
        pytest.param({"ttl": 0}, id="ttl"),
        pytest.param({"models": ["a"]}, id="models-without-a-place"),
        pytest.param({"ignore": ["user"]}, id="ignore"),
    ],
)
def test_wrong_options_fail_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|needs|pointer"):
        openai_rules(**options)


def test_more_can_be_said_of_all_rules() -> None:
    rules = openai_rules(ignore=["/request_id"], vary=["x-tier"], epoch="2", coalesce=False)

    assert {rule.epoch for rule in rules} == {"2"}
    assert all("/request_id" in rule.ignore and "x-tier" in rule.vary for rule in rules)
