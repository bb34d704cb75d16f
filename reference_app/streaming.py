"""Server-sent events: a summary as it is generated.

Rule: a stream that ends with `done` is whole; whoever does not see that event has not seen it all,
and the cache keeps no other. A failure before the first piece is an ordinary error response.
"""

import logging
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar.response import Stream

from reference_app.results import SummaryResult
from reference_app.schemas import ModelCard, Problem, SummarizeResponse

__all__ = ["DONE", "EVENT_STREAM", "stream_response"]

EVENT_STREAM = "text/event-stream"
DONE = b"event: done\n"  # How the last event of a whole stream begins.

_logger = logging.getLogger("reference_app")


async def stream_response(
    pieces: AsyncGenerator[str | SummaryResult, None], card: ModelCard
) -> Stream:
    """Answer with the pieces of a summary; raises what comes instead of the first one."""
    first = await anext(pieces)
    return Stream(
        _events(first, pieces, card),
        media_type=EVENT_STREAM,
        # For nginx and its kin: a stream that is buffered is none.
        headers={"X-Accel-Buffering": "no"},
    )


async def _events(
    first: str | SummaryResult, pieces: AsyncGenerator[str | SummaryResult, None], card: ModelCard
) -> AsyncGenerator[bytes, None]:
    try:
        yield _event_of(first, card)
        async for piece in pieces:
            yield _event_of(piece, card)
    except Exception as error:
        _logger.exception("a stream failed half-way")
        yield _event("error", Problem(500, "Internal Server Error", type(error).__name__))
    finally:
        await pieces.aclose()


def _event_of(piece: str | SummaryResult, card: ModelCard) -> bytes:
    if isinstance(piece, str):
        return _event("text", {"text": piece})
    whole = SummarizeResponse(piece.summary, piece.tokens, piece.truncated, card)
    return _event("done", whole)


def _event(name: str, content: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(content))
