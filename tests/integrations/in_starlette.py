"""The app of the contract in Starlette."""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from memoserve._asgi import ASGIApp
from memoserve_integrations.starlette import install
from tests.integrations.contract import Diary, Host, answer, behind, pieces


class StarletteHost(Host):
    name = "starlette"
    lacks: ClassVar = {"openapi": "Starlette has no OpenAPI document of its own"}

    def app(self, diary: Diary, options: Mapping[str, Any] | None) -> ASGIApp:
        app = Starlette(
            routes=routes(diary),
            exception_handlers={LookupError: on_lookup},
            lifespan=lambda _: living(diary),
        )
        if options is not None:
            install(app, **options)
        return app


@contextlib.asynccontextmanager
async def living(diary: Diary) -> AsyncGenerator[None]:
    diary.note("startup")
    yield
    diary.note("shutdown")


async def on_lookup(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error} for {request.url.path}", 410)


def routes(diary: Diary) -> list[Any]:
    async def model(request: Request) -> Response:
        found = await answer(diary, await request.json())
        if found is None:
            raise HTTPException(404, "no such text")
        return JSONResponse(found)

    async def stream(request: Request) -> Response:
        return StreamingResponse(pieces(diary), media_type="text/plain")

    async def behind_it(request: Request) -> Response:
        return PlainTextResponse("sent first", background=BackgroundTask(behind, diary))

    async def mounted(request: Request) -> Response:
        found = await answer(diary, await request.json())
        return JSONResponse({**(found or {}), "root_path": request.scope["root_path"]})

    async def plain(request: Request) -> Response:
        return PlainTextResponse("plain")

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    return [
        Route("/v1/model", model, methods=["POST"]),
        Route("/v1/models/{model}/infer", model, methods=["POST"]),
        Route("/v1/stream", stream, methods=["POST"]),
        Route("/v1/behind", behind_it, methods=["POST"]),
        Route("/v1/plain", plain),
        Mount("/sub", routes=[Route("/model", mounted, methods=["POST"])]),
        WebSocketRoute("/ws", echo),
    ]
