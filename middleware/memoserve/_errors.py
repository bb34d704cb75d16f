"""The errors of memoserve.

Rule: none of them ever reaches a client; wrong configuration is a `ValueError`, too.
"""

__all__ = [
    "ConfigError",
    "CorruptEntryError",
    "MemoserveError",
    "OverloadedError",
    "StoreBusyError",
    "StoreError",
    "StoreRefusedError",
    "UnkeyableBodyError",
]


class MemoserveError(Exception):
    """Base of all errors that memoserve raises itself."""


class ConfigError(MemoserveError, ValueError):
    """What `memoserve.toml` or the environment say cannot be.

    Attributes:
        problems: Each thing that is wrong, after the file and line, or the variable, that says it.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnkeyableBodyError(MemoserveError):
    """A body has no canonical JSON form, so its bytes must stand for it."""


class StoreError(MemoserveError):
    """A store cannot do what it was asked; a cache takes it for a miss."""


class StoreBusyError(StoreError):
    """A store has more to do than it takes on: no sign that it is broken."""


class StoreRefusedError(StoreError):
    """A store has answered, and said no: it is full, read-only, or knows us not."""


class CorruptEntryError(StoreError):
    """Bytes from a store are no entry of this version."""


class OverloadedError(MemoserveError):
    """So many calls wait for a model already that one more would only wait in vain."""
