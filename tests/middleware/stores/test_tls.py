"""Redis over TLS, with users and passwords, against real servers with certificates of our own."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from memoserve import CacheMiddleware, Purger, Rule, StoreError
from memoserve.stores import _tls
from memoserve.stores._servers import Server
from memoserve.stores._tls import TLSConnection
from memoserve.stores.redis import RedisStore
from tests.asgi import Model, ask
from tests.redis_servers import RedisServer, free_port, running, until

USER, PASSWORD = "app", "of these tests: a+b&c/d"
SPELLED = f"{USER}:of%20these%20tests%3A%20a%2Bb%26c%2Fd"
# What README.md gives to the user of one server, and nothing more.
RIGHTS = (
    "~memoserve:* ~{memoserve:* &memoserve:leases &__redis__:invalidate -@all +select"
    " +get +mget +set +del +exists +append +pttl +pexpire +eval +evalsha +publish"
    " +subscribe +ping +client|id +client|tracking"
)


class Secure(NamedTuple):
    """A server that speaks TLS, and what it takes to be answered."""

    server: RedisServer
    port: int
    folder: Path

    def url(self, scheme: str = "rediss", **options: object) -> str:
        usual = {"ssl_ca_certs": self.folder / "ca.pem"}
        query = "&".join(f"{name}={value}" for name, value in {**usual, **options}.items())
        return f"{scheme}://{SPELLED}@localhost:{self.port}/0?{query}"


def issue(folder: Path) -> None:
    """Make an authority, and what it says of a server and of a client."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("localhost", "client"):
        certificate = authority.issue_cert(name, "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")


def speaking_tls(folder: Path, port: int, *, wants_certificates: bool) -> tuple[str, ...]:
    own = str(folder / "localhost.pem")
    return (
        *("--tls-port", str(port), "--tls-cert-file", own, "--tls-key-file", own),
        *("--tls-ca-cert-file", str(folder / "ca.pem")),
        *("--tls-auth-clients", "yes" if wants_certificates else "no"),
    )


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    issue(folder)
    with running(folder, *speaking_tls(folder, port, wants_certificates=False)) as server:
        server.ask("ACL", "SETUSER", USER, "ON", f">{PASSWORD}", *RIGHTS.split())
        yield Secure(server, port, folder)


def cache(url: str, model: Model, **options: Any) -> CacheMiddleware:
    rules = [Rule("/v1/model", ttl=60, tags=["a"])]
    return CacheMiddleware(model, rules=rules, store=url, **{"store_deadline": 5, **options})


def redis_of(app: CacheMiddleware) -> Any:
    return app._shared._store


async def hearing(app: CacheMiddleware) -> None:
    """Wait until an app is told of what happens in Redis."""

    def is_hearing() -> bool:
        with app._shared.store.await_lease("any") as told:
            return not told.cancelled()

    async with asyncio.timeout(10):
        while not is_hearing():  # noqa: ASYNC110  (a server has no event for it)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("shape", ["rediss", "tiered+rediss"])
async def test_a_user_with_the_rights_that_the_readme_names_can_do_everything(
    secure: Secure, shape: str
) -> None:
    """Hits of another process, a purge, leases, large values, and probes."""
    secure.server.ask("FLUSHALL")
    secure.server.ask("ACL", "LOG", "RESET")
    one, other = (
        cache(secure.url(shape), Model(chunks=[content])) for content in (b"x" * 300_000, b"y")
    )

    first = await ask(one)
    await hearing(other)
    hit = await ask(other)
    await Purger(redis_of(one)).purge(tags=["a"])
    purged = await ask(one)
    await redis_of(other).ping(5)
    for app in (one, other):
        await app.aclose()

    assert first.cache_status == "memoserve; fwd=miss"
    assert hit.cache_status.startswith("memoserve; hit")
    assert hit.content == first.content
    assert purged.cache_status == "memoserve; fwd=miss"
    forbidden = {entry[5] for entry in secure.server.ask("ACL", "LOG")}
    assert forbidden <= {b"client|setinfo", b"client"}  # Redis-py's name, which it may not tell.


async def test_a_service_without_the_right_certificates_goes_on(
    secure: Secure, tmp_path: Path
) -> None:
    """Another authority, none at all, another name, another password: misses (bug 40)."""
    issue(tmp_path)
    urls = {
        "certificate": secure.url(ssl_ca_certs=tmp_path / "ca.pem"),
        "CERTIFICATE_VERIFY_FAILED": f"rediss://{SPELLED}@localhost:{secure.port}",
        "No such file": secure.url(ssl_ca_certs=tmp_path / "nothing.pem"),
        "invalid username-password": secure.url().replace(SPELLED, "app:wrong"),
        "ConnectionError": f"redis://{SPELLED}@localhost:{secure.port}",
    }

    for complaint, url in urls.items():
        store = RedisStore.from_url(url)
        with pytest.raises(StoreError) as caught:
            await store.get("memoserve:x")
        await store.aclose()
        app = cache(url, Model())
        answers = [await ask(app) for _ in range(2)]
        await app.aclose()

        assert complaint in str(caught.value), complaint
        assert {(answer.status, answer.cache_status) for answer in answers} == {
            (200, "memoserve; fwd=miss")
        }


