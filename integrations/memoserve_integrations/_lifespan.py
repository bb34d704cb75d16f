"""Lifespans of layers that are no part of the host's own.

Rule: the layers connect, flush and close when they hear the ASGI lifespan. Where the host does not
tell them what it hears, `living` does.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send

__all__ = ["answer_lifespan", "living"]


async def answer_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Be an app that has nothing to start or to end."""
    del scope
    message: Message = {}
    while message.get("type") != "lifespan.shutdown":
        message = await receive()
        await send({"type": message["type"] + ".complete"})


@contextlib.asynccontextmanager
async def living(app: ASGIApp) -> AsyncGenerator[None]:
    """Have an app started before the block runs, and ended when it has run.

    Raises:
        RuntimeError: It refuses to start.
    """
    asked = asyncio.Queue[Message]()
    answered = asyncio.Queue[Message]()
    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.ensure_future(app(scope, asked.get, answered.put))
    try:
        await _tell(task, asked, answered, "lifespan.startup")
        yield
        await _tell(task, asked, answered, "lifespan.shutdown")
    finally:
        task.cancel()  # Of one that is at its end, nothing is left to be cancelled.
        await asyncio.wait([task])


async def _tell(
    task: asyncio.Future[None], asked: asyncio.Queue[Message], answered: asyncio.Queue[Message],
    what: str,
) -> None:  # fmt: skip
    """Say one thing, and wait until it has been done; an app's exception is raised here."""
    asked.put_nowait({"type": what})
    answer = asyncio.ensure_future(answered.get())
    either: list[asyncio.Future[Any]] = [task, answer]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not answer.done():
        answer.cancel()
        task.result()
        raise RuntimeError(f"a layer did not answer {what}")
    if answer.result()["type"] != what + ".complete":
        raise RuntimeError(answer.result().get("message", f"a layer refused {what}"))
