"""Response cache, request coalescing and metrics for ASGI apps that serve models."""

from typing import TYPE_CHECKING, Any

from memoserve._cache import CacheMiddleware
from memoserve._errors import CorruptEntryError, MemoserveError, StoreError, UnkeyableBodyError
from memoserve._events import Observer
from memoserve._rules import Rule, StoredResponse
from memoserve._tags import Purger
from memoserve.stores import Store
from memoserve.stores.memory import MemoryStore

if TYPE_CHECKING:
    from memoserve.telemetry.middleware import TelemetryMiddleware

__all__ = [
    "CacheMiddleware",
    "CorruptEntryError",
    "MemoryStore",
    "MemoserveError",
    "Observer",
    "Purger",
    "Rule",
    "Store",
    "StoreError",
    "StoredResponse",
    "TelemetryMiddleware",
    "UnkeyableBodyError",
]


def __getattr__(name: str) -> Any:
    """Import OpenTelemetry only for those who use it."""
    if name == "TelemetryMiddleware":
        from memoserve.telemetry.middleware import TelemetryMiddleware

        return TelemetryMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
