"""Those who take part in a flight, and what it may mean for them.

Rule: what is noted of them; the flight decides.
"""

import asyncio
import contextlib
import enum
from collections.abc import Callable

import msgspec

from memoserve._asgi import Message, Receive, Send

__all__ = ["Client", "Landing", "Verdict"]


class Verdict(enum.Enum):
    """What is to become of a response, as decided when it starts."""

    SHARED = enum.auto()
    AWAITED = enum.auto()  # For those who asked before it started, and nobody after.
    ALONE = enum.auto()  # For the leader only.
    FAILED = enum.auto()  # Withheld from whoever can do better: by another try, or a stale answer.


class Landing(enum.Enum):
    """How a client's part in a flight ended."""

    DELIVERED = enum.auto()
    WITHHELD = enum.auto()  # It has had nothing, and must find its answer otherwise.
    LEFT = enum.auto()  # Its connection is gone.


class Client(msgspec.Struct, eq=False):
    """Someone who takes part in a flight."""

    receive: Receive
    send: Send  # Changes no message that it is handed, and hands on its own.
    is_leader: bool = False
    has_fallback: bool = False  # It would rather send a stale answer than a failure.
    wants: Callable[[Message], bool] = bool  # Whether this start may be its answer;
    is_meant: bool | None = None  # what it said of that.
    position: int = 0  # Of the next message, counted from the first of the flight.
    bytes_read: int = 0
    has_left: bool = False
    watcher: "asyncio.Task[None] | None" = None

    def watch(self, note: Callable[["Client"], None]) -> None:
        """Have it noted when the client's connection is gone, from now on."""
        if self.watcher is None:
            self.watcher = asyncio.create_task(self._hear_of_disconnect(note))

    async def _hear_of_disconnect(self, note: Callable[["Client"], None]) -> None:
        with contextlib.suppress(Exception):  # Whose `receive` is broken is not there either.
            while (await self.receive())["type"] != "http.disconnect":
                pass
        self.has_left = True
        note(self)
