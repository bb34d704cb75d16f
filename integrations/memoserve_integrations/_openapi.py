"""What OpenAPI documents say of answers that may come from the cache."""

import re

from memoserve._rules import RuleBook

__all__ = ["METHODS", "RESPONSE_FIELDS", "is_covered"]

METHODS = frozenset({"GET", "HEAD", "QUERY", "POST"})  # What a rule can cover.
RESPONSE_FIELDS = {
    "Cache-Status": "Whether this answer was stored, shared or computed (RFC 9211).",
    "Age": "Seconds since the answer was computed, if it is a stored one (RFC 9111).",
}

# Values that a path's parameters may have: any of these fits any of Starlette's convertors.
_SAMPLES = ("0", "00000000-0000-0000-0000-000000000000")


def is_covered(book: RuleBook, method: str, path_format: str) -> bool:
    """Tell whether a rule covers an operation, `/v1/models/{model}/infer`."""
    paths = (re.sub(r"{[^}]*}", sample, path_format) for sample in _SAMPLES)
    return any(book.find({"method": method, "path": path}) is not None for path in paths)
