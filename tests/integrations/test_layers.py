"""Layers whose lifespan is not the host's."""

import pytest

from memoserve._asgi import Receive, Scope, Send
from memoserve_integrations._layers import answer_lifespan, living


async def test_an_app_lives_as_long_as_the_block() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Scope) -> None:
            seen.append(message["type"])
            await send(message)

        await answer_lifespan(scope, receive, noting)

    async with living(app):
        assert seen == ["lifespan.startup.complete"]

    assert seen == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_an_app_that_fails_to_start_says_why() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no such store")

    with pytest.raises(ValueError, match="no such store"):
        async with living(app):
            pytest.fail("it has not started")


async def test_an_app_that_refuses_to_start_says_why() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "not today"})

    with pytest.raises(RuntimeError, match="not today"):
        async with living(app):
            pytest.fail("it has not started")


async def test_an_app_that_says_nothing_has_not_started() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(RuntimeError, match=r"did not answer lifespan\.startup"):
        async with living(app):
            pytest.fail("it has not started")


async def test_what_goes_wrong_in_the_block_ends_the_app() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer_lifespan(scope, receive, send)
        ended.append("app")

    ended: list[str] = []
    with pytest.raises(LookupError):
        async with living(app):
            raise LookupError

    assert ended == ["app"]
