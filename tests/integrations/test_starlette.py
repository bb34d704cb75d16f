"""Marked endpoints in Starlette: what is covered, and above all what is not."""

import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import litestar
import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from memoserve import Rule
from memoserve.telemetry.scrape import MetricsApp
from memoserve_integrations._layers import living
from memoserve_integrations.starlette import cached, install
from tests.asgi import Call, ask, http_scope

Endpoint = Callable[[Request], Awaitable[Response]]


def counter(name: str = "answer") -> Endpoint:
    """Make an endpoint that numbers its answers."""
    calls: list[str] = []

    async def endpoint(request: Request) -> Response:
        calls.append(request.url.path)
        return PlainTextResponse(f"{name} {len(calls)}")

    return endpoint


def installed(*routes: BaseRoute, **options: Any) -> Starlette:
    app = Starlette(routes=routes)
    install(app, metrics_path=None, **options)
    return app


async def twice(app: Any, path: str, method: str = "GET", host: bytes = b"test") -> tuple[str, str]:
    """Return both answers to one question."""
    answers: list[str] = []
    for _ in range(2):
        scope = http_scope(path=path, method=method)
        scope["headers"] = [(b"host", host)]
        answers.append((await Call(scope).run(app)).content.decode())
    return answers[0], answers[1]


SAME, OTHER = ("answer 1", "answer 1"), ("answer 1", "answer 2")


async def test_marked_endpoints_are_covered_and_no_others() -> None:
    """bug 54."""
    app = installed(Route("/marked", cached(ttl=60)(counter())), Route("/plain", counter()))

    assert await twice(app, "/marked") == SAME
    assert await twice(app, "/plain") == OTHER


async def test_the_options_are_those_of_a_rule() -> None:
    marked = cached(ttl=60, tags=["a"], private="share")(counter())
    app = installed(Route("/marked", marked), clock=lambda: 1e9)

    first = await ask(app, path="/marked", method="GET", headers=[(b"authorization", b"a")])
    second = await ask(app, path="/marked", method="GET", headers=[(b"authorization", b"b")])

    assert first.cache_status == "memoserve; fwd=miss"
    assert second.cache_status == "memoserve; hit; ttl=60"


async def test_an_earlier_route_with_such_a_path_is_not_covered() -> None:
    """bug 54: `/items/me` looks like an item."""
    app = installed(
        Route("/items/me", counter()),
        Route("/items/{id}", cached()(counter())),
    )

    assert await twice(app, "/items/me") == OTHER
    assert await twice(app, "/items/1") == SAME


async def test_a_later_route_with_such_a_path_never_has_it() -> None:
    app = installed(Route("/items/{id}", cached()(counter())), Route("/items/me", counter("me")))

    assert await twice(app, "/items/me") == SAME


async def test_methods_that_are_not_marked_are_not_covered() -> None:
    """bug 54: what a mark leaves over is no other mark's either."""
    both = cached(methods=["GET"])(counter())
    app = installed(
        Route("/items/{id}", both, methods=["GET", "POST", "DELETE"]),
        Route("/{any:path}", cached()(counter()), methods=["GET", "POST"]),
    )

    assert await twice(app, "/items/1") == SAME
    assert await twice(app, "/items/1", "POST") == ("answer 2", "answer 3")
    assert await twice(app, "/items/1", "DELETE") == ("answer 4", "answer 5")
    assert await twice(app, "/else", "POST") == SAME


@pytest.mark.parametrize(
    ("pattern", "path", "is_contested"),
    [
        pytest.param("/a/b", "/a/b", True, id="the-same"),
        pytest.param("/a/{x:int}", "/a/b", False, id="no-number"),
        pytest.param("/{x:path}", "/a/b", True, id="everything"),
        pytest.param("/a", "/a/b", False, id="shorter"),
        pytest.param("/a/b/c", "/a/b", False, id="longer"),
        pytest.param("/a/c", "/a/b", False, id="another"),
        pytest.param("/{x}-{y}/b", "/a-a/b", True, id="within-a-segment"),
    ],
)
async def test_the_router_has_the_last_word(pattern: str, path: str, is_contested: bool) -> None:
    app = installed(
        Route(pattern, counter()),
        Route("/{one}/{two}", cached()(counter())),
    )

    assert await twice(app, path) == (OTHER if is_contested else SAME)


