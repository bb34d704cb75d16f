"""Who may read the page that `install` adds: as the code says, or else the environment."""

from pathlib import Path
from typing import Any

import pytest

from memoserve._asgi import ASGIApp
from memoserve_integrations._metrics import check_path, metrics_page
from tests.asgi import ask

TOKEN = "MEMOSERVE_METRICS_TOKEN"  # noqa: S105  (the variable's name)
ALLOW = "MEMOSERVE_METRICS_ALLOW"


async def status(page: ASGIApp, token: str = "", client: str = "192.0.2.1") -> int:
    headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
    answer = await ask(page, b"", method="GET", headers=headers, client=(client, 1))
    assert answer.status is not None
    return answer.status


async def test_everybody_may_if_nobody_is_named() -> None:
    assert await status(metrics_page(None, None)) == 200


async def test_who_has_the_token_or_is_near_may() -> None:
    page = metrics_page("a", ["10.0.0.0/8"])

    assert await status(page) == 401
    assert await status(page, "b") == 401
    assert await status(page, "a") == 200
    assert await status(page, client="10.1.2.3") == 200


async def test_without_a_token_who_is_not_near_may_not() -> None:
    page = metrics_page(None, ["10.0.0.0/8"])

    assert await status(page, "a") == 403
    assert await status(page, client="10.1.2.3") == 200


async def test_what_the_code_does_not_say_the_environment_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN, "of-environment")
    monkeypatch.setenv(ALLOW, "10.0.0.0/8, 172.16.0.0/12")
    silent, with_token, with_allow = (
        metrics_page(None, None),
        metrics_page("of-code", None),
        metrics_page(None, ["198.51.100.0/24"]),
    )

    assert await status(silent) == 401
    assert await status(silent, "of-environment") == 200
    assert await status(silent, client="172.16.0.1") == 200
    assert await status(with_token, "of-environment") == 401
    assert await status(with_token, "of-code") == 200
    assert await status(with_allow, client="10.1.2.3") == 401
    assert await status(with_allow, "of-environment") == 200


async def test_the_token_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("of-file\n")
    monkeypatch.setenv(TOKEN + "_FILE", str(tmp_path / "token"))
    page = metrics_page(None, None)

    assert await status(page) == 401
    assert await status(page, "of-file") == 200


@pytest.mark.parametrize(
    ("token", "allow", "complaint"),
    [
        pytest.param("", None, "metrics_token .*: token must not be empty", id="token"),
        pytest.param(None, "10.0.0.0/8", "metrics_allow must be several networks", id="text"),
        pytest.param(None, ["near"], "metrics_allow is wrong: 'near' does not appear", id="name"),
        pytest.param(None, [], "metrics_allow must name somebody", id="nobody"),
    ],
)
def test_who_cannot_be_named_is_refused(token: str | None, allow: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        metrics_page(token, allow)


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        pytest.param(TOKEN + "S", "a", f"is no variable .* '{TOKEN}'", id="misspelled"),
        pytest.param(TOKEN + "_FILE", "/nowhere", "metrics.token_file", id="no-file"),
        pytest.param(ALLOW, "near", "'near' does not appear", id="no-network"),
    ],
)
def test_a_variable_that_protects_nothing_fails(
    variable: str, text: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)

    with pytest.raises(ValueError, match=complaint):
        metrics_page(None, None)


def test_the_token_and_its_file_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "a")
    monkeypatch.setenv(TOKEN + "_FILE", "/nowhere")

    with pytest.raises(ValueError, match="say the same thing"):
        metrics_page(None, None)


def test_a_path_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="must start with a slash, not be 'metrics'"):
        check_path("metrics")
