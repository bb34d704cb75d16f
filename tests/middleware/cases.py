"""What the tests of the cache start from."""

from typing import Any

from memoserve import CacheMiddleware, MemoryStore, Rule
from memoserve._events import Event

PATH = "/v1/model"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def cached(app: Any, /, *, clock: Clock | None = None, **options: Any) -> CacheMiddleware:
    """Put a cache with one rule before an app; rule options and cache options may be mixed."""
    names = {  # Those of the cache; all others are the rule's.
        "store", "namespace", "mode", "client_control", "credentials", "secret", "cache_status",
        "max_canonical_bytes", "flight_max_bytes", "store_deadline", "lease", "observer",
    }  # fmt: skip
    cache_options = {name: options.pop(name) for name in names & options.keys()}
    path = options.pop("path", PATH)
    clock = clock or Clock()
    if "store" not in cache_options:
        cache_options["store"] = MemoryStore(clock=clock)
    return CacheMiddleware(app, rules=[Rule(path, **options)], clock=clock, **cache_options)
