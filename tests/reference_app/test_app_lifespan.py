"""From start to end: what the app says while it loads, when that fails, and when it stops."""

import asyncio
import socket
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest
import uvicorn

from reference_app.factory import create_app
from reference_app.settings import Settings
from tests.reference_app.fake_models import fake_models
from tests.reference_app.running import Lifespan, client_of, loader, until_ready
from tests.servers import until


async def test_while_models_load_the_app_lives_but_is_not_ready() -> None:
    may_load = threading.Event()

    def load(_settings: Settings) -> Any:
        assert may_load.wait(30)
        return {"stable": fake_models()}

    app = create_app(Settings(), loader=load)
    lifespan = Lifespan(app)
    started = await lifespan.start()
    async with client_of(app) as client:
        live = await client.get("/health/live")
        not_ready = await client.get("/health/ready")
        too_early = await client.post("/v1/sentiment", json={"text": "good"})
        may_load.set()
        ready = await until_ready(client)
        in_time = await client.post("/v1/sentiment", json={"text": "good"})
    await lifespan.stop()

    assert started == "lifespan.startup.complete"
    assert live.json() == {"status": "live"}
    for response in (not_ready, too_early):
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["detail"] == "the models are being loaded"
    assert set(ready.json()["models"]) == {"sentiment", "summarize", "answer"}
    assert ready.headers["cache-control"] == "no-store"
    assert in_time.status_code == 200


async def test_models_that_do_not_load_leave_an_app_that_says_why() -> None:
    told = asyncio.Event()

    def load(_settings: Settings) -> Any:
        raise OSError("no such weights")

    app = create_app(Settings(), loader=load, on_load_failure=lambda _error: told.set())
    lifespan = Lifespan(app)
    await lifespan.start()
    async with client_of(app) as client:
        await told.wait()
        live = await client.get("/health/live")
        ready = await client.get("/health/ready")
        answer = await client.post("/v1/sentiment", json={"text": "good"})
    await lifespan.stop()

    assert live.status_code == 200
    for response in (ready, answer):
        assert response.status_code == 503
        assert "retry-after" not in response.headers
        assert response.json()["detail"] == "the models could not be loaded: no such weights"


async def test_the_loader_is_given_the_settings() -> None:
    given: list[Settings] = []

    def load(settings: Settings) -> Any:
        given.append(settings)
        return {"stable": fake_models()}

    app = create_app(Settings(models="random"), loader=load)
    lifespan = Lifespan(app)
    await lifespan.start()
    await lifespan.stop()

    assert given == [Settings(models="random")]


def test_a_wrong_store_ends_the_start() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        create_app(Settings(store_url="nowhere://"), loader=loader())


def test_importing_the_app_imports_no_model_code() -> None:
    code = "import sys, reference_app.app; print({'torch', 'transformers'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert result.stdout == "set()\n"


def test_importing_the_app_with_a_wrong_setting_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "huge")
    result = subprocess.run(
        [sys.executable, "-c", "import reference_app.app"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert result.returncode == 1
    assert (
        "MODELS must be one of bundled, hub, random, or a folder's path, not 'huge'"
        in result.stderr
    )


async def test_what_was_accepted_is_answered_before_the_end() -> None:
    """A server is told to stop while a model is busy; as SIGTERM does, so does `should_exit`."""
    models = fake_models()
    config = uvicorn.Config(
        create_app(Settings(load_first=True), loader=loader(models)),
        log_config=None,
        timeout_graceful_shutdown=60,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await client.get("/health/live")
            models.sentiment.gate.clear()
            open_ones = [
                asyncio.create_task(client.post("/v1/sentiment", json={"text": text}))
                for text in ("good", "bad", "good")
            ]
            await until(lambda: len(server.server_state.tasks) == 3)  # All were accepted.
            server.should_exit = True
            await until(lambda: not server.servers[0].is_serving())
            models.sentiment.gate.set()
            responses = await asyncio.gather(*open_ones)
        await asyncio.wait_for(serving, 60)

    assert [response.status_code for response in responses] == [200, 200, 200]
