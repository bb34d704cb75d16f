"""Response cache, request coalescing and metrics for ASGI apps that serve models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from memoserve._cache import CacheMiddleware
from memoserve._errors import (
    ConfigError,
    CorruptEntryError,
    MemoserveError,
    OverloadedError,
    StoreError,
    UnkeyableBodyError,
)
from memoserve._events import Observer
from memoserve._rules import Rule, StoredResponse
from memoserve._tags import Purger
from memoserve.stores import Store
from memoserve.stores.memory import MemoryStore

if TYPE_CHECKING:
    from memoserve.admission import AdmissionMiddleware
    from memoserve.batching import MicroBatcher
    from memoserve.config import Memoserve
    from memoserve.telemetry.middleware import TelemetryMiddleware
    from memoserve.variants import VariantMiddleware

__all__ = [
    "AdmissionMiddleware",
    "CacheMiddleware",
    "ConfigError",
    "CorruptEntryError",
    "MemoryStore",
    "Memoserve",
    "MemoserveError",
    "MicroBatcher",
    "Observer",
    "OverloadedError",
    "Purger",
    "Rule",
    "Store",
    "StoreError",
    "StoredResponse",
    "TelemetryMiddleware",
    "UnkeyableBodyError",
    "VariantMiddleware",
]

_ON_FIRST_USE = {  # Not everyone needs them, and importing memoserve must stay quick.
    "AdmissionMiddleware": "memoserve.admission",
    "Memoserve": "memoserve.config",
    "MicroBatcher": "memoserve.batching",
    "TelemetryMiddleware": "memoserve.telemetry.middleware",
    "VariantMiddleware": "memoserve.variants",
}


def __getattr__(name: str) -> Any:
    """Import the parts beside the cache only for those who use them."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name]), name)
