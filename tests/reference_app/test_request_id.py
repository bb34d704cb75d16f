from typing import Any

import httpx
import pytest

from reference_app.request_id import RequestIdMiddleware


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"1")]})
        await send({"type": "http.response.body", "body": b"x"})
    else:
        await send({"type": "seen"})


async def ask(headers: list[tuple[str, str]]) -> httpx.Response:
    transport = httpx.ASGITransport(RequestIdMiddleware(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.get("/", headers=headers)


async def test_every_response_has_its_own_name() -> None:
    first, second = await ask([]), await ask([])

    assert len(first.headers["x-request-id"]) == 32
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["a"] == "1"


async def test_a_caller_s_plain_name_comes_back() -> None:
    response = await ask([("X-Request-ID", "order-17/b")])

    assert response.headers["x-request-id"] == "order-17/b"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["a b"], id="space"),
        pytest.param(["<script>"], id="markup"),
        pytest.param(["x" * 129], id="long"),
        pytest.param([""], id="empty"),
        pytest.param(["a", "b"], id="two"),
    ],
)
async def test_any_other_name_is_replaced(names: list[str]) -> None:
    response = await ask([("X-Request-ID", name) for name in names])

    assert response.headers.get_list("x-request-id")[0] not in names


async def test_other_scopes_pass_untouched() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await RequestIdMiddleware(app)({"type": "lifespan"}, None, send)  # type: ignore[arg-type]  # unused

    assert sent == [{"type": "seen"}]
