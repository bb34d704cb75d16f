"""What a client sees of the cache."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from memoserve import CacheMiddleware, MemoryStore, Purger, Rule, StoredResponse, StoreError
from memoserve._asgi import Message, Receive, Scope, Send
from memoserve._events import (
    Event,
    KeyCollided,
    KeyRefused,
    ModelCalled,
    RequestFinished,
    RequestStarted,
    StoreCalled,
    StoreOpened,
    StoreWritten,
)
from tests.asgi import JSON, Call, Model, ask, begin, http_scope, settle
from tests.middleware.cases import PATH, Clock, Notes, cached

TWINS = (  # Two texts with one MD5, found by M. Stevens.
    b"TEXTCOLLBYfGiJUETHQ4hAcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak",
    b"TEXTCOLLBYfGiJUETHQ4hEcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak",
)


async def test_second_identical_question_is_a_hit() -> None:
    """bug 1: the body is what tells questions apart, and it does reach the app (bug 21)."""
    model = Model()
    app = cached(model)

    first = await ask(app, b'{"text": "good", "n": 1}')
    second = await ask(app, b'{"n":1,"text":"g\\u006fod"}')
    other = await ask(app, b'{"text": "bad", "n": 1}')

    assert first.cache_status == "memoserve; fwd=miss"
    assert second.cache_status == "memoserve; hit; ttl=300"
    assert second.header(b"age") == b"0"
    assert first.content == second.content == b'{"call":1}'
    assert other.content == b'{"call":2}'
    assert model.bodies == [b'{"text": "good", "n": 1}', b'{"text": "bad", "n": 1}']


async def test_an_answer_lives_for_its_ttl() -> None:
    """Age counts up and the answer is made anew when its time is over (bug 48, bug 55)."""
    model, clock = Model(), Clock()
    app = cached(model, clock=clock, ttl=10)
    await ask(app)

    clock.now += 9.5
    young = await ask(app)
    clock.now += 0.5
    old = await ask(app)

    assert (young.cache_status, young.header(b"age")) == ("memoserve; hit; ttl=0", b"9")
    assert old.cache_status == "memoserve; fwd=miss"
    assert old.header(b"age") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"query_string": b"a=1"}, {"query_string": b"a=2"}, id="query"),
        pytest.param({"path": "/v1/a"}, {"path": "/v1/b"}, id="path"),
        pytest.param({"method": "POST"}, {"method": "QUERY"}, id="method"),
        pytest.param(
            {"headers": [JSON]}, {"headers": [(b"content-type", b"text/plain")]}, id="content-type"
        ),
        pytest.param(
            {"headers": [JSON, (b"accept", b"text/event-stream")]},
            {"headers": [JSON, (b"accept", b"application/json")]},
            id="accept",
        ),
        pytest.param(
            {"headers": [JSON, (b"content-encoding", b"gzip")]}, {"headers": [JSON]}, id="encoding"
        ),
        pytest.param(
            {"headers": [JSON, (b"x-language", b"de")]},
            {"headers": [JSON, (b"x-language", b"en")]},
            id="vary",
        ),
        pytest.param({"raw_path": b"/v1/a%2Fb"}, {"raw_path": b"/v1/a/b"}, id="raw-path"),
    ],
)
async def test_what_an_answer_may_depend_on_is_in_the_key(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """bug 2 and bug 9: another query, path, method, type or encoding is another question.

    The first one is asked twice, so that its answer has been recalled by its spelling, too.
    """
    model = Model()
    app = cached(
        model, path="/{rest:path}", methods={"POST", "QUERY"}, vary=["X-Language"], model="m"
    )

    await ask(app, **one)
    await ask(app, **one)
    second = await ask(app, **other)
    third = await ask(app, **other)

    assert model.calls == 2
    assert "miss" in second.cache_status
    assert "hit" in third.cache_status


async def test_two_hosts_are_two_resources() -> None:
    """bug 2."""
    model = Model()
    app = cached(model)

    for host in (b"a", b"b"):
        scope = http_scope()
        scope["headers"] = [(b"host", host), JSON]
        await Call(scope).run(app)

    assert model.calls == 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="malformed"),
        pytest.param(b'{"a":1,"a":2}', id="duplicate-name"),
        pytest.param(b'"\\ud800"', id="lone-surrogate"),
        pytest.param(b"9" * 5000, id="huge-integer"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"[NaN]", id="nan"),
        pytest.param(b"\xef\xbb\xbf{}", id="bom"),
        pytest.param(b'{"a":"\xff"}', id="invalid-utf-8"),
        pytest.param("{}".encode("utf-16"), id="utf-16"),
    ],
)
async def test_hostile_bodies_reach_the_app_and_are_keyed_by_their_bytes(body: bytes) -> None:
    """bug 8 and bug 7: never an error of ours, never one answer for two bodies."""
    model, notes = Model(), Notes()
    app = cached(model, observer=notes)

    first = await ask(app, body)
    again = await ask(app, body)
    other = await ask(app, body + b" ")

    assert (first.status, first.content) == (200, b'{"call":1}')
    assert "hit" in again.cache_status
    assert other.content == b'{"call":2}'
    assert model.bodies == [body, body + b" "]
    assert len(notes.of(KeyRefused)) == 3


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param((b"authorization", b"Bearer t"), "credentials", id="authorization"),
        pytest.param((b"cookie", b"id=1"), "credentials", id="cookie"),
        pytest.param((b"x-api-key", b"k"), "credentials", id="api-key"),
        pytest.param((b"x-tenant-id", b"7"), "credentials", id="tenant"),
        pytest.param((b"x-http-method-override", b"PUT"), "method-override", id="override"),
        pytest.param((b"range", b"bytes=0-1"), "partial", id="range"),
        pytest.param((b"if-match", b'"x"'), "partial", id="if-match"),
    ],
)
async def test_what_is_not_for_all_goes_past_the_cache(
    headers: tuple[bytes, bytes], reason: str
) -> None:
    """bug 14 and bug 20: whoever shows a credential is asked for it by the app each time."""
    model = Model()
    app = cached(model)
    await ask(app)

    call = await ask(app, headers=[JSON, headers])

    assert call.cache_status == f"memoserve; fwd=bypass; detail={reason}"
    assert call.content == b'{"call":2}'


async def test_a_client_certificate_is_a_credential() -> None:
    """bug 14."""
    model = Model()
    app = cached(model)

    for _ in range(2):
        call = await ask(app, extensions={"tls": {"client_cert_name": "CN=alice"}})

    assert call.cache_status.endswith("detail=credentials")
    assert model.calls == 2


async def test_partitions_keep_one_cache_for_each_credential() -> None:
    """bug 14 and bug 18: nobody gets another's answer, and no token is in the store."""
    model, store = Model(), Recorder()
    app = cached(model, private="partition", store=store, secret="s" * 16, store_deadline=5)
    alice, bob = (b"authorization", b"Bearer alice"), (b"authorization", b"Bearer bob")

    first = await ask(app, headers=[JSON, alice])
    second = await ask(app, headers=[JSON, bob])
    third = await ask(app, headers=[JSON, alice])

    assert [c.content for c in (first, second, third)] == [
        b'{"call":1}', b'{"call":2}', b'{"call":1}',
    ]  # fmt: skip
    written = b"".join(key.encode() + value for key, value in store.values.items())
    assert b"alice" not in written
    assert b"bob" not in written


