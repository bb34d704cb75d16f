"""Starlette's own behaviour, with the layer in front of it and without."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader, Environment
from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from memoserve._asgi import ASGIApp
from tests.asgi import JSON
from tests.middleware.transparency import WAYS, Case, Log, check_hit, check_way

HERE = Path(__file__)
POEM = "What is asked again is answered again. " * 60
PAGES = DictLoader({"page": "<p>{{ word }}</p>"})
TEMPLATES = Jinja2Templates(env=Environment(loader=PAGES, autoescape=True))


async def plain(request: Request) -> Response:
    return PlainTextResponse(POEM)


async def view(request: Request) -> Response:
    return Response(memoryview(b"\x00\xff" * 9), media_type="application/octet-stream")


def in_thread(request: Request) -> Response:
    return HTMLResponse(f"<h1>{request.url_for('view')}</h1>")


async def template(request: Request) -> Response:
    return TEMPLATES.TemplateResponse(request, "page", {"word": "hi"})


async def empty(request: Request) -> Response:
    return Response(status_code=int(request.path_params["status"]))


async def redirect(request: Request) -> Response:
    return RedirectResponse("/plain?a=b", status_code=303)


async def cookies(request: Request) -> Response:
    response = JSONResponse({"a": request.cookies.get("a")})
    response.set_cookie("a", "1", httponly=True)
    response.set_cookie("b", "2")
    return response


async def session(request: Request) -> Response:
    request.session["n"] = request.session.get("n", 0) + 1
    return JSONResponse(request.session)


async def teapot(request: Request) -> Response:
    raise HTTPException(418, "short and stout", headers={"x-spout": "1"})


async def handled(request: Request) -> Response:
    raise LookupError("no such model")


async def unhandled(request: Request) -> Response:
    raise RuntimeError("boom")


async def hints(request: Request) -> Response:
    await request.send_push_promise("/style.css")
    return PlainTextResponse("pushed")


async def upload(request: Request) -> Response:
    async with request.form() as form:
        sizes = {name: len(v) if isinstance(v, str) else v.size for name, v in form.items()}
    return JSONResponse(sizes)


async def echo(request: Request) -> Response:
    return JSONResponse([piece.decode() async for piece in request.stream()])


async def early(request: Request) -> Response:
    return PlainTextResponse("answered without reading")


class Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return JSONResponse({"state": request.state._state, "query": request.query_params["q"]})


class Tagging(BaseHTTPMiddleware):
    """Reads the body before the app does, and adds a header."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        body = await request.body()
        response = await call_next(request)
        response.headers["x-length"] = str(len(body))
        return response


async def on_lookup(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=404)


