"""What is sealed, and what opens."""

import importlib
import random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoserve._errors import CorruptEntryError
from memoserve.stores import _seal
from memoserve.stores._seal import Compression, Seal

SECRET = b"0123456789abcdef"
LARGE = b"a rather repetitive value " * 1_000


@pytest.mark.parametrize("secret", [None, SECRET], ids=["checksum", "mac"])
@given(key=st.text(), value=st.binary(), expires=st.floats(0, 1e11))
def test_what_was_sealed_opens(
    secret: bytes | None, key: str, value: bytes, expires: float
) -> None:
    seal = Seal(secret)

    opened = seal.open(key, seal.close(key, value, expires))

    assert (opened.value, opened.is_elsewhere) == (value, False)
    assert opened.expires == pytest.approx(expires, abs=0.001)


@pytest.mark.parametrize("secret", [None, SECRET], ids=["checksum", "mac"])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_does_not_open(secret: bytes | None, place: int, bit: int) -> None:
    """bug 17."""
    sealed = bytearray(Seal(secret).close("key", b"the value", 1.0))
    sealed[place % len(sealed)] ^= 1 << bit

    with pytest.raises(CorruptEntryError):
        Seal(secret).open("key", bytes(sealed))


@pytest.mark.parametrize("length", range(30))
def test_a_truncated_value_does_not_open(length: int) -> None:
    """bug 17."""
    with pytest.raises(CorruptEntryError):
        Seal().open("key", Seal().close("key", b"value", 1.0)[:length])


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        pytest.param(Seal(), Seal(SECRET), id="none"),
        pytest.param(Seal(b"another secret!!"), Seal(SECRET), id="another"),
        pytest.param(Seal(SECRET), Seal(), id="reader-has-none"),
    ],
)
def test_without_the_secret_nothing_is_written_that_opens(writer: Seal, reader: Seal) -> None:
    """Who can write to Redis cannot write answers (bug 17)."""
    with pytest.raises(CorruptEntryError, match="secret"):
        reader.open("key", writer.close("key", b"forged", 1.0))


def test_a_value_cannot_be_moved_to_another_key() -> None:
    """Nor can what follows a key pass for part of it (bug 4, bug 17)."""
    sealed = Seal(SECRET).close("key", b"value", 1.0)

    for key in ("other", "", "keyv"):
        with pytest.raises(CorruptEntryError):
            Seal(SECRET).open(key, sealed)


def test_values_of_other_software_do_not_open() -> None:
    """bug 17."""
    for foreign in (b"", b"OK", b"\x80\x04\x95" + b"pickle" * 9, b"{" + b'"a":1' * 9 + b"}"):
        with pytest.raises(CorruptEntryError):
            Seal().open("key", foreign)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_large_values_are_compressed(compression: Compression) -> None:
    seal = Seal(SECRET, compression)

    sealed = seal.close("key", LARGE, 1.0)

    assert len(sealed) < len(LARGE) / 10
    assert Seal(SECRET).open("key", sealed).value == LARGE


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"small" * 100, id="small"),
        pytest.param(random.Random(1).randbytes(20_000), id="noise"),
    ],
)
def test_what_is_not_worth_it_stays_as_it_is(value: bytes) -> None:
    assert Seal(None, "zlib").close("key", value, 1.0).endswith(value)


def test_a_value_that_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """bug 9: only who knows the secret could write one, and even that one is bounded."""
    sealed = Seal(None, "zlib").close("key", LARGE, 1.0)
    monkeypatch.setattr(_seal, "_LARGEST", len(LARGE) - 1)

    with pytest.raises(CorruptEntryError, match="ends"):
        Seal().open("key", sealed)


def test_a_value_that_was_never_packed_does_not_unpack(monkeypatch: pytest.MonkeyPatch) -> None:
    def flag_only(value: bytes, _: object) -> tuple[int, bytes]:
        return _seal._ZLIB, value[:100]

    monkeypatch.setattr(_seal, "_compress", flag_only)
    sealed = Seal(None, "zlib").close("key", LARGE, 1.0)

    with pytest.raises(CorruptEntryError, match="unpacked"):
        Seal().open("key", sealed)


def test_without_zstd_its_values_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host where the library is missing misses; it does not fail (bug 17)."""
    sealed = Seal(None, "zstd").close("key", LARGE, 1.0)

    def import_none(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", import_none)

    with pytest.raises(CorruptEntryError, match="zstd"):
        Seal().open("key", sealed)
    with pytest.raises(ValueError, match=r"memoserve\[zstd\]"):
        Seal(None, "zstd")


def test_another_compression_is_refused() -> None:
    wrong: Any = "lzma"

    with pytest.raises(ValueError, match="'lzma'"):
        Seal(None, wrong)