async def test_share_lets_all_have_the_answer() -> None:
    model = Model()
    app = cached(model, private="share")

    await ask(app, headers=[JSON, (b"authorization", b"Bearer alice")])
    second = await ask(app, headers=[JSON, (b"authorization", b"Bearer bob")])

    assert "hit" in second.cache_status


async def test_own_list_of_credentials_replaces_the_built_in_one() -> None:
    model = Model()
    app = cached(model, credentials=["X-Badge"])

    await ask(app, headers=[JSON, (b"cookie", b"theme=dark")])
    shared = await ask(app, headers=[JSON, (b"cookie", b"theme=light")])
    badge = await ask(app, headers=[JSON, (b"x-badge", b"7")])

    assert "hit" in shared.cache_status
    assert "credentials" in badge.cache_status


class Recorder:
    """A store of the user's, of the simplest kind."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.is_closed = False

    async def get(self, key: str, /) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.values[key] = value

    async def delete(self, key: str, /) -> None:
        self.values.pop(key, None)

    async def aclose(self) -> None:
        self.is_closed = True


class Broken(Recorder):
    """A store whose server is not there."""

    async def get(self, key: str, /) -> bytes | None:
        raise ConnectionRefusedError(111, "connection refused")

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        raise StoreError("full")


class Hanging(Recorder):
    """A store that accepts and never answers."""

    async def get(self, key: str, /) -> bytes | None:
        await asyncio.Event().wait()
        return None


async def test_a_broken_store_is_a_miss() -> None:
    """bug 40: the answer is the app's, and the failure is counted."""
    model, notes = Model(), Notes()
    app = cached(model, store=Broken(), observer=notes)

    call = await ask(app)

    assert (call.status, call.cache_status) == (200, "memoserve; fwd=miss")
    assert {event.error for event in notes.of(StoreCalled)} >= {"ConnectionRefusedError"}
    assert [event.result for event in notes.of(StoreWritten)] == ["error"]


