"""How full the stores are.

Rule: a store is held weakly, since it lives as long as its cache, whoever measures it.
"""

import weakref
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from memoserve.stores import Store
from memoserve.telemetry._ledger import Reading, Series

__all__ = ["MeteredStore", "StoreUsage", "StoreUsages"]


_OF_ONE_PROCESS = frozenset({"memory"})  # Any other store is one for all workers.


class StoreUsage(Protocol):
    """How full a store is. Within a process, stores of one name are added up."""

    @property
    def name(self) -> str:
        """The kind of store, from a closed set."""
        ...

    @property
    def bytes(self) -> int:
        """What it holds."""
        ...

    @property
    def limit(self) -> int:
        """What it may hold."""
        ...

    @property
    def entries(self) -> int:
        """How many it holds."""
        ...

    @property
    def evictions(self) -> int:
        """How many it has dropped for lack of room since it was opened."""
        ...


@runtime_checkable
class MeteredStore(Protocol):
    """A store that knows how full it is."""

    def usage(self) -> StoreUsage:
        """Say it without waiting for anything, in any thread."""
        ...


class StoreUsages:
    """The stores that are open, and what they say of themselves."""

    def __init__(self) -> None:
        self._stores: list[weakref.ref[MeteredStore]] = []

    def add(self, store: Store) -> None:
        """Read this store's usage from now on, if it has any to tell."""
        if not isinstance(store, MeteredStore):
            return
        known = [reference for reference in self._stores if reference() is not None]
        if not any(reference() is store for reference in known):
            known.append(weakref.ref(store))
        self._stores = known  # Replaced as a whole: another thread may be reading.

    def reading(self, number: Callable[[StoreUsage], int]) -> Reading:
        """Make a reading of one of the numbers for each name of a store."""

        def read() -> list[Series]:
            sums: dict[str, int] = {}
            for store in [reference() for reference in self._stores]:
                if store is not None:
                    usage = store.usage()
                    sums[usage.name] = sums.get(usage.name, 0) + number(usage)
            return [
                Series((name,), total, is_shared=name not in _OF_ONE_PROCESS)
                for name, total in sums.items()
            ]

        return read
