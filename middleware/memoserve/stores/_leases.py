"""Leases in Redis: who of all processes asks the app.

Rule: a lease has one owner, whose token is compared in the server before anything is done in its
name; it always runs out; and who waits for one marks it first, so that its end is told only where
somebody hears it. A lease is kept beside its key, in the same slot of a Cluster.
"""

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Generator
from typing import Any, cast

from redis.exceptions import NoScriptError

from memoserve._errors import StoreRefusedError
from memoserve.stores import Lease, LeaseEnd

__all__ = ["CHANNEL", "Leases", "lease_key"]

CHANNEL = "memoserve:leases"  # One for all: what is not marked is not told.


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# KEYS: lease, entry. ARGV: owner, milliseconds. A plus behind the owner says that others wait.
_TAKE = _Script("""
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then
  if string.sub(held, -1) ~= '+' then redis.call('APPEND', KEYS[1], '+') end
  return {0, redis.call('PTTL', KEYS[1]), redis.call('EXISTS', KEYS[2])}
end
if held then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return {1, tonumber(ARGV[2]), redis.call('EXISTS', KEYS[2])}
""")

_RENEW = _Script("""
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
""")

# ARGV: owner, how it ends, channel, milliseconds, value (empty: none).
_END = _Script("""
local held = redis.call('GET', KEYS[1])
local is_ours = held and string.sub(held, 1, #ARGV[1]) == ARGV[1]
local kept, ended = false, ARGV[2]
if ARGV[5] ~= '' then
  if is_ours then
    kept = redis.pcall('SET', KEYS[2], ARGV[5], 'PX', ARGV[4])
  elseif not held then
    kept = redis.pcall('SET', KEYS[2], ARGV[5], 'PX', ARGV[4], 'NX')
  end
  if not kept or kept['err'] then ended = 'unstored' end
end
if is_ours then
  redis.call('DEL', KEYS[1])
  if string.sub(held, -1) == '+' then
    redis.call('PUBLISH', ARGV[3], ended .. ' ' .. KEYS[2])
  end
end
if kept and kept['err'] then return kept end
return kept and 1 or 0
""")


class Leases:
    """What one event loop has to do with leases.

    Args:
        execute: Has a command answered.
        is_hearing: Whether the ends of leases are heard at the moment.
    """

    def __init__(
        self, execute: Callable[..., Awaitable[Any]], is_hearing: Callable[[], bool]
    ) -> None:
        self._execute = execute
        self._is_hearing = is_hearing
        self._waiting: dict[str, set[asyncio.Future[LeaseEnd]]] = {}

    async def take(self, key: str, owner: str, seconds: float) -> Lease:
        """Take a lease, or mark it as waited for."""
        answer = await self._run(_TAKE, key, owner, _milliseconds(seconds))
        is_ours, milliseconds, has_value = answer
        return Lease(bool(is_ours), max(0, milliseconds) / 1000, bool(has_value))

    async def renew(self, key: str, owner: str, seconds: float) -> bool:
        """Keep a lease for longer."""
        return bool(await self._run(_RENEW, key, owner, _milliseconds(seconds)))

    async def end(
        self, key: str, owner: str, end: LeaseEnd, sealed: bytes, milliseconds: int
    ) -> bool:
        """Give a lease back, with what is to be stored."""
        return bool(await self._run(_END, key, owner, end, CHANNEL, milliseconds, sealed))

    @contextlib.contextmanager
    def awaiting(self, key: str) -> Generator[asyncio.Future[LeaseEnd]]:
        """Hear how a lease ends."""
        told: asyncio.Future[LeaseEnd] = asyncio.get_running_loop().create_future()
        if not self._is_hearing():
            told.cancel()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(told)
        try:
            yield told
        finally:
            waiting.discard(told)
            if not waiting:
                self._waiting.pop(key, None)

    def hear(self, message: bytes) -> None:
        """Wake those who wait for a lease."""
        end, _, key = message.decode("utf-8", "surrogateescape").partition(" ")
        if end not in {"stored", "unstored", "failed"}:
            return  # Whoever may publish may publish anything.
        for told in self._waiting.get(key, ()):
            if not told.done():
                told.set_result(cast("LeaseEnd", end))

    def lose(self) -> None:
        """Wake everybody: an end may have gone unheard."""
        for told in itertools.chain.from_iterable(self._waiting.values()):
            told.cancel()

    async def _run(self, script: _Script, key: str, *arguments: Any) -> Any:
        keys = (2, lease_key(key), key)
        try:
            return await self._execute("EVALSHA", script.sha, *keys, *arguments)
        except StoreRefusedError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
            return await self._execute("EVAL", script.text, *keys, *arguments)


def lease_key(key: str) -> str:
    """Return where a key's lease is: braces put it into the slot of the key."""
    return f"{{{key}}}:lease"


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