async def test_a_hanging_store_costs_its_deadline() -> None:
    """bug 40."""
    app = cached(Model(), store=Hanging(), store_deadline=0.01)

    began = time.perf_counter()
    call = await ask(app)

    assert call.status == 200
    assert time.perf_counter() - began < 2


async def test_a_foreign_value_is_a_miss() -> None:
    """bug 17: what is no entry of ours is no answer."""
    model, store = Model(), Recorder()
    app = cached(model, store=store, store_deadline=5)
    await ask(app)
    store.values = dict.fromkeys(store.values, b"pickled?")

    call = await ask(app)

    assert call.content == b'{"call":2}'


async def test_one_md5_for_two_questions_is_a_miss() -> None:
    """bug 10: the entry of another question, planted under this one's key, is not served."""
    model, store, notes = Model(), Recorder(), Notes()
    app = cached(model, store=store, observer=notes, store_deadline=5)
    for text in TWINS:
        await ask(app, b'{"text":"%s"}' % text)
    one, other = [key for key in store.values if ":tag:" not in key]
    store.values[other] = store.values[one]

    call = await ask(app, b'{"text":"%s"}' % TWINS[1])

    assert call.content == b'{"call":3}'
    assert len(notes.of(KeyCollided)) == 1


async def test_rule_options_shape_the_key() -> None:
    """bug 12: volatile fields are left out, an absent field is its default."""
    model = Model()
    app = cached(model, ignore=["/id"], defaults={"/n": 5}, text={"/text": ("strip", "casefold")})

    await ask(app, b'{"id":1,"text":"Hello"}')
    same = await ask(app, b'{"id":2,"n":5,"text":" hello "}')
    other = await ask(app, b'{"id":2,"n":6,"text":"hello"}')

    assert "hit" in same.cache_status
    assert "miss" in other.cache_status
    assert model.bodies[0] == b'{"id":1,"text":"Hello"}'


async def test_a_new_epoch_is_a_new_model() -> None:
    """bug 52: what the old weights said is not what the new ones say."""
    model, version = Model(), ["a"]
    app = cached(model, epoch=lambda scope: version[0])
    await ask(app)

    version[0] = "b"
    call = await ask(app)

    assert call.content == b'{"call":2}'


