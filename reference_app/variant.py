"""Which variant was chosen for a request.

Rule: the choice is made once, outside the cache, and read here; nobody chooses again.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["variant_of"]


def variant_of(scope: Mapping[str, Any]) -> str:
    """Return the variant's name, empty where there is only one."""
    record = scope.get("memoserve")
    return "" if record is None else str(record.variant)
