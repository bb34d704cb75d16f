"""What caches do where it matters: the same questions put to three of them, none of it timed.

Run `python bench/features.py`; it prints the table of docs/comparison.md, and a test compares the
two. Each cache is mounted as its own documentation says, with no key builder or filter of ours.
"""

import asyncio
import itertools
import secrets
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi_cache import FastAPICache
from fastapi_cache.backends.inmemory import InMemoryBackend
from fastapi_cache.decorator import cache
from litestar import Litestar, get, post
from litestar import Request as LitestarRequest
from litestar import Response as LitestarResponse
from litestar.stores.memory import MemoryStore as LitestarMemory

from memoserve import CacheMiddleware, MemoryStore, Rule

PATH = "/v1/answer"
COUNT = 50

Handler = Callable[[str, str], tuple[dict[str, Any], dict[str, str]]]


async def fail(*_: Any, **__: Any) -> Any:
    """Be a call of a server that cannot be reached."""
    raise ConnectionError("refused")


class Broken:
    """A store that cannot be reached, by the names that memoserve and fastapi-cache2 call."""

    get = get_with_ttl = set = delete = clear = fail

    async def aclose(self) -> None:
        """Have nothing to close."""


class BrokenMemory(LitestarMemory):
    """The same for Litestar, which goes by the type."""

    get = set = fail


def memoserve(handler: Handler, *, is_broken: bool = False) -> Any:
    """Mount memoserve in front of FastAPI."""
    app = FastAPI()

    async def answer(request: Request) -> Response:
        await asyncio.sleep(0.01)
        said, headers = handler(
            (await request.body()).decode(), request.headers.get("authorization", "")
        )
        return Response(str(said), headers=headers)

    app.add_api_route(PATH, answer, methods=["GET", "POST"])
    store: Any = Broken() if is_broken else MemoryStore()
    return CacheMiddleware(app, rules=[Rule(PATH, methods={"GET", "POST"})], store=store)


def litestar(handler: Handler, *, is_broken: bool = False) -> Any:
    """Turn on Litestar's response cache."""

    async def answer(request: LitestarRequest[Any, Any, Any]) -> LitestarResponse[str]:
        await asyncio.sleep(0.01)
        said, headers = handler(
            (await request.body()).decode(), request.headers.get("authorization", "")
        )
        return LitestarResponse(str(said), headers=headers)

    return Litestar(
        [
            get(PATH, cache=300)(answer),
            post(PATH, cache=300, status_code=200)(answer),
        ],
        stores={"response_cache": BrokenMemory()} if is_broken else None,
        logging_config=None,
        openapi_config=None,
    )


def fastapi_cache2(handler: Handler, *, is_broken: bool = False) -> Any:
    """Decorate FastAPI's handlers with fastapi-cache2."""
    backend: Any = Broken() if is_broken else InMemoryBackend()
    FastAPICache.reset()
    FastAPICache.init(backend, prefix=secrets.token_hex(4))  # One memory serves all backends.
    app = FastAPI()

    @app.api_route(PATH, methods=["GET", "POST"])
    @cache(expire=300)
    async def answer(request: Request, response: Response) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        body = (await request.body()).decode()
        said, headers = handler(body, request.headers.get("authorization", ""))
        response.headers.update(headers)
        return said

    return app


CACHES: dict[str, Callable[..., Any]] = {
    "memoserve": memoserve,
    f"Litestar {version('litestar')}": litestar,
    f"fastapi-cache2 {version('fastapi-cache2')}": fastapi_cache2,
}


async def ask(app: Any, method: str = "GET", body: str = "", **headers: str) -> httpx.Response:
    """Send one request, without a socket."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        json = {"content-type": "application/json"} if body else {}
        return await client.request(method, PATH, content=body, headers={**json, **headers})


def counting(**headers: str) -> tuple[Handler, "itertools.count[int]"]:
    """Make a handler that says what it was asked, and how often it was asked before."""
    calls = itertools.count()

    def handler(body: str, credential: str) -> tuple[dict[str, Any], dict[str, str]]:
        return {"asked": body, "by": credential, "call": next(calls)}, headers

    return handler, calls


async def _repeated_get(make: Any) -> str:
    handler, calls = counting()
    app = make(handler)
    for _ in range(2):
        await ask(app)
    return f"{next(calls)} of 2 calls"


async def _repeated_post(make: Any) -> str:
    handler, calls = counting()
    app = make(handler)
    for _ in range(2):
        await ask(app, "POST", '{"text": "good"}')
    return f"{next(calls)} of 2 calls"


async def _respelled(make: Any) -> str:
    if "own" not in await _two_bodies(make):
        return "the body does not count"
    handler, calls = counting()
    app = make(handler)
    for body in ('{"text": "good", "n": 1}', '{"n":1,"text":"g\\u006fod"}'):
        await ask(app, "POST", body)
    return f"{next(calls)} of 2 calls"


async def _two_bodies(make: Any) -> str:
    app = make(counting()[0])
    first = await ask(app, "POST", '{"text": "good"}')
    second = await ask(app, "POST", '{"text": "bad"}')
    return "**the first one's answer**" if first.text == second.text else "each its own"


async def _two_credentials(make: Any) -> str:
    app = make(counting()[0])
    first = await ask(app, authorization="Bearer ann")
    second = await ask(app, authorization="Bearer bob")
    return "**the first one's answer**" if first.text == second.text else "each their own"


async def _cookie(make: Any) -> str:
    handler, calls = counting(**{"set-cookie": "session=1"})
    app = make(handler)
    await ask(app)
    second = await ask(app)
    if next(calls) == 2:
        return "not stored"
    return "**sent to the next one**" if "set-cookie" in second.headers else "stored without it"


async def _no_store(make: Any) -> str:
    handler, calls = counting(**{"cache-control": "no-store"})
    app = make(handler)
    for _ in range(2):
        await ask(app)
    return "obeyed" if next(calls) == 2 else "**stored**"


async def _at_once(make: Any) -> str:
    handler, calls = counting()
    app = make(handler)
    await asyncio.gather(*(ask(app) for _ in range(COUNT)))
    return f"{next(calls)} of {COUNT} calls"


async def _broken(make: Any) -> str:
    status = (await ask(make(counting()[0], is_broken=True))).status_code
    return f"{status}" if status == 200 else f"**{status}**"


QUESTIONS: dict[str, Callable[[Any], Awaitable[str]]] = {
    "the same GET twice": _repeated_get,
    "the same POST twice": _repeated_post,
    "a POST, and the same JSON spelled differently": _respelled,
    "two POSTs whose bodies differ": _two_bodies,
    "two people with different `Authorization`": _two_credentials,
    "an answer with `Set-Cookie`": _cookie,
    "an answer with `Cache-Control: no-store`": _no_store,
    f"{COUNT} people ask the same at once": _at_once,
    "the store cannot be reached": _broken,
}


async def main() -> int:
    """Print the table."""
    print("| |", " | ".join(CACHES), "|")
    print("|---" * (len(CACHES) + 1) + "|")
    for question, put_to in QUESTIONS.items():
        print("|", " | ".join([question, *[await put_to(make) for make in CACHES.values()]]), "|")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
