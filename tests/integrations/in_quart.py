"""The app of the contract in Quart."""

from collections.abc import Mapping
from typing import Any, ClassVar

from quart import Blueprint, Quart, Response, abort, request, websocket

from memoserve._asgi import ASGIApp
from memoserve_integrations.quart import install
from tests.integrations.contract import Diary, Host, answer, behind, pieces


class QuartHost(Host):
    name = "quart"
    lacks: ClassVar = {"openapi": "Quart has no OpenAPI document of its own"}

    def app(self, diary: Diary, options: Mapping[str, Any] | None) -> ASGIApp:
        app = Quart(__name__)
        app.before_serving(lambda: diary.note("startup"))
        app.after_serving(lambda: diary.note("shutdown"))
        app.register_error_handler(LookupError, on_lookup)
        add_routes(app, diary)
        if options is not None:
            install(app, **options)
        served: Any = app  # Quart types each message apart.
        return served  # type: ignore[no-any-return]


async def on_lookup(error: Exception) -> Response:
    return Response(f"{error} for {request.path}", 410, mimetype="text/plain")


def add_routes(app: Quart, diary: Diary) -> None:
    @app.post("/v1/model")
    @app.post("/v1/models/<model>/infer")
    async def model(model: str = "") -> dict[str, Any]:
        found = await answer(diary, await request.get_json())
        if found is None:
            abort(404, "no such text")
        return found

    @app.post("/v1/stream")
    async def stream() -> Response:
        return Response(pieces(diary), mimetype="text/plain")

    @app.post("/v1/behind")
    async def behind_it() -> str:
        app.add_background_task(behind, diary)
        return "sent first"

    @app.get("/v1/plain")
    async def plain() -> str:
        return "plain"

    @app.websocket("/ws")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())

    sub = Blueprint("sub", __name__, url_prefix="/sub")

    @sub.post("/model")
    async def mounted() -> dict[str, Any]:
        found = await answer(diary, await request.get_json())
        return {**(found or {}), "root_path": request.root_path}

    app.register_blueprint(sub)