def boom(*_: object) -> Any:
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("options", "cache_status"),
    [
        pytest.param({"when": boom}, "memoserve; fwd=bypass; detail=rule-error", id="when"),
        pytest.param({"epoch": boom}, "memoserve; fwd=bypass; detail=rule-error", id="epoch"),
        pytest.param({"admit": boom}, "memoserve; fwd=miss", id="admit"),
        pytest.param({"tags": boom}, "memoserve; fwd=miss", id="tags"),
        pytest.param(
            {"epoch": lambda scope: "boom \ud800"},
            "memoserve; fwd=bypass; detail=rule-error",
            id="epoch-that-is-no-text",
        ),
        pytest.param(
            {"tags": lambda body, response: "boom"}, "memoserve; fwd=miss", id="tags-in-one-string"
        ),
    ],
)
async def test_a_callable_that_raises_is_no_error_of_the_request(
    options: dict[str, Any], cache_status: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model()
    app = cached(model, **options)

    calls = [await ask(app) for _ in range(2)]

    assert [call.cache_status for call in calls] == [cache_status] * 2
    assert model.calls == 2
    assert len([r for r in caplog.records if "boom" in str(r.exc_info)]) == 1


async def test_when_decides_by_the_body() -> None:
    """bug 54: a call that is not deterministic is not cached."""
    app = cached(Model(), when=lambda body: body.get("temperature") == 0)

    hot = await ask(app, b'{"temperature":0.7}')
    cold = await ask(app, b'{"temperature":0}')
    blind = await ask(app, b"{")

    assert hot.cache_status.endswith("detail=when")
    assert cold.cache_status == "memoserve; fwd=miss"
    assert blind.cache_status.endswith("detail=not-json")


@pytest.mark.parametrize(
    ("verdict", "result", "lives"),
    [
        pytest.param(False, "refused", 0, id="false"),
        pytest.param(0, "refused", 0, id="zero"),
        pytest.param(True, "stored", 300, id="true"),
        pytest.param(5.0, "stored", 5, id="shorter"),
        pytest.param(900, "stored", 900, id="longer"),
    ],
)
async def test_admit_refuses_or_sets_the_lifetime(verdict: float, result: str, lives: int) -> None:
    """bug 50: a generation that was cut off can be refused."""
    notes = Notes()
    app = cached(Model(), admit=lambda response: verdict, observer=notes)

    await ask(app)
    call = await ask(app)

    assert notes.of(StoreWritten)[0].result == result
    assert (f"ttl={lives}" in call.cache_status) == bool(lives)


async def test_admit_sees_the_answer() -> None:
    seen: list[StoredResponse] = []

    def admit(response: StoredResponse) -> bool:
        seen.append(response)
        return True

    await ask(cached(Model(), admit=admit))

    assert seen[0].json() == {"call": 1}
    assert (seen[0].status, seen[0].headers) == (200, (JSON,))
    assert seen[0].cost > 0


async def test_cheap_answers_are_not_stored() -> None:
    model = Model()
    app = cached(model, min_cost=60)

    await ask(app)
    await ask(app)

    assert model.calls == 2


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        pytest.param({"status": 404}, [], id="404"),
        pytest.param({"status": 500}, [], id="500"),
        pytest.param({"status": 503}, [], id="503"),
        pytest.param({"status": 206}, [], id="206"),
        pytest.param({}, [(b"set-cookie", b"id=1")], id="set-cookie"),
        pytest.param({}, [(b"cache-control", b"no-store")], id="no-store"),
        pytest.param({}, [(b"cache-control", b"max-age=60, PRIVATE")], id="private"),
        pytest.param({}, [(b"cache-control", b"no-cache")], id="no-cache"),
        pytest.param({}, [(b"cache-control", b"max-age=0")], id="max-age-0"),
        pytest.param({}, [(b"expires", b"0")], id="expired"),
        pytest.param({}, [(b"vary", b"accept, *")], id="vary-all"),
        pytest.param({}, [(b"content-length", b"99")], id="cut-short"),
    ],
)
async def test_what_must_not_be_stored_is_not(
    options: dict[str, Any], headers: list[tuple[bytes, bytes]]
) -> None:
    """bug 49, bug 51, bug 16, bug 30: errors, private and partial answers are made each time."""
    model = Model(headers=[JSON, *headers], **options)
    app = cached(model)

    await ask(app)
    call = await ask(app)

    assert model.calls == 2
    assert call.status == options.get("status", 200)


