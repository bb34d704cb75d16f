"""Connections over TLS that share what is dear about them.

Rule: one context serves all connections that were given the same files, until a file changes.
redis-py makes one for each connection and reads all of the system's authorities for it: 25 ms in
which the event loop answers nobody, a dozen times when a pool is cold.
"""

from pathlib import Path
from typing import Any

from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection

__all__ = ["SentinelManagedTLSConnection", "TLSConnection"]

_MOST = 8  # Contexts; there is one for each URL, and another when certificates are renewed.

_contexts: dict[str, Any] = {}


class TLSConnection(SSLConnection):
    """A connection over TLS."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]  # It has no types.
        own: Any = self.ssl_context
        name = _name_of(own)
        if name not in _contexts and len(_contexts) >= _MOST:
            del _contexts[next(iter(_contexts))]
        self.ssl_context = _contexts.setdefault(name, own)


class SentinelManagedTLSConnection(SentinelManagedConnection, TLSConnection):
    """The same, to the server that Sentinels name."""


def _name_of(context: Any) -> str:
    """Say what the context is made from, and of which time its files are."""
    made_from = [getattr(context, name) for name in context.__slots__ if name != "context"]
    files = (context.keyfile, context.certfile, context.ca_certs, context.ca_path)
    return repr([*made_from, *map(_changed, files)])


def _changed(path: str | None) -> int:
    try:
        return 0 if path is None else Path(path).stat().st_mtime_ns
    except OSError:
        return 0  # Whoever connects is told that it is not there.
