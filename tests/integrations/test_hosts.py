"""One contract for every host: a hit does not run the handler, and the rest goes on working."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from litestar import Litestar, post
from litestar.exceptions import NotFoundException
from litestar.params import JSONBody
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from memoserve import MemoryStore, Rule
from memoserve_integrations import litestar as for_litestar
from memoserve_integrations import starlette as for_starlette
from tests.asgi import Call, ask, http_scope

PATH = "/v1/model"


@dataclass
class Host:
    """A framework's app with memoserve in it, and what its handler was asked."""

    app: Any = None
    questions: list[Any] = field(default_factory=list[Any])

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        self.questions.append(question)
        return {"call": len(self.questions)}


def in_starlette(**options: Any) -> Host:
    host = Host()

    async def model(request: Request) -> JSONResponse:
        question = await request.json()
        if question.get("missing"):
            raise HTTPException(404)
        return JSONResponse(host.answer(question))

    host.app = Starlette(routes=[Route(PATH, model, methods=["POST"])])
    for_starlette.install(host.app, **options)
    return host


def in_fastapi(**options: Any) -> Host:
    host = Host()
    host.app = FastAPI()

    async def model(question: dict[str, Any]) -> dict[str, Any]:
        if question.get("missing"):
            raise HTTPException(404)
        return host.answer(question)

    host.app.post(PATH)(model)
    for_starlette.install(host.app, **options)
    return host


def in_litestar(**options: Any) -> Host:
    host = Host()

    @post(PATH, status_code=200)
    async def model(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        if data.get("missing"):
            raise NotFoundException
        return host.answer(data)

    plugin = for_litestar.MemoservePlugin(**options)
    host.app = Litestar([model], plugins=[plugin], logging_config=None)
    return host


hosts = pytest.mark.parametrize(
    "make",
    [
        pytest.param(in_starlette, id="starlette"),
        pytest.param(in_fastapi, id="fastapi"),
        pytest.param(in_litestar, id="litestar"),
    ],
)
Make = Callable[..., Host]


@hosts
async def test_a_hit_does_not_run_the_handler(make: Make) -> None:
    host = make(rules=[Rule(PATH)])

    first = await ask(host.app, b'{"text":"a"}')
    second = await ask(host.app, b'{ "text": "a" }')

    assert (first.status, first.cache_status) == (200, "memoserve; fwd=miss")
    assert second.cache_status.startswith("memoserve; hit")
    assert first.content == second.content
    assert host.questions == [{"text": "a"}]


@hosts
async def test_many_at_once_run_it_once(make: Make) -> None:
    host = make(rules=[Rule(PATH)])

    calls = await asyncio.gather(*(ask(host.app) for _ in range(20)))

    assert len(host.questions) == 1
    assert {call.status for call in calls} == {200}


@hosts
async def test_errors_of_the_app_are_its_own_and_are_not_stored(make: Make) -> None:
    host = make(rules=[Rule(PATH)])

    calls = [await ask(host.app, b'{"missing":true}') for _ in range(2)]

    assert [call.status for call in calls] == [404, 404]
    assert {call.cache_status for call in calls} == {"memoserve; fwd=miss"}


@hosts
async def test_the_metrics_are_there(make: Make) -> None:
    host = make(rules=[Rule(PATH, model="m-" + make.__name__)])
    for _ in range(2):
        await ask(host.app)

    page = await ask(host.app, path="/metrics", method="GET", headers=[])

    assert page.status == 200
    counted = f'cache_status="hit",model="m-{make.__name__}",outcome="ok"'
    assert counted.encode() in page.content


@hosts
async def test_metrics_can_be_left_out(make: Make) -> None:
    host = make(rules=[Rule(PATH)], metrics_path=None)

    page = await ask(host.app, path="/metrics", method="GET", headers=[])
    await ask(host.app)

    assert page.status == 404
    assert "hit" in (await ask(host.app)).cache_status


@hosts
def test_wrong_options_fail_at_once(make: Make) -> None:
    with pytest.raises(ValueError, match="namespace"):
        make(rules=[Rule(PATH)], namespace="")


@hosts
async def test_the_lifespan_closes_what_was_opened(make: Make) -> None:
    host, store = make(rules=[Rule(PATH)]), MemoryStore()
    kept = make(rules=[Rule(PATH)], store=store)
    for each in (host, kept):
        await ask(each.app)
        await shut_down(each.app)

    assert "miss" in (await ask(host.app)).cache_status
    assert store.usage().entries > 0


async def shut_down(app: Any) -> None:
    kinds = iter(["lifespan.startup", "lifespan.shutdown"])
    call = Call(http_scope())

    async def receive() -> dict[str, Any]:
        return {"type": next(kinds)}

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, call.send)
    assert call.messages[-1]["type"] == "lifespan.shutdown.complete"
