"""The layer between other middleware: what is outside of it, what is inside, where it is put."""

import asyncio
import contextvars
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from tests.asgi import JSON, Call, Model, ask, begin, http_scope, settle
from tests.middleware.cases import PATH, cached
from tests.middleware.test_transparency import CASES, Tagging, parameters, starlette_app
from tests.middleware.transparency import WAYS, Case, Log, RemoteStore, check_alike, mode_of

TEXT = b"said again and again " * 60
GZIP, IDENTITY = (b"accept-encoding", b"gzip"), (b"accept-encoding", b"identity")
ORIGINS = [(b"origin", b"https://a.example"), (b"origin", b"https://b.example")]


def layer(way: str) -> Middleware:
    return Middleware(
        CacheMiddleware,
        rules=[WAYS[way]],
        mode=mode_of(way),
        store=RemoteStore(),
        store_deadline=10,
    )


# How far streams run ahead of what is sent depends on what is in between.
QUIET = {name: case for name, case in CASES.items() if "stream" not in name}


@pytest.mark.parametrize(
    "outside",
    [
        pytest.param([], id="alone"),
        pytest.param([Middleware(GZipMiddleware)], id="gzip"),
        pytest.param([Middleware(CORSMiddleware, allow_origins=["*"])], id="cors"),
        pytest.param([Middleware(Tagging)], id="base"),
    ],
)
@pytest.mark.parametrize("case", parameters(QUIET))
async def test_added_to_an_app_it_is_not_seen(case: Case, outside: list[Middleware]) -> None:
    """Between an app's own error handling, its other middleware and its routes (bug 31)."""

    def bare(log: Log) -> ASGIApp:
        return starlette_app(log, *outside)

    def layered(log: Log) -> ASGIApp:
        return starlette_app(log, *outside, layer("miss"))

    await check_alike(bare, layered, case)


def says(body: bytes = TEXT) -> Model:
    return Model(headers=[(b"content-type", b"text/plain")], chunks=[body])


def text_of(call: Call) -> bytes:
    """Undo the encoding that the response names."""
    if call.header(b"content-encoding") == b"gzip":
        return zlib.decompress(call.content, wbits=31)
    return call.content


@pytest.mark.parametrize("order", [(GZIP, IDENTITY), (IDENTITY, GZIP)], ids=["gzip", "plain"])
@pytest.mark.parametrize("is_inside", [True, False], ids=["inside", "outside"])
async def test_nobody_gets_an_encoding_that_was_not_asked_for(
    is_inside: bool, order: tuple[tuple[bytes, bytes], ...]
) -> None:
    """bug 31: whoever asks first, at once or later, each gets the encoding that it can read."""
    model = says()
    model.gate = asyncio.Event()
    app = cached(GZipMiddleware(model)) if is_inside else GZipMiddleware(cached(model))
    calls = [Call(http_scope(headers=[JSON, order[n % 2]])) for n in range(4)]
    tasks = [begin(app, call) for call in calls]
    await settle()
    model.gate.set()
    await asyncio.gather(*tasks)
    calls += [await ask(app, headers=[JSON, order[n % 2]]) for n in range(4)]

    assert {text_of(call) for call in calls} == {TEXT}
    for place, call in enumerate(calls):
        expected = b"gzip" if order[place % 2] is GZIP else None
        assert call.header(b"content-encoding") == expected
    assert ["hit" in call.cache_status for call in calls] == [False] * 4 + [True] * 4
    assert model.calls == (2 if is_inside else 1)


@pytest.mark.parametrize("is_inside", [True, False], ids=["inside", "outside"])
async def test_every_origin_is_allowed_by_its_own_name(is_inside: bool) -> None:
    """bug 16: `Access-Control-Allow-Origin` of one origin is not replayed to another."""
    names = [value.decode() for _, value in ORIGINS]
    model = says()
    model.gate = asyncio.Event()

    def cors(app: ASGIApp) -> ASGIApp:
        return CORSMiddleware(app, allow_origins=names, allow_methods=["POST"])

    app = cached(cors(model)) if is_inside else cors(cached(model))
    calls = [Call(http_scope(headers=[JSON, ORIGINS[n % 2]])) for n in range(4)]
    tasks = [begin(app, call) for call in calls]
    await settle()
    model.gate.set()
    await asyncio.gather(*tasks)
    calls += [await ask(app, headers=[JSON, ORIGINS[n % 2]]) for n in range(2)]

    allowed = [call.header(b"access-control-allow-origin") for call in calls]
    assert allowed == [ORIGINS[n % 2][1] for n in range(6)]
    assert ["hit" in call.cache_status for call in calls[4:]] == [True, True]
    assert model.calls == (2 if is_inside else 1)


