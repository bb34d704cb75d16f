"""A stored response as bytes.

Rule: an entry is read back exactly as it was written or not at all: other versions, other
software's values and damaged bytes are a `CorruptEntryError`, never an answer. No pickle.
"""

import msgspec

from memoserve._asgi import Header
from memoserve._errors import CorruptEntryError
from memoserve._rules import StoredResponse

__all__ = ["Entry", "VaryMarker", "decode", "encode"]

_VERSION = "memoserve/1"  # Bump it whenever the fields change; each value begins with it.


class Entry(msgspec.Struct, frozen=True, array_like=True, tag=f"{_VERSION} answer"):
    """One stored response, and what is needed to decide whether it may be used."""

    verifier: bytes
    status: int
    headers: tuple[Header, ...]
    chunks: tuple[bytes, ...]
    stored_at: float  # Seconds of the cache's clock; it must be the same on all hosts.
    ttl: float  # Seconds from `stored_at` for which it is fresh.
    stale_while_revalidate: float
    stale_if_error: float
    cost: float
    tokens: tuple[bytes, ...]  # Of the tags that all entries have, in their order.
    tags: tuple[tuple[str, bytes], ...]  # Those of its own: their keys and tokens.

    def response(self, now: float) -> StoredResponse:
        """Return it as the user's callables see it."""
        return StoredResponse(
            self.status, self.headers, self.chunks, self.cost, max(0.0, now - self.stored_at)
        )


class VaryMarker(msgspec.Struct, frozen=True, array_like=True, tag=f"{_VERSION} vary"):
    """In the place of an entry: the answers differ by these request fields."""

    verifier: bytes
    names: tuple[bytes, ...]  # Lower case, sorted.


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry | VaryMarker)


def encode(item: Entry | VaryMarker) -> bytes:
    """Return the bytes that `decode` reads."""
    return _encoder.encode(item)


def decode(raw: bytes) -> Entry | VaryMarker:
    """Read what `encode` wrote.

    Raises:
        CorruptEntryError: It did not write this.
    """
    try:
        found: Entry | VaryMarker = _decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # Bad UTF-8, deep nesting.
        raise CorruptEntryError(str(error)) from error
    return found
