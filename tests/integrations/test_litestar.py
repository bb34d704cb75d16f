"""Handlers of Litestar that opt in and out, and what its OpenAPI document says of them."""

from typing import Any

import pytest
from litestar import Controller, Litestar, Router, asgi, delete, get, post
from litestar.config.cors import CORSConfig
from litestar.datastructures import CacheControlHeader, ResponseHeader
from litestar.middleware import ASGIMiddleware
from litestar.types import Receive, Scope, Send

from memoserve import MemoryStore, Rule
from memoserve._asgi import respond
from memoserve_integrations._layers import living
from memoserve_integrations.litestar import MemoservePlugin
from tests.asgi import Call, ask, http_scope

OPTED = {"memoserve": True}


def counter(path: str | list[str], decorate: Any = get, **options: Any) -> Any:
    """Make a handler that numbers its answers."""
    calls: list[str] = []

    async def handler() -> str:
        calls.append("")
        return f"answer {len(calls)}"

    return decorate(path, media_type="text/plain", **options)(handler)


def served(*handlers: Any, opt: dict[str, Any] | None = None, **options: Any) -> Any:
    plugin = MemoservePlugin(**{"metrics_path": None, **options})
    return Litestar(handlers, plugins=[plugin], opt=opt, logging_config=None)


async def twice(app: Any, path: str, method: str = "GET", **scope: Any) -> tuple[str, str]:
    """Return both answers to one question."""
    answers = [await ask(app, path=path, method=method, headers=(), **scope) for _ in range(2)]
    return answers[0].content.decode(), answers[1].content.decode()


SAME, OTHER = ("answer 1", "answer 1"), ("answer 1", "answer 2")


async def test_handlers_that_opt_in_are_covered_and_no_others() -> None:
    """bug 54."""
    app = served(counter("/in", opt=OPTED), counter("/plain"))

    assert await twice(app, "/in") == SAME
    assert await twice(app, "/plain") == OTHER


async def test_the_options_are_those_of_a_rule() -> None:
    app = served(counter("/in", opt={"memoserve": {"ttl": 60}}), clock=lambda: 1e9)
    await ask(app, path="/in", method="GET")

    assert (await ask(app, path="/in", method="GET")).cache_status == "memoserve; hit; ttl=60"


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        pytest.param({"cache_control": CacheControlHeader(max_age=60)}, SAME, id="cache-control"),
        pytest.param({"response_headers": {"CDN-Cache-Control": "max-age=60"}}, SAME, id="cdn"),
        pytest.param({}, OTHER, id="no-lifetime"),
    ],
)
async def test_a_201_is_stored_where_the_rule_lists_it_and_the_answer_states_a_lifetime(
    options: dict[str, Any], answers: tuple[str, str]
) -> None:
    """Litestar answers a POST with 201 unless told otherwise; its page says this."""
    app = served(counter("/in", post, opt={"memoserve": {"statuses": {201}}}, **options))

    assert await twice(app, "/in", "POST") == answers


async def test_a_handler_that_opts_out_is_out_whatever_a_rule_says() -> None:
    app = served(
        counter("/out", opt={"memoserve": False}),
        counter("/ruled"),
        rules=[Rule("/{any:path}", methods={"GET"})],
    )

    assert await twice(app, "/out") == OTHER
    assert await twice(app, "/ruled") == SAME


async def test_an_opt_is_inherited_and_overridden() -> None:
    class Models(Controller):
        path = "/models"
        opt = OPTED
        calls = 0

        def count(self) -> str:
            self.calls += 1
            return f"answer {self.calls}"

        @get("/a")
        async def a(self) -> str:
            return self.count()

        @get("/b", opt={"memoserve": False})
        async def b(self) -> str:
            return self.count()

        @delete("/c", status_code=200)
        async def c(self) -> str:
            return self.count()

    app = served(Router("/v1", route_handlers=[Models]))

    assert await twice(app, "/v1/models/a") == SAME
    assert await twice(app, "/v1/models/b") == ("answer 2", "answer 3")
    assert await twice(app, "/v1/models/c", "DELETE") == ("answer 4", "answer 5")


