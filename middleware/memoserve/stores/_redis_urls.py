"""Which Redis a URL names.

Rule: whatever is wrong with a URL is a `ValueError` when the store is made, without the password;
nothing is connected here.

    redis://user:password@host:6379/0      rediss:// the same over TLS      unix:///path?db=0
    redis+cluster://host:6379,host:6380    any of its nodes                 (rediss+cluster://)
    redis+sentinel://host:26379,host:26379/service?db=0                     (rediss+sentinel://)

Options follow a question mark. Ours are `compress` and `read_from_replicas`, and for Sentinels
`sentinel_username` and `sentinel_password`; all others are redis-py's.
"""

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import msgspec
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import LoadBalancingStrategy

from memoserve.stores._seal import Compression
from memoserve.stores._servers import Cluster, Server, Servers
from memoserve.stores._tls import SentinelManagedTLSConnection, TLSConnection

__all__ = ["RedisURL", "read_url"]

_CONNECT_SECONDS = 1.0
_YES, _NO = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})


_UntypedSentinel: Any = Sentinel  # redis-py gives it no types.


class RedisURL(msgspec.Struct, frozen=True):
    """What a URL says."""

    connect: Callable[[], Servers]  # In the event loop that will use it.
    compression: Compression
    reads_replicas: bool


def read_url(url: str) -> RedisURL:
    """Read a URL.

    Raises:
        ValueError: It names no Redis that could be, or has an option that there is not.
    """
    parts = urlsplit(url)
    shape = parts.scheme.partition("+")[2]
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    compression = cast("Compression", options.pop("compress", "none"))
    reads_replicas = _flag(options.pop("read_from_replicas", "no"))
    if reads_replicas and not shape:
        raise ValueError("read_from_replicas needs a Cluster or Sentinels, which know of replicas")
    make = {"": _server, "cluster": _cluster, "sentinel": _sentinel}[shape]
    return RedisURL(
        make(parts, options, reads_replicas=reads_replicas), compression, reads_replicas
    )


def _server(parts: SplitResult, options: dict[str, str], **_: object) -> Callable[[], Servers]:
    query = urlencode(options)
    arguments = _arguments(parts._replace(query=query).geturl())
    return lambda: Server(Redis(connection_pool=ConnectionPool(**arguments)))


def _cluster(
    parts: SplitResult, options: dict[str, str], *, reads_replicas: bool
) -> Callable[[], Servers]:
    nodes = _hosts(parts, 6379)
    arguments = _arguments_of_many(parts, options)
    arguments["retry"] = Retry(NoBackoff(), 2)  # After having learned anew who has which keys.
    if reads_replicas:
        arguments["load_balancing_strategy"] = LoadBalancingStrategy.ROUND_ROBIN

    def connect() -> Servers:
        found = [ClusterNode(host, port) for host, port in nodes]
        return Cluster(_with_tls(RedisCluster(startup_nodes=found, **arguments)))

    return connect


def _sentinel(
    parts: SplitResult, options: dict[str, str], *, reads_replicas: bool
) -> Callable[[], Servers]:
    sentinels, service = _hosts(parts, 26379), parts.path.strip("/")
    if not service:
        raise ValueError("redis+sentinel:// needs a service: redis+sentinel://host:26379/service")
    own = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in options
    }
    arguments = _arguments_of_many(parts, options)
    shared = {
        name: value
        for name, value in arguments.items()
        if name.startswith(("socket_", "ssl", "protocol", "retry"))
    }

    if "ssl" in arguments:
        arguments["connection_class"] = SentinelManagedTLSConnection

    def connect() -> Servers:
        watch: Any = _UntypedSentinel(sentinels, sentinel_kwargs={**shared, **own}, **arguments)
        reader = watch.slave_for(service) if reads_replicas else None
        return Server(watch.master_for(service), reader, watch.sentinels)

    return connect


def _arguments_of_many(parts: SplitResult, options: dict[str, str]) -> dict[str, Any]:
    """Return what connections to each of several servers have in common."""
    transport = parts.scheme.partition("+")[0]
    credentials, at, _ = parts.netloc.rpartition("@")
    arguments = _arguments(f"{transport}://{credentials}{at}host?{urlencode(options)}")
    del arguments["host"]
    if arguments.pop("connection_class", None) is TLSConnection:
        arguments["ssl"] = True
    return arguments


def _arguments(url: str) -> dict[str, Any]:
    """Return what redis-py reads from a URL, and what we want otherwise than it does.

    Raises:
        ValueError: redis-py cannot read it, or does not know an option.
    """
    arguments: dict[str, Any] = {
        "protocol": 2,  # One round trip less to connect; nothing here needs RESP3.
        "socket_timeout": None,  # `_servers.answered` has its own, which costs less.
        "socket_connect_timeout": _CONNECT_SECONDS,
        **parse_url(url),
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),  # Who waits for a cache is not made to wait longer.
    }
    if arguments.get("connection_class") is SSLConnection:
        arguments["connection_class"] = TLSConnection
    probe = {name: value for name, value in arguments.items() if name != "connection_class"}
    try:
        arguments.get("connection_class", Connection)(**probe)
    except TypeError as error:
        raise ValueError(f"the store's URL has an option that redis-py has not: {error}") from None
    return arguments


def _with_tls(client: Any) -> Any:
    """Put our connections in the place of redis-py's, which lets nobody choose them."""
    if client.connection_kwargs["connection_class"] is SSLConnection:
        client.connection_kwargs["connection_class"] = TLSConnection  # Of nodes to be found.
        for node in client.startup_nodes:
            node.connection_class = TLSConnection
    return client


def _hosts(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    """Return each `host:port` of a list; an IPv6 address is in brackets.

    Raises:
        ValueError: There is none, or a port is no number.
    """
    found = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    if not all(host.hostname for host in found):
        raise ValueError(f"{parts.scheme}:// needs host:port, or several with commas between them")
    return [(cast("str", host.hostname), host.port or port) for host in found]


def _flag(text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise ValueError(f"read_from_replicas must be yes or no, not {text!r}")
    return text.lower() in _YES