async def test_what_is_mounted_is_covered_by_its_whole_path() -> None:
    inner = Starlette(routes=[Route("/{id}", cached()(counter())), Route("/a/plain", counter())])
    app = installed(
        Mount("/sub", inner), Mount("/{any}", routes=[Route("/b", cached()(counter()))])
    )

    assert await twice(app, "/sub/1") == SAME
    assert await twice(app, "/sub/a/plain") == OTHER
    assert await twice(app, "/any/b") == SAME
    assert (await ask(app, path="/sub/b/c", method="GET")).status == 404


async def test_a_mount_keeps_what_comes_after_it_from_its_paths() -> None:
    """bug 54: another app has them all, whatever it makes of them."""
    plain = counter()

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        await (await plain(Request(scope)))(scope, receive, send)

    app = installed(Mount("/sub", other), Route("/{any}/model", cached()(counter())))

    assert await twice(app, "/sub/model") == OTHER
    assert await twice(app, "/x/model") == SAME


async def test_another_framework_may_be_mounted() -> None:
    @litestar.get("/model", sync_to_thread=False)
    def model() -> str:
        return "mounted"

    inner: Any = litestar.Litestar([model], logging_config=None)
    app = installed(Mount("/sub", inner), Route("/{any}/model", cached()(counter())))

    assert await twice(app, "/sub/model") == ("mounted", "mounted")
    assert (await ask(app, path="/sub/model", method="GET")).cache_status == ""
    assert await twice(app, "/x/model") == SAME


async def test_a_route_of_one_host_is_not_that_of_another() -> None:
    """bug 54."""
    app = installed(
        Host("a.test", Starlette(routes=[Route("/model", cached()(counter()))])),
        Route("/model", counter()),
    )

    assert await twice(app, "/model", host=b"a.test") == SAME
    assert await twice(app, "/model", host=b"b.test") == OTHER


async def test_routes_of_an_unknown_kind_may_take_anything() -> None:
    class Own(BaseRoute):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            is_mine = scope["type"] == "http" and scope["path"].endswith("/mine")
            return (Match.FULL if is_mine else Match.NONE), {}

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            await (await answer(Request(scope)))(scope, receive, send)

    answer = counter()
    app = installed(Own(), Route("/{any:path}", cached()(counter())))

    assert await twice(app, "/a/mine") == OTHER
    assert await twice(app, "/a") == SAME


async def test_websockets_and_paths_that_nobody_has_are_nobodys() -> None:
    async def socket(scope: Scope, receive: Receive, send: Send) -> None: ...

    app = installed(
        WebSocketRoute("/a", socket),
        Route("/items/{id:int}", counter()),
        Route("/{any:path}", cached()(counter())),
    )

    assert await twice(app, "/a") == SAME


async def test_the_rules_that_are_given_come_first() -> None:
    app = installed(
        Route("/marked", cached(ttl=10)(counter())),
        rules=[Rule("/marked", methods={"GET"}, ttl=60)],
        clock=lambda: 1e9,
    )
    await ask(app, path="/marked", method="GET")

    assert "ttl=60" in (await ask(app, path="/marked", method="GET")).cache_status


async def test_marks_are_found_through_wrappers_and_partials() -> None:
    marked = cached()(counter())

    @functools.wraps(marked)
    async def wrapper(request: Request) -> Response:
        return await marked(request)

    app = installed(Route("/wrapper", wrapper), Route("/partial", functools.partial(marked)))

    assert await twice(app, "/wrapper") == SAME
    assert await twice(app, "/partial") == ("answer 2", "answer 2")


