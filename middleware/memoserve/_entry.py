"""A stored response as bytes.

Rule: an entry is read back exactly as it was written or not at all: other versions, other
software's values and damaged bytes are a `CorruptEntryError`, never an answer. No pickle.
"""

import msgspec

from memoserve._asgi import Header
from memoserve._errors import CorruptEntryError
from memoserve._rules import StoredResponse

__all__ = ["Entry", "VaryMarker", "decode", "encode"]

_VERSION = "memoserve/2"  # Bump it whenever the fields change; each value begins with it.


class Entry(msgspec.Struct, frozen=True, array_like=True, tag=f"{_VERSION} answer"):
    """One stored response, and what is needed to decide whether it may be used."""

    verifier: bytes
    status: int
    headers: tuple[Header, ...]
    chunks: tuple[bytes, ...]
    stored_at: float  # Seconds of the cache's clock; it must be the same on all hosts.
    initial_age: float  # Seconds that it had when it came (RFC 9111 §4.2.3).
    ttl: float  # Seconds from `stored_at` for which it is fresh; 0: to be validated each time.
    stale_while_revalidate: float
    stale_if_error: float
    may_be_stale: bool  # Nothing in it forbids to use it past its freshness (RFC 9111 §4.2.4).
    cost: float
    tokens: tuple[bytes, ...]  # Of the tags that all entries have, in their order.
    tags: tuple[tuple[str, bytes], ...]  # Those of its own: their keys and tokens.

    def since(self, now: float) -> float:
        """Return the seconds that it has been in the store."""
        return max(0.0, now - self.stored_at)  # Clocks of several hosts differ.

    def response(self, now: float) -> StoredResponse:
        """Return it as the user's callables see it."""
        age = self.initial_age + self.since(now)
        return StoredResponse(self.status, self.headers, self.chunks, self.cost, age)


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
