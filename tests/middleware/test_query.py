"""QUERY (RFC 10008), and the same cache for a POST whose origin has opted in.

Each row: what differs in the second request, and whether it may have the first one's answer.
"""

from typing import Any

import pytest

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import Header
from tests.asgi import JSON, Call, Model, ask
from tests.middleware.cases import Clock

BODY = b'{"q": "cats", "n": 1}'
SECOND: dict[str, tuple[dict[str, Any], bool]] = {
    "the-same": ({}, True),
    "respelled": ({"body": b'{"n":1,"q":"c\\u0061ts"}'}, True),
    "other-content": ({"body": b'{"q": "dogs", "n": 1}'}, False),
    "other-number": ({"body": b'{"q": "cats", "n": 1.0}'}, False),
    "no-content": ({"body": b""}, False),
    "other-query-string": ({"query_string": b"page=2"}, False),
    "other-path": ({"path": "/other"}, False),
    "other-type": ({"headers": [(b"content-type", b"application/ld+json")]}, False),
    "other-charset": ({"headers": [(b"content-type", b"application/json;charset=utf-16")]}, False),
    "no-type": ({"headers": []}, False),
    "encoded": ({"headers": [JSON, (b"content-encoding", b"gzip")]}, False),
    "other-accept": ({"headers": [JSON, (b"accept", b"text/csv")]}, False),
    "other-irrelevant-field": ({"headers": [JSON, (b"x-a", b"1")]}, True),
    "credentials": ({"headers": [JSON, (b"authorization", b"a")]}, False),
}


def cache_of(*headers: Header, **options: Any) -> tuple[CacheMiddleware, Model]:
    model = Model(headers=[JSON, *headers])
    clock = Clock()
    rule = Rule("/{rest:path}", **{"methods": {"QUERY", "POST"}, **options})
    return CacheMiddleware(model, rules=[rule], clock=clock), model


async def send(app: CacheMiddleware, method: str, body: bytes = BODY, **scope: Any) -> Call:
    return await ask(app, body, method=method, **{"headers": [JSON], **scope})


@pytest.mark.parametrize("method", ["QUERY", "POST"])
@pytest.mark.parametrize(("second", "is_shared"), SECOND.values(), ids=SECOND.keys())
async def test_the_key_has_the_content_and_what_describes_it(
    second: dict[str, Any], is_shared: bool, method: str
) -> None:
    """RFC 10008 §2.7 (bug 1, bug 2, bug 9)."""
    app, model = cache_of()
    await send(app, method)

    await send(app, method, **second)

    assert (model.calls == 1) is is_shared


async def test_the_two_methods_share_nothing() -> None:
    app, model = cache_of()
    await send(app, "QUERY")

    await send(app, "POST")

    assert model.calls == 2


async def test_the_app_gets_the_content_as_it_came() -> None:
    """RFC 10008 §2.7: normalization is for the key alone."""
    app, model = cache_of()

    await send(app, "QUERY")

    assert model.bodies == [BODY]


@pytest.mark.parametrize(
    ("method", "client_control", "calls"),
    [("QUERY", "ignore", 2), ("POST", "ignore", 1), ("POST", "obey", 2)],
)
async def test_a_client_may_have_its_spelling_kept(
    method: str, client_control: Any, calls: int
) -> None:
    """RFC 10008 §2.7, RFC 9111 §5.2.1.6: no-transform."""
    model = Model()
    rule = Rule("/{rest:path}", methods={method})
    app = CacheMiddleware(model, rules=[rule], client_control=client_control)
    untouched = [JSON, (b"cache-control", b"no-transform")]
    await send(app, method, headers=untouched)

    await send(app, method, b'{"n":1,"q":"cats"}', headers=untouched)

    assert model.calls == calls


async def test_what_the_app_says_of_queries_passes() -> None:
    """RFC 10008 §3: Accept-Query."""
    app, _ = cache_of((b"accept-query", b"application/json"))

    answers = [await send(app, "QUERY") for _ in range(2)]

    assert {answer.header(b"accept-query") for answer in answers} == {b"application/json"}


async def test_a_query_is_fresh_by_the_apps_words() -> None:
    """RFC 10008 §2.7: its response is cacheable as that of a GET."""
    app, model = cache_of((b"cache-control", b"max-age=60"), (b"etag", b'"1"'), ttl=None)
    await send(app, "QUERY")

    hit = await send(app, "QUERY")
    unchanged = await send(app, "QUERY", headers=[JSON, (b"if-none-match", b'"1"')])

    assert hit.cache_status == "memoserve; hit; ttl=60"
    assert (unchanged.status, model.calls) == (304, 1)
