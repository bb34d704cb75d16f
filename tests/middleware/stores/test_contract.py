"""What every store must do, whichever it is."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from memoserve import Store
from memoserve.stores import BatchStore, open_store


@pytest.fixture(params=["memory", "redis", "cluster", "sentinel", "tiered", "tiered_cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    name = request.param
    opened = open_store("memory://" if name == "memory" else request.getfixturevalue(f"{name}_url"))
    yield opened
    await opened.aclose()


@pytest.fixture
def key() -> str:
    """A key that no other test uses: a server outlives the test."""
    return f"contract:{uuid.uuid4().hex}"


async def until_gone(store: Store, key: str) -> None:
    while await store.get(key) is not None:  # noqa: ASYNC110  (a server's clock is not ours)
        await asyncio.sleep(0.005)


async def test_what_was_set_is_got(store: Store, key: str) -> None:
    await store.set(key, b"value", 60)

    assert await store.get(key) == b"value"
    assert await store.get(key) == b"value"


async def test_what_was_never_set_is_none(store: Store, key: str) -> None:
    assert await store.get(key) is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(range(256)), id="all-bytes"),
        pytest.param(b"None", id="none"),
        pytest.param(b"x" * 1_000_000, id="large"),
    ],
)
async def test_any_bytes_come_back_as_they_were(store: Store, key: str, value: bytes) -> None:
    """No text is made of them, and an empty value is one (bug 32)."""
    await store.set(key, value, 60)

    assert await store.get(key) == value


async def test_a_later_value_replaces_an_earlier_one(store: Store, key: str) -> None:
    await store.set(key, b"long ago", 60)
    await store.set(key, b"now", 60)

    assert await store.get(key) == b"now"


async def test_a_deleted_key_is_gone(store: Store, key: str) -> None:
    await store.set(key, b"value", 60)

    await store.delete(key)
    await store.delete(key)

    assert await store.get(key) is None


async def test_keys_are_told_apart(store: Store, key: str) -> None:
    """By every character, the odd ones too (bug 4)."""
    keys = [key, f"{key}:", f"{key} ", f"{key}\n", key.upper(), f"{key}é", f"{key}e\u0301"]
    for number, each in enumerate(keys):
        await store.set(each, b"%d" % number, 60)

    assert [await store.get(each) for each in keys] == [b"%d" % n for n in range(len(keys))]


async def test_many_keys_are_looked_up_in_their_order(store: Store, key: str) -> None:
    """Those that are not there, and those that come twice, in their places."""
    assert isinstance(store, BatchStore)
    await store.set(f"{key}a", b"1", 60)
    await store.set(f"{key}b", b"2", 60)

    found = await store.get_many([f"{key}b", f"{key}c", f"{key}a", f"{key}b"])

    assert found == [b"2", None, b"1", b"2"]
    assert await store.get_many([]) == []


@pytest.mark.parametrize("ttl", [0.02, 0.02 + 1e-9])
async def test_what_is_past_its_ttl_is_none(store: Store, key: str, ttl: float) -> None:
    """A lifetime far below a second is neither none nor a whole one (bug 48)."""
    await store.set(key, b"value", ttl)

    async with asyncio.timeout(0.9):
        await until_gone(store, key)


@pytest.mark.parametrize("ttl", [0.9, 86_400.0 * 365, 1e300], ids=["brief", "year", "endless"])
async def test_within_its_ttl_a_value_is_there(store: Store, key: str, ttl: float) -> None:
    """bug 48."""
    await store.set(key, b"value", ttl)

    assert await store.get(key) == b"value"


async def test_a_new_ttl_replaces_the_old_one(store: Store, key: str) -> None:
    await store.set(key, b"brief", 0.02)
    await store.set(key, b"long", 60)
    await store.set(f"{key}clock", b"", 0.05)

    async with asyncio.timeout(5):
        await until_gone(store, f"{key}clock")

    assert await store.get(key) == b"long"


async def test_only_what_is_not_there_is_added(store: Store, key: str) -> None:
    assert isinstance(store, BatchStore)

    assert await store.add(key, b"first", 60) == b"first"
    assert await store.add(key, b"second", 60) == b"first"
    assert await store.get(key) == b"first"


async def test_of_many_who_add_all_get_the_same(store: Store, key: str) -> None:
    assert isinstance(store, BatchStore)

    added = await asyncio.gather(*(store.add(key, b"%d" % n, 60) for n in range(30)))

    assert len(set(added)) == 1
    assert await store.get(key) == added[0]


async def test_concurrent_calls_do_not_mix(store: Store, key: str) -> None:
    numbers = range(80)
    await asyncio.gather(*(store.set(f"{key}{n}", b"%d" % n, 60) for n in numbers))

    found = await asyncio.gather(*(store.get(f"{key}{n}") for n in numbers))

    assert found == [b"%d" % n for n in numbers]