async def test_a_server_that_wants_certificates_is_shown_one(tmp_path: Path) -> None:
    issue(tmp_path)
    port = free_port()
    with running(tmp_path, *speaking_tls(tmp_path, port, wants_certificates=True)):
        plain = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with_certificate = RedisStore.from_url(f"{plain}&ssl_certfile={tmp_path / 'client.pem'}")
        without = RedisStore.from_url(plain)

        await with_certificate.set("k", b"v", 60)
        assert await with_certificate.get("k") == b"v"
        with pytest.raises(StoreError):
            await without.get("k")

        await with_certificate.aclose()
        await without.aclose()


async def test_a_cluster_speaks_tls(tmp_path: Path) -> None:
    """Of one server, which has all slots; it names itself with the port that speaks TLS."""
    issue(tmp_path)
    port = free_port()
    options = speaking_tls(tmp_path, port, wants_certificates=False)
    with running(tmp_path, *options, "--cluster-enabled", "yes", "--tls-cluster", "yes") as server:
        server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        until(lambda: b"cluster_state:ok" in server.ask("CLUSTER", "INFO"))
        ca = tmp_path / "ca.pem"
        store = RedisStore.from_url(f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={ca}")

        await store.set("k", b"v", 60)
        assert await store.get("k") == b"v"
        await store.ping(5)

        servers: Any = store.link().servers
        nodes = servers._client.get_nodes()
        assert {type(each) for node in nodes for each in node._connections} == {TLSConnection}
        await store.aclose()


async def test_sentinels_speak_tls(tmp_path: Path) -> None:
    issue(tmp_path)
    port, watching = free_port(), free_port()
    options = speaking_tls(tmp_path, port, wants_certificates=False)
    its_own = speaking_tls(tmp_path, watching, wants_certificates=False)
    replicating = ("--tls-replication", "yes")
    with (
        running(tmp_path / "master", *options, *replicating),
        running(tmp_path / "watcher", *its_own, *replicating, is_sentinel=True) as watcher,
    ):
        watcher.ask("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", port, 1)
        url = f"rediss+sentinel://127.0.0.1:{watching}/mymaster?ssl_ca_certs={tmp_path / 'ca.pem'}"
        store = RedisStore.from_url(url)

        await store.set("k", b"v", 60)
        assert await store.get("k") == b"v"

        await store.aclose()


async def test_a_context_serves_all_connections_until_a_file_changes(secure: Secure) -> None:
    """Certificates are renewed while a service runs."""
    store = RedisStore.from_url(secure.url())
    servers: Any = store.link().servers
    assert isinstance(servers, Server)

    one, two = await servers.lone_connections(), await servers.lone_connections()
    ca = secure.folder / "ca.pem"
    os.utime(ca, (ca.stat().st_atime, ca.stat().st_mtime + 1))
    (renewed,) = await servers.lone_connections()

    contexts = [each.ssl_context for each in (*one, *two, renewed)]  # type: ignore[attr-defined]
    assert contexts[0] is contexts[1]
    assert contexts[2] is not contexts[0]
    await store.aclose()


async def test_contexts_that_are_used_no_more_are_let_go(secure: Secure) -> None:
    for minutes in range(20):
        ca = secure.folder / "ca.pem"
        os.utime(ca, (0, minutes * 60))
        store = RedisStore.from_url(secure.url())
        await store.link().servers.lone_connections()
        await store.aclose()

    assert len(_tls._contexts) <= _tls._MOST


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_the_first_requests_of_a_cold_pool_are_served(secure: Secure, scheme: str) -> None:
    """64 at once, without a lifespan: a few connections are made for all of them, not 64."""
    port = {"redis": secure.server.port, "rediss": secure.port}[scheme]
    url = secure.url(scheme).replace(f":{secure.port}/", f":{port}/")
    url = url.partition("?")[0] if scheme == "redis" else url
    secure.server.ask("FLUSHALL")
    bodies = [b'{"text":"%d"}' % number for number in range(64)]
    filling, cold = cache(url, Model()), cache(url, Model())
    for body in bodies:
        await ask(filling, body)
    await filling.aclose()
    connected = int(secure.server.ask("INFO", "stats")["total_connections_received"])

    answers = await asyncio.gather(*(ask(cold, body) for body in bodies))
    made = int(secure.server.ask("INFO", "stats")["total_connections_received"]) - connected
    await cold.aclose()

    assert all(answer.cache_status.startswith("memoserve; hit") for answer in answers)
    assert made <= 5
