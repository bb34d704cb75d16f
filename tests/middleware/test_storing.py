"""What is kept and what is served: the cases on which a single comparison decides."""

from typing import Any

import msgspec
import pytest

from memoserve import _fill
from memoserve._asgi import Header, Message
from memoserve._client import Verdict
from memoserve._events import RequestRecord
from memoserve._fill import Fill
from memoserve._policy import PLAIN_HEAD
from memoserve._request import Question
from tests.asgi import JSON, Call, Model, ask, http_scope
from tests.middleware.cases import Clock, cached
from tests.middleware.transparency import RemoteStore


async def test_a_status_that_the_rule_does_not_list_is_not_stored() -> None:
    """bug 49: not even where the response grants it freshness."""
    model = Model(status=404, headers=[JSON, (b"cache-control", b"max-age=60")])
    app = cached(model, statuses={200, 410})

    calls = [await ask(app) for _ in range(2)]

    assert [call.status for call in calls] == [404, 404]
    assert model.calls == 2


@pytest.mark.parametrize(
    ("age", "status"),
    [
        pytest.param(9.999, "hit; ttl=0", id="fresh"),
        pytest.param(10.0, "hit; ttl=0", id="stale-at-its-ttl"),
        pytest.param(14.5, "hit; ttl=-5", id="stale"),
        pytest.param(15.0, "fwd=stale", id="past-the-window"),
    ],
)
async def test_a_store_that_forgets_late_serves_nothing_late(age: float, status: str) -> None:
    """bug 48: RFC 9111 §4.2, fresh is what is younger than its lifetime."""
    clock = Clock()
    app = cached(
        Model(), clock=clock, store=RemoteStore(), store_deadline=10,
        ttl=10, stale_while_revalidate=5,
    )  # fmt: skip
    await ask(app)
    clock.now += age

    call = await ask(app)
    await app.aclose()

    assert call.cache_status == f"memoserve; {status}"


async def test_at_its_ttl_an_answer_is_made_anew() -> None:
    """bug 48."""
    clock = Clock()
    app = cached(Model(), clock=clock, store=RemoteStore(), store_deadline=10, ttl=10)
    await ask(app)
    clock.now += 10

    assert (await ask(app)).content == b'{"call":2}'


async def test_a_recalled_answer_of_a_remote_store_says_how_long_that_took() -> None:
    """The short way asks the store as well: it may have been purged by another process."""
    model, record = Model(), RequestRecord(0.0)
    app = cached(model, store=RemoteStore(), store_deadline=10)
    for _ in range(2):
        await ask(app)

    await ask(app, memoserve=record)

    assert (record.status, model.calls) == ("hit", 1)
    assert record.store_seconds > 0


async def judged(rule: dict[str, Any], fields: list[Header]) -> tuple[Verdict, bool, Any]:
    """Return what becomes of an answer that says nothing of caching, and what is learned of it."""
    app = cached(Model(), **rule)
    call, shared = Call(http_scope(headers=[JSON, *fields])), app._shared
    coverage = app._rules.find(call.scope)
    assert coverage is not None
    read = coverage.fields.read(call.scope)
    question = Question(shared, coverage, call.scope, RequestRecord(0.0), read)
    await question.read(None, call.receive, None)
    shared.note_alone(question.key.index)
    fill = Fill(shared, question, "POST")
    start: Message = {"type": "http.response.start", "status": 200, "headers": [JSON]}
    fill.recorder.note(start)
    verdict = fill.judge(start)
    fill.recorder.note({"type": "http.response.body", "body": b"x"})
    return verdict, shared.is_alone(question.key.index), fill._storage()


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        pytest.param({}, [], id="default"),
        pytest.param({"stale_while_revalidate": 5, "stale_if_error": 9}, [], id="stale"),
        pytest.param({"statuses": {404}}, [], id="another-status"),
        pytest.param({"private": "share"}, [(b"authorization", b"a")], id="shared-credentials"),
        pytest.param({"ttl": None}, [], id="only-what-is-granted"),
        pytest.param(
            {"ttl": None, "private": "share"}, [(b"authorization", b"a")], id="authorized"
        ),
    ],
)
async def test_what_says_nothing_is_judged_as_if_it_were_read(
    rule: dict[str, Any], fields: list[Header], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short way for most answers decides what the long one does."""
    short = await judged(rule, fields)
    monkeypatch.setattr(_fill, "PLAIN_HEAD", msgspec.structs.replace(PLAIN_HEAD))

    assert short == await judged(rule, fields)
