"""What a request's Cache-Control asks of a cache (RFC 9111 §5.2.1).

Rule: pure; whether a client is heard at all is the cache's option.
"""

from collections.abc import Iterable

import msgspec

from memoserve._directives import INFINITE, cache_control, delta_seconds

__all__ = ["Demands", "demands_of"]


class Demands(msgspec.Struct, frozen=True):
    """What a request's Cache-Control asks for (RFC 9111 §5.2.1)."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float = 0.0
    max_stale: float = 0.0

    @property
    def is_choosy(self) -> bool:
        """Not every fresh answer will do."""
        return self.max_age is not None or self.min_fresh > 0

    def accepts(self, age: float, fresh_for: float) -> bool:
        """Tell whether an answer of this age, fresh for so long, will do."""
        is_young = self.max_age is None or age <= self.max_age
        return is_young and fresh_for >= self.min_fresh

    def accepts_stale(self, age: float, fresh_for: float) -> bool:
        """Tell whether an answer that is no longer fresh is asked for all the same."""
        is_young = self.max_age is None or age <= self.max_age
        return self.max_stale > 0 and is_young and -fresh_for <= self.max_stale


def demands_of(lines: Iterable[bytes], pragma: Iterable[bytes] = ()) -> Demands:
    """Read a request's Cache-Control; Pragma stands in where there is none (§5.4)."""
    directives = cache_control(lines)
    if not directives:
        return Demands(no_cache=b"no-cache" in cache_control(pragma))
    max_stale = directives.get(b"max-stale", b"0")
    return Demands(
        no_store=b"no-store" in directives,
        no_cache=b"no-cache" in directives,
        only_if_cached=b"only-if-cached" in directives,
        max_age=delta_seconds(directives[b"max-age"]) if b"max-age" in directives else None,
        min_fresh=delta_seconds(directives.get(b"min-fresh", b"0")),
        max_stale=INFINITE if max_stale is None else delta_seconds(max_stale),
    )
