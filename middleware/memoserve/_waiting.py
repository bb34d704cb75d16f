"""What those who wait for an answer share: a signal, and the room that they take.

Rule: whoever waits is woken in the order of coming, and nothing is counted that is not given back.
"""

import asyncio
from collections import deque

from memoserve._asgi import Message

__all__ = ["Budget", "Part", "Signal", "Window"]


class Budget:
    """Counts the bytes that all flights and request bodies of a process hold together.

    Nothing more is begun while `limit` of them are used.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Part:
    """What one answer takes of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int) -> bool:
        """Take so many bytes in all from now on; tell whether that is within the limit."""
        self._budget.used += size - self._size
        self._size = size
        return self._budget.used <= self._budget.limit


class Window:
    """The messages of a response that somebody may need, counted from its first."""

    first = 0  # Position of the first that is held,
    end = 0  # and of the next to come.
    size = 0  # Bytes of body in all that have come.
    _held = 0  # Bytes of those that are held.

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.messages: deque[Message] = deque()

    def append(self, message: Message) -> None:
        """Hold one more."""
        self.messages.append(message)
        self.end += 1
        if size := len(message.get("body", b"")):
            self.size += size
            self._held += size
            self._budget.used += size

    def forget(self, first: int) -> None:
        """Hold none before a position."""
        while self.first < first:
            size = len(self.messages.popleft().get("body", b""))
            self._held -= size
            self._budget.used -= size
            self.first += 1

    def clear(self) -> None:
        """Hold none of those that have come."""
        self.messages.clear()
        self._budget.used -= self._held
        self._held, self.first = 0, self.end


class Signal(dict["asyncio.Future[None]", None]):
    """Wakes everyone who waits at this moment, in the order in which they came: it holds them."""

    __slots__ = ()

    def fire(self) -> None:
        """Wake them."""
        for waiter in self:
            if not waiter.done():
                waiter.set_result(None)
        self.clear()

    async def wait(self) -> None:
        """Wait for the next time."""
        waiter = asyncio.get_running_loop().create_future()
        self[waiter] = None
        try:
            await waiter
        finally:
            self.pop(waiter, None)