async def test_other_statuses_are_stored_if_the_response_says_so() -> None:
    """bug 49: a 404 comes back as a 404."""
    model = Model(status=404, headers=[JSON, (b"cache-control", b"max-age=20")])
    app = cached(model, statuses={200, 404})

    await ask(app)
    call = await ask(app)

    assert (call.status, call.cache_status) == (404, "memoserve; hit; ttl=20")


async def test_a_shorter_lifetime_of_the_response_wins() -> None:
    app = cached(Model(headers=[JSON, (b"cache-control", b"max-age=7")]), ttl=300)

    await ask(app)

    assert (await ask(app)).cache_status == "memoserve; hit; ttl=7"


async def test_jitter_shortens_the_ttl() -> None:
    app = cached(Model(), ttl=1000, jitter=0.5)

    await ask(app)
    left = int((await ask(app)).cache_status.rpartition("=")[2])

    assert 500 <= left <= 1000


async def test_fields_of_one_exchange_are_not_replayed() -> None:
    """bug 16: a request id, a date or a rate limit belongs to who got it first."""
    own = [(b"x-request-id", b"1"), (b"Date", b"x"), (b"x-ratelimit-remaining", b"3"),
           (b"connection", b"x-hop"), (b"x-hop", b"1"), (b"traceparent", b"00-1")]  # fmt: skip
    lasting = [(b"x-model", b"a"), (b"x-model", b"b"), (b"link", b"<a>; rel=b")]
    app = cached(Model(headers=[JSON, *own, *lasting]))

    first = await ask(app)
    second = await ask(app)

    assert first.messages[0]["headers"][:-1] == [JSON, *own, *lasting]
    assert second.messages[0]["headers"][:-2] == [JSON, *lasting]


async def test_a_body_comes_back_in_its_bytes_and_chunks() -> None:
    """bug 32 and bug 25: binary bodies stay what they are, streams stay streams."""
    chunks = [b"\x00\xff\xfe", b"data: 1\n\n", b":" * 70_000]
    app = cached(Model(chunks=chunks, headers=[(b"content-type", b"text/event-stream")]))

    await ask(app)
    call = await ask(app)

    assert call.chunks == chunks
    assert call.header(b"content-type") == b"text/event-stream"
    assert call.is_complete


async def test_a_stream_must_end_as_the_rule_says() -> None:
    """bug 50: without its last event a stream is not the whole answer."""
    model = Model(chunks=[b"data: 1\n\n", b"data: [DO", b"NE]\n\n"])
    app = cached(model, ends_with=b"data: [DONE]\n\n")
    await ask(app)
    assert "hit" in (await ask(app)).cache_status

    cut = Model(chunks=[b"data: 1\n\n"])
    app = cached(cut, ends_with=b"data: [DONE]\n\n")
    await ask(app)
    assert "miss" in (await ask(app)).cache_status


async def test_an_answer_that_broke_off_is_not_stored() -> None:
    """bug 24."""
    model = Model(chunks=[b"a", b"b"], late_error=RuntimeError("cut"))
    app = cached(model)

    call = Call(http_scope())
    with pytest.raises(RuntimeError, match="cut"):
        await call.run(app)
    model.late_error = None
    again = await ask(app)

    assert call.chunks == [b"a"]
    assert not call.is_complete
    assert "miss" in again.cache_status


async def test_a_large_request_streams_through() -> None:
    """bug 46: over the limit nothing is held back, and the rest is not even read by the cache."""
    model = Model()
    app = cached(model, max_request_bytes=10)
    call = Call(http_scope(), [b"x" * 8, b"y" * 8, b"z" * 8])

    await call.run(app)

    assert call.cache_status == "memoserve; fwd=bypass; detail=too-large"
    assert model.bodies == [b"x" * 8 + b"y" * 8 + b"z" * 8]


