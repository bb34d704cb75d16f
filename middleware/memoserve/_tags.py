"""Tags and purging, by generation tokens.

Rule: a purge replaces a tag's random token, and an entry is a miss unless it carries the present
token of each of its tags, as read when its fill began. So a purge lists nothing, needs no index
that could grow or be evicted, and beats a fill that is under way; a token that is lost turns
hits into misses, never a purge into nothing.

One question is purged without a tag that every hit would have to look up: its entry is deleted,
and whoever writes one asks afterwards whether that was purged meanwhile, and deletes it again:

    the purge       the mark of all purges, a token of the question, then delete the entry
    a fill          read the mark, call the app, write the entry, then read mark and token

Each step ends before the next begins. So if the fill finds mark or token to be the old one, the
purge has not deleted yet, and will. (A write that was given up at its deadline and is done later
all the same is the exception: nobody asks after it.) Only answers that vary by fields of the
request carry the token itself, as they lie under keys that a purge does not know.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Protocol

from memoserve._asgi import Header, Scope
from memoserve._directives import group_names
from memoserve._fields import host_of
from memoserve.stores import Store

__all__ = [
    "KeyReader",
    "Purger",
    "TokenStore",
    "Tokens",
    "group_tag",
    "implicit_tags",
    "is_any_purged",
    "is_purged",
    "make_token",
    "named_tags",
    "purge_mark",
    "question_tag",
    "read_tokens",
    "renew_tokens",
    "resource_tag",
    "tag_key",
]

Tokens = tuple[tuple[str, bytes], ...]  # A tag's key in the store, and its token.

_TOKEN_TTL = 90 * 86_400.0  # Seconds; no answer outlives it, so a month or two would do.
_QUESTION_TTL = 86_400.0  # No call of the app takes a day; a purge for each question stays cheap.


Reader = Callable[[Sequence[str]], Awaitable[list[bytes | None]]]


class KeyReader(Protocol):
    """Looks up many keys in one go."""

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return the tokens, None for those that are not there."""
        ...


class TokenWriter(Protocol):
    """What of a store is needed to replace tokens."""

    async def set(self, key: str, value: bytes, ttl: float, /) -> object:
        """Keep a token."""


class TokenStore(KeyReader, Protocol):
    """What of a store is needed to read tokens, and to make those that are not there."""

    async def add(self, key: str, value: bytes, ttl: float, /) -> bytes | None:
        """Keep a token unless there is one; return the one that is there, None if unknown."""
        ...


class Purger:
    """Makes stored answers unusable.

    Args:
        store: The store that the cache uses: for a store in memory the same object.
        namespace: That of the cache.
    """

    def __init__(self, store: Store, namespace: str = "memoserve") -> None:
        self._store = store
        self._namespace = namespace

    async def purge(
        self,
        *,
        tags: Iterable[str] = (),
        rule: str | None = None,
        model: str | None = None,
        key: str | None = None,
        everything: bool = False,
    ) -> None:
        """Purge what carries any of the tags, what a rule (its path) or a model stored, or all.

        Answers that are being made at this moment are purged too.

        Args:
            tags: Names.
            rule: A rule's path.
            model: A label.
            key: One question, by its MD5 as `memoserve key` prints it, with or without the
                namespace; with it go all answers to it that vary by fields of the request. Who
                shares a call that has begun before may still get its answer.
            everything: All that the namespace has.

        Raises:
            ValueError: Nothing was named, one name where there should be several, or a key that
                can be none.
            Exception: Whatever the store raises; then not all of it may be purged.
        """
        if isinstance(tags, str):
            raise ValueError(f"tags must be several names, not the string {tags!r}")
        keys = [tag_key(self._namespace, "tag", tag) for tag in tags]
        if rule is not None:
            keys.append(tag_key(self._namespace, "rule", rule))
        if model is not None:
            keys.append(tag_key(self._namespace, "model", model))
        if everything:
            keys.append(tag_key(self._namespace, "everything"))
        index = None if key is None else _index_of(self._namespace, key)
        if not keys and index is None:
            raise ValueError("purge needs tags, a rule, a model, a key, or everything=True")
        await renew_tokens(self._store, self._namespace, keys)
        if index is not None:
            await self._store.set(question_tag(index), os.urandom(16), _QUESTION_TTL)
            await self._store.delete(index)


def _index_of(namespace: str, key: str) -> str:
    """Return where the answer to a question is kept."""
    md5 = key.removeprefix(f"{namespace}:").lower()
    if not re.fullmatch("[0-9a-f]{32}", md5):
        raise ValueError(f"a key is an MD5 in 32 hexadecimal digits, not {key!r}")
    return f"{namespace}:{md5}"


