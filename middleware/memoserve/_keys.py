"""Cache keys: what makes two requests the same.

Rule: two requests share a key only if the model server may not tell them apart. The material of
a key is unambiguous (a MessagePack array, then the body), so no value can pose as its neighbour.
A JSON body is replaced by its canonical form: members sorted at every depth, whitespace and
escape spelling gone, array order kept. Whatever a parser could read in two ways is refused and
keyed by its bytes; a refusal never merges two bodies and is never an error to the client.
"""

import copy
import functools
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeGuard

import jiter
import msgspec

from memoserve._errors import UnkeyableBodyError

__all__ = [
    "Edits",
    "Key",
    "TextStep",
    "cache_key",
    "canonical_json",
    "credential_partition",
    "derived_key",
    "is_array",
    "is_json_pointer",
    "is_object",
    "parse_json",
]

TextStep = Literal["nfc", "strip", "collapse", "casefold"]

_KEY_VERSION = b"2"  # Bump whenever the material changes: old entries then simply miss.

_CANONICAL, _RAW = b"\x01", b"\x00"  # So that no raw body equals a canonical one.

# Possessive, and good without a closing quote: so no body costs more than one pass.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_MINUS_ZERO = re.compile(rb"-0(?![.eE0-9])")

_pack = msgspec.msgpack.Encoder().encode


class Key(msgspec.Struct, frozen=True):
    """Where an answer is kept, and what proves that it belongs there.

    MD5 only finds the place: pairs of texts with one MD5 are public (RFC 6151), so an entry
    also holds the verifier, a second digest of the same material, which every hit compares.
    """

    index: str  # The namespace, a colon and 32 hexadecimal digits.
    verifier: bytes  # BLAKE2b, 16 bytes.


class Edits(msgspec.Struct, frozen=True):
    """What a rule changes in a body before it is keyed; the app gets the body as it came."""

    ignore: tuple[str, ...] = ()  # JSON pointers (RFC 6901), as all pointers here.
    defaults: Mapping[str, Any] | None = None
    text: Mapping[str, Sequence[TextStep]] | None = None

    def apply(self, value: Any) -> None:
        """Change a parsed body in place; a pointer that leads nowhere changes nothing."""
        for pointer in self.ignore:
            _edit(value, pointer, _remove)
        for pointer, default in (self.defaults or {}).items():
            _edit(value, pointer, functools.partial(_fill, default=default))
        for pointer, steps in (self.text or {}).items():
            _edit(value, pointer, functools.partial(_normalize, steps=steps))


def cache_key(
    namespace: str, parts: Iterable[Any], body: Sequence[bytes], *, is_canonical: bool
) -> Key:
    """Digest the material of a key: its parts in their order, then the body's pieces.

    A part is bytes, a string, or a list of parts.
    """
    head = _pack([_KEY_VERSION, namespace, *parts]) + (_CANONICAL if is_canonical else _RAW)
    if len(body) == 1 and len(body[0]) < 65_536:  # One copy is cheaper than two more calls.
        head += body[0]
        body = ()
    md5 = hashlib.md5(head, usedforsecurity=False)
    blake = hashlib.blake2b(head, digest_size=16)
    for piece in body:
        md5.update(piece)
        blake.update(piece)
    return Key(f"{namespace}:{md5.hexdigest()}", blake.digest())


def derived_key(primary: Key, namespace: str, parts: Iterable[Any]) -> Key:
    """Make the key of one variant of what lives under a primary key."""
    material = (b"variant", primary.index, primary.verifier, *parts)
    return cache_key(namespace, material, (), is_canonical=False)


def canonical_json(body: bytes, edits: Edits | None = None) -> bytes:
    """Return the one spelling of a JSON text (RFC 8259), after a rule's edits.

    Raises:
        UnkeyableBodyError: The text is malformed or ambiguous: duplicate member names, numbers
            that do not survive the parser, lone surrogates, a BOM or another encoding than
            UTF-8, more than 200 levels of nesting, integers of more than 4,300 digits.
    """
    if b"-0" in body and _MINUS_ZERO.search(_STRINGS.sub(b'""', body)):
        raise UnkeyableBodyError("the integer -0 is read as 0")
    try:
        value = jiter.from_json(
            body, catch_duplicate_keys=True, allow_inf_nan=False, float_mode="lossless-float"
        )
        if edits is not None:
            edits.apply(value)
        return _canonical_encoder.encode(value)
    except (ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError) as error:
        raise UnkeyableBodyError(str(error)) from error


def parse_json(body: bytes) -> Any:
    """Parse a body that has a canonical form, for the user's callables."""
    return jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)


def credential_partition(secret: bytes, credentials: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Name the holder of credentials by an HMAC of them, so that they are never kept."""
    return hmac.digest(secret, _pack(sorted(credentials)), "sha256")


def is_json_pointer(pointer: str) -> bool:
    """Tell whether this is an RFC 6901 pointer to a part of a document, not to all of it."""
    return pointer.startswith("/") and not re.search("~(?![01])", pointer)


def _keep_or_refuse(number: Any) -> float:
    """Let a float pass only with the digits and the exponent that say all of it.

    Two spellings of one double (`50.0`, `5e1`) are two JSON texts that a server with decimal
    numbers tells apart, and `0.1000000000000000055` is another number than the double's `0.1`.
    It cannot tell `1e-05`, which Python writes, from the `1e-5` of others.
    """
    if not isinstance(number, jiter.LosslessFloat):
        raise UnkeyableBodyError(f"a default of type {type(number).__name__} is no JSON value")
    value = float(number)
    said, kept = str(number), repr(value)
    if said != kept and Decimal(said).as_tuple() != Decimal(kept).as_tuple():
        raise UnkeyableBodyError(f"the number {said} would change to {kept}")
    return value


_canonical_encoder = msgspec.json.Encoder(order="sorted", enc_hook=_keep_or_refuse)


def _edit(value: Any, pointer: str, change: Callable[[Any, Any], None]) -> None:
    """Call `change(container, place)` for the place that a pointer names, if it can be reached."""
    *path, last = (_unescape(token) for token in pointer.split("/")[1:])
    for token in path:
        place = _place(value, token)
        if place is None or not _holds(value, place):
            return
        value = value[place]
    place = _place(value, last)
    if place is not None:
        change(value, place)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a parsed value is an object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Tell whether a parsed value is an array."""
    return isinstance(value, list)


def _place(container: Any, token: str) -> str | int | None:
    """Return the member's name or the element's index, None where neither can be."""
    if is_object(container):
        return token
    if is_array(container) and token.isdecimal() and int(token) < len(container):
        return int(token)
    return None


def _holds(container: Any, place: str | int) -> bool:
    return not is_object(container) or place in container


def _unescape(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~")


def _remove(container: Any, place: Any) -> None:
    if is_object(container):
        container.pop(place, None)
    else:
        container[place] = None  # The other elements keep their places.


def _fill(container: Any, place: Any, *, default: Any) -> None:
    if not _holds(container, place):
        container[place] = copy.deepcopy(default)  # A later edit may change what it holds.


def _normalize(container: Any, place: Any, *, steps: Sequence[TextStep]) -> None:
    if _holds(container, place) and isinstance(container[place], str):
        text: str = container[place]
        for step in steps:
            text = _TEXT_STEPS[step](text)
        container[place] = text


_TEXT_STEPS: dict[TextStep, Callable[[str], str]] = {
    "nfc": functools.partial(unicodedata.normalize, "NFC"),
    "strip": str.strip,
    "collapse": lambda text: re.sub(r"\s+", " ", text),
    "casefold": str.casefold,
}