async def test_a_large_response_streams_through() -> None:
    """bug 46."""
    model, notes = Model(chunks=[b"x" * 6, b"y" * 6]), Notes()
    app = cached(model, max_response_bytes=10, observer=notes)

    first = await ask(app)
    await ask(app)

    assert first.chunks == [b"x" * 6, b"y" * 6]
    assert model.calls == 2
    assert [event.result for event in notes.of(StoreWritten)] == ["too_large"] * 2


async def test_a_client_that_leaves_while_it_uploads() -> None:
    """bug 21: the app sees the messages as they came."""
    model = Model()
    app = cached(model)
    seen: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        seen.append(message)

    await app(http_scope(), receive, send)

    assert model.bodies == [b""]
    assert seen[0]["headers"][-1][1].endswith(b"detail=disconnected")


async def test_a_body_of_megabytes_is_keyed_by_its_bytes() -> None:
    """bug 42: it is hashed in a thread and not parsed on the event loop."""
    model = Model()
    app = cached(model, max_request_bytes=10_000_000, max_canonical_bytes=1000)
    body = b'{"text": "%s"}' % (b"x" * 100_000)

    await ask(app, [body[:5], body[5:]])
    same = await ask(app, body)
    respelled = await ask(app, body.replace(b": ", b":"))

    assert "hit" in same.cache_status
    assert "miss" in respelled.cache_status


async def test_obeyed_clients_steer() -> None:
    """bug 19: only where the service allows it."""
    model = Model()
    app = cached(model, client_control="obey")

    def with_control(value: bytes) -> dict[str, Any]:
        return {"headers": [JSON, (b"cache-control", value)]}

    missing = await ask(app, **with_control(b"only-if-cached"))
    await ask(app)
    no_store = await ask(app, **with_control(b"no-store"))
    no_cache = await ask(app, **with_control(b"no-cache"))
    after = await ask(app, **with_control(b"max-age=0, only-if-cached"))
    too_old = await ask(cached(model, client_control="obey"), **with_control(b"max-age=0"))

    assert (missing.status, missing.cache_status) == (504, "memoserve; detail=not-cached")
    assert no_store.cache_status == "memoserve; fwd=bypass; detail=client"
    assert (no_cache.cache_status, no_cache.content) == ("memoserve; fwd=request", b'{"call":3}')
    assert after.content == b'{"call":3}'
    assert too_old.cache_status == "memoserve; fwd=miss"


async def test_an_answer_that_is_too_old_for_the_client_is_made_anew() -> None:
    clock = Clock()
    app = cached(Model(), clock=clock, client_control="obey")
    await ask(app)
    clock.now += 30

    call = await ask(app, headers=[JSON, (b"cache-control", b"max-age=10")])

    assert (call.cache_status, call.content) == ("memoserve; fwd=request", b'{"call":2}')


async def test_clients_cannot_steer_by_default() -> None:
    """bug 19: who can force misses can force load."""
    app = cached(Model())
    await ask(app)

    call = await ask(app, headers=[JSON, (b"cache-control", b"no-cache, no-store")])

    assert "hit" in call.cache_status


async def test_the_header_can_be_left_out() -> None:
    app = cached(Model(), cache_status=False, client_control="obey")
    bypass = [JSON, (b"cookie", b"a=b")]

    calls = [await ask(app), await ask(app), await ask(app, headers=bypass)]
    calls.append(await ask(app, b"[]", headers=[JSON, (b"cache-control", b"only-if-cached")]))

    assert [call.header(b"cache-status") for call in calls] == [None] * 4
    assert [call.header(b"age") for call in calls] == [None] * 4
    assert calls[1].content == b'{"call":1}'


