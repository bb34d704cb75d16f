"""Purging by tokens."""

import asyncio

import pytest

from memoserve import MemoryStore, Purger, StoreError
from memoserve._events import StoreWritten
from memoserve._tags import Tokens, implicit_tags, purge_mark, read_tokens, tag_key
from tests.asgi import JSON, Call, Model, ask, begin, http_scope, settle
from tests.middleware.cases import Notes, cached


async def tokens_in(store: MemoryStore, keys: list[str]) -> Tokens:
    tokens = await read_tokens(store, keys)
    assert tokens is not None
    return tokens


async def test_tokens_are_made_once_and_stay() -> None:
    """In the order of the tags, each once, and no two alike."""
    store = MemoryStore()

    first = await tokens_in(store, ["a", "b", "a"])
    second = await tokens_in(store, ["b", "a", "c"])

    assert [key for key, _ in first] == ["a", "b"]
    assert dict(second).items() > dict(first).items()
    assert len({token for _, token in second}) == 3
    assert {len(token) for _, token in second} == {16}


async def test_without_tags_the_store_is_not_asked() -> None:
    class NoStore(MemoryStore):
        async def get_many(self, keys: object, /) -> list[bytes | None]:
            raise AssertionError

    assert await read_tokens(NoStore(), []) == ()


@pytest.mark.parametrize(
    ("purged", "changed"),
    [
        pytest.param({"tags": ["a"]}, {"tag-a"}, id="tag"),
        pytest.param({"tags": ["a", "b"]}, {"tag-a", "tag-b"}, id="tags"),
        pytest.param({"rule": "/v1"}, {"rule"}, id="rule"),
        pytest.param({"model": "m"}, {"model"}, id="model"),
        pytest.param({"rule": "/v1", "model": "m"}, {"rule", "model"}, id="rule-and-model"),
        pytest.param({"everything": True}, {"everything"}, id="everything"),
    ],
)
async def test_a_purge_replaces_the_tokens_that_it_names_and_no_others(
    purged: dict[str, object], changed: set[str]
) -> None:
    """Neither too much nor too little goes, and every purge leaves its mark (bug 53)."""
    store = MemoryStore()
    everything, rule, model = implicit_tags("memoserve", "/v1", "m")
    keys = {
        "everything": everything,
        "rule": rule,
        "model": model,
        "tag-a": tag_key("memoserve", "tag", "a"),
        "tag-b": tag_key("memoserve", "tag", "b"),
        "other-namespace": tag_key("other", "tag", "a"),
        "mark": purge_mark("memoserve"),
    }
    before = dict(await tokens_in(store, list(keys.values())))

    await Purger(store).purge(**purged)  # type: ignore[arg-type]  # The table's values differ.

    after = dict(await tokens_in(store, list(keys.values())))
    assert {name for name, key in keys.items() if before[key] != after[key]} == changed | {"mark"}


@pytest.mark.parametrize(
    ("purged", "message"),
    [
        ({}, "purge needs"),
        ({"tags": []}, "purge needs"),
        ({"everything": False}, "purge needs"),
        ({"tags": "news"}, "'news'"),
        ({"key": "news"}, "32 hexadecimal digits, not 'news'"),
        ({"key": f"other:{'0' * 32}"}, "32 hexadecimal digits"),
    ],
)
async def test_a_purge_of_nothing_is_refused(purged: dict[str, object], message: str) -> None:
    """Nor is one name taken for its letters, which would purge nothing (bug 53)."""
    store = MemoryStore()

    with pytest.raises(ValueError, match=message):
        await Purger(store).purge(**purged)  # type: ignore[arg-type]  # The table's values differ.

    assert store.usage().entries == 0


async def test_a_purge_marks_before_it_replaces() -> None:
    """A fill reads the tokens of computed tags first and the mark last, so it sees one (bug 38).

    The other way round, one that ends between the two writes would take an old answer's new token.
    """
    written: list[str] = []

    class Noting(MemoryStore):
        async def set(self, key: str, value: bytes, ttl: float, /) -> None:
            written.append(key)

    await Purger(Noting()).purge(tags=["a"], everything=True)

    assert written == [
        purge_mark("memoserve"),
        tag_key("memoserve", "tag", "a"),
        tag_key("memoserve", "everything"),
    ]


async def test_a_store_that_fails_to_purge_says_so() -> None:
    class Broken(MemoryStore):
        async def set(self, key: str, value: bytes, ttl: float, /) -> None:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await Purger(Broken()).purge(everything=True)


def test_no_tag_can_pose_as_another() -> None:
    """Kinds, names and namespaces are kept apart, and no name is in its key (bug 4, bug 18)."""
    keys = [
        tag_key("n", "tag", "rule:/v1"),
        tag_key("n", "rule", "/v1"),
        tag_key("n", "tag", "/v1"),
        tag_key("n", "everything"),
        tag_key("n", "tag", "everything"),
        tag_key("n:tag", "tag", "/v1"),
        purge_mark("n"),
    ]

    assert len(set(keys)) == len(keys)
    assert not any("/v1" in key for key in keys)


def test_every_process_has_the_same_keys() -> None:
    """bug 11."""
    assert tag_key("n", "tag", "a") == "n:tag:bedc735d8ca825306d36f03d15ee2da6"


async def test_a_token_that_cannot_be_read_is_not_replaced() -> None:
    """A store that hiccups purges nothing (bug 53)."""

    class Failing(MemoryStore):
        async def get_many(self, keys: object, /) -> list[bytes | None]:
            return [None]  # As a guarded store says that it cannot say.

    store = Failing()
    await store.add("a", b"token", 60)

    assert await tokens_in(store, ["a"]) == (("a", b"token"),)


async def test_tokens_that_nobody_can_say_are_none() -> None:
    class Dead:
        async def get_many(self, keys: object, /) -> list[bytes | None]:
            return [b"token", None]

        async def add(self, key: str, value: bytes, ttl: float, /) -> bytes | None:
            return None

    assert await read_tokens(Dead(), ["a", "b"]) is None


async def test_an_answer_that_varies_is_kept_though_something_else_was_purged_meanwhile() -> None:
    """Of its question nothing was purged: bug 36 and bug 38 must not make each other worse."""
    store = MemoryStore()
    model = Model(headers=[JSON, (b"vary", b"tier")], gate=asyncio.Event())
    app = cached(model, store=store)
    first = begin(app, Call(http_scope(headers=[JSON, (b"tier", b"gold")])))
    await settle()

    await Purger(store).purge(tags=["something-else"])
    assert model.gate is not None
    model.gate.set()
    await first
    second = await ask(app, headers=[JSON, (b"tier", b"gold")])

    assert "hit" in second.cache_status


async def test_an_answer_whose_tag_cannot_be_read_is_not_stored() -> None:
    class Forgetful(MemoryStore):
        is_broken = False

        async def add(self, key: str, value: bytes, ttl: float, /) -> bytes:
            if self.is_broken:
                raise StoreError("no")
            return await super().add(key, value, ttl)

    store, model, notes = Forgetful(), Model(), Notes()
    app = cached(model, store=store, observer=notes, tags=lambda body, _: [body["tag"]])
    await ask(app, b'{"tag":"a"}')

    store.is_broken = True
    await ask(app, b'{"tag":"b"}')

    assert [event.result for event in notes.of(StoreWritten)] == ["stored", "refused"]
