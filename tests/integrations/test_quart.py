"""What is particular to Quart: its hooks, and when they run."""

from typing import Any

import pytest
from quart import Quart, request

from memoserve import Rule
from memoserve_integrations.quart import install
from tests.asgi import ask

PATH = "/v1/model"


def app_with(seen: list[str]) -> Any:
    app = Quart(__name__)

    @app.post(PATH)
    async def model() -> str:
        seen.append("model")
        return "answer"

    @app.before_request
    async def before() -> Any:
        seen.append(request.path)
        return None if "authorization" in request.headers or request.path == PATH else ("", 401)

    return app


async def test_a_hit_skips_the_hooks() -> None:
    """bug 20: what has to see every request belongs outside."""
    seen: list[str] = []
    app = app_with(seen)
    install(app, rules=[Rule(PATH)])

    answers = [await ask(app, path=PATH) for _ in range(2)]

    assert {answer.content for answer in answers} == {b"answer"}
    assert seen == [PATH, "model"]


async def test_the_hooks_protect_the_metrics() -> None:
    app = app_with([])
    install(app, rules=[Rule(PATH)])

    refused = await ask(app, b"", path="/metrics", method="GET", headers=())
    token = [(b"authorization", b"Bearer a"), (b"accept", b"application/openmetrics-text")]
    page = await ask(app, b"", path="/metrics", method="GET", headers=token)

    assert (refused.status, page.status) == (401, 200)
    assert (page.header(b"content-type") or b"").startswith(b"application/openmetrics-text")


def test_a_page_of_the_apps_own_is_not_hidden() -> None:
    app = app_with([])
    app.add_url_rule("/metrics", "own", app.view_functions["model"])

    with pytest.raises(ValueError, match="the app has /metrics already"):
        install(app, rules=[Rule(PATH)])


def test_without_rules_there_is_nothing_to_install() -> None:
    with pytest.raises(ValueError, match="rules must not be empty"):
        install(app_with([]), rules=[])