trace = contextvars.ContextVar("trace", default="none")


class Tracing:
    """Sets a context variable for what is inside, as tracers do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = trace.set(dict(scope["headers"]).get(b"traceparent", b"none").decode())
        try:
            await self._app(scope, receive, send)
        finally:
            trace.reset(token)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("outside", [[], [Middleware(Tagging)]], ids=["plain", "base"])
async def test_context_variables_set_outside_reach_the_app(
    way: str, outside: list[Middleware]
) -> None:
    """bug 29: in endpoints, in threads, and behind middleware that makes tasks of its own."""

    async def endpoint(request: Request) -> Response:
        return JSONResponse([trace.get(), await asyncio.to_thread(trace.get)])

    middleware = [Middleware(Tracing), *outside, layer(way)]
    app = Starlette(routes=[Route(PATH, endpoint, methods=["POST"])], middleware=middleware)
    headers = [JSON, (b"traceparent", b"00-7")]

    call = await ask(app, headers=headers)

    assert call.content == b'["00-7","00-7"]'
    assert trace.get() == "none"


class Passing(BaseHTTPMiddleware):
    """Does nothing, in the way that makes most trouble."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def test_behind_base_middleware_requests_still_meet() -> None:
    """bug 28: hits, followers and streams come through it."""
    model = Model(chunks=[b"one", b"two"], step=asyncio.Event())
    assert model.step is not None
    app = Passing(cached(model))
    calls = [Call(http_scope()) for _ in range(3)]
    tasks = [begin(app, call) for call in calls]
    for call in calls:
        await call.until(2)
    assert [call.chunks for call in calls] == [[b"one"]] * 3
    model.step.set()
    await asyncio.gather(*tasks)
    again = await ask(app)

    assert {call.content for call in (*calls, again)} == {b"onetwo"}
    assert model.calls == 1
    assert "hit" in again.cache_status


async def test_behind_base_middleware_a_leader_that_leaves_takes_nobody_along() -> None:
    """bug 28."""
    model = Model(gate=asyncio.Event())
    assert model.gate is not None
    app = Passing(cached(model))
    leader, follower = Call(http_scope()), Call(http_scope())
    tasks = [begin(app, leader), begin(app, follower)]
    await settle()

    leader.gone.set()
    tasks[0].cancel()
    await settle()
    model.gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert follower.content == b'{"call":1}'
    assert model.calls == 1


async def test_before_base_middleware_the_app_hears_that_its_clients_have_left() -> None:
    """bug 28: with it inside, a disconnect still arrives where it should."""
    heard = asyncio.Event()

    async def endpoint(request: Request) -> Response:
        await request.body()
        assert (await request.receive())["type"] == "http.disconnect"
        heard.set()
        return PlainTextResponse("too late")

    app = cached(
        Starlette(
            routes=[Route(PATH, endpoint, methods=["POST"])], middleware=[Middleware(Passing)]
        )
    )
    calls = [Call(http_scope()) for _ in range(2)]
    tasks = [begin(app, call) for call in calls]
    await settle()

    calls[0].gone.set()
    await settle()
    assert not heard.is_set()
    calls[1].gone.set()
    await asyncio.wait_for(heard.wait(), 5)
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("way", WAYS)
async def test_an_app_that_asks_whether_its_client_is_there_learns_it(way: str) -> None:
    """bug 28: `request.is_disconnected()` says no while the client waits, and yes when it left."""
    answers: list[bool] = []
    has_asked, go_on = asyncio.Event(), asyncio.Event()

    async def endpoint(request: Request) -> Response:
        await request.json()
        answers.append(await request.is_disconnected())
        has_asked.set()
        await go_on.wait()
        while not await request.is_disconnected():  # noqa: ASYNC110  (as apps do)
            await asyncio.sleep(0)
        answers.append(True)
        return PlainTextResponse("for nobody")

    routes = [Route(PATH, endpoint, methods=["POST"])]
    app = Starlette(routes=routes, middleware=[layer(way)])
    call = Call(http_scope(), [b"{}"])
    task = begin(app, call)
    await asyncio.wait_for(has_asked.wait(), 5)

    call.gone.set()
    go_on.set()
    await asyncio.wait_for(task, 5)

    assert answers == [False, True]


