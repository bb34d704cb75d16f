"""Which stores a URL can name."""

import pytest

from memoserve import MemoryStore
from memoserve.stores import SharedStore, open_store

MIB = 1024**2


@pytest.mark.parametrize(
    ("url", "limit"),
    [
        ("memory://", 256 * MIB),
        ("memory://?max_bytes=1048576", MIB),
        ("memory://?max_bytes=512kb", MIB // 2),
        ("memory://?max_bytes=64MB", 64 * MIB),
        ("memory://?max_bytes=2gb", 2048 * MIB),
    ],
)
async def test_a_memory_store_has_the_size_that_its_url_says(url: str, limit: int) -> None:
    store = open_store(url)

    assert isinstance(store, MemoryStore)
    assert store.usage().limit == limit


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("", "not", id="empty"),
        pytest.param("memory", "not", id="no-scheme"),
        pytest.param("memcached://host", "memcached", id="unknown-scheme"),
        pytest.param("memory://host", "memory://host", id="host"),
        pytest.param("memory:///path", "memory:///path", id="path"),
        pytest.param("memory://?size=1", r"\?size=1", id="unknown-option"),
        pytest.param("memory://?max_bytes=1&x", "max_bytes=1&x", id="one-option-too-many"),
        pytest.param("memory://?max_bytes=", "max_bytes .*''", id="no-size"),
        pytest.param("memory://?max_bytes=mb", "max_bytes .*'mb'", id="no-number"),
        pytest.param("memory://?max_bytes=1.5mb", "1.5mb", id="fraction"),
        pytest.param("memory://?max_bytes=-1", "-1", id="negative"),
        pytest.param("memory://?max_bytes=0", "positive, not 0", id="zero"),
        pytest.param("memory://?max_bytes=1tb", "1tb", id="unknown-unit"),
        pytest.param("redis://host?colour=red", "colour", id="unknown-redis-option"),
        pytest.param("redis://host?db=x", "db", id="redis-option-of-the-wrong-kind"),
        pytest.param("redis://host?compress=lzma", "lzma", id="unknown-compression"),
        pytest.param("redis://host?read_from_replicas=yes", "Cluster", id="no-replicas"),
        pytest.param("redis+cluster://a?read_from_replicas=2", "yes or no", id="no-flag"),
        pytest.param("redis+cluster://", "host:port", id="cluster-nowhere"),
        pytest.param("redis+cluster://a,,b", "host:port", id="cluster-with-a-hole"),
        pytest.param("redis+sentinel://host", "needs a service", id="sentinel-of-nothing"),
    ],
)
def test_any_other_url_is_refused_with_what_is_wrong(url: str, shown: str) -> None:
    with pytest.raises(ValueError, match=shown):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:secret@host:6379/3?socket_timeout=2",
        "rediss://host?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
        "redis+cluster://user:secret@host:6379,[::1]:6380,third?read_from_replicas=yes",
        "rediss+cluster://host",
        "redis+sentinel://:secret@host:26379,other/service?db=2&sentinel_password=x",
        "rediss+sentinel://host/service?read_from_replicas=no",
        "tiered+redis://host?max_bytes=1mb&compress=zstd",
        "tiered+unix:///run/redis.sock",
    ],
)
async def test_a_redis_of_every_shape_can_be_named(url: str) -> None:
    """Nothing is connected yet, so it may be away (bug 40)."""
    store = open_store(url)

    assert isinstance(store, SharedStore)
    await store.aclose()


@pytest.mark.parametrize(
    "url", ["postgres://user:hunter2@host/db", "redis://user:hunter2@host:port/0"]
)
def test_a_password_is_not_shown(url: str) -> None:
    """What refuses a URL ends in logs (bug 18)."""
    with pytest.raises(ValueError, match=r".") as caught:
        open_store(url)

    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
