"""Stored answers are validated, and clients that have them are told so (RFC 9111 §4.3)."""

import asyncio

import pytest

from memoserve import CacheMiddleware, Rule
from memoserve._asgi import Message, Receive, Scope, Send
from tests.asgi import Call, begin, settle
from tests.middleware.origin import ETAG, Gate, Origin, cached, control, scope_of
from tests.middleware.transparency import RemoteStore


async def test_a_stale_answer_that_still_holds_is_sent_and_fresh_again() -> None:
    """RFC 9111 §4.3: the app is asked by its own tag, and its 304 updates what is stored."""
    origin = Origin(
        [control(b"max-age=5"), ETAG, (b"x-a", b"old")],
        update=[control(b"max-age=9"), (b"x-a", b"new")],
    )
    cache = cached(origin)
    await cache.get()
    cache.clock.now += 6

    validated = await cache.get()
    hit = await cache.get()

    assert origin.asked(b"if-none-match") == [None, b'"1"']
    assert (validated.status, validated.content) == (200, b"1")
    assert validated.cache_status == "memoserve; fwd=stale; fwd-status=304"
    assert (hit.content, hit.header(b"x-a"), hit.cache_status) == (
        b"1",
        b"new",
        "memoserve; hit; ttl=9",
    )


async def test_a_stale_answer_that_has_changed_is_replaced() -> None:
    origin = Origin([control(b"max-age=5"), ETAG])
    cache = cached(origin)
    await cache.get()
    cache.clock.now += 6
    origin.headers = [control(b"max-age=5"), (b"etag", b'"2"')]

    changed = await cache.get()

    assert (changed.content, changed.cache_status) == (b"2", "memoserve; fwd=stale")
    assert (await cache.get()).content == b"2"


async def test_no_cache_is_asked_about_each_time() -> None:
    """RFC 9111 §5.2.2.4 (bug 51)."""
    origin = Origin([control(b"no-cache, max-age=60"), ETAG])
    cache = cached(origin)
    await cache.get()

    calls = [await cache.get() for _ in range(2)]

    assert [call.content for call in calls] == [b"1", b"1"]
    assert origin.asked(b"if-none-match") == [None, b'"1"', b'"1"']


async def test_a_304_of_what_is_not_stored_makes_the_app_tell() -> None:
    """RFC 9111 §4.3.4."""

    class Confused(Origin):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.update = [(b"etag", b'"another"')]
            await super().__call__(scope, receive, send)

    origin = Confused([control(b"max-age=5"), ETAG])
    cache = cached(origin)
    await cache.get()
    cache.clock.now += 6

    call = await cache.get()

    assert (call.status, call.content) == (200, b"3")
    assert origin.asked(b"if-none-match") == [None, b'"1"', None]


async def test_a_post_is_never_validated() -> None:
    """To a POST, If-None-Match says that it must fail (RFC 9110 §13.1.2)."""
    origin = Origin([control(b"max-age=5"), ETAG])
    cache = cached(origin, methods={"POST"})
    await cache.get(method="POST")
    cache.clock.now += 6

    call = await cache.get(method="POST")

    assert origin.asked(b"if-none-match") == [None, None]
    assert call.content == b"2"


async def test_many_who_wait_for_a_validation_cost_one() -> None:
    """bug 33."""
    origin = Origin([control(b"max-age=5"), ETAG], update=[control(b"max-age=5")])
    cache = cached(origin)
    await cache.get()
    cache.clock.now += 6
    calls = [Call(scope_of(), (b"",)) for _ in range(20)]

    for task in [begin(cache.app, call) for call in calls]:
        await task

    assert {call.content for call in calls} == {b"1"}
    assert len(origin.seen) == 2


async def test_who_asks_during_a_response_that_is_stale_at_once_asks_anew() -> None:
    """It may answer those who waited for it, and nobody later (RFC 9111 §4)."""
    step = Gate()
    cache = cached(Origin())
    cache.app._shared.app = step
    first, early, late = Call(scope_of()), Call(scope_of()), Call(scope_of())
    tasks = [begin(cache.app, first), begin(cache.app, early)]
    await settle()
    step.start.set_result(None)
    await first.until(1)
    tasks.append(begin(cache.app, late))
    await settle()
    step.end.set_result(None)
    for task in tasks:
        await task

    assert (first.content, early.content, late.content) == (b"1", b"1", b"2")


async def test_a_client_that_has_the_answer_gets_a_304() -> None:
    """bug 30, bug 55."""
    cache = cached(Origin([control(b"max-age=5"), ETAG]))
    await cache.get()

    call = await cache.get((b"if-none-match", b'"1"'))

    assert (call.status, call.content, call.cache_status) == (304, b"", "memoserve; hit; ttl=5")
    assert call.header(b"age") == b"0"


