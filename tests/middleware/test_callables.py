"""What the user's callables may return, whatever their type hints say."""

import math
from typing import Any

import pytest

from tests.asgi import Model, ask
from tests.middleware.cases import cached


@pytest.mark.parametrize(
    "verdict",
    [
        pytest.param(None, id="none"),
        pytest.param("yes", id="text"),
        pytest.param(math.nan, id="nan"),
        pytest.param(-1, id="negative"),
    ],
)
async def test_what_admit_may_not_return_refuses(verdict: Any) -> None:
    """A forgotten `return` is no permission to store, and no error of the request."""
    model = Model()
    app = cached(model, admit=lambda response: verdict)

    calls = [await ask(app) for _ in range(2)]

    assert [call.status for call in calls] == [200, 200]
    assert model.calls == 2


async def test_forever_is_as_long_as_http_can_say() -> None:
    """RFC 9111 §1.2.2: 2^31 seconds."""
    app = cached(Model(), admit=lambda response: math.inf)
    await ask(app)

    assert (await ask(app)).cache_status == "memoserve; hit; ttl=2147483648"
