"""The app of the contract as a service of BentoML, served as BentoML's own worker does it.

With a folder in `CONTRACT_FOLDER` the module has a service `Served` for `bentoml serve`.
"""

import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import bentoml
from bentoml.exceptions import NotFound
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from memoserve._asgi import ASGIApp
from memoserve_integrations.bentoml import install
from tests.integrations.contract import Diary, Host, answer, pieces
from tests.integrations.in_starlette import routes
from tests.integrations.processes import read_options

_BY_METHODS = {"/v1/model", "/v1/models/{model}/infer", "/v1/stream"}


class BentoMLHost(Host):
    name = "bentoml"
    schema_path = "/docs.json"
    lacks: ClassVar[Mapping[str, str]] = {
        "inside": "BentoML makes the service's instance in the lifespan of its app"
    }

    def app(self, diary: Diary, options: Mapping[str, Any] | None) -> ASGIApp:
        app: ASGIApp = complete(make_service(diary), diary, options).to_asgi()
        return app


def complete(service: Any, diary: Diary, options: Mapping[str, Any] | None) -> Any:
    # BentoML's APIs answer POST only; apps may be mounted for the rest.
    rest = [each for each in routes(diary) if path_of(each) not in _BY_METHODS]
    service.mount_asgi_app(Starlette(routes=rest))
    if options is not None:
        install(service, **{"metrics_path": "/metrics", **options})
    return service


def path_of(route: BaseRoute) -> str:
    path: str = getattr(route, "path", "")
    return path


def make_service(diary: Diary) -> Any:
    # The contract looks for our metrics where BentoML's are.
    @bentoml.service(metrics={"enabled": False}, workers=2)
    class Reverser:
        @bentoml.on_startup
        def started(self) -> None:
            diary.note("startup")

        @bentoml.on_shutdown
        def ended(self) -> None:
            diary.note("shutdown")

        @bentoml.api(route="/v1/model")
        async def model(self, text: str) -> dict[str, Any]:
            return await found(diary, text)

        @bentoml.api(route="/v1/models/{model}/infer")
        async def infer(self, text: str) -> dict[str, Any]:
            return await found(diary, text)

        @bentoml.api(route="/v1/stream")
        async def stream(self) -> AsyncGenerator[str, None]:
            async for piece in pieces(diary):
                yield piece.decode()

    return Reverser


async def found(diary: Diary, text: str) -> dict[str, Any]:
    said = await answer(diary, {"text": text})
    if said is None:
        raise NotFound("no such text")
    return said


if "CONTRACT_FOLDER" in os.environ:
    _diary = Diary(Path(os.environ["CONTRACT_FOLDER"]))
    Served = complete(make_service(_diary), _diary, read_options(_diary.folder))
