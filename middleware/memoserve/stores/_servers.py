"""Redis in each of its shapes, behind one face: a server, a Sentinel's master, a Cluster.

Rule: what Redis or redis-py raises is translated here, once: an answer that says no is a
`StoreRefusedError`, anything else a `StoreError`. A command that gets no answer is given up after
a second, long after whoever asked has gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisClusterException, RedisError, ResponseError

from memoserve._errors import StoreError, StoreRefusedError

__all__ = ["Cluster", "Server", "Servers", "answered", "close_quietly"]

_PATIENCE = 1.0  # Seconds for one command, connecting included.

_FAILURES = (RedisError, RedisClusterException, OSError)  # TimeoutError is an OSError.

_Result = TypeVar("_Result")


class Servers(Protocol):
    """What a store needs of Redis, whatever its shape; one for each event loop."""

    async def execute(self, *command: Any) -> Any:
        """Have one command answered, by the server that has the key.

        Raises:
            StoreError: It was not.
        """

    async def fetch(self, keys: Sequence[str]) -> list[bytes | StoreError | None]:
        """Return what is under each key, as few round trips as there are servers."""
        ...

    async def lone_connections(self) -> list[AbstractConnection]:
        """Make a connection to each primary, not yet connected and in no pool."""
        ...

    def shape(self) -> object:
        """Return what is another value when other servers have become the primaries."""

    async def aclose(self) -> None:
        """Close all connections but those."""


class Server:
    """One server: by its address, or the master that Sentinels name at the moment.

    Args:
        client: For everything.
        reader: For lookups, if those may go to replicas.
        companions: Clients that only serve to find the others, to be closed with them.
    """

    def __init__(
        self, client: "Redis", reader: "Redis | None" = None, companions: Sequence[Any] = ()
    ) -> None:
        self._client: Any = client
        self._reader: Any = reader or client
        self._companions = companions
        self._idle: list[Any] = []  # Connections for lookups.

    async def execute(self, *command: Any) -> Any:
        """Have one command answered."""
        try:
            return await answered(self._client.execute_command(*command))
        except StoreRefusedError as error:
            if isinstance(error.__cause__, ReadOnlyError):
                # A name that led to a master may lead to another one by now.
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise

    async def fetch(self, keys: Sequence[str]) -> list[bytes | StoreError | None]:
        """Return what is under each key, in one round trip.

        What a client of redis-py does for a command beside sending it takes as long again.
        """
        return list(await answered(self._look_up(keys)))

    async def _look_up(self, keys: Sequence[str]) -> list[bytes | None]:
        while True:
            was_idle = bool(self._idle)
            connection: Any = self._idle.pop() if was_idle else self._another()
            try:
                if not connection.is_connected:
                    await connection.connect()
                await connection.send_command("MGET", *keys)
                found = cast("list[bytes | None]", await connection.read_response())
            except BaseException as error:
                await connection.disconnect(nowait=True)
                if was_idle and isinstance(error, RedisConnectionError):
                    continue  # Closed by the server, perhaps long ago; a new one will tell.
                raise
            self._idle.append(connection)
            return found

    def _another(self) -> AbstractConnection:
        return _lone(self._reader.connection_pool)

    async def lone_connections(self) -> list[AbstractConnection]:
        """Make one connection."""
        return [_lone(self._client.connection_pool)]

    def shape(self) -> object:
        """Return always the same: when the master changes, its connections are closed."""
        return None

    async def aclose(self) -> None:
        """Close all connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await close_quietly(connection.disconnect(nowait=True))
        for client in {self._client, self._reader, *self._companions}:
            await close_quietly(client.aclose())
        # Sentinels name servers to pools that they make, which nobody else closes.
        for pool in {self._client.connection_pool, self._reader.connection_pool}:
            await close_quietly(pool.disconnect())


class Cluster:
    """All the servers of a Redis Cluster, as it says that they are."""

    def __init__(self, client: "RedisCluster") -> None:
        self._client: Any = client
        self._starting: asyncio.Task[object] | None = None

    async def execute(self, *command: Any) -> Any:
        """Have one command answered, after redirections if need be."""
        await self._start()
        return await answered(self._client.execute_command(*command))

    async def fetch(self, keys: Sequence[str]) -> list[bytes | StoreError | None]:
        """Return what is under each key, from all nodes at the same time, pipelined."""
        await self._start()
        pipeline = self._client.pipeline()
        for key in keys:
            pipeline.execute_command("GET", key)
        found = await answered(pipeline.execute(raise_on_error=False))
        return [_translated(each) if isinstance(each, Exception) else each for each in found]

    async def lone_connections(self) -> list[AbstractConnection]:
        """Make one connection to each primary."""
        await self._start()
        return [_lone(node) for node in self._client.get_primaries()]

    def shape(self) -> object:
        """Return the primaries, as far as redirections have told of them."""
        return {node.name for node in self._client.get_primaries()}

    async def aclose(self) -> None:
        """Close all connections."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await close_quietly(self._client.aclose())

    async def _start(self) -> None:
        """Learn who has which keys, once: redis-py closes connections of those who come along."""
        if self._starting is None:
            self._starting = asyncio.create_task(answered(self._client.initialize()))
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except StoreError:
            if self._starting is starting:
                self._starting = None  # The next one tries again.
            raise


async def answered(command: Awaitable[_Result]) -> _Result:
    """Wait for what redis-py does, and translate what it raises.

    A time limit of redis-py's own would cost a third of its time for each command.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            return await command
    except _FAILURES as error:
        raise _translated(error) from error


async def close_quietly(closing: Awaitable[object]) -> None:
    """Close what may be broken."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await closing
    except _FAILURES:
        return


def _translated(error: Exception) -> StoreError:
    kind = StoreError
    if isinstance(error, ResponseError) and not isinstance(error, RedisConnectionError):
        kind = StoreRefusedError
    translated = kind(f"{type(error).__name__}: {error}")
    translated.__cause__ = error
    return translated


def _lone(source: Any) -> AbstractConnection:
    """Make a connection like those of a pool, or of a cluster's node."""
    make: Callable[..., AbstractConnection] = source.connection_class
    return make(**{**source.connection_kwargs, "protocol": 2})