class Badge(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> Any:
        if conn.headers.get("authorization") == "Bearer good":
            return AuthCredentials(["authenticated"]), SimpleUser("alice")
        return None


async def test_authentication_inside_is_asked_each_time() -> None:
    """bug 20: neither a hit nor another's flight stands in for it."""

    @requires("authenticated")
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("for members")

    app = Starlette(
        routes=[Route(PATH, endpoint, methods=["POST"])],
        middleware=[
            Middleware(CacheMiddleware, rules=[Rule(PATH)]),
            Middleware(AuthenticationMiddleware, backend=Badge()),
        ],
    )
    good = [JSON, (b"authorization", b"Bearer good")]
    bad = [JSON, (b"authorization", b"Bearer bad")]

    calls = await asyncio.gather(*(ask(app, headers=h) for h in (good, bad, [JSON], good, [JSON])))
    again = [await ask(app, headers=headers) for headers in (good, bad, [JSON])]

    assert [call.status for call in calls] == [200, 403, 403, 200, 403]
    assert [call.status for call in again] == [200, 403, 403]


async def test_a_layer_mounted_below_a_path_covers_what_is_below() -> None:
    """bug 27: its rules are matched after the mount's path, and the rest is not its business."""
    model = Model()
    app = Starlette(routes=[Mount("/api", cached(model)), Route(PATH, lambda r: Response("no"))])

    calls = [await ask(app, path="/api" + PATH) for _ in range(2)]

    assert ["hit" in call.cache_status for call in calls] == [False, True]
    assert model.calls == 1


def whole_app() -> Starlette:
    """An app that uses everything a test client offers."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, str]]:
        app.state.events = ["started"]
        yield {"model": "small"}
        app.state.events.append("stopped")

    async def endpoint(request: Request) -> Response:
        request.app.state.events.append("asked")
        return JSONResponse({"model": request.state.model, "body": await request.json()})

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="chat")
        await websocket.send_text(await websocket.receive_text())
        await websocket.send_bytes(await websocket.receive_bytes())
        await websocket.close(4000, "enough")

    async def refuse(websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("no", status_code=403))

    return Starlette(
        routes=[
            Route(PATH, endpoint, methods=["POST"]),
            WebSocketRoute(PATH, talk),
            WebSocketRoute("/refused", refuse),
        ],
        lifespan=lifespan,
        middleware=[Middleware(CacheMiddleware, rules=[Rule(PATH)])],
    )


def test_lifespan_and_its_state_go_through() -> None:
    """bug 27: the app starts and stops, and requests see the state that it made at its start."""
    app = whole_app()

    with TestClient(app) as client:
        first = client.post(PATH, json={"n": 1})
        second = client.post(PATH, json={"n": 1})

    assert first.json() == second.json() == {"model": "small", "body": {"n": 1}}
    assert "hit" in second.headers["cache-status"]
    assert app.state.events == ["started", "asked", "stopped"]


def test_websockets_go_through() -> None:
    """bug 27: also at a path that a rule covers."""
    with (
        TestClient(whole_app()) as client,
        client.websocket_connect(PATH, subprotocols=["chat"]) as socket,
    ):
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
        socket.send_bytes(b"\x00\xff")
        assert socket.receive_bytes() == b"\x00\xff"
        assert socket.receive() == {"type": "websocket.close", "code": 4000, "reason": "enough"}


@pytest.mark.parametrize("path", [PATH, "/refused", "/nowhere"])
async def test_websocket_messages_are_untouched(path: str) -> None:
    """bug 27: denials included, which look like HTTP responses."""
    scope = {
        **http_scope(path=path), "type": "websocket", "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    said: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hello"},
        {"type": "websocket.receive", "bytes": b"\x00\xff"},
    ]

    async def talk(app: ASGIApp) -> list[Message]:
        waiting, heard = iter(said), list[Message]()

        async def receive() -> Message:
            return next(waiting)

        async def send(message: Message) -> None:
            heard.append(message)

        await app(dict(scope), receive, send)
        return heard

    bare = whole_app()
    bare.user_middleware.clear()

    assert await talk(whole_app()) == await talk(bare)
