"""What those who wait for an answer share: a signal, and the room that they take.

Rule: whoever waits is woken in the order of coming, and nothing is counted that is not given back.
"""

import asyncio

__all__ = ["Budget", "Part", "Signal"]


class Budget:
    """Counts the bytes that all flights and request bodies of a process hold together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def is_spent(self) -> bool:
        """No more should be begun."""
        return self.used >= self.limit


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