@pytest.mark.parametrize(("tag", "status", "body"), [(b'"1"', 304, b""), (b'"other"', 200, b"1")])
async def test_a_client_whose_answer_is_validated_has_its_own_condition(
    tag: bytes, status: int, body: bytes
) -> None:
    """The app was asked by our tag; the client's is answered here."""
    origin = Origin([control(b"max-age=5"), ETAG], update=[control(b"max-age=5")])
    cache = cached(origin)
    await cache.get()
    cache.clock.now += 6

    call = await cache.get((b"if-none-match", tag))

    assert (call.status, call.content) == (status, body)
    assert call.cache_status == "memoserve; fwd=stale; fwd-status=304"
    assert origin.asked(b"if-none-match") == [None, b'"1"']


async def test_a_304_in_several_messages_is_one() -> None:
    """An empty piece may come before the last one."""

    class InPieces(Origin):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def send_in_pieces(message: Message) -> None:
                if message["type"] == "http.response.body":
                    await send({"type": "http.response.body", "body": b"", "more_body": True})
                await send(message)

            await super().__call__(scope, receive, send_in_pieces)

    cache = cached(InPieces([control(b"max-age=5"), ETAG]))
    await cache.get()
    cache.clock.now += 6

    assert (await cache.get()).content == b"1"


async def test_a_range_waits_for_the_whole_answer_to_be_stored() -> None:
    """Its client has had all of it, and the store has not yet (bug 30)."""

    class Slow(RemoteStore):
        gate = asyncio.Event()

        async def set(self, key: str, value: bytes, ttl: float, /) -> None:
            await self.gate.wait()
            await super().set(key, value, ttl)

    store = Slow()
    origin = Origin([control(b"max-age=5")])
    rule = Rule("/{rest:path}", methods={"GET"}, ttl=None)
    app = CacheMiddleware(origin, rules=[rule], store=store, store_deadline=10)
    whole = Call(scope_of(), (b"",))
    filling = begin(app, whole)
    await settle()
    store.gate.set()
    await whole.until(2)
    store.gate.clear()
    part = Call(scope_of(), (b"",))
    part.scope["headers"].append((b"range", b"bytes=0-0"))
    asking = begin(app, part)
    await settle()
    store.gate.set()
    await filling
    await asking

    assert (part.status, len(origin.seen)) == (206, 1)


async def test_a_condition_that_the_client_set_goes_to_the_app_where_nothing_is_stored() -> None:
    """Its 304 is the client's, and is not stored (bug 30)."""
    origin = Origin([control(b"max-age=5"), ETAG])
    cache = cached(origin)

    unchanged = await cache.get((b"if-none-match", b'"1"'))
    whole = await cache.get()

    assert unchanged.status == 304
    assert (whole.status, whole.content) == (200, b"2")


async def test_a_range_of_what_is_stored() -> None:
    cache = cached(Origin([control(b"max-age=5")]))
    await cache.get()

    part = await cache.get((b"range", b"bytes=0-0"))

    assert (part.status, part.content) == (206, b"1")
    assert part.header(b"content-range") == b"bytes 0-0/1"


async def test_a_range_of_what_is_not_stored_is_the_apps_to_answer() -> None:
    """bug 30."""
    origin = Origin([control(b"max-age=5")])
    cache = cached(origin)

    calls = [await cache.get((b"range", b"bytes=0-0")) for _ in range(2)]

    assert [call.cache_status for call in calls] == ["memoserve; fwd=bypass; detail=partial"] * 2
    assert origin.asked(b"range") == [b"bytes=0-0"] * 2


async def test_a_head_is_answered_from_a_stored_get_and_never_the_other_way() -> None:
    """bug 30."""
    cache = cached(Origin([control(b"max-age=5")]))
    before = await cache.get(method="HEAD")
    got = await cache.get()
    after = await cache.get(method="HEAD")

    assert before.cache_status == "memoserve; fwd=miss"
    assert got.content == b"2"
    assert (after.cache_status, after.content) == ("memoserve; hit; ttl=5", b"")
    assert after.header(b"content-length") == b"1"


@pytest.mark.parametrize(
    ("etag", "expected"), [(True, 304), (False, 200)], ids=["made", "not-made"]
)
async def test_a_tag_is_made_where_the_rule_asks_for_it(etag: bool, expected: int) -> None:
    """A POST's client saves the transfer, too."""
    cache = cached(Origin(), methods={"POST"}, ttl=60, etag=etag)
    await cache.get(method="POST")
    tag = (await cache.get(method="POST")).header(b"etag") or b'"none"'

    assert (await cache.get((b"if-none-match", tag), method="POST")).status == expected


async def test_a_tag_of_the_apps_own_is_kept() -> None:
    cache = cached(Origin([control(b"max-age=5"), ETAG]), etag=True)
    await cache.get()

    assert (await cache.get()).header(b"etag") == b'"1"'