async def test_a_class_is_covered_where_it_answers_itself() -> None:
    calls: list[str] = []

    @cached()
    class Marked(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            calls.append("get")
            return PlainTextResponse(str(len(calls)))

        post = delete = get

    class Derived(Marked):
        """Nobody has marked this one."""

    app = installed(Route("/marked", Marked), Route("/derived", Derived))

    assert await twice(app, "/marked") == ("1", "1")
    assert await twice(app, "/marked", "POST") == ("2", "2")
    assert await twice(app, "/marked", "DELETE") == ("3", "4")
    assert await twice(app, "/derived") == ("5", "6")


@pytest.mark.parametrize("is_started", [True, False])
async def test_routes_may_come_until_the_app_serves(is_started: bool) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        app.add_route("/early", cached()(counter()), methods=["GET"])
        yield

    app = Starlette(lifespan=lifespan)
    install(app)
    app.add_route("/late", cached()(counter()), methods=["GET"])

    async with living(app) if is_started else contextlib.nullcontext():
        assert await twice(app, "/late") == SAME
        if is_started:
            assert await twice(app, "/early") == SAME


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({"ttl": -1}, "ttl must be a positive", id="value"),
        pytest.param({"tll": 1}, "tll", id="name"),
    ],
)
def test_a_wrong_mark_fails_where_it_is_made(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        cached(**options)


async def test_a_mark_that_does_not_suit_its_route_keeps_the_app_from_starting() -> None:
    app = installed(Route("/marked", cached(models=["a"])(counter())))

    with pytest.raises(ValueError, match="/marked cannot be cached as it asks to be: models"):
        await ask(app, path="/marked")


async def test_a_mark_for_another_routes_methods_keeps_the_app_from_starting() -> None:
    """bug 54."""
    marked = cached(methods=["GET", "POST"])(counter())
    app = installed(Route("/item", marked, methods=["POST"]), Route("/item", counter()))

    with pytest.raises(ValueError, match="/item cannot be cached as it asks to be: methods must"):
        await ask(app, path="/item")


async def test_a_route_without_a_method_to_be_cached_keeps_the_app_from_starting() -> None:
    app = installed(Route("/marked", cached()(counter()), methods=["DELETE"]))

    with pytest.raises(ValueError, match="/marked cannot be cached as it asks to be: methods"):
        await ask(app, path="/marked")


async def test_what_is_installed_twice_works_once() -> None:
    """bug 27."""
    app = installed(Route("/marked", cached(ttl=60)(counter())), clock=lambda: 1e9)
    install(app, clock=lambda: 1e9)

    assert await twice(app, "/marked") == SAME
    assert (await ask(app, path="/marked", method="GET")).cache_status == "memoserve; fwd=miss"


async def test_nothing_to_be_cached_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = installed(Route("/plain", counter()))

    with caplog.at_level(logging.WARNING):
        assert await twice(app, "/plain") == OTHER

    assert [record.message for record in caplog.records] == [
        "nothing is cached: there are no rules, and no route asks for it"
    ]


async def test_an_app_that_serves_takes_no_layer() -> None:
    app = Starlette()
    await ask(app)

    with pytest.raises(RuntimeError, match="started"):
        install(app, rules=[Rule("/")])


async def test_what_is_mounted_at_the_root_leaves_room_for_the_metrics() -> None:
    app = Starlette(routes=[Mount("/", Starlette())])
    install(app, rules=[Rule("/")])

    assert (await ask(app, path="/metrics", method="GET")).status == 200


@pytest.mark.parametrize(
    "route",
    [
        pytest.param(Route("/metrics", MetricsApp()), id="route"),
        pytest.param(Mount("/metrics", MetricsApp()), id="mount"),
        pytest.param(Mount("/", routes=[Route("/metrics", counter())]), id="inside"),
    ],
)
async def test_a_page_of_the_apps_own_is_not_hidden(route: BaseRoute) -> None:
    with pytest.raises(ValueError, match="the app has /metrics already: name another metrics_path"):
        install(Starlette(routes=[route]))

    app = Starlette()
    install(app)
    app.router.routes.append(route)

    with pytest.raises(RuntimeError, match="the app has /metrics already: name another"):
        async with living(app):
            pytest.fail("it has not started")


async def test_an_app_that_does_not_start_says_why() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        if app.routes:
            raise LookupError("no model")
        yield

    app = Starlette(lifespan=lifespan)
    install(app, rules=[Rule("/")])

    with pytest.raises(RuntimeError, match="LookupError: no model"):
        async with living(app):
            pytest.fail("it has not started")


async def test_what_is_added_later_sees_every_request() -> None:
    """bug 20: and what was added before sees those that are no hits."""
    seen: list[str] = []

    class Outer:
        name = "outer"

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(self.name)
            await self.app(scope, receive, send)

    class Inner(Outer):
        name = "inner"

    app = Starlette(routes=[Route("/marked", cached()(counter()))])
    app.add_middleware(Inner)
    install(app)
    app.add_middleware(Outer)

    assert await twice(app, "/marked") == SAME
    assert seen == ["outer", "inner", "outer"]
