import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from loadgen import Constant, Plan, Uniform
from loadgen.outcome import Outcome
from loadgen.transport import (
    Client,
    LifoTransport,
    Reply,
    build_request,
    check_url,
    exchange,
    open_client,
    prepare,
)
from tests.loadgen.apps import CachedApp, Receive, Scope, Send, answer, read_body
from tests.loadgen.serving import free_port, serving

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def _ask(client: Client, body: bytes = b"{}", *, bypass: bool = False) -> Reply:
    return await exchange(client, build_request(client, "sentiment", body, bypass=bypass))


@asynccontextmanager
async def _raw_server(handler: Handler) -> AsyncGenerator[str]:
    async def handle_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle_and_close, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _read_request(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)


async def test_connections_are_used_again_the_newest_first() -> None:
    peers: list[object] = []

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        peers.append(scope["client"])
        await answer(send)

    with serving(recording) as url:
        async with open_client(url, timeout=5) as client:
            await asyncio.gather(_ask(client), _ask(client), _ask(client))
            assert len(set(peers)) == 3
            for _ in range(5):
                await _ask(client)

    assert len(set(peers[3:])) == 1


async def test_a_kept_connection_that_was_closed_is_replaced_once() -> None:
    connections = 0

    async def one_request_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await _read_request(reader)
        writer.write(_OK)
        await writer.drain()
        # Takes a second request and hangs up without a word: the race of every keep-alive.
        if connections == 1:
            await _read_request(reader)

    async with _raw_server(one_request_each) as url, open_client(url, timeout=5) as client:
        first, second = await _ask(client), await _ask(client)

    assert (first.status, first.retried) == (200, False)
    assert (second.status, second.retried) == (200, True)
    assert connections == 2


async def test_a_connection_that_the_server_has_closed_is_not_taken() -> None:
    closed = asyncio.Event()

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        writer.write(_OK)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with _raw_server(closing) as url, open_client(url, timeout=5) as client:
        await _ask(client)
        await closed.wait()
        second = await _ask(client)

    assert (second.status, second.retried) == (200, False)


async def test_a_connection_that_the_server_will_close_is_not_kept() -> None:
    connections = 0

    async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await _read_request(reader)
        writer.write(_OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    async with _raw_server(polite) as url, open_client(url, timeout=5) as client:
        replies = [await _ask(client), await _ask(client)]

    assert [(reply.status, reply.retried) for reply in replies] == [(200, False)] * 2
    assert connections == 2


async def test_a_new_connection_that_breaks_is_not_tried_again() -> None:
    connections = 0

    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await _read_request(reader)

    async with _raw_server(breaking) as url, open_client(url, timeout=5) as client:
        reply = await _ask(client)

    assert connections == 1
    assert reply.cache.outcome is Outcome.ERROR
    assert reply.failure is not None
    assert reply.failure.startswith("RemoteProtocolError")


async def test_half_an_answer_is_a_failure() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        writer.write(_OK[:-1])

    async with _raw_server(half) as url, open_client(url, timeout=5) as client:
        reply = await _ask(client)

    assert reply.status == 0
    assert not reply.is_usable


async def test_an_answer_that_does_not_come_times_out() -> None:
    done = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()

    async with _raw_server(silent) as url, open_client(url, timeout=0.05) as client:
        reply = await _ask(client)
        done.set()

    assert reply.failure == "timed out"


async def test_nobody_there_is_a_failure_in_words() -> None:
    async with open_client(f"http://127.0.0.1:{free_port()}", timeout=5) as client:
        reply = await _ask(client)

    assert reply.failure is not None
    assert reply.failure.startswith("ConnectError: ")


async def test_a_cancelled_exchange_leaves_no_connection() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        asked.set()
        assert await reader.read() == b""
        closed.set()

    async with _raw_server(waiting) as url, open_client(url, timeout=5) as client:
        task = asyncio.create_task(_ask(client))
        await asked.wait()
        task.cancel()
        await closed.wait()

    assert task.cancelled()


async def test_https_is_spoken_with_certificates_checked() -> None:
    async def not_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 no\r\n\r\n")

    async with (
        _raw_server(not_tls) as url,
        open_client(url.replace("http", "https"), timeout=5) as client,
    ):
        reply = await _ask(client)

    assert reply.failure is not None
    assert reply.failure.startswith("ConnectError")
    context = LifoTransport("https://example.org")._ssl_context
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED


async def test_an_answer_that_is_no_json_is_of_no_use() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, "memoserve; hit", body=b"<html>", content_type=b"text/html")

    async with _in_memory(page) as client:
        reply = await _ask(client)

    assert (reply.status, reply.failure) == (200, "answered text/html, not JSON")
    assert not reply.is_usable


async def test_the_outcome_is_read_from_the_answer() -> None:
    async with _in_memory(CachedApp()) as client:
        replies = [await _ask(client), await _ask(client), await _ask(client, bypass=True)]

    assert [reply.cache.outcome for reply in replies] == [
        Outcome.MISS,
        Outcome.HIT,
        Outcome.BYPASS,
    ]
    assert all(reply.is_usable for reply in replies)


def _in_memory(app: object) -> Client:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Any callable of three.
    return httpx.AsyncClient(transport=transport, base_url="http://app")


async def test_what_can_be_prepared_is_prepared_once() -> None:
    plan = Plan(law=Uniform(3), arrivals=Constant(20), duration=5, mix={"answer": 1})

    async with _in_memory(CachedApp()) as client:
        requests = prepare(client, plan)

    assert len(requests) == 100
    assert len({id(request) for request in requests}) == 3
    assert {request.url.path for request in requests} == {"/v1/answer"}
    assert {request.headers["content-type"] for request in requests} == {"application/json"}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "https://example.org/prefix", "http://[::1]:80"]
)
def test_http_urls_are_targets(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://example.org",
        "http://",
        "http://a:99999",
        "http://a:0",
        "http://[::1",
    ],
)
def test_anything_else_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="the target must be an http URL"):
        check_url(url)
