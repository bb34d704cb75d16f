"""What one asker can find out about the questions of another (bug 15)."""

import asyncio

import pytest

from memoserve._asgi import Header
from tests.asgi import JSON, Call, Model, ask, begin, http_scope, settle
from tests.middleware.cases import cached

PEPPER = "a secret of this deployment"
QUESTION = b'{"text": "am I ill?"}'


def bearer(name: bytes) -> list[Header]:
    return [JSON, (b"authorization", b"Bearer " + name)]


def told(call: Call) -> tuple[int, list[Header]]:
    """Return all that an answer says but its content."""
    (start, *_) = call.messages
    return call.status, sorted(start["headers"])


async def test_a_question_of_another_looks_as_one_that_nobody_has_asked() -> None:
    """In a partition of one's own nothing tells that the answer is there: no word, no age."""
    app = cached(Model(), private="partition", secret=PEPPER)
    await ask(app, QUESTION, headers=bearer(b"victim"))

    asked = await ask(app, QUESTION, headers=bearer(b"prober"))
    never_asked = await ask(app, b'{"text": "?"}', headers=bearer(b"prober"))

    assert told(asked) == told(never_asked)
    assert asked.cache_status == "memoserve; fwd=miss"


async def test_nobody_waits_for_the_call_of_another_partition() -> None:
    """A call that is under way would tell by its time that somebody asks the same now."""
    model = Model(gate=asyncio.Event())
    app = cached(model, private="partition", secret=PEPPER)
    calls = [Call(http_scope(headers=bearer(name)), (QUESTION,)) for name in (b"a", b"b")]

    tasks = [begin(app, call) for call in calls]
    await settle()
    reached = model.calls
    assert model.gate is not None
    model.gate.set()
    await asyncio.gather(*tasks)

    assert reached == 2


async def test_what_is_shared_can_be_told_apart_by_time_alone() -> None:
    """`cache_status=False`: a hit says no more than a miss does."""
    app = cached(Model(), cache_status=False)

    miss, hit = await ask(app, QUESTION), await ask(app, QUESTION)

    assert hit.content == miss.content
    assert told(hit) == told(miss)


@pytest.mark.parametrize(
    "name", [b"x-cache-salt", b"cache-salt", b"x-hishel-ttl", b"x-cache-namespace", b"x-no-cache"]
)
async def test_no_field_of_a_caller_moves_its_question_elsewhere(name: bytes) -> None:
    """Who may choose a salt may choose another's (bug 19)."""
    app = cached(Model())
    await ask(app, QUESTION)

    assert (await ask(app, QUESTION, headers=[JSON, (name, b"1")])).content == b'{"call":1}'
