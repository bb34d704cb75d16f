"""Marked endpoints in FastAPI, and what its OpenAPI document says of them."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel

from memoserve import Rule
from memoserve_integrations.fastapi import cached, install
from tests.asgi import ask


class Question(BaseModel):
    text: str


class Model:
    """An endpoint that numbers its answers."""

    def __init__(self) -> None:
        self.calls = 0

    async def answer(self, question: Question) -> str:
        self.calls += 1
        return f"{question.text} {self.calls}"


async def asked(app: FastAPI, path: str, **scope: Any) -> list[str]:
    return [(await ask(app, b'{"text":"a"}', path=path, **scope)).cache_status for _ in range(2)]


def endpoint() -> Any:
    model = Model()

    async def answer(question: Question) -> str:
        return await model.answer(question)

    return answer


MISS_AND_HIT = ["memoserve; fwd=miss", "memoserve; hit; ttl=300"]
NOTHING = ["", ""]


async def test_endpoints_of_included_routers_are_covered_by_their_whole_path() -> None:
    """bug 54: and their neighbours are not."""
    app, outer, inner = FastAPI(), APIRouter(prefix="/v1"), APIRouter(prefix="/models")
    install(app, clock=lambda: 1e9)
    inner.post("/{model}/infer")(cached()(endpoint()))
    inner.post("/{model}/train")(endpoint())
    outer.include_router(inner)
    app.include_router(outer, prefix="/api")
    outer.post("/model")(cached()(endpoint()))

    assert await asked(app, "/api/v1/models/a/infer") == MISS_AND_HIT
    assert await asked(app, "/api/v1/models/a/train") == NOTHING
    assert await asked(app, "/api/v1/model") == MISS_AND_HIT


async def test_a_router_that_is_included_twice_is_covered_twice() -> None:
    app, router = FastAPI(), APIRouter()
    router.post("/model")(cached()(endpoint()))
    app.include_router(router, prefix="/a")
    app.include_router(router, prefix="/b")
    install(app, clock=lambda: 1e9)

    assert await asked(app, "/a/model") == MISS_AND_HIT
    assert await asked(app, "/b/model") == MISS_AND_HIT


async def test_an_earlier_route_of_an_included_router_is_not_covered() -> None:
    """bug 54."""
    app, router = FastAPI(), APIRouter(prefix="/items")
    router.post("/me")(endpoint())
    router.mount("/mounted", FastAPI())
    app.include_router(router)
    app.post("/items/{id}")(cached()(endpoint()))
    install(app, clock=lambda: 1e9)

    assert await asked(app, "/items/me") == NOTHING
    assert await asked(app, "/items/1") == MISS_AND_HIT
    assert (await ask(app, path="/items/mounted/1")).status == 404


async def test_a_mounted_app_is_covered_by_its_whole_path() -> None:
    app, inner = FastAPI(), FastAPI()
    inner.post("/model")(cached()(endpoint()))
    app.mount("/sub", inner)
    install(app, clock=lambda: 1e9)

    assert await asked(app, "/sub/model") == MISS_AND_HIT


async def test_an_invalid_question_is_refused_each_time() -> None:
    """bug 49."""
    app = FastAPI()
    app.post("/model")(cached()(endpoint()))
    install(app)

    answers = [await ask(app, b'{"text":1}', path="/model") for _ in range(2)]

    assert [answer.status for answer in answers] == [422, 422]
    assert [answer.cache_status for answer in answers] == ["memoserve; fwd=miss"] * 2


def fields_in(app: FastAPI, path: str, method: str = "post", status: str = "200") -> set[str]:
    operation = app.openapi()["paths"][path][method]
    return set(operation["responses"][status].get("headers", {}))


def test_the_document_names_the_fields_of_covered_answers() -> None:
    app, router = FastAPI(), APIRouter(prefix="/v1")
    router.post("/models/{model}/infer")(cached()(endpoint()))
    app.include_router(router)
    app.post("/ruled/{id}")(endpoint())
    app.post("/plain")(endpoint())
    install(app, rules=[Rule("/ruled/{id:int}")])
    app.post("/late")(cached()(endpoint()))

    for path in ("/v1/models/{model}/infer", "/ruled/{id}", "/late"):
        assert fields_in(app, path) == {"Cache-Status", "Age"}
        assert fields_in(app, path, status="422") == set()
    assert fields_in(app, "/plain") == set()
    assert "/metrics" not in app.openapi()["paths"]


def test_the_document_keeps_what_the_app_says_of_a_field() -> None:
    app = FastAPI()
    said = {"Age": {"description": "ours", "schema": {"type": "integer"}}}
    app.post("/model", responses={200: {"headers": said}})(cached()(endpoint()))
    install(app)

    headers = app.openapi()["paths"]["/model"]["post"]["responses"]["200"]["headers"]

    assert headers["Age"] == said["Age"]
    assert "RFC 9211" in headers["Cache-Status"]["description"]


def test_fields_that_are_hidden_are_not_documented() -> None:
    app = FastAPI()
    app.post("/model")(cached()(endpoint()))
    install(app, cache_status=False)

    assert fields_in(app, "/model") == set()


async def test_a_hit_skips_the_dependencies() -> None:
    """bug 20."""
    app = FastAPI()
    seen: list[str] = []

    async def dependency() -> None:
        seen.append("dependency")

    app.post("/model", dependencies=[Depends(dependency)])(cached()(endpoint()))
    install(app, clock=lambda: 1e9)

    assert await asked(app, "/model") == MISS_AND_HIT
    assert seen == ["dependency"]