async def test_an_upstream_cache_status_is_kept_before_ours() -> None:
    """RFC 9211 §2: each cache appends, the one nearest to the client last."""
    app = cached(Model(headers=[JSON, (b"cache-status", b"origin; hit")]))

    call = await ask(app)

    assert call.cache_status == "origin; hit, memoserve; fwd=miss"


async def test_what_no_rule_covers_is_untouched() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    cache = cached(app)
    scopes: list[Scope] = [
        http_scope(path="/other"),
        http_scope(method="GET"),
        {"type": "websocket", "path": PATH},
    ]
    call = Call(http_scope())
    for scope in scopes:
        await cache(scope, call.receive, call.send)

    assert all(one is other for one, other in zip(seen, scopes, strict=True))


async def test_an_app_mounted_below_a_root_path_is_covered() -> None:
    """bug 27: rules are matched after `root_path`."""
    app = cached(Model())

    call = await ask(app, path="/api" + PATH, root_path="/api")

    assert call.cache_status == "memoserve; fwd=miss"


async def test_a_cache_before_a_cache_leaves_the_request_to_the_outer_one() -> None:
    """bug 27: installed twice it counts once."""
    notes = Notes()
    app = cached(cached(Model(), observer=notes), observer=notes)

    call = await ask(app)

    assert call.cache_status == "memoserve; fwd=miss"
    assert len(notes.of(RequestFinished)) == 1


async def test_every_request_is_counted_once() -> None:
    """bug 57: requests = hits + misses + bypasses + errors + stale + coalesced."""
    model, notes, clock = Model(), Notes(), Clock()
    app = cached(model, observer=notes, clock=clock)
    await ask(app)
    clock.now += 3
    await ask(app)
    await ask(app, headers=[JSON, (b"cookie", b"a=b")])
    model.status = 500
    await ask(app, b"[1]")
    await ask(app, headers=[JSON, (b"cookie", b"a=b")])
    model.error = RuntimeError("down")
    with pytest.raises(RuntimeError):
        await ask(app, b"[2]")

    finished = notes.of(RequestFinished)
    assert [(event.status, event.outcome) for event in finished] == [
        ("miss", "ok"), ("hit", "ok"), ("bypass", "ok"),
        ("error", "error"), ("bypass", "error"), ("error", "error"),
    ]  # fmt: skip
    assert len(notes.of(RequestStarted)) == len(finished)
    assert [event.reason for event in finished] == ["", "", "credentials", "", "credentials", ""]
    assert finished[1].age == 3
    assert finished[1].saved == notes.of(ModelCalled)[0].seconds > 0
    assert [event.outcome for event in notes.of(ModelCalled)] == ["ok", "error", "error"]
    assert all(event.model == PATH for event in finished)
    assert len(notes.of(StoreOpened)) == 1


async def test_an_observer_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """bug 58."""

    class Failing:
        def observe(self, event: Event) -> None:
            raise RuntimeError("no metrics today")

    call = await ask(cached(Model(), observer=Failing()))

    assert call.status == 200
    assert "an observer failed" in caplog.text


async def test_purged_answers_are_gone() -> None:
    """bug 53: a purge takes what it names and nothing else."""
    store = MemoryStore()
    model = Model()
    app = CacheMiddleware(
        model,
        rules=[
            Rule("/v1/a", tags=["cats"]),
            Rule("/v1/b", model="b", tags=lambda body, response: [body["kind"]]),
        ],
        store=store,
    )
    purger = Purger(store)

    async def hits() -> list[bool]:
        """Ask both questions, and tell which were answered from the store."""
        calls = [await ask(app, path="/v1/a"), await ask(app, b'{"kind":"dogs"}', path="/v1/b")]
        return ["hit" in call.cache_status for call in calls]

    assert await hits() == [False, False]
    assert await hits() == [True, True]
    await purger.purge(tags=["dogs"])
    assert await hits() == [True, False]
    await purger.purge(rule="/v1/a")
    assert await hits() == [False, True]
    await purger.purge(model="b")
    assert await hits() == [True, False]
    await purger.purge(everything=True)
    assert await hits() == [False, False]


