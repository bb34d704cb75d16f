"""Where requests go and how: small enough to be sent to a worker process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Target"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A server, and how to speak to it.

    Args:
        url: scheme, host, port, and perhaps a prefix of all paths.
        timeout: seconds to wait for connecting, and for each part of an answer.
        headers: sent with every request, over our own.
        transport: ``lifo``, ``aiohttp`` (extra, 2 times faster), or ``httpx``: its own pool.
        verify: check certificates.
        ca: a file of certificates to trust, in place of the usual ones.
    """

    url: str
    timeout: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    transport: Literal["lifo", "aiohttp", "httpx"] = "lifo"
    verify: bool = True
    ca: str | None = None
