"""A FastAPI app that takes middleware as vLLM does, with some of its routes.

vLLM itself needs a GPU build; what matters here is how it loads middleware, and its order: CORS,
then the check of API keys, then what `--middleware` names, each outside of the ones before
(`vllm/entrypoints/serve/middleware/register.py`).
"""

import contextlib
import importlib
import inspect
import json
import os
from collections.abc import AsyncIterator
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response, StreamingResponse

from memoserve._asgi import ASGIApp, Receive, Scope, Send


class CheckKeys:
    """Let in who has one of the API keys, below `/v1`."""

    def __init__(self, app: ASGIApp, keys: list[str]) -> None:
        self._app = app
        self._allowed = {f"Bearer {key}".encode() for key in keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            given = dict(scope["headers"]).get(b"authorization")
            if given not in self._allowed:
                await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def add_named(app: FastAPI, path: str) -> None:
    """Add what an import path names, as `--middleware` does."""
    module, _, name = path.rpartition(".")
    named: Any = getattr(importlib.import_module(module), name)
    if inspect.isclass(named):
        app.add_middleware(cast("Any", named))
    elif inspect.iscoroutinefunction(named):
        app.middleware("http")(named)
    else:
        raise ValueError(f"{path} is neither a class nor a coroutine function")


async def pass_on(request: Request, call_next: Any) -> Any:
    """Be a middleware that adds nothing."""
    return await call_next(request)


def create_app() -> FastAPI:
    """Make the app: `KEYS` has the API keys, `MIDDLEWARE` the import path."""
    asked: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asked.append("startup")
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        asked.append("chat")
        words = str(body["messages"][-1]["content"]).upper()
        if not body.get("stream"):
            return JSONResponse(_completion(body, message={"role": "assistant", "content": words}))

        async def pieces() -> AsyncIterator[str]:
            for delta, reason in (({"content": words}, None), ({}, "stop")):
                yield f"data: {json.dumps(_completion(body, delta=delta, reason=reason))}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    @app.post("/score")
    async def score(request: Request) -> Any:
        asked.append("score")
        body = await request.json()
        return {"data": [{"index": 0, "score": len(str(body["text_1"]))}]}

    @app.get("/health")
    async def health() -> list[str]:
        return asked

    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    if keys := os.environ.get("KEYS"):
        app.add_middleware(CheckKeys, keys=keys.split(","))
    add_named(app, os.environ["MIDDLEWARE"])
    return app


def _completion(body: Any, reason: str | None = "stop", **part: Any) -> dict[str, Any]:
    kind = "chat.completion.chunk" if "delta" in part else "chat.completion"
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": reason, **part}],
    }
