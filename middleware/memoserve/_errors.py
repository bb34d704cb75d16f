"""The errors of memoserve.

Rule: none of them ever reaches a client; wrong configuration is a plain `ValueError`.
"""

__all__ = [
    "CorruptEntryError",
    "MemoserveError",
    "OverloadedError",
    "StoreError",
    "UnkeyableBodyError",
]


class MemoserveError(Exception):
    """Base of all errors that memoserve raises itself."""


class UnkeyableBodyError(MemoserveError):
    """A body has no canonical JSON form, so its bytes must stand for it."""


class StoreError(MemoserveError):
    """A store cannot do what it was asked; a cache takes it for a miss."""


class CorruptEntryError(StoreError):
    """Bytes from a store are no entry of this version."""


class OverloadedError(MemoserveError):
    """So many calls wait for a model already that one more would only wait in vain."""
