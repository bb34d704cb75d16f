"""What a client is told of where its answer comes from."""

import pytest

from memoserve import CacheMiddleware, Rule
from tests.asgi import Model, ask
from tests.middleware.cases import Clock


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(0.1, "hit; ttl=9", id="fresh"),
        pytest.param(9.5, "hit; ttl=0", id="less-than-a-second-left"),
        pytest.param(10.5, "hit; ttl=-1", id="less-than-a-second-past"),
        pytest.param(40.0, "hit; ttl=-30", id="long-past"),
    ],
)
async def test_a_stale_answer_is_never_said_to_be_fresh(seconds: float, expected: str) -> None:
    """Seconds are rounded down (RFC 9211 §2.3, bug 55)."""
    clock = Clock()
    rule = Rule("/v1/model", ttl=10, stale_while_revalidate=100)
    app = CacheMiddleware(Model(), rules=[rule], clock=clock)
    await ask(app)
    clock.now += seconds

    call = await ask(app)

    assert call.cache_status == f"memoserve; {expected}"
