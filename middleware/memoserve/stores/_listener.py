"""What Redis tells without being asked.

Rule: whoever relies on being told asks `is_current` first. It is true only while every server has
been heard within the last nine tenths of a second, in answer to a ping if there was no news; since
a server tells in order, all that happened before is known. A lost connection is told as a loss.

Servers tell what is published on channels and, by client tracking (BCAST), which keys changed, were
evicted or ran out. One RESP2 connection does both: it redirects its invalidations to itself.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from memoserve._errors import StoreError
from memoserve.stores._servers import Servers, answered, close_quietly

__all__ = ["Listener"]

_logger = logging.getLogger("memoserve")

_INVALIDATIONS = b"__redis__:invalidate"
_PING_SECONDS = 0.3
_CURRENT_SECONDS = 0.9
_PAUSE_SECONDS = 0.2  # Before the next try, after a loss.


class Listener:
    """Listens in one event loop, and connects again when it must.

    Args:
        servers: Where to listen.
        channels: Their names.
        hear: Called with what is published on them: the channel and the text.
        forget: Called with keys that have changed; with None when all may have, unheard.
        prefixes: What the keys begin with whose changes are to be told; None for no keys at all.
    """

    def __init__(
        self,
        servers: Servers,
        channels: Sequence[str],
        hear: Callable[[bytes], None],
        *,
        forget: Callable[[Iterable[str] | None], None],
        prefixes: Sequence[str] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._servers = servers
        self._channels = channels
        self._hear = hear
        self._prefixes = prefixes
        self._forget = forget
        self._heard: dict[Any, float] = {}  # Connection -> when; empty while not connected.
        self._shape: object = None
        self._task = self._loop.create_task(self._run())

    @property
    def is_current(self) -> bool:
        """Whether everything that happened more than a second ago has been told."""
        if not self._heard:
            return False
        return self._loop.time() - min(self._heard.values()) < _CURRENT_SECONDS

    async def aclose(self) -> None:
        """Listen no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            connections: list[Any] = []
            try:
                connections = await self._servers.lone_connections()
                await self._connect(connections)
                async with asyncio.TaskGroup() as group:
                    for connection in connections:
                        group.create_task(self._listen(connection))
                        group.create_task(self._ping(connection))
            except* Exception as group_of_errors:  # noqa: BLE001  (whatever it was, it is tried again)
                _logger.debug("not listening to Redis: %s", group_of_errors.exceptions)
            finally:
                self._lose()
                for connection in connections:
                    await close_quietly(connection.disconnect(nowait=True))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _connect(self, connections: list[Any]) -> None:
        self._shape = self._servers.shape()
        if self._prefixes is None:
            del connections[1:]  # What is published on one node of a Cluster is told by all.
        for connection in connections:
            await answered(connection.connect())
            if self._prefixes is not None:
                await answered(_track(connection, self._prefixes))
            names = [*self._channels, _INVALIDATIONS]
            await answered(connection.send_command("SUBSCRIBE", *names))
            for _ in names:
                await answered(connection.read_response())
        now = self._loop.time()
        self._heard = dict.fromkeys(connections, now)

    async def _listen(self, connection: Any) -> None:
        while True:
            kind, *rest = await connection.read_response(timeout=None)
            self._heard[connection] = self._loop.time()
            if kind != b"message":
                continue
            channel, content = rest
            if channel != _INVALIDATIONS:
                self._hear(content)
            else:
                keys = content and [key.decode("utf-8", "surrogateescape") for key in content]
                self._forget(keys)

    async def _ping(self, connection: Any) -> None:
        """Make sure that something is heard, from all who have something to tell, or end it."""
        while True:
            await asyncio.sleep(_PING_SECONDS)
            await connection.send_command("PING")
            if self._loop.time() - self._heard[connection] > 2 * _CURRENT_SECONDS:
                raise StoreError("a server is silent")
            if self._shape != self._servers.shape():
                raise StoreError("other servers have the keys now")

    def _lose(self) -> None:
        if self._heard:
            self._forget(None)
        self._heard = {}


async def _track(connection: Any, prefixes: Sequence[str]) -> None:
    await connection.send_command("CLIENT", "ID")
    own = await connection.read_response()
    options = [word for prefix in prefixes for word in ("PREFIX", prefix)]
    await connection.send_command("CLIENT", "TRACKING", "ON", "REDIRECT", own, "BCAST", *options)
    await connection.read_response()