@pytest.mark.parametrize(
    "tags", [["cats"], lambda body, response: ["cats"]], ids=["set", "computed"]
)
async def test_a_purge_beats_a_fill_that_is_under_way(tags: Any) -> None:
    """bug 38."""
    store = MemoryStore()
    model = Model(gate=asyncio.Event())
    assert model.gate is not None
    app = cached(model, store=store, tags=tags)
    first = begin(app, Call(http_scope()))
    await settle()

    await Purger(store).purge(tags=["cats"])
    model.gate.set()
    await first
    second = await ask(app)

    assert "miss" in second.cache_status
    assert "hit" in (await ask(app)).cache_status


async def test_a_url_makes_a_store_that_the_lifespan_closes() -> None:
    lifespan: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await Model()(scope, receive, send)
            return
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    async def receive() -> Message:
        return {"type": "lifespan.?"}

    async def send(message: Message) -> None:
        lifespan.append(message)

    cache = CacheMiddleware(app, rules=[Rule(PATH)], store="memory://?max_bytes=1mb")
    await ask(cache)
    assert "hit" in (await ask(cache)).cache_status
    await cache({"type": "lifespan"}, receive, send)

    assert [message["type"] for message in lifespan] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete",
    ]  # fmt: skip
    assert "miss" in (await ask(cache)).cache_status  # Opened anew.
    await cache.aclose()
    await cache.aclose()


async def test_a_startup_that_fails_is_passed_on() -> None:
    failed: Message = {"type": "lifespan.startup.failed", "message": "no model"}
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(failed)

    async def send(message: Message) -> None:
        sent.append(message)

    await cached(app)({"type": "lifespan"}, Call(http_scope()).receive, send)

    assert sent == [failed]


async def test_a_store_of_the_caller_stays_open() -> None:
    store = Recorder()
    cache = cached(Model(), store=store)

    await cache.aclose()

    assert not store.is_closed


async def test_closing_drains_what_runs_behind_and_cancels_what_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memoserve._shared._DRAIN_SECONDS", 0.01)
    model = Model(gate=asyncio.Event())
    cache = cached(model)
    leader = begin(cache, Call(http_scope()))
    await settle()

    await cache.aclose()

    with pytest.raises(asyncio.CancelledError):
        await leader


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"namespace": ""}, "namespace", id="namespace"),
        pytest.param({"client_control": "maybe"}, "'maybe'", id="client-control"),
        pytest.param({"credentials": "x-key"}, "'x-key'", id="credentials"),
        pytest.param({"secret": "short"}, "16 bytes", id="secret"),
        pytest.param({"flight_max_bytes": 0}, "flight_max_bytes", id="flight"),
        pytest.param({"store_deadline": -1}, "-1", id="deadline"),
        pytest.param({"store": "mysql://x"}, "mysql", id="store"),
        pytest.param({"store": Recorder(), "private": "partition"}, "secret", id="partition"),
        pytest.param({"jitter": 1}, "jitter", id="rule"),
    ],
)
def test_wrong_options_fail_when_the_cache_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cached(Model(), **options)


def test_no_rules_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="rules"):
        CacheMiddleware(Model(), rules=[])


async def test_too_much_in_flight_is_a_bypass() -> None:
    app = cached(Model(), flight_max_bytes=10)
    held = begin(app, Call(http_scope(), [b'{"text":"more than ten"}']))
    await asyncio.sleep(0)

    call = await ask(app)
    await held

    assert call.cache_status.endswith("detail=busy")
    assert (await ask(app)).cache_status == "memoserve; fwd=miss"  # There is room again.


def test_the_cache_is_bound_to_no_event_loop() -> None:
    """bug 42: one object may serve loop after loop."""
    app = cached(Model())
    answers: Callable[[], Call] = lambda: asyncio.run(ask(app))  # noqa: E731

    first, second = answers(), answers()

    assert "miss" in first.cache_status
    assert "hit" in second.cache_status
