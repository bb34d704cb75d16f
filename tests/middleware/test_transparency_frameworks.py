"""FastAPI's and Litestar's own behaviour, with the layer in front of it and without."""

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Annotated, Any, cast

import fastapi
import litestar
import pydantic
import pytest
from fastapi.responses import JSONResponse, StreamingResponse
from litestar.background_tasks import BackgroundTask
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency, Provide
from litestar.enums import RequestEncodingType
from litestar.exceptions import HTTPException
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.params import Body, JSONBody
from litestar.response import File, Redirect, ServerSentEvent, Stream

from memoserve._asgi import ASGIApp, Receive, Scope, Send
from tests.asgi import JSON, Model
from tests.middleware.transparency import WAYS, Case, Log, check_hit, check_way

HERE = Path(__file__)
MULTIPART = ((b"content-type", b"multipart/form-data; boundary=b"),)
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n',
    b"Content-Type: application/octet-stream\r\n\r\n\x00\xff\x00\r\n--b--\r\n",
)


class Text(pydantic.BaseModel):
    text: str


def fastapi_app(log: Log) -> ASGIApp:  # noqa: C901  (routes, not branches)
    app = fastapi.FastAPI()

    async def resource() -> AsyncGenerator[str]:
        log.append("opens")
        try:
            yield "resource"
        finally:
            log.append("closes")

    held = Annotated[str, fastapi.Depends(resource)]

    @app.post("/model")
    async def model(question: Text, resource: held) -> dict[str, str]:
        log.append("answers")
        return {"answer": question.text.upper(), "with": resource}

    @app.post("/raises")
    async def raises(question: Text, resource: held) -> None:
        raise fastapi.HTTPException(409, "taken", headers={"x-why": question.text})

    @app.post("/fails")
    def fails(resource: held) -> None:
        raise RuntimeError("boom")

    @app.post("/stream")
    async def stream(question: Text, resource: held) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            for word in question.text.split():
                log.append(f"makes {word}")
                yield f"data: {word}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    @app.post("/upload")
    async def upload(file: fastapi.UploadFile) -> int:
        return len(await file.read())

    @app.post("/behind")
    def behind(tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(log.append, "behind")
        return "sent first"

    @app.middleware("http")
    async def add_header(request: fastapi.Request, call_next: Any) -> fastapi.Response:
        response: fastapi.Response = await call_next(request)
        response.headers["x-middleware"] = "1"
        return response

    @app.exception_handler(LookupError)
    async def on_lookup(request: fastapi.Request, error: Exception) -> JSONResponse:
        return JSONResponse({}, status_code=410)

    @app.get("/gone")
    async def gone() -> None:
        raise LookupError

    app.mount("/mounted", Model())
    return app


def litestar_app(log: Log, **options: Any) -> ASGIApp:  # noqa: C901  (routes, not branches)
    async def resource() -> AsyncGenerator[str]:
        log.append("opens")
        yield "resource"
        log.append("closes")

    @litestar.post("/model", dependencies={"resource": Provide(resource)}, status_code=200)
    async def model(
        data: JSONBody[dict[str, str]], resource: NamedDependency[str]
    ) -> dict[str, str]:
        log.append("answers")
        return {"answer": data["text"] * 200, "with": resource}

    @litestar.post("/raises")
    async def raises() -> None:
        raise HTTPException("taken", status_code=409, headers={"x-why": "1"})

    @litestar.post("/fails")
    async def fails() -> None:
        raise RuntimeError("boom")

    @litestar.get("/lookup")
    async def lookup() -> None:
        raise LookupError

    @litestar.get("/stream")
    async def stream() -> Stream:
        async def pieces() -> AsyncIterator[str]:
            for word in ("one", "two"):
                log.append(f"makes {word}")
                yield word

        return Stream(pieces())

    @litestar.get("/events")
    async def events() -> ServerSentEvent:
        async def pieces() -> AsyncIterator[str]:
            yield "one"
            yield "two"

        return ServerSentEvent(pieces(), event_type="token")

    @litestar.get("/file", sync_to_thread=False)
    def file() -> File:
        return File(HERE, filename="a.py")

    @litestar.get("/redirect", sync_to_thread=False)
    def redirect() -> Redirect:
        return Redirect("/elsewhere")

    @litestar.post("/upload", status_code=200)
    async def upload(
        data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)],
    ) -> int:
        return len(await data.read())

    @litestar.post("/raw", status_code=200)
    async def raw(request: litestar.Request[Any, Any, Any]) -> list[str]:
        return [piece.decode() async for piece in request.stream()]

    @litestar.get("/behind")
    async def behind() -> litestar.Response[str]:
        return litestar.Response("sent first", background=BackgroundTask(log.append, "behind"))

    @litestar.get("/session")
    async def session(request: litestar.Request[Any, Any, Any]) -> str:
        request.set_session({"a": 1})
        return "set"

    @litestar.delete("/model", sync_to_thread=False)
    def delete() -> None:
        log.append("deletes")

    @litestar.asgi("/mounted", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await Model()(scope, receive, send)

    def on_lookup(request: Any, error: Exception) -> litestar.Response[str]:
        return litestar.Response("gone", status_code=410)

    app: Any = litestar.Litestar(
        [
            *(model, raises, fails, lookup, stream, events, file, redirect, upload, raw, behind),
            *(session, delete, mounted),
        ],
        exception_handlers={LookupError: on_lookup},
        after_response=lambda request: log.append("after"),
        **options,
    )
    return cast("ASGIApp", app)


def posted(path: str, body: bytes, *, is_kept: bool = False) -> Case:
    return Case(path, "POST", (JSON,), (body,), is_kept=is_kept)


FASTAPI = {
    "model": posted("/model", b'{"text":"a"}', is_kept=True),
    "pieces": Case("/model", "POST", (JSON,), (b'{"te', b'xt":"a', b'"}'), is_kept=True),
    "invalid": posted("/model", b'{"text":1}'),
    "malformed": posted("/model", b"{"),
    "http-exception": posted("/raises", b'{"text":"x"}'),
    "exception": posted("/fails", b""),
    "handled": Case("/gone"),
    "upload": Case("/upload", "POST", MULTIPART, FORM, is_kept=True),
    "background": posted("/behind", b"", is_kept=True),
    "mounted": posted("/mounted/x", b"{}", is_kept=True),
    "not-found": posted("/nowhere", b"{}"),
    "docs": Case("/openapi.json", is_kept=True),
}

LITESTAR = {
    "model": posted("/model", b'{"text":"a"}', is_kept=True),
    "head": Case("/stream", method="HEAD"),
    "delete": Case("/model", method="DELETE"),
    "invalid": posted("/model", b"[]"),
    "http-exception": posted("/raises", b"{}"),
    "exception": posted("/fails", b"{}"),
    "handled": Case("/lookup"),
    "stream": Case("/stream", is_kept=True),
    "events": Case("/events"),  # Litestar sends events with no-cache.
    "file": Case("/file", is_kept=True),
    "redirect": Case("/redirect"),
    "upload": Case("/upload", "POST", MULTIPART, FORM, is_kept=True),
    "request-stream": Case("/raw", "POST", (), (b"a", b"", b"bc"), is_kept=True),
    "background": Case("/behind", is_kept=True),
    "mounted": posted("/mounted", b"{}", is_kept=True),
    "not-found": Case("/nowhere"),
}

GZIP = (b"accept-encoding", b"gzip")
ORIGIN = (b"origin", b"https://a.example")

LITESTAR_OPTIONS: dict[str, tuple[dict[str, Any], Case]] = {
    "gzip": (
        {"compression_config": CompressionConfig(backend="gzip")},
        Case("/model", "POST", (JSON, GZIP), (b'{"text":"a"}',), is_kept=True),
    ),
    "cors": (
        {"cors_config": CORSConfig(allow_origins=["https://a.example"])},
        Case("/stream", headers=(ORIGIN,), is_kept=True),
    ),
    "preflight": (
        {"cors_config": CORSConfig()},
        Case("/model", "OPTIONS", (ORIGIN, (b"access-control-request-method", b"POST"))),
    ),
    "session": (
        {"middleware": [ServerSideSessionConfig().middleware]}, Case("/session"),
    ),
}  # fmt: skip


def parameters(cases: dict[str, Case]) -> list[Any]:
    return [pytest.param(case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", parameters(FASTAPI))
async def test_fastapi_is_served_as_without_the_layer(case: Case, way: str) -> None:
    """Bugs 21, 22, 23: dependencies open and close when they would, bodies arrive whole."""
    await check_way(fastapi_app, case, way)


@pytest.mark.parametrize("case", parameters(FASTAPI))
async def test_a_hit_of_fastapi_is_the_first_answer_again(case: Case) -> None:
    """bug 49."""
    await check_hit(fastapi_app, case)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", parameters(LITESTAR))
async def test_litestar_is_served_as_without_the_layer(case: Case, way: str) -> None:
    """Bugs 21, 22, 23."""
    await check_way(litestar_app, case, way)


@pytest.mark.parametrize("case", parameters(LITESTAR))
async def test_a_hit_of_litestar_is_the_first_answer_again(case: Case) -> None:
    """Bugs 25, 30, 49."""
    await check_hit(litestar_app, case)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("options", "case"), LITESTAR_OPTIONS.values(), ids=LITESTAR_OPTIONS)
async def test_litestars_middleware_works_behind_the_layer(
    options: dict[str, Any], case: Case, way: str
) -> None:
    """Bugs 16 and 31."""
    await check_way(lambda log: litestar_app(log, **options), case, way)


@pytest.mark.parametrize(("options", "case"), LITESTAR_OPTIONS.values(), ids=LITESTAR_OPTIONS)
async def test_what_litestars_middleware_made_is_kept(options: dict[str, Any], case: Case) -> None:
    """Bugs 16 and 31."""
    await check_hit(lambda log: litestar_app(log, **options), case)