def tag_key(namespace: str, kind: str, name: str = "") -> str:
    """Return the key of a tag's token; the name itself is not in it."""
    material = f"{kind}:{name}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(material, digest_size=16).hexdigest()
    return f"{namespace}:tag:{digest}"


def implicit_tags(namespace: str, rule: str, model: str) -> tuple[str, ...]:
    """Return the keys of the tags that every entry has."""
    return (
        tag_key(namespace, "everything"),
        tag_key(namespace, "rule", rule),
        tag_key(namespace, "model", model),
    )


def resource_tag(namespace: str, host: bytes, path: str, query: bytes) -> str:
    """Return the key of the tag that all answers of one resource have (RFC 9111 §4.4)."""
    target = f"{host.decode('latin-1')} {path}?{query.decode('latin-1')}"
    return tag_key(namespace, "resource", target)


def group_tag(namespace: str, host: bytes, group: str) -> str:
    """Return the key of a cache group's tag; groups belong to an origin (RFC 9875 §2)."""
    return tag_key(namespace, "group", f"{host.decode('latin-1')} {group}")


def named_tags(
    namespace: str, scope: Scope, names: Collection[str], headers: Iterable[Header]
) -> list[str]:
    """Return the keys of the tags that an answer has by its rule, or by its Cache-Groups.

    Raises:
        TypeError: Somebody has given one string in the place of several names.
    """
    if isinstance(names, str):
        raise TypeError(f"tags must be several names, not the string {names!r}")
    keys = [tag_key(namespace, "tag", name) for name in names]
    groups = [value for name, value in headers if name == b"cache-groups"]
    if groups:  # The parser that this needs takes 8 ms to import.
        host = host_of(scope)
        keys += (group_tag(namespace, host, group) for group in group_names(groups))
    return keys


def question_tag(index: str) -> str:
    """Return the key of the token of one question, by the index of its primary key."""
    return f"{index}:question"


def purge_mark(namespace: str) -> str:
    """Return the key of a token that every purge replaces.

    Tags that are computed from the answer are not known when its fill begins; if this token has
    changed by the end, one of them may have been purged in between.
    """
    return tag_key(namespace, "any-purge")


async def renew_tokens(store: TokenWriter, namespace: str, keys: Collection[str]) -> bool:
    """Replace the tokens of tags, so that no answer has them any more.

    Returns:
        Whether the store has all of them.
    """
    # The mark goes first: a fill that ends in between reads tags before it reads the mark.
    first = await store.set(purge_mark(namespace), os.urandom(16), _TOKEN_TTL)
    rest = await asyncio.gather(*(store.set(key, os.urandom(16), _TOKEN_TTL) for key in keys))
    return not any(done is False for done in (first, *rest))


async def read_tokens(store: TokenStore, keys: Collection[str]) -> Tokens | None:
    """Return the present tokens of tags, making those that are not there; None if it failed.

    A token that only could not be read is never replaced: that would purge all that carry it.
    """
    ordered = tuple(dict.fromkeys(keys))
    found = await store.get_many(ordered) if ordered else []
    tokens: list[tuple[str, bytes]] = []
    for key, token in zip(ordered, found, strict=True):
        if token is None:
            token = await store.add(key, os.urandom(16), _TOKEN_TTL)
        if token is None:
            return None
        tokens.append((key, token))
    return tuple(tokens)


async def make_token(store: TokenStore, key: str) -> bytes | None:
    """Return the token of a tag that has had none until now; None if it had one, or may have."""
    token = os.urandom(16)
    return token if await store.add(key, token, _TOKEN_TTL) == token else None


async def is_purged(reader: Reader, index: str, mark: tuple[str, bytes]) -> bool:
    """Tell whether a question may have been purged since the mark of all purges was read.

    It is asked after the entry was written. In doubt it was.
    """
    key, token = mark
    present, purged = await _read_in_store(reader, key, question_tag(index))
    return present != token and (purged is not None or present is None)


async def is_any_purged(reader: Reader, mark: tuple[str, bytes]) -> bool:
    """Tell whether anything may have been purged since the mark of all purges was read."""
    key, token = mark
    return await _read_in_store(reader, key) != [token]


async def _read_in_store(reader: Reader, *keys: str) -> list[bytes | None]:
    """Read tokens where they are kept, and not in memory before it, which may be a second late."""
    # Nobody ever sets the last: so a store that has the others in memory asks further, too.
    return (await reader((*keys, f"{keys[0]}:nothing")))[:-1]
