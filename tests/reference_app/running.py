"""The app as a server runs it, within the test: lifespan around, requests inside."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx

from reference_app.factory import create_app
from reference_app.inference import Loader
from reference_app.settings import CANARY, STABLE, Settings
from tests.reference_app.fake_models import FakeModels, fake_models

JSON = {"Content-Type": "application/json"}


def loader(models: FakeModels | None = None, canary: FakeModels | None = None) -> Loader:
    """A loader that has nothing to load."""
    loaded = {STABLE: models or fake_models(), **({CANARY: canary} if canary else {})}
    return cast("Loader", lambda _settings: loaded)


class Lifespan:
    """Speaks a server's side of the lifespan protocol."""

    def __init__(self, app: Any) -> None:
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.create_task(app(scope, self._to_app.get, self._from_app.put))

    async def start(self) -> str:
        await self._to_app.put({"type": "lifespan.startup"})
        return str((await self._from_app.get())["type"])

    async def stop(self) -> str:
        await self._to_app.put({"type": "lifespan.shutdown"})
        answer = await self._from_app.get()
        await self._task
        return str(answer["type"])


def client_of(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://app", timeout=30)


async def until_ready(client: httpx.AsyncClient) -> httpx.Response:
    """Ask until the models are loaded."""
    async with asyncio.timeout(120):
        while (response := await client.get("/health/ready")).status_code != 200:
            assert "retry-after" in response.headers, response.text
            await asyncio.sleep(0.01)  # As a probe does: the app gives no other sign.
    return response


@asynccontextmanager
async def running(
    models: FakeModels | None = None,
    settings: Settings | None = None,
    canary: FakeModels | None = None,
) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of a ready app with these models."""
    app = create_app(settings or Settings(), loader=loader(models, canary))
    lifespan = Lifespan(app)
    assert await lifespan.start() == "lifespan.startup.complete"
    async with client_of(app) as client:
        await until_ready(client)
        yield client
    assert await lifespan.stop() == "lifespan.shutdown.complete"
