"""The app of the contract in FastAPI."""

from collections.abc import Mapping
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

from memoserve._asgi import ASGIApp
from memoserve_integrations.fastapi import install
from tests.integrations.contract import Diary, Host, answer, behind, pieces
from tests.integrations.in_starlette import living, on_lookup


class Question(BaseModel):
    text: str


class FastAPIHost(Host):
    name = "fastapi"

    def app(self, diary: Diary, options: Mapping[str, Any] | None) -> ASGIApp:
        app = FastAPI(lifespan=lambda _: living(diary), exception_handlers={LookupError: on_lookup})
        add_routes(app, diary)
        if options is not None:
            install(app, **options)
        return app


def add_routes(app: FastAPI, diary: Diary) -> None:
    @app.post("/v1/model")
    @app.post("/v1/models/{model}/infer")
    async def model(question: Question) -> dict[str, Any]:
        found = await answer(diary, question.model_dump())
        if found is None:
            raise HTTPException(404, "no such text")
        return found

    @app.post("/v1/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces(diary), media_type="text/plain")

    @app.post("/v1/behind", response_class=PlainTextResponse)
    async def behind_it(tasks: BackgroundTasks) -> str:
        tasks.add_task(behind, diary)
        return "sent first"

    @app.get("/v1/plain", response_class=PlainTextResponse)
    async def plain() -> str:
        return "plain"

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    sub = FastAPI()

    @sub.post("/model")
    async def mounted(question: Question, request: Request) -> dict[str, Any]:
        found = await answer(diary, question.model_dump())
        return {**(found or {}), "root_path": request.scope["root_path"]}

    app.mount("/sub", sub)
