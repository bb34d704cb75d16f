"""What a shared store adds to a value: proof that it is whole, and ours.

Rule: a value is opened exactly as it was sealed, under the same key and, where there is one, with
the same secret, or not at all. The proof covers the key, so no value can be moved to another.

    "ms1"  flags (1 byte)  expiry (8 bytes, milliseconds since the epoch)  digest (16)  payload

The digest is BLAKE2b's, keyed where there is a secret (RFC 7693 §2.9: it needs no HMAC around it).
"""

import hashlib
import hmac
import importlib
import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from memoserve._errors import CorruptEntryError

__all__ = ["COMPRESSIONS", "Compression", "Opened", "Seal"]

Compression = Literal["none", "zlib", "zstd"]
COMPRESSIONS = ("none", "zlib", "zstd")

_MAGIC = b"ms1"  # Bump it whenever the layout changes: older values then simply miss.
_HEAD = struct.Struct(">3sBQ16s")
_ELSEWHERE, _ZLIB, _ZSTD = 1, 2, 4

_COMPRESSED_FROM = 16_384  # Bytes; a smaller value is not worth the time.
_LARGEST = 256 * 1_048_576  # Bytes; what unpacks to more is a bomb, and none of ours.


class Opened(msgspec.Struct, frozen=True):
    """A value that proved to be whole."""

    value: bytes  # Where `is_elsewhere`, the key that holds the value itself.
    expires: float  # Seconds since the epoch, by the clock of the host that wrote it.
    is_elsewhere: bool


class Seal:
    """Seals values, and opens what was sealed.

    Args:
        secret: Whoever does not have it can write nothing that opens.
        compression: For values from 16 KiB on. What others compressed is read in any case.

    Raises:
        ValueError: `compression` is none of these, or its library is not installed.
    """

    def __init__(self, secret: bytes | None = None, compression: Compression = "none") -> None:
        if compression not in COMPRESSIONS:
            raise ValueError(f"compress must be one of {COMPRESSIONS}, not {compression!r}")
        if compression == "zstd" and _zstd() is None:
            raise ValueError("compress=zstd needs Python 3.14 or memoserve[zstd]")
        # A key of its own: the secret keys the credentials' partitions, too.
        self._key = hashlib.blake2b(secret, person=b"memoserve.seal").digest() if secret else b""
        self.compression: Compression = compression

    def with_secret(self, secret: bytes | None) -> "Seal":
        """Return one that differs by its secret."""
        return Seal(secret, self.compression)

    def close(self, key: str, value: bytes, expires: float, *, is_elsewhere: bool = False) -> bytes:
        """Return what `open` reads."""
        flags = _ELSEWHERE if is_elsewhere else 0
        if self.compression != "none" and len(value) >= _COMPRESSED_FROM:
            flag, packed = _compress(value, self.compression)
            if len(packed) < len(value):
                flags, value = flags | flag, packed
        stamp = min(max(0, round(expires * 1000)), 2**63)
        return _HEAD.pack(_MAGIC, flags, stamp, self._digest(key, flags, stamp, value)) + value

    def open(self, key: str, sealed: bytes) -> Opened:
        """Return what was sealed.

        Raises:
            CorruptEntryError: It was not sealed for this key and with this secret, or is damaged.
        """
        if len(sealed) < _HEAD.size:
            raise CorruptEntryError("shorter than a sealed value")
        magic, flags, stamp, digest = _HEAD.unpack_from(sealed)
        if magic != _MAGIC:
            raise CorruptEntryError("no sealed value of this version")
        value = sealed[_HEAD.size :]
        if not hmac.compare_digest(digest, self._digest(key, flags, stamp, value)):
            raise CorruptEntryError("damaged, moved, or sealed with another secret")
        if flags & (_ZLIB | _ZSTD):
            value = _decompress(value, flags)
        return Opened(value, stamp / 1000, bool(flags & _ELSEWHERE))

    def _digest(self, key: str, flags: int, stamp: int, value: bytes) -> bytes:
        name = key.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(
            b"%d:%d:%d:" % (flags, stamp, len(name)), digest_size=16, key=self._key
        )
        digest.update(name)
        digest.update(value)
        return digest.digest()


def _compress(value: bytes, compression: Compression) -> tuple[int, bytes]:
    if compression == "zlib":
        return _ZLIB, zlib.compress(value, level=1)
    zstd: Any = _zstd()
    return _ZSTD, zstd.compress(value)


def _decompress(value: bytes, flags: int) -> bytes:
    zstd = _zstd() if flags & _ZSTD else None
    if flags & _ZSTD and zstd is None:
        raise CorruptEntryError("compressed with zstd, which is not installed here")
    try:
        unpacker: Any = zlib.decompressobj() if zstd is None else zstd.ZstdDecompressor()
        unpack: Callable[[bytes, int], bytes] = unpacker.decompress
        unpacked = unpack(value, _LARGEST)
    except Exception as error:  # The libraries' own: neither shares a base with the other's.
        raise CorruptEntryError(f"cannot be unpacked: {error}") from error
    if not unpacker.eof:
        raise CorruptEntryError("unpacks to nothing that ends")
    return unpacked


def _zstd() -> Any:
    """Return the module of Python 3.14, or its backport; None where neither is installed."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return None
