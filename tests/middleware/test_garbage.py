"""What is left of a request when it is over: nothing that waits for the garbage collector."""

import asyncio
import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.asgi import JSON, Call, Model, ask, http_scope, settle
from tests.middleware.cases import Clock, cached
from tests.middleware.transparency import RemoteStore


@contextmanager
def collecting() -> Generator[list[str]]:
    """Collect the kinds of our objects that only the garbage collector can free."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = map(type, gc.garbage)
        found += [kind.__name__ for kind in kinds if kind.__module__.startswith("memoserve")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


CASES: dict[str, tuple[Model, dict[str, Any], list[list[dict[str, Any]]]]] = {
    "miss-and-hits": (Model(), {}, [[{}], [{}], [{}]]),
    "alone": (Model(), {"coalesce": False}, [[{}]]),
    "coalesced": (Model(), {}, [[{}, {}, {}]]),
    "stream": (Model(chunks=(b"a", b"b", b"c")), {}, [[{}, {}]]),
    "of-stated-length": (Model(headers=[JSON, (b"content-length", b"10")]), {}, [[{}]]),
    "varies": (Model(headers=[JSON, (b"vary", b"x-flavour")]), {}, [[{}], [{}]]),
    "personal": (Model(headers=[JSON, (b"set-cookie", b"a=b")]), {}, [[{}, {}]]),
    "bypass": (Model(), {}, [[{"headers": [(b"authorization", b"x")]}]]),
    "stale": (Model(), {"ttl": 5, "stale_while_revalidate": 60}, [[{}], [{}]]),
    "remote": (Model(), {"store": RemoteStore(), "store_deadline": 10}, [[{}, {}], [{}]]),
    "shadow": (Model(), {"mode": "shadow"}, [[{}], [{}]]),
}


@pytest.mark.parametrize(("model", "options", "rounds"), CASES.values(), ids=list(CASES))
async def test_a_request_is_freed_as_soon_as_it_is_over(
    model: Model, options: dict[str, Any], rounds: list[list[dict[str, Any]]]
) -> None:
    """Bodies of megabytes do not wait until there is garbage enough (bug 45)."""
    clock = Clock()
    app = cached(model, clock=clock, **options)
    await ask(app, b"[]")
    await settle()

    with collecting() as found:
        for scopes in rounds:
            await asyncio.gather(*(Call(http_scope(**scope)).run(app) for scope in scopes))
            await settle()
            clock.now += 10

    assert found == []
    await app.aclose()
