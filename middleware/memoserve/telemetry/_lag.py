"""How long the event loop keeps its callbacks waiting.

Rule: the loop is measured by a timer of its own, never by the scrape. The loop answers the
scrape, so whatever held it up is over by then: a probe made at that moment would see an idle
loop however long the stall was (coordinated omission).
"""

import asyncio
import time
from collections.abc import Callable

__all__ = ["LoopLag"]


class LoopLag:
    """Note how late a timer runs, and remember the worst for a while.

    The worst of the last `window` to twice `window` seconds is kept rather than reset when it is
    read, so any number of readers see the same, and a scrape every 15 s misses nothing.

    Args:
        interval: Seconds between two timers. Four wake-ups a second cost a few microseconds;
            a stall that is longer than this cannot go unseen.
        window: Seconds, at least one scrape interval.
        clock: Seconds that only grow. Not `loop.time`, which uvloop rounds to milliseconds.
    """

    def __init__(
        self,
        *,
        interval: float = 0.25,
        window: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval
        self._window = window
        self._clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None  # That is measured.
        self._due = self._turned = 0.0
        self._worst = self._worst_before = 0.0

    def watch(self) -> None:
        """Measure the running loop, unless one is being measured already.

        A closed loop has dropped its timers, and the next one takes its place. Without an asyncio
        loop, under Trio, nothing is measured.
        """
        if self.loop is not None and not self.loop.is_closed():
            return
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._turned = self._clock()
        self._worst = self._worst_before = 0.0
        self._arm(self.loop)

    def seconds(self) -> float | None:
        """Return the longest recent wait, a present one included; None if nothing is measured."""
        if self.loop is None or self.loop.is_closed():
            return None
        return max(self._worst, self._worst_before, self._clock() - self._due)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = self._clock() + self._interval
        loop.call_later(self._interval, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock()
        if now - self._turned >= self._window:
            self._worst_before, self._worst, self._turned = self._worst, 0.0, now
        self._worst = max(self._worst, now - self._due)
        self._arm(loop)