async def test_an_app_may_opt_in_as_a_whole() -> None:
    """bug 54: only what a rule may be for; the metrics are no answer of the app's."""
    app = served(counter("/a"), counter("/b", delete, status_code=200), opt=OPTED,
                 metrics_path="/metrics")  # fmt: skip

    assert await twice(app, "/a") == SAME
    assert await twice(app, "/b", "DELETE") == OTHER
    assert (await ask(app, path="/metrics", method="GET")).cache_status == ""


async def test_a_handler_whose_path_looks_like_one_that_opted_in_is_not_covered() -> None:
    """bug 54."""
    app = served(
        counter("/items/me"),
        counter("/items/{id:str}", opt=OPTED),
        counter("/items/{id:str}", post, status_code=200),
        rules=[Rule("/ruled", methods={"GET"})],
    )

    assert await twice(app, "/items/me") == OTHER
    assert await twice(app, "/items/1") == SAME
    assert await twice(app, "/items/1", "POST") == OTHER


async def test_of_two_that_opted_in_each_has_its_own_options() -> None:
    word = counter("/items/me", opt={"memoserve": {"ttl": 10}})
    number = counter("/items/{id:int}", opt={"memoserve": {"ttl": 20}})
    rest = counter("/{rest:path}", opt={"memoserve": {"ttl": 30}})
    app = served(rest, number, word, clock=lambda: 1e9)

    for path, ttl in {"/items/me": 10, "/items/1": 20, "/a/b/c": 30}.items():
        assert await twice(app, path)
        assert (await ask(app, path=path, method="GET", headers=())).cache_status.endswith(
            f"ttl={ttl}"
        )


async def test_the_rules_that_are_given_come_first() -> None:
    app = served(
        counter("/in", opt={"memoserve": {"ttl": 10}}),
        rules=[Rule("/in", methods={"GET"}, ttl=60)],
        clock=lambda: 1e9,
    )
    await ask(app, path="/in", method="GET")

    assert (await ask(app, path="/in", method="GET")).cache_status.endswith("ttl=60")


async def test_a_change_outdates_what_is_stored_of_a_resource() -> None:
    app = served(counter("/item", opt=OPTED), counter("/item", delete, status_code=200))
    assert await twice(app, "/item") == SAME

    await ask(app, path="/item", method="DELETE", headers=())

    assert await twice(app, "/item") == ("answer 2", "answer 2")


