"""The layer in a real server: what goes over the wire, in which pieces, and when."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from memoserve import CacheMiddleware
from memoserve._asgi import Receive, Scope, Send
from memoserve._events import RequestFinished
from tests.asgi import JSON, Model, settle
from tests.middleware.cases import PATH, Notes, cached
from tests.middleware.transparency import RemoteStore
from tests.servers import Protocol, Wire, request, serving, until, wires

pytestmark = pytest.mark.parametrize("protocol", ["h11", "httptools"])


async def test_uploads_in_chunks_are_read_to_their_end(protocol: Protocol) -> None:
    """bug 21: and they are the same question as one with a length."""
    model = Model()
    head = request(headers=["content-type: application/json", "transfer-encoding: chunked"],
                   has_length=False)  # fmt: skip
    async with serving(cached(model), protocol) as port, wires(port, 1) as (wire,):
        await wire.send(head, b'4\r\n{"a"\r\n')
        await settle()
        first = await wire.ask(b"3\r\n:1}\r\n0\r\n\r\n")
        second = await wire.ask(request(b'{"a": 1}'))

    assert (first.body, second.body) == (b'{"call":1}', b'{"call":1}')
    assert "hit" in second.cache_status
    assert model.bodies == [b'{"a":1}']


@pytest.mark.parametrize(
    ("extra", "statuses"),
    [
        pytest.param([], ["fwd=miss", "hit"], id="miss"),
        pytest.param(["authorization: Bearer t"], ["fwd=bypass", "fwd=bypass"], id="bypass"),
    ],
)
async def test_a_client_that_waits_for_100_continue_gets_it(
    protocol: Protocol, extra: list[str], statuses: list[str]
) -> None:
    """bug 21: on each request, the ones that are hits included."""
    whole = request(
        b'{"a":1}', headers=["content-type: application/json", "expect: 100-continue", *extra]
    )
    answers = []
    async with serving(cached(Model()), protocol) as port, wires(port, 1) as (wire,):
        for _ in range(2):
            await wire.send(whole[:-7])
            assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            answers.append(await wire.ask(whole[-7:]))

    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.cache_status.split("; ")[1] for answer in answers] == statuses


async def test_one_connection_carries_every_kind_of_answer(protocol: Protocol) -> None:
    """bug 30: no answer leaves bytes behind, or lacks them, for the next one to trip over."""
    app = cached(Model(), methods={"GET", "HEAD", "POST"}, path="/{rest:path}")
    async with serving(app, protocol) as port, wires(port, 1) as (wire,):
        answers = []
        for method in ("HEAD", "GET", "HEAD", "GET", "POST", "POST", "PUT"):
            sent = request(b"", method=method)
            answers.append(await wire.ask(sent, has_body=method != "HEAD"))

    kinds = ["miss", "miss", "hit", "hit", "miss", "hit", ""]
    assert [k in a.cache_status for k, a in zip(kinds, answers, strict=True)] == [True] * 7
    bodies = [b"", b'{"call":2}', b"", b'{"call":2}', b'{"call":3}', b'{"call":3}', b'{"call":4}']
    assert [answer.body for answer in answers] == bodies


async def test_pipelined_requests_are_answered_in_their_order(protocol: Protocol) -> None:
    model = Model()
    async with serving(cached(model), protocol) as port, wires(port, 1) as (wire,):
        await wire.send(b"".join(request(body) for body in (b"[1]", b"[2]", b"[1]", b"[3]")))
        answers = [await wire.answer() for _ in range(4)]

    assert [answer.body[-2:-1] for answer in answers] == [b"1", b"2", b"1", b"3"]
    assert ["hit" in answer.cache_status for answer in answers] == [False, False, True, False]


async def test_a_hit_has_one_date_and_it_is_the_servers(protocol: Protocol) -> None:
    """bug 16, bug 55."""
    model = Model(headers=[JSON, (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")])
    async with serving(cached(model), protocol) as port, wires(port, 1) as (wire,):
        await wire.ask(request())
        hit = await wire.ask(request())

    (date,) = hit.all("date")
    assert "1970" not in date
    (age,) = hit.all("age")
    assert int(age) >= 1_700_000_000  # Counted from the date that it came with.


def waiting(app: CacheMiddleware) -> int:
    """Count the clients of all flights."""
    return sum(len(flight._clients) for flight in set(app._shared.flights.values()))


async def crowd(app: CacheMiddleware, clients: list[Wire], model: Model) -> None:
    """Have all of them ask the same and wait for one call; the first leads."""
    for client in clients:
        await client.send(request())
        await until(lambda: model.calls)
    await until(lambda: waiting(app) == len(clients))


async def test_a_crowd_on_its_own_connections_costs_one_call(protocol: Protocol) -> None:
    """bug 33."""
    model = Model(gate=asyncio.Event())
    assert model.gate is not None
    notes = Notes()
    app = cached(model, observer=notes)
    async with serving(app, protocol) as port, wires(port, 40) as clients:
        await crowd(app, clients, model)
        model.gate.set()
        answers = await asyncio.gather(*(client.answer() for client in clients))

    assert model.calls == 1
    assert {answer.body for answer in answers} == {b'{"call":1}'}
    statuses = sorted(event.status for event in notes.of(RequestFinished))
    assert statuses == ["coalesced"] * 39 + ["miss"]


async def test_a_stream_arrives_piece_by_piece_at_everyone(protocol: Protocol) -> None:
    """bug 22, bug 25: the first piece is there before the app has made the second."""
    step = asyncio.Event()
    model = Model(chunks=[b"one", b"two"], step=step)
    async with serving(cached(model), protocol) as port, wires(port, 3) as (leader, early, late):
        await leader.send(request())
        await leader.until(b"one\r\n")
        await early.send(request())
        await early.until(b"one\r\n")
        await late.send(request())
        await late.until(b"one\r\n")
        assert not step.is_set()
        step.set()
        for wire in (leader, early, late):
            assert await wire.until(b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"
        stored = await late.ask(request())

    assert stored.body == b"onetwo"
    assert "hit" in stored.cache_status
    assert model.calls == 1


@pytest.mark.parametrize("options", [{}, {"coalesce": False}], ids=["flight", "alone"])
async def test_starlettes_streams_are_kept_by_a_store_that_takes_its_time(
    protocol: Protocol, options: dict[str, Any]
) -> None:
    """Servers say `http.disconnect` after the last byte, and these apps then stop at once."""

    async def pieces() -> AsyncIterator[str]:
        yield "one"
        yield "two"

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(pieces())

    app = Starlette(routes=[Route(PATH, endpoint, methods=["POST"])])
    cache = cached(app, store=RemoteStore(), store_deadline=10, **options)
    async with serving(cache, protocol) as port, wires(port, 1) as (wire,):
        await wire.ask(request())
        await until(lambda: not cache._shared._tasks)
        again = await wire.ask(request())

    assert again.body == b"onetwo"
    assert "hit" in again.cache_status


async def test_a_large_upload_is_keyed_by_its_bytes_while_others_are_served(
    protocol: Protocol,
) -> None:
    """bug 42: 10 MB, of which nothing is parsed, between the pieces of which others are served."""
    body = b'{"text": "' + b"x" * 10_000_000 + b'"}'
    model = Model()
    app = cached(model, max_request_bytes=20_000_000)
    async with serving(app, protocol) as port, wires(port, 2) as (wire, other):
        whole = request(body)
        await other.ask(request())
        await wire.send(whole[:5_000_000])
        between = await other.ask(request())
        await wire.send(whole[5_000_000:])
        answers = [await wire.answer(), await wire.ask(request(body))]
        respelled = await wire.ask(request(body.replace(b": ", b":")))

    assert "hit" in between.cache_status
    assert ["hit" in answer.cache_status for answer in answers] == [False, True]
    assert "miss" in respelled.cache_status
    assert [len(seen) for seen in model.bodies] == [2, len(body), len(body) - 1]


async def test_an_upload_over_the_limit_reaches_the_app_while_it_is_sent(
    protocol: Protocol,
) -> None:
    """bug 46: also without a length, which some caches take for short."""
    arrived: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            arrived.append(len(message["body"]))
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"read"})

    head = request(headers=["transfer-encoding: chunked"], has_length=False)
    piece = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    cache = cached(app, max_request_bytes=50_000)
    async with serving(cache, protocol) as port, wires(port, 1) as (wire,):
        await wire.send(head, piece)
        await until(lambda: sum(arrived) == 100_000)
        answer = await wire.ask(piece, b"0\r\n\r\n")

    assert sum(arrived) == 200_000
    assert answer.cache_status == "memoserve; fwd=bypass; detail=too-large"
