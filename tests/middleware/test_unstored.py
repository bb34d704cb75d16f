"""What the log says of answers that somebody may have expected to be stored."""

from typing import Any

import pytest

from tests.asgi import JSON, Model, ask
from tests.middleware.cases import cached


async def said_of(caplog: pytest.LogCaptureFixture, model: Model, **rule: Any) -> list[str]:
    app = cached(model, **rule)
    for _ in range(2):
        await ask(app)
    return [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(Model(status=201), "its status is 201, which is none of", id="status"),
        pytest.param(Model(headers=[(b"set-cookie", b"a=1")]), "it sets a cookie", id="cookie"),
        pytest.param(Model(headers=[(b"vary", b"*")]), "it varies on more than", id="vary"),
        pytest.param(
            Model(headers=[(b"cache-control", b"no-store")]), "it says so itself", id="no-store"
        ),
        pytest.param(
            Model(headers=[(b"cache-control", b"max-age=0")]), "it says so itself", id="max-age"
        ),
        pytest.param(
            Model(headers=[(b"content-length", b"99")]), "it did not end as it should", id="length"
        ),
    ],
)
async def test_the_log_says_once_why_an_answer_is_not_stored(
    model: Model, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = await said_of(caplog, model)

    assert model.calls == 2
    assert line.startswith(f"an answer under the rule '/v1/model' is not stored: {reason}")


async def test_a_status_of_the_rule_needs_a_lifetime_of_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As Litestar's users meet it, whose POST is a 201."""
    (line,) = await said_of(caplog, Model(status=201), statuses={201})

    assert "so that it has to state a lifetime itself" in line


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        pytest.param(Model(status=422), {}, id="error"),
        pytest.param(Model(headers=[(b"set-cookie", b"a=1")]), {"ttl": None}, id="plain-http"),
        pytest.param(Model(status=206), {"methods": {"POST"}}, id="part"),
        pytest.param(Model(headers=[JSON]), {"admit": lambda _: False}, id="refused"),
        pytest.param(Model(headers=[JSON]), {}, id="stored"),
    ],
)
async def test_what_nobody_would_ask_is_not_said(
    model: Model, rule: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert await said_of(caplog, model, **rule) == []
