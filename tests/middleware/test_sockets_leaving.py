"""The layer in a real server, with clients that leave or do not read, and apps that fail."""

import asyncio
import logging
from collections.abc import Callable

import pytest
import uvloop

from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from tests.asgi import JSON, Model, read_all, settle
from tests.middleware import test_sockets
from tests.middleware.cases import Clock, cached
from tests.middleware.test_sockets import crowd, waiting
from tests.servers import Protocol, request, serving, until, wires

pytestmark = pytest.mark.parametrize("protocol", ["h11", "httptools"])


async def test_a_leader_whose_connection_is_reset_takes_nobody_along(protocol: Protocol) -> None:
    """bug 28: the others get the answer to the call that it began."""
    model = Model(gate=asyncio.Event(), chunks=[b"one", b"two"], step=asyncio.Event())
    assert model.gate is not None
    assert model.step is not None
    app = cached(model)
    async with serving(app, protocol) as port, wires(port, 3) as (leader, *followers):
        await crowd(app, [leader, *followers], model)
        model.gate.set()
        await leader.until(b"one")
        await leader.reset()
        model.step.set()
        answers = [await follower.answer() for follower in followers]
        again = await followers[0].ask(request())

    assert {answer.body for answer in (*answers, again)} == {b"onetwo"}
    assert model.calls == 1
    assert "hit" in again.cache_status


@pytest.mark.parametrize("manner", ["reset", "close", "finish_sending"])
async def test_when_the_last_connection_is_gone_the_app_hears_it(
    protocol: Protocol, manner: str
) -> None:
    """bug 28: not before; and what came of it is not kept (bug 24)."""
    heard: list[Message] = []
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await read_all(receive)
        if calls == 1:
            heard.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        await send({"type": "http.response.body", "body": b"%d" % calls})

    cache = cached(app)
    async with serving(cache, protocol) as port, wires(port, 4) as (first, second, third, last):
        for client in (first, second, third):
            await client.send(request())
        await until(lambda: waiting(cache) == 3)
        for client in (first, second, third):
            assert heard == []
            await settle()
            done = getattr(client, manner)()
            if done is not None:
                await done
        await until(lambda: heard)
        answer = await last.ask(request())

    assert heard == [{"type": "http.disconnect"}]
    assert answer.status == 200


async def test_half_closed_connections_fare_as_without_the_layer(protocol: Protocol) -> None:
    """Uvicorn takes them for closed, if the answer is not ready; so they are no clients here."""

    async def fate(wrap: Callable[[Model], ASGIApp]) -> bytes:
        model = Model(gate=asyncio.Event())
        assert model.gate is not None
        async with serving(wrap(model), protocol) as port, wires(port, 1) as (wire,):
            await wire.send(request())
            await until(lambda: model.calls)
            wire.finish_sending()
            seen = await wire.rest()
            model.gate.set()
        return seen

    assert await fate(lambda model: model) == await fate(cached) == b""


async def test_an_answer_that_breaks_off_breaks_off_for_everyone(
    protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    """bug 23, bug 24: no end is invented, the connections are closed, and nothing is kept."""
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    step = asyncio.Event()
    model = Model(chunks=[b"one", b"two"], step=step, late_error=RuntimeError("cut"))
    async with serving(cached(model), protocol) as port, wires(port, 4) as (*clients, last):
        for client in clients:
            await client.send(request())
            await client.until(b"one\r\n")
        step.set()
        rests = [await client.rest() for client in clients]
        model.late_error = None
        again = await last.ask(request())

    assert rests == [b"", b"", b""]
    assert (again.body, model.calls) == (b"onetwo", 2)


async def test_an_app_that_fails_before_its_answer_is_a_500_for_everyone(
    protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    """bug 34, bug 49: two calls for three clients, and no failure is kept."""
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    model = Model(gate=asyncio.Event(), error=RuntimeError("down"))
    assert model.gate is not None
    app = cached(model)
    async with serving(app, protocol) as port, wires(port, 4) as (*clients, last):
        await crowd(app, clients, model)
        model.gate.set()
        answers = [await client.answer() for client in clients]
        model.error = None
        again = await last.ask(request())

    assert [answer.status for answer in answers] == [500] * 3
    assert (again.status, again.body) == (200, b'{"call":3}')


PIECE, PIECES = b"x" * 65_536, 500  # Together more than any socket buffer takes.


@pytest.mark.parametrize("size", [1, 2])
async def test_a_client_that_does_not_read_holds_the_app_back(
    protocol: Protocol, size: int
) -> None:
    """bug 22, bug 46: what is not read is not made; with two, the slower one sets the pace."""
    made = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal made
        await read_all(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for made in range(1, PIECES + 1):
            await send({"type": "http.response.body", "body": PIECE, "more_body": made < PIECES})

    cache = cached(app, max_response_bytes=2**20)
    async with serving(cache, protocol) as port, wires(port, size, buffer=65_536) as clients:
        for client in clients:
            await client.send(request())
        reading = [asyncio.create_task(client.answer()) for client in clients[1:]]
        await until(lambda: made)
        while not await stands_still(lambda: made):
            pass
        assert made < PIECES
        assert cache._shared.budget.used < 2**21
        answers = [await clients[0].answer(), *await asyncio.gather(*reading)]

    assert {len(answer.body) for answer in answers} == {len(PIECE) * PIECES}
    assert cache._shared.budget.used == 0


async def stands_still(count: Callable[[], int]) -> bool:
    """Tell whether a count stays what it is over many turns of the event loop."""
    before = count()
    for _ in range(20):
        await settle()
        await asyncio.sleep(0.001)
    return count() == before


async def test_a_refresh_outlives_the_connection_that_began_it(protocol: Protocol) -> None:
    """bug 39."""
    model, clock = Model(), Clock()
    cache = cached(model, clock=clock, ttl=10, stale_while_revalidate=60)
    async with serving(cache, protocol) as port, wires(port, 2) as (first, second):
        await first.ask(request())
        clock.now += 20
        model.gate = asyncio.Event()
        stale = await first.ask(request())
        await first.reset()
        await until(lambda: model.calls == 2)
        model.gate.set()
        await until(lambda: not cache._shared.refreshes)
        fresh = await second.ask(request())

    assert (stale.body, stale.cache_status) == (b'{"call":1}', "memoserve; hit; ttl=-10")
    assert (fresh.body, fresh.cache_status) == (b'{"call":2}', "memoserve; hit; ttl=10")


def test_all_this_holds_on_uvloop(protocol: Protocol) -> None:
    """Its transports are not asyncio's; these are the ones where that could show."""

    async def everything() -> None:
        await test_a_leader_whose_connection_is_reset_takes_nobody_along(protocol)
        await test_when_the_last_connection_is_gone_the_app_hears_it(protocol, "reset")
        await test_half_closed_connections_fare_as_without_the_layer(protocol)
        await test_sockets.test_a_stream_arrives_piece_by_piece_at_everyone(protocol)
        await test_a_client_that_does_not_read_holds_the_app_back(protocol, 2)

    uvloop.run(everything())
