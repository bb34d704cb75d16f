"""A server with OpenAI's HTTP API, whose model says the words that it was told in reverse.

What the last word asks for is how the answer goes wrong: see `Failure`.
"""

import asyncio
import base64
import enum
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["Failure", "Server"]


class Failure(enum.StrEnum):
    """How an answer may go wrong after the server has said 200."""

    LENGTH = "cut"  # The limit of tokens was reached.
    FILTER = "filtered"
    ERROR = "error"  # In the body, or as an event in the stream's middle.
    BREAK = "break"  # The stream ends early, though by the rules of HTTP it is complete.


_REASONS: dict[str, str] = {Failure.LENGTH: "length", Failure.FILTER: "content_filter"}
_ERROR = {"error": {"message": "the model fell over", "type": "server_error", "code": None}}


@dataclass
class Server:
    """What the model was asked; `gate`, when given, holds a stream after its first piece."""

    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    gate: asyncio.Event | None = None
    repeats_metadata: bool = False

    @property
    def app(self) -> Starlette:
        """The app, without a cache."""
        paths = {
            "/chat/completions": self._complete,
            "/completions": self._complete,
            "/embeddings": self._embed,
            "/responses": self._respond,
        }
        routes = [
            Route(prefix + path, endpoint, methods=["POST"])
            for prefix in ("/v1", "/openai/deployments/{model}")
            for path, endpoint in paths.items()
        ]
        return Starlette(routes=routes)

    async def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.asked.append(body)
        return body

    async def _embed(self, request: Request) -> Response:
        body = await self._body(request)
        inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if Failure.ERROR in inputs:
            return JSONResponse(_ERROR)
        data = [
            {"object": "embedding", "index": place, "embedding": _vector(text, body)}
            for place, text in enumerate(inputs)
        ]
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        return JSONResponse(
            {"object": "list", "data": data, "model": body["model"], "usage": usage}
        )

    async def _complete(self, request: Request) -> Response:
        body = await self._body(request)
        is_chat = request.url.path.endswith("/chat/completions")
        words = _words(body["messages"][-1]["content"] if is_chat else body["prompt"])
        if body.get("stream"):
            pieces = self._pieces(body, words, is_chat=is_chat)
            return StreamingResponse(pieces, media_type="text/event-stream")
        if words[0] == Failure.ERROR:
            return JSONResponse(_ERROR)
        choices = [
            {
                "index": index,
                "finish_reason": _REASONS.get(words[0], "stop"),
                "logprobs": None,
                **_said(" ".join(words), "message" if is_chat else "", role="assistant"),
            }
            for index in range(body.get("n", 1))
        ]
        answer = self._completion(body, choices, is_chat=is_chat)
        if self.repeats_metadata:
            answer["metadata"] = body.get("metadata")
        usage = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 9}
        return JSONResponse({**answer, "usage": usage})

    async def _pieces(
        self, body: dict[str, Any], words: list[str], *, is_chat: bool
    ) -> AsyncIterator[str]:
        for place, word in enumerate(words):
            if place and self.gate is not None:
                await self.gate.wait()
            if place and words[0] in {Failure.ERROR, Failure.BREAK}:
                if words[0] == Failure.ERROR:
                    yield _event(_ERROR)
                return
            choice = {
                "index": 0,
                "finish_reason": None,
                **_said(word, "delta" if is_chat else "", role="assistant"),
            }
            yield _event(self._completion(body, [choice], is_chat=is_chat, is_chunk=True))
        last: dict[str, Any] = {
            "index": 0,
            "finish_reason": _REASONS.get(words[0], "stop"),
            **({"delta": {}} if is_chat else {"text": ""}),
        }
        yield _event(self._completion(body, [last], is_chat=is_chat, is_chunk=True))
        yield "data: [DONE]\n\n"

    def _completion(
        self,
        body: dict[str, Any],
        choices: list[Any],
        *,
        is_chat: bool,
        is_chunk: bool = False,
    ) -> dict[str, Any]:
        kind = "text_completion"
        if is_chat:
            kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        return {
            "id": f"cmpl-{len(self.asked)}",
            "object": kind,
            "created": 1_790_000_000 + len(self.asked),
            "model": body["model"],
            "choices": choices,
        }

    async def _respond(self, request: Request) -> Response:
        body = await self._body(request)
        words = _words(body["input"])
        response = self._response(body, words)
        if body.get("stream"):
            events = _response_events(response, words)
            return StreamingResponse(events, media_type="text/event-stream")
        return JSONResponse(response)

    def _response(self, body: dict[str, Any], words: list[str]) -> dict[str, Any]:
        number = len(self.asked)
        text = {"type": "output_text", "text": " ".join(words), "annotations": []}
        status, reason, error = "completed", None, None
        match words[0]:
            case Failure.LENGTH:
                status, reason = "incomplete", {"reason": "max_output_tokens"}
            case Failure.FILTER:
                status, reason = "incomplete", {"reason": "content_filter"}
            case Failure.ERROR:
                status, error = "failed", {"code": "server_error", "message": "it fell over"}
        item = {
            "id": f"msg_{number}", "type": "message", "role": "assistant",
            "status": "completed" if status == "completed" else "incomplete", "content": [text],
        }  # fmt: skip
        return {
            "id": f"resp_{number}", "object": "response", "created_at": 1_790_000_000.0,
            "model": body["model"], "status": status, "error": error, "incomplete_details": reason,
            "output": [item], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            "metadata": body.get("metadata", {}), "user": body.get("user"),
        }  # fmt: skip


async def _response_events(response: dict[str, Any], words: list[str]) -> AsyncIterator[str]:
    started = {**response, "status": "in_progress", "output": [], "error": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": started}]
    place = {"item_id": response["output"][0]["id"], "output_index": 0, "content_index": 0}
    events += (
        {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
        for word in words
    )
    if words[0] != Failure.BREAK:
        events.append({"type": f"response.{response['status']}", "response": response})
    for number, event in enumerate(events):
        said = {**event, "sequence_number": number}
        yield f"event: {event['type']}\n{_event(said)}"


def _event(said: dict[str, Any]) -> str:
    return f"data: {json.dumps(said)}\n\n"


def _words(text: str) -> list[str]:
    return text.split()[::-1]


def _said(text: str, member: str, *, role: str) -> dict[str, Any]:
    return {member: {"role": role, "content": text}} if member else {"text": text}


def _vector(text: str, body: dict[str, Any]) -> list[float] | str:
    vector = [float(len(text)), 0.5]
    if body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(struct.pack("<2f", *vector)).decode()
