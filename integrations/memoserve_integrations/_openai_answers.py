"""Whether an answer in the form of OpenAI's API is one to keep: whole, and no error.

Rule: a server that fails, or is cut off, in the middle of an answer has said 200 already, so only
an end that is seen counts. What cannot be read is not kept.
"""

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from memoserve import StoredResponse

__all__ = ["FINISHED", "is_embedding", "is_whole_completion", "is_whole_response"]

FINISHED = frozenset({"stop", "tool_calls", "function_call"})
_FAILURES = frozenset({"error", "response.failed"})


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    """A completion, or a piece of one."""

    choices: list[_Choice] = []
    error: Any = None
    metadata: Any = None


class _Embeddings(msgspec.Struct):
    data: list[Any] = []
    error: Any = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str = ""
    error: Any = None
    incomplete_details: _Incomplete | None = None


class _Event(msgspec.Struct):
    """One event of a response that is streamed."""

    type: str = ""
    error: Any = None
    response: _Response = msgspec.field(default_factory=_Response)


# Made once: a long stream has a piece for every word.
_COMPLETION = msgspec.json.Decoder(_Completion)
_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)
_RESPONSE = msgspec.json.Decoder(_Response)
_EVENT = msgspec.json.Decoder(_Event)


def is_embedding(answer: StoredResponse) -> bool:
    found = _decode(_EMBEDDINGS, answer.body)
    return found is not None and bool(found.data) and not found.error


def is_whole_completion(answer: StoredResponse, *, ends: Collection[str]) -> bool:
    """Tell whether every choice came to an end of the allowed kind."""
    pieces = _events(answer.body) if _is_stream(answer) else [answer.body, b"[DONE]"]
    if not pieces or pieces.pop() != b"[DONE]":
        return False
    reasons: dict[int, str | None] = {}
    for piece in pieces:
        found = _decode(_COMPLETION, piece)
        # It repeats the metadata, which is not in the key; OpenAI does so for what it stores.
        if found is None or found.error or found.metadata:
            return False
        reasons.update((each.index, each.finish_reason) for each in found.choices)
    return bool(reasons) and all(reason in ends for reason in reasons.values())


def is_whole_response(answer: StoredResponse, *, truncated: bool) -> bool:
    if not _is_stream(answer):
        found = _decode(_RESPONSE, answer.body)
        return found is not None and _is_whole(found, truncated=truncated)
    pieces = _events(answer.body)
    if pieces and pieces[-1] == b"[DONE]":  # Not OpenAI's own, but of some that follow it.
        pieces.pop()
    events = [_decode(_EVENT, piece) or _Event("error") for piece in pieces]
    if not events or any(event.type in _FAILURES or event.error for event in events):
        return False
    last = events[-1]
    is_last = last.type in {"response.completed", "response.incomplete"}
    return is_last and _is_whole(last.response, truncated=truncated)


def _is_whole(response: _Response, *, truncated: bool) -> bool:
    if response.error:
        return False
    reason = response.incomplete_details.reason if response.incomplete_details else None
    is_cut = response.status == "incomplete" and reason == "max_output_tokens"
    return response.status == "completed" or (truncated and is_cut)


def _is_stream(answer: StoredResponse) -> bool:
    return any(
        name == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in answer.headers
    )


def _events(body: bytes) -> list[bytes]:
    """Return what each event of a stream says; an event ends with an empty line (HTML §9.2.6)."""
    events: list[bytes] = []
    said: list[bytes] = []
    for line in body.splitlines():
        if line.startswith(b"data:"):
            said.append(line[5:].removeprefix(b" "))
        elif not line and said:
            events.append(b"\n".join(said))
            said = []
    return events


_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def _decode(decoder: msgspec.json.Decoder[_Struct], text: bytes) -> _Struct | None:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, ValueError):
        return None
