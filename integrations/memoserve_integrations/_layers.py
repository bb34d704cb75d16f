"""What the hosts have in common: how the layers are made, and how they live.

Rule: what is wrong fails when it is said, not at the first request, and where nothing is to be
cached, requests go on as they were. The layers connect, flush and close when they hear the ASGI
lifespan; where the host does not tell them what it hears, `living` does.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from memoserve._config_sources import did_you_mean

__all__ = ["answer_lifespan", "cache_before", "check_names", "check_options", "living"]

_logger = logging.getLogger("memoserve")

_OPTIONS = frozenset(inspect.signature(CacheMiddleware).parameters) - {"app"}
_OF_METRICS = frozenset({"metrics_path", "metrics_token", "metrics_allow"})


def check_names(function: str, names: Iterable[str]) -> None:
    """Fail if one of these is no option of the cache.

    Raises:
        ValueError: It names the option, and the function that was given it.
    """
    for name in names:
        if name not in _OPTIONS:
            hint = did_you_mean(name, _OPTIONS | _OF_METRICS)
            raise ValueError(f"{function} has no option {name!r}{hint}")


def check_options(rules: tuple[Rule, ...], options: dict[str, Any]) -> None:
    """Fail if a cache cannot be made of these, though it is made later.

    Raises:
        ValueError: An option is wrong.
    """
    CacheMiddleware(answer_lifespan, rules=rules or [Rule("/")], **options)


def cache_before(app: ASGIApp, rules: tuple[Rule, ...], options: dict[str, Any]) -> ASGIApp:
    """Put the cache in front of an app, if there is a rule."""
    if rules:
        return CacheMiddleware(app, rules=rules, **options)
    _logger.warning("nothing is cached: there are no rules, and no route asks for it")
    return app


async def answer_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Be an app that has nothing to start or to end."""
    del scope
    message: Message = {}
    while message.get("type") != "lifespan.shutdown":
        message = await receive()
        await send({"type": message["type"] + ".complete"})


@contextlib.asynccontextmanager
async def living(app: ASGIApp) -> AsyncGenerator[None]:
    """Have an app started before the block runs, and ended when it has run, or failed.

    Raises:
        RuntimeError: It refuses to start.
    """
    asked = asyncio.Queue[Message]()
    answered = asyncio.Queue[Message]()
    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.ensure_future(app(scope, asked.get, answered.put))
    try:
        await _tell(task, asked, answered, "lifespan.startup")
        try:
            yield
        finally:  # A host that is cancelled has stores to close, too.
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
