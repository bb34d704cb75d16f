import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import httpx
import pytest

from loadgen import Constant, Plan, Uniform, transport
from loadgen.catalogue import Question
from loadgen.outcome import Outcome
from loadgen.reply import Reply
from loadgen.target import Target
from loadgen.transport import (
    Client,
    FetchError,
    LifoTransport,
    Prepared,
    build_request,
    check_url,
    exchange,
    fetch_text,
    open_client,
    warm_up,
)
from tests.loadgen.apps import CachedApp, Receive, Scope, Send, answer, read_body
from tests.loadgen.serving import free_port, serving

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def _ask(client: Client, body: bytes = b"{}", *, bypass: bool = False) -> Reply:
    question = Question("POST", "/v1/sentiment", {})
    return await exchange(client, build_request(client, question, body, bypass=bypass))


def _open(url: str, *, timeout: float = 5) -> Client:
    return open_client(Target(url=url, timeout=timeout))


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
        async with _open(url) as client:
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

    async with _raw_server(one_request_each) as url, _open(url) as client:
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

    async with _raw_server(closing) as url, _open(url) as client:
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

    async with _raw_server(polite) as url, _open(url) as client:
        replies = [await _ask(client), await _ask(client)]

    assert [(reply.status, reply.retried) for reply in replies] == [(200, False)] * 2
    assert connections == 2


async def test_a_new_connection_that_breaks_is_not_tried_again() -> None:
    connections = 0

    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await _read_request(reader)

    async with _raw_server(breaking) as url, _open(url) as client:
        reply = await _ask(client)

    assert connections == 1
    assert reply.cache.outcome is Outcome.ERROR
    assert reply.failure is not None
    assert reply.failure.startswith("RemoteProtocolError")


async def test_half_an_answer_is_a_failure() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        writer.write(_OK[:-1])

    async with _raw_server(half) as url, _open(url) as client:
        reply = await _ask(client)

    assert reply.status == 0
    assert not reply.is_usable


async def test_an_answer_that_does_not_come_times_out() -> None:
    done = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()

    async with _raw_server(silent) as url, _open(url, timeout=0.05) as client:
        reply = await _ask(client)
        done.set()

    assert reply.failure == "timed out"


async def test_nobody_there_is_a_failure_in_words() -> None:
    async with _open(f"http://127.0.0.1:{free_port()}") as client:
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

    async with _raw_server(waiting) as url, _open(url) as client:
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
        _open(url.replace("http", "https")) as client,
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
        prepared = Prepared(client, plan, range(100))

    requests = [prepared[row] for row in range(100)]
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


async def test_what_is_too_much_to_keep_is_made_when_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "_PREPARED", 2)
    plan = Plan(law=Uniform(9), arrivals=Constant(10), duration=2, spelling=1)

    async with _in_memory(CachedApp()) as client:
        prepared = Prepared(client, plan, range(20))
        contents = [prepared[row].content for row in range(20)]

    assert len(prepared._kept) == 2
    assert contents == list(plan.bodies())


async def _streaming(scope: Scope, receive: Receive, send: Send) -> None:
    await read_body(receive)
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: a\n\n", "more_body": True})
    await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


@pytest.mark.parametrize("kind", ["lifo", "aiohttp", "httpx"])
async def test_the_first_byte_of_a_stream_is_not_its_last(
    kind: Literal["lifo", "aiohttp", "httpx"],
) -> None:
    with serving(_streaming) as url:
        async with open_client(Target(url=url, transport=kind)) as client:
            reply = await _ask(client)
            now = asyncio.get_running_loop().time()

    assert reply.is_usable
    assert reply.streamed
    assert reply.first_byte is not None
    assert now - reply.first_byte >= 0.04


@pytest.mark.parametrize("kind", ["lifo", "aiohttp", "httpx"])
async def test_every_transport_sends_the_same(kind: Literal["lifo", "aiohttp", "httpx"]) -> None:
    seen: list[dict[bytes, bytes]] = []

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"]) | {b"body": await read_body(receive)})
        await answer(send, "memoserve; hit; ttl=7")

    with serving(recording) as url:
        target = Target(url=url, transport=kind, headers={"Authorization": "Bearer x"})
        async with open_client(target) as client:
            reply = await _ask(client)

    assert reply.cache.ttl == 7
    assert reply.is_usable
    assert {name: seen[0][name] for name in (b"authorization", b"accept-encoding", b"body")} == {
        b"authorization": b"Bearer x",
        b"accept-encoding": b"identity",
        b"body": b"{}",
    }


async def test_aiohttp_without_a_server_is_a_failure_in_words() -> None:
    target = Target(url=f"http://127.0.0.1:{free_port()}", transport="aiohttp")

    async with open_client(target) as client:
        reply = await _ask(client)

    assert reply.failure is not None
    assert reply.failure.startswith("Connect")


async def test_a_user_agent_of_ones_own_is_sent() -> None:
    async with open_client(Target(url="http://a", headers={"user-agent": "me"})) as client:
        assert build_request(client, Question("GET", "/")).headers["user-agent"] == "me"


def test_certificates_may_go_unchecked() -> None:
    client = open_client(Target(url="https://a", verify=False))

    assert _context(client).verify_mode is ssl.CERT_NONE


def test_certificates_of_ones_own_are_trusted(tmp_path: Path) -> None:
    certificate = tmp_path / "ca.pem"
    certificate.write_text(trusted_certificate())

    context = _context(open_client(Target(url="https://a", ca=str(certificate))))

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509_ca"] == 1


def trusted_certificate() -> str:
    store = ssl.create_default_context()
    return ssl.DER_cert_to_PEM_cert(store.get_ca_certs(binary_form=True)[0])


def _context(client: Client) -> ssl.SSLContext:
    kept = client._transport
    assert isinstance(kept, LifoTransport)
    assert kept._ssl_context is not None
    return kept._ssl_context


def test_certificates_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(ValueError, match="holds no certificates"):
        open_client(Target(url="https://a", ca=str(tmp_path / "ca.pem")))


async def test_anything_is_accepted_where_anything_is_asked_for() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, body=b"<html>", content_type=b"text/html; charset=utf-8")

    async with _in_memory(page) as client:
        replies = [
            await exchange(client, build_request(client, Question("GET", "/"), accept=accept))
            for accept in ("*/*", "image/png, text/*;q=0.5", "image/png")
        ]

    assert [reply.is_usable for reply in replies] == [True, True, False]


async def test_x_cache_is_read_where_there_is_no_cache_status() -> None:
    async def cdn(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"x-cache", b"Hit from cloudfront")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    async with _in_memory(cdn) as client:
        assert (await _ask(client)).cache.outcome is Outcome.HIT


async def test_a_warm_up_never_fails() -> None:
    async with _open(f"http://127.0.0.1:{free_port()}") as client:
        await warm_up(client)


async def test_a_page_is_fetched_or_said_to_be_missing() -> None:
    async def pages(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, status=200 if scope["path"] == "/good" else 404, body=b"text")

    with serving(pages) as url:
        assert await fetch_text(f"{url}/good") == "text"
        with pytest.raises(FetchError, match="status 404"):
            await fetch_text(f"{url}/bad")
    with pytest.raises(FetchError, match="ConnectError"):
        await fetch_text(f"http://127.0.0.1:{free_port()}")
