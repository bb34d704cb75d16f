"""How long somebody waits.

Rule: a wait ends at its deadline, unless the event loop itself was late.
"""

import asyncio
from types import TracebackType
from typing import Any

__all__ = ["Deadline", "SharedDeadline"]

_LATE = 0.005  # Seconds by which a timer of an idle event loop is not late.
_MOST = 10  # Times the deadline: then a wait ends, however late the loop is.


class Deadline:
    """Ends a wait by a TimeoutError.

    While something else holds the event loop up, an answer may have come and not been read yet, or
    a connection be made and not known of: as much time as was lost is granted again, lest a busy
    process take its store for dead.
    """

    __slots__ = ("_due", "_handle", "_limit", "_loop", "_seconds", "_timeout")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._due = now + self._seconds
        self._limit = now + self._seconds * _MOST
        self._timeout = asyncio.timeout(None)
        await self._timeout.__aenter__()
        self._handle = self._loop.call_at(self._due, self._expire)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handle.cancel()
        await self._timeout.__aexit__(kind, error, traceback)  # Raises TimeoutError.

    def _expire(self) -> None:
        now = self._loop.time()
        late = now - self._due
        if late > _LATE and now < self._limit:
            self._due = now + min(late, self._seconds)
            self._handle = self._loop.call_at(self._due, self._expire)
        else:
            self._timeout.reschedule(now)


class SharedDeadline:
    """The same for many who began to wait at the same moment, at the price of one."""

    __slots__ = ("_due", "_limit", "_loop", "seconds", "waiting")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting: list[asyncio.Future[Any]] = []  # Whoever joins appends what it awaits.
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._due, self._limit = now + seconds, now + seconds * _MOST
        self._loop.call_at(self._due, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        late = now - self._due
        if late > _LATE and now < self._limit:
            self._due = now + min(late, self.seconds)
            self._loop.call_at(self._due, self._expire)
            return
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_exception(TimeoutError())