@pytest.mark.parametrize("root", ["", "/api"])
async def test_two_mounts_are_told_apart(root: str) -> None:
    """bug 2: Litestar shows both the same path."""

    def mounted(name: bytes) -> Any:
        @asgi(f"/{name.decode()}", is_mount=True, copy_scope=True)
        async def mount(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["path"] == "/model/"
            assert scope["root_path"] == root
            respond_to: Any = send
            await respond(respond_to, 200, [], [name])

        return mount

    app = served(mounted(b"a"), mounted(b"b"), rules=[Rule("/{name}/model")])

    for name in ("a", "b"):
        paths: dict[str, Any] = {"path": f"{root}/{name}/model", "root_path": root, "headers": ()}
        answers = [await ask(app, **paths) for _ in range(2)]
        assert {answer.content.decode() for answer in answers} == {name}
        assert "hit" in answers[1].cache_status


async def test_a_mount_whose_whole_path_nobody_knows_is_not_covered() -> None:
    """bug 2."""

    @asgi("/a", is_mount=True, copy_scope=True)
    async def mount(scope: Scope, receive: Receive, send: Send) -> None:
        respond_to: Any = send
        await respond(respond_to, 200, [], [b"a"])

    app = served(mount, rules=[Rule("/{any:path}")])
    scope = http_scope(path="/a/model")
    del scope["raw_path"]

    assert (await Call(scope).run(app)).cache_status == ""


async def test_handlers_may_come_until_the_app_serves() -> None:
    app = served(counter("/a", opt=OPTED))
    app.register(counter("/b", opt=OPTED))

    assert await twice(app, "/a") == SAME
    assert await twice(app, "/b") == SAME
    with pytest.raises(RuntimeError, match="/c asks to be cached after the first request"):
        app.register(counter("/c", opt=OPTED))


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        pytest.param(60, "must be True, False or options of Rule, not 60", id="kind"),
        pytest.param({"tll": 60}, "of /in: .*tll", id="name"),
        pytest.param({"ttl": -1}, "ttl must be a positive", id="value"),
    ],
)
def test_a_wrong_opt_fails_at_once(wanted: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        served(counter("/in", opt={"memoserve": wanted}))


async def test_an_app_may_live_twice() -> None:
    """A test client starts and ends it each time."""
    store = MemoryStore()
    app = served(counter("/in", opt=OPTED), store=store)

    for expected in (SAME, SAME):
        async with living(app):
            assert await twice(app, "/in") == expected


async def test_nothing_opted_in_is_no_harm() -> None:
    app = served(counter("/plain"))

    async with living(app):
        assert await twice(app, "/plain") == OTHER


@asgi("/metrics", is_mount=True, copy_scope=True)
async def mounted_page(scope: Scope, receive: Receive, send: Send) -> None: ...


@pytest.mark.parametrize(
    "own",
    [pytest.param(counter("/metrics"), id="handler"), pytest.param(mounted_page, id="mount")],
)
def test_a_page_of_the_apps_own_is_not_hidden(own: Any) -> None:
    with pytest.raises(ValueError, match="the app has /metrics already"):
        served(own, metrics_path="/metrics/")

    app = served(metrics_path="/metrics/")

    with pytest.raises(ValueError, match="the app has /metrics already"):
        app.register(own)


def fields_in(app: Any, path: str) -> set[str]:
    operation = app.openapi_schema.to_schema()["paths"][path]["get"]
    return set(operation["responses"]["200"].get("headers", {}))


def test_the_document_names_the_fields_of_covered_answers() -> None:
    app = served(
        counter(["/in/{id:uuid}", "/also"], opt=OPTED),
        counter("/ruled/{id:int}"),
        counter("/out/{id:int}", opt={"memoserve": False}),
        counter("/plain"),
        rules=[Rule("/ruled/{id:int}", methods={"GET"}), Rule("/out/{id}", methods={"GET"})],
    )

    assert fields_in(app, "/in/{id}") == {"Cache-Status", "Age"}
    assert fields_in(app, "/also") == {"Cache-Status", "Age"}
    assert fields_in(app, "/ruled/{id}") == {"Cache-Status", "Age"}
    assert fields_in(app, "/out/{id}") == fields_in(app, "/plain") == set()


async def test_the_document_keeps_what_a_handler_says_of_a_field() -> None:
    own = ResponseHeader(name="age", description="ours", documentation_only=True)
    app = served(counter("/in", opt=OPTED, response_headers=[own]))

    operation = app.openapi_schema.to_schema()["paths"]["/in"]["get"]
    headers = operation["responses"]["200"]["headers"]

    assert headers["age"]["description"] == "ours"
    assert set(headers) == {"age", "Cache-Status"}


def test_fields_that_are_hidden_are_not_documented() -> None:
    assert fields_in(served(counter("/in", opt=OPTED), cache_status=False), "/in") == set()


async def test_a_hit_skips_guards_and_middleware_but_not_what_is_around_the_routes() -> None:
    """bug 20."""
    seen: list[str] = []

    class Inner(ASGIMiddleware):
        async def handle(self, scope: Any, receive: Any, send: Any, next_app: Any) -> None:
            seen.append("middleware")
            await next_app(scope, receive, send)

    async def sent(message: Any, scope: Any) -> None:
        if message["type"] == "http.response.start":
            seen.append("before_send")

    app: Any = Litestar(
        [counter("/in", opt=OPTED, guards=[lambda connection, handler: seen.append("guard")])],
        plugins=[MemoservePlugin(metrics_path=None)],
        middleware=[Inner()],
        before_send=[sent],
        cors_config=CORSConfig(allow_origins=["https://a.example"]),
        logging_config=None,
    )
    answers = [
        await ask(app, path="/in", method="GET", headers=[(b"origin", b"https://a.example")])
        for _ in range(2)
    ]

    assert seen == ["middleware", "guard", "before_send", "before_send"]
    assert [each.header(b"access-control-allow-origin") for each in answers] == [
        b"https://a.example"
    ] * 2
