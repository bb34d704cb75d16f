"""The app of the contract in Litestar."""

from collections.abc import Mapping
from typing import Any

from litestar import Litestar, Request, Response, asgi, get, post, websocket_listener
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import NotFoundException
from litestar.params import JSONBody
from litestar.response import Stream
from litestar.types import Receive, Scope, Send
from pydantic import BaseModel
from starlette.applications import Starlette

from memoserve._asgi import ASGIApp
from memoserve_integrations.litestar import MemoservePlugin
from tests.integrations.contract import Diary, Host, answer, behind, pieces
from tests.integrations.in_starlette import routes


class Question(BaseModel):
    text: str


class LitestarHost(Host):
    name = "litestar"
    schema_path = "/schema/openapi.json"

    def app(self, diary: Diary, options: Mapping[str, Any] | None) -> ASGIApp:
        app: Any = Litestar(
            handlers(diary),
            exception_handlers={LookupError: on_lookup},
            on_startup=[lambda: diary.note("startup")],
            on_shutdown=[lambda: diary.note("shutdown")],
            plugins=[] if options is None else [MemoservePlugin(**options)],
            logging_config=None,
        )
        return app  # type: ignore[no-any-return]  # Litestar types each message apart.


def on_lookup(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    return Response(f"{error} for {request.url.path}", status_code=410, media_type="text/plain")


def handlers(diary: Diary) -> list[Any]:
    @post(["/v1/model", "/v1/models/{model:str}/infer"], status_code=200)
    async def model(data: JSONBody[Question]) -> dict[str, Any]:
        found = await answer(diary, data.model_dump())
        if found is None:
            raise NotFoundException("no such text")
        return found

    @post("/v1/stream", status_code=200)
    async def stream() -> Stream:
        return Stream(pieces(diary), media_type="text/plain")

    @post("/v1/behind", status_code=200)
    async def behind_it() -> Response[str]:
        return Response("sent first", background=BackgroundTask(behind, diary))

    @get("/v1/plain", sync_to_thread=False)
    def plain() -> str:
        return "plain"

    @websocket_listener("/ws")
    async def echo(data: str) -> str:
        return data

    mount = next(route for route in routes(diary) if getattr(route, "path", "") == "/sub")
    sub = Starlette(routes=mount.routes)

    @asgi("/sub", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["path"].rstrip("/")  # Litestar adds a slash.
        await sub(scope, receive, send)  # type: ignore[arg-type]  # As above.

    return [model, stream, behind_it, plain, echo, mounted]
