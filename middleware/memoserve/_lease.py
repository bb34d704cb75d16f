"""Whose turn it is to ask the app, among all processes and hosts that share a store.

Rule: the lease is a courtesy, never a lock. Whoever has it asks the app; the others wait for its
end, and for no longer than it runs. What cannot be found out is answered by asking the app.

    it ends as    those who wait
    stored        look the answer up
    unstored      ask the app at once, side by side: there is nothing to wait for
    failed        try for the lease, so that one of them asks again; after a second failure, all do
    not at all    try for it each second, and when it has run out: its owner has died, or the
                  store has evicted it
"""

import asyncio
import random
import secrets
from typing import Literal

from memoserve.stores import Lease, LeaseEnd
from memoserve.stores.guarded import GuardedStore

__all__ = ["Turn"]

_MOST_FAILURES = 2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # Between tries where ends are not heard.
_LONGEST_WAIT = 1.0  # Seconds: a lease that a full Redis has evicted ends without a word.
_JITTER = 0.1  # Seconds: a lease that ran out is not tried for by all at the same moment.

Way = Literal["ask", "look"]


class Turn:
    """One flight's turn.

    Args:
        store: A guarded store that has leases.
        key: The flight's.
        seconds: How long a lease runs that is not renewed.
    """

    def __init__(self, store: GuardedStore, key: str, seconds: float) -> None:
        self.key = key
        self.is_ours = False  # Or may be: nobody else's, as far as is known.
        self.is_fruitless = False  # Another's answer could not be stored, so ours will not be.
        self._store = store
        self._seconds = seconds
        self._owner = secrets.token_hex(16)
        self._is_certain = False
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._renewing: asyncio.Task[None] | None = None

    async def come(self) -> Way:
        """Wait until the app may be asked, or an answer may have been stored."""
        while True:
            with self._store.await_lease(self.key) as told:
                lease = await self._store.take_lease(self.key, self._owner, self._seconds)
                if lease is None:
                    self.is_ours = True  # The store may have given it, only too late.
                    return "ask"
                if lease.is_ours:
                    self._keep_renewing()
                    return "look" if lease.has_value else "ask"
                end = await self._end_of(lease, told)
            if end == "stored":
                return "look"
            self._failures += end == "failed"
            self.is_fruitless = end == "unstored"
            if self.is_fruitless or self._failures >= _MOST_FAILURES:
                return "ask"

    async def store(self, key: str, value: bytes, ttl: float) -> bool:
        """Store the answer and end the turn, in one step where the lease is that of the key."""
        if not self.is_ours:
            return await self._store.set(key, value, ttl)
        if key == self.key and self._is_certain:
            self._stop()
            return await self._store.end_lease(key, self._owner, "stored", value, ttl)
        is_stored = await self._store.set(key, value, ttl)
        await self.end("stored" if is_stored else "unstored")
        return is_stored

    async def end(self, end: LeaseEnd) -> None:
        """End the turn, if it is ours and has not ended."""
        if self.is_ours:
            self._stop()
            await self._store.end_lease(self.key, self._owner, end)

    async def _end_of(self, lease: Lease, told: "asyncio.Future[LeaseEnd]") -> LeaseEnd | None:
        """Wait for the end of another's lease; None if it ran out, or may have ended unheard."""
        seconds = min(lease.seconds, _LONGEST_WAIT) + random.uniform(0, _JITTER)
        if not told.cancelled():
            await asyncio.wait([told], timeout=seconds)
        if told.cancelled():  # Ends are not heard, or not any more.
            await asyncio.sleep(min(seconds, self._pause * random.uniform(0.5, 1)))
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            return None
        return told.result() if told.done() else None

    def _keep_renewing(self) -> None:
        self.is_ours = self._is_certain = True
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            # Lost or not, the call of the app goes on; the store sees to it that a late answer
            # replaces nothing newer.
            await self._store.renew_lease(self.key, self._owner, self._seconds)

    def _stop(self) -> None:
        self.is_ours = False
        if self._renewing is not None:
            self._renewing.cancel()