def talking(log: Log) -> list[Route]:  # noqa: C901  (routes, not branches)
    """Make the routes that say what they do, so that its order can be compared."""

    async def stream(request: Request) -> Response:
        # Quiet where it runs ahead of what is sent, by as much as the scheduler likes.
        note = [].append if "quiet" in request.query_params else log.append

        async def pieces() -> AsyncIterator[str | bytes]:
            for piece in ("one", b"", b"\xfftwo", "three"):
                note(f"makes {piece!r}")
                yield piece
            note("made all")

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def threads(request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            for n in range(3):
                log.append(f"makes {n}")
                yield b"%d" % n

        return StreamingResponse(pieces())

    async def broken(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            log.append("breaks off")
            raise ValueError("cut")

        return StreamingResponse(pieces())

    async def background(request: Request) -> Response:
        tasks = BackgroundTasks()
        tasks.add_task(log.append, "in a thread")
        tasks.add_task(fail) if "fail" in request.query_params else None
        return PlainTextResponse("sent first", background=tasks)

    async def fail() -> None:
        log.append("fails")
        raise RuntimeError("after the answer")

    return [
        Route("/stream", stream),
        Route("/threads", threads),
        Route("/broken", broken),
        Route("/background", background),
    ]


def starlette_app(log: Log, *middleware: Middleware) -> ASGIApp:
    inner = Starlette(routes=[Route("/view", view), *talking(log)])
    tagged = Starlette(routes=[Route("/plain", plain)], middleware=[Middleware(Tagging)])
    return Starlette(
        routes=[
            Route("/plain", plain),
            Route("/view", view, name="view"),
            Route("/in-thread", in_thread),
            Route("/template", template),
            Route("/empty/{status:int}", empty),
            Route("/redirect", redirect),
            Route("/cookies", cookies),
            Route("/session", session),
            Route("/teapot", teapot),
            Route("/handled", handled),
            Route("/unhandled", unhandled),
            Route("/hints", hints),
            Route("/upload", upload, methods=["POST", "PUT"]),
            Route("/echo", echo, methods=["POST"]),
            Route("/early", early, methods=["POST"]),
            Route("/endpoint", Endpoint),
            Route("/file", lambda request: FileResponse(HERE)),
            Route("/missing", lambda request: FileResponse(HERE / "missing")),
            *talking(log),
            Mount("/sub", inner),
            Mount("/tagged", tagged),
            Mount("/static", StaticFiles(directory=HERE.parent)),
        ],
        middleware=list(middleware),
        exception_handlers={LookupError: on_lookup},
    )


BOUNDARY = b"multipart/form-data; boundary=b"
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nhello\r\n--b\r\n',
    b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n\x00\xff\x00\r\n--b--\r\n',
)
GZIP = (b"accept-encoding", b"gzip")
ORIGIN = (b"origin", b"https://a.example")
PATHSEND: dict[str, Any] = {"extensions": {"http.response.pathsend": {}}}

CASES = {
    "plain": Case("/plain", is_kept=True),
    "plain-head": Case("/plain", method="HEAD"),
    "memoryview": Case("/view", is_kept=True),
    "sync-endpoint": Case("/in-thread", is_kept=True),
    "template": Case("/template", more={"extensions": {"http.response.debug": {}}}),
    "no-content": Case("/empty/204"),
    "not-modified": Case("/empty/304"),
    "redirect": Case("/redirect"),
    "cookies": Case("/cookies", headers=((b"cookie", b"a=7"),)),
    "http-exception": Case("/teapot"),
    "handled-exception": Case("/handled"),
    "unhandled-exception": Case("/unhandled"),
    "push-promise": Case("/hints", more={"extensions": {"http.response.push": {}}}),
    "no-route": Case("/nowhere"),
    "wrong-method": Case("/plain", method="POST", headers=(JSON,), body=(b"{}",)),
    "options": Case("/plain", method="OPTIONS"),
    "endpoint": Case("/endpoint?q=%C3%BC", is_kept=True, more={"state": {"model": "m"}}),
    "upload": Case("/upload", "POST", ((b"content-type", BOUNDARY),), FORM, is_kept=True),
    "put": Case("/upload", "PUT", ((b"content-type", BOUNDARY),), FORM),
    "urlencoded": Case(
        "/upload", "POST", ((b"content-type", b"application/x-www-form-urlencoded"),),
        (b"a=1&b", b"=2"), is_kept=True,
    ),
    "request-stream": Case("/echo", "POST", (), (b"a", b"", b"b" * 70_000), is_kept=True),
    "body-not-read": Case("/early", "POST", (), (b"a", b"b"), is_kept=True),
    "stream": Case("/stream", is_kept=True),
    "stream-from-thread": Case("/threads", is_kept=True),
    "stream-that-breaks": Case("/broken"),
    "file": Case("/file", is_kept=True),
    "file-head": Case("/file", method="HEAD"),
    "file-pathsend": Case("/file", more=PATHSEND),
    "file-range": Case("/file", headers=((b"range", b"bytes=5-9"),)),
    "file-ranges-unsatisfiable": Case("/file", headers=((b"range", b"bytes=99999999-"),)),
    "file-missing": Case("/missing"),
    "static": Case("/static/cases.py", is_kept=True),
    "static-conditional": Case(
        "/static/cases.py", headers=((b"if-none-match", b'"x"'),), is_kept=True
    ),
    "background": Case("/background", is_kept=True),
    "background-that-fails": Case("/background?fail=1", is_kept=True),
    "mounted": Case("/sub/view", is_kept=True),
    "mounted-stream": Case("/sub/stream", is_kept=True),
    "root-path": Case("/api/in-thread", is_kept=True, more={"root_path": "/api"}),
    "base-middleware": Case("/tagged/plain", "GET", (), (b"a", b"b"), is_kept=True),
}  # fmt: skip

MIDDLEWARE: dict[str, tuple[Middleware, Case]] = {
    "gzip": (Middleware(GZipMiddleware), Case("/plain", headers=(GZIP,), is_kept=True)),
    "gzip-stream": (Middleware(GZipMiddleware), Case("/stream", headers=(GZIP,), is_kept=True)),
    "gzip-not-asked-for": (Middleware(GZipMiddleware), Case("/plain", is_kept=True)),
    "gzip-pathsend": (Middleware(GZipMiddleware), Case("/file", headers=(GZIP,), more=PATHSEND)),
    "cors": (
        Middleware(CORSMiddleware, allow_origins=["https://a.example"]),
        Case("/plain", headers=(ORIGIN,), is_kept=True),
    ),
    "cors-preflight": (
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Case("/plain", "OPTIONS", (ORIGIN, (b"access-control-request-method", b"POST"))),
    ),
    "session": (Middleware(SessionMiddleware, secret_key="s"), Case("/session")),  # noqa: S106
    "trusted-host": (Middleware(TrustedHostMiddleware, allowed_hosts=["other"]), Case("/plain")),
    "base-stream": (Middleware(Tagging), Case("/stream?quiet=1", is_kept=True)),
    "base-exception": (Middleware(Tagging), Case("/unhandled")),
    "base-background": (Middleware(Tagging), Case("/background", is_kept=True)),
    "base-pathsend": (Middleware(Tagging), Case("/file", more=PATHSEND)),
}


def parameters(cases: Any) -> list[Any]:
    return [pytest.param(case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", parameters(CASES))
async def test_starlette_is_served_as_without_the_layer(case: Case, way: str) -> None:
    """Bugs 21, 22, 23, 26, 30."""
    await check_way(starlette_app, case, way)


@pytest.mark.parametrize("case", parameters(CASES))
async def test_servers_of_asgi_2_4_are_served_alike(case: Case) -> None:
    """From 2.4 on `send` tells who has left, and apps listen no more while they stream."""
    await check_way(starlette_app, case, "miss", spec_version="2.4")


@pytest.mark.parametrize("case", parameters(CASES))
async def test_a_hit_is_the_first_answer_again(case: Case) -> None:
    """Bugs 24, 25, 30, 32, 49; streams, too, whose app stops when its client has all of it."""
    await check_hit(starlette_app, case)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("inside", "case"), MIDDLEWARE.values(), ids=MIDDLEWARE)
async def test_middleware_of_the_app_works_behind_the_layer(
    inside: Middleware, case: Case, way: str
) -> None:
    """Bugs 16, 28, 31."""
    await check_way(lambda log: starlette_app(log, inside), case, way)


@pytest.mark.parametrize(("inside", "case"), MIDDLEWARE.values(), ids=MIDDLEWARE)
async def test_what_middleware_of_the_app_made_is_kept(inside: Middleware, case: Case) -> None:
    """Bugs 16 and 31."""
    await check_hit(lambda log: starlette_app(log, inside), case)
