"""A change of a resource outdates what is stored of it (RFC 9111 §4.4, RFC 9875 §3)."""

from collections.abc import Callable
from typing import Any

import pytest

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import Header, Receive, Scope, Send
from tests.asgi import Call, ask, begin
from tests.middleware.origin import Gate, Origin, cached, control, scope_of


@pytest.mark.parametrize(
    ("method", "status", "is_outdated"),
    [
        ("POST", 200, True),
        ("PUT", 201, True),
        ("DELETE", 204, True),
        ("M-SEARCH", 200, True),
        ("PATCH", 303, True),
        ("POST", 404, False),
        ("PUT", 500, False),
        ("OPTIONS", 200, False),
    ],
)
async def test_a_change_outdates_what_is_stored(
    method: str, status: int, is_outdated: bool
) -> None:
    """RFC 9111 §4.4 (bug 53)."""
    cache = cached(Origin([control(b"max-age=5")]))
    await cache.get()
    cache.origin.status = status
    change = await cache.get(method=method)

    assert ((await cache.get()).content != b"1") is is_outdated
    assert change.cache_status == ""


@pytest.mark.parametrize(
    ("pointer", "is_outdated"),
    [
        pytest.param((b"location", b"/a%20b"), True, id="location"),
        pytest.param((b"Content-Location", b"a%20b"), True, id="content-location"),
        pytest.param((b"location", b"http://test/a%20b"), True, id="whole-url"),
        pytest.param((b"location", b"http://elsewhere/a%20b"), False, id="other-origin"),
        pytest.param((b"location", b"/a%20b?x"), False, id="other-query"),
        pytest.param((b"location", b"http://[/"), False, id="no-url"),
        pytest.param((b"link", b"/a%20b"), False, id="other-field"),
    ],
)
async def test_a_change_outdates_what_it_points_to(pointer: Header, is_outdated: bool) -> None:
    """RFC 9111 §4.4, within the origin alone (bug 53)."""
    cache = cached(Origin([control(b"max-age=5")]))
    await cache.get(path="/a b")
    cache.origin.headers = [pointer]

    await cache.get(method="POST", path="/things")
    cache.origin.headers = [control(b"max-age=5")]

    assert ((await cache.get(path="/a b")).content == b"3") is is_outdated


async def test_a_route_that_a_rule_covers_is_no_change() -> None:
    """A POST that is cached asks a question."""
    cache = cached(Origin([control(b"max-age=5")]), methods={"GET", "POST"})
    await cache.get()

    await cache.get(method="POST")

    assert (await cache.get()).content == b"1"


async def test_a_change_outdates_an_answer_that_is_on_its_way() -> None:
    """bug 38."""
    gate = Gate()
    cache = cached(Origin([control(b"max-age=5")]))
    cache.app._shared.app = _routed(gate, cache.origin)
    call = Call(scope_of())
    task = begin(cache.app, call)
    gate.start.set_result(None)
    await call.until(1)

    await cache.get(method="PUT")
    gate.end.set_result(None)
    await task
    cache.app._shared.app = cache.origin

    assert (await cache.get()).content != b"1"


def _routed(first: Callable[..., Any], then: Callable[..., Any]) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (first if scope["method"] == "GET" else then)(scope, receive, send)

    return app


async def test_a_group_is_outdated_together() -> None:
    """RFC 9875 §2, §3."""
    cache = cached(Origin([control(b"max-age=5"), (b"cache-groups", b'"news", "front"')]))
    await cache.get(path="/a")
    cache.origin.headers = [control(b"max-age=5"), (b"cache-groups", b'"other"')]
    await cache.get(path="/b")
    cache.origin.headers = [(b"cache-group-invalidation", b'"front"')]

    await cache.get(method="POST", path="/edit")
    cache.origin.headers = [control(b"max-age=5")]

    assert (await cache.get(path="/a")).content == b"4"
    assert (await cache.get(path="/b")).content == b"2"


async def test_a_change_outdates_what_a_cache_holds_that_was_closed() -> None:
    """It opens its store again, as for any other request."""
    cache = CacheMiddleware(
        Origin([control(b"max-age=5")]), rules=[Rule("/doc", methods={"GET"}, ttl=None)]
    )
    await cache.aclose()

    change = await ask(cache, method="PUT", path="/doc")

    assert change.status == 200


async def test_a_client_that_names_no_host_is_served() -> None:
    """HTTP/1.0 has no such field."""
    cache = cached(Origin([control(b"max-age=5")]))
    calls = [Call(scope_of(), (b"",)) for _ in range(2)]
    for call in calls:
        call.scope["headers"] = [(b"x-a", b"1")]
        await call.run(cache.app)

    assert calls[1].cache_status == "memoserve; hit; ttl=5"
