"""One call of the app, and everyone who waits for its answer.

Rule: the app is called once, in a task of its own, and every client, the one who asked first
included, reads what it sends at its own pace from its first message on.

- A lone client gives the app its own back-pressure: the app goes on when its message is out. But
  a start that states the length, so that it is no stream's, goes out with what follows at once.
- With several, the app runs ahead by as much as may be stored; past that nobody may join any
  more, and what is kept is a window that moves with the slowest client. Nobody is cut off.
- A client whose `send` raises OSError has left. When the last one has, the app's `receive` says
  so, unless the flight is to finish; the app is never cancelled because clients left.
- Nothing reaches anybody before the response's start has been judged: a failure may be tried
  again by the others, and an answer for one person makes them all ask for themselves.
"""

import asyncio
import contextlib
import enum
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from types import TracebackType

import msgspec

from memoserve._asgi import (
    ASGIApp,
    Message,
    Receive,
    ResponseRecorder,
    Scope,
    Send,
    ends_response,
    is_response_part,
    own_copy,
)
from memoserve._tags import Tokens
from memoserve._waiting import Budget, Signal

__all__ = ["Client", "Flight", "Landing", "Verdict"]


_LONGEST_KEEPING = 0.1  # Seconds for which somebody waits for an answer to be stored.


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
    send: Send
    is_leader: bool = False
    has_fallback: bool = False  # It would rather send a stale answer than a failure.
    wants: Callable[[Message], bool] = bool  # Whether this start may be its answer;
    is_meant: bool | None = None  # what it said of that.
    position: int = 0  # Of the next message, counted from the first of the flight.
    bytes_read: int = 0
    has_left: bool = False
    watcher: "asyncio.Task[None] | None" = None


async def _nobody_sends(_: Message) -> None:
    """Stand in for the leader of a flight that no client asked for."""


class Flight:
    """One call of the app.

    Args:
        scope: The request that the app is called with.
        recorder: Takes in the response; its limit is the window's too.
        budget: What all flights share.
        judge: Decides at the response's start what is to become of it.
        keep: Called when the response has ended properly and, to a lone client, been sent; the
            flight can be joined until it returns.
        attempt: 1 for the first call for a key, 2 for the one retry after a failure.
        finish: Whether the app goes on when the last client has left.
    """

    # What most flights begin with, and many end with.
    verdict: Verdict | None = None
    error: Exception | None = None  # What the app raised.
    cost = 0.0  # Seconds that the app took so far, less those it waited for clients.
    saved: float | None = None  # Those it took once, where its answer is replayed here,
    aged = 0.0  # and those since then; or what the response says of its age.
    tokens: Tokens = ()  # Of its tags, when it took off.
    withheld: frozenset[bytes] = frozenset()  # Fields that are the leader's alone.
    _dropped = 0  # Messages that the window has left behind.
    _bytes = 0  # Body bytes sent by the app so far.
    _waited = 0.0
    _is_ended = False  # The response's last message has been sent.
    _is_keeping = False  # From then on until it has been kept.
    _is_over = False  # The app has returned or raised.
    _is_windowed = False
    _is_watching = False
    _traceback: TracebackType | None = None
    _departure: OSError | None = None  # What the last client to leave heard from `send`.

    def __init__(
        self,
        scope: Scope,
        recorder: ResponseRecorder,
        budget: Budget,
        judge: Callable[["Flight", Message], Verdict],
        keep: Callable[["Flight"], Awaitable[None]],
        *,
        attempt: int = 1,
        finish: bool = False,
    ) -> None:
        self.scope = scope
        self.attempt = attempt
        self.keys: set[Hashable] = set()  # Under which it can be found.
        self._recorder = recorder
        self._budget = budget
        self._judge = judge
        self._keep = keep
        self._finish = finish
        self._messages: deque[Message] = deque()
        self._window = recorder.limit  # The recorder may give its own limit up.
        self._start: Message = {}
        self._started = time.perf_counter()
        self._responded = self._started
        self._send_to_leader: Send = _nobody_sends
        self._clients: set[Client] = set()
        self._arrived = Signal()  # For clients: something to read.
        self._moved = Signal()  # For the app: a client read on or left.

    @property
    def is_joinable(self) -> bool:
        """Whether a new client would get everything from the first byte."""
        return not self._is_windowed and self.verdict in {None, Verdict.SHARED}

    async def kept(self) -> None:
        """Wait a moment, if all of the answer has been sent, until it has been kept.

        A client that reads slowly, or an app that does not end, is nobody else's to wait for.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_KEEPING):
                while self._is_being_kept():
                    await self._moved.wait()

    def _is_being_kept(self) -> bool:
        is_sent = self._is_keeping or (not self._is_ended and self._recorder.is_full)
        return is_sent and not self._recorder.is_too_large

    @property
    def has_failed(self) -> bool:
        """Whether a stale answer would be better, also where another try would not (503)."""
        return self.verdict is Verdict.FAILED or self._start.get("status", 0) >= 500

    @property
    def age(self) -> float:
        """Seconds since the response started."""
        return time.perf_counter() - self._responded + self.aged

    # The app's side.

    async def run(self, app: ASGIApp, request: Iterable[Message]) -> None:
        """Call the app with the request's messages as they came; what it raises is `error`."""
        body = iter(request)
        self._started = time.perf_counter()

        async def receive() -> Message:
            for message in body:
                return message
            await self._everyone_gone()
            return {"type": "http.disconnect"}

        try:
            await app(self.scope, receive, self._send)
        except Exception as error:  # noqa: BLE001  (the app's; who waits for it has it raised)
            self.error = error
            self._traceback = error.__traceback__
        finally:
            if not self._is_ended:
                self.cost = time.perf_counter() - self._started - self._waited
            self.end()

    def end(self) -> None:
        """Let nobody wait any more for an app that has ended, or will not be called."""
        if not self._is_over:
            self._is_over = True
            self.verdict = self.verdict or Verdict.FAILED
            self._arrived.fire()

    async def over(self) -> None:
        """Wait until the app has returned; raises what it raised."""
        while not self._is_over:
            await self._arrived.wait()
        if self.error is not None:
            raise self.error.with_traceback(self._traceback)  # Less what followers added to it.

    async def _send(self, message: Message) -> None:
        message = own_copy(message)
        if self._is_ended:  # Too late: whoever serves the leader says what it thinks of that.
            await self._send_to_leader(message)
            return
        self._recorder.note(message)
        is_start = message["type"] == "http.response.start" and self.verdict is None
        if is_start:
            self._start = message
            message["headers"] = [*self._recorder.headers]  # As bytes, of whatever kind they are.
            self._responded = time.perf_counter()
            self.verdict = self._judge(self, message)
        self._append(message)
        now = time.perf_counter()
        self.cost = now - self._started - self._waited
        if ends_response(message, has_trailers=self._start.get("trailers", False)):
            self._is_ended = self._is_keeping = True
            self._moved.fire()
        self._arrived.fire()
        try:
            if not (is_start and self._recorder.lengths) and self._must_wait():
                await self._pace(now)
            if self._is_ended:
                await self._keep(self)
            elif self._departure is not None and not self._clients and not self._finish:
                raise self._departure
        finally:
            if self._is_keeping:
                self._is_keeping = False
                self._moved.fire()

    async def _pace(self, began: float) -> None:
        """Wait for as long as the app must, which began to at some moment."""
        await asyncio.sleep(0)  # Clients were woken first, so that most are served by then.
        while self._must_wait():
            await self._moved.wait()
        self._waited += time.perf_counter() - began

    def _append(self, message: Message) -> None:
        size = len(message.get("body", b""))
        self._messages.append(message)
        self._bytes += size
        self._budget.used += size
        if self._budget.used > self._budget.limit:
            self._recorder.abandon()
        if self._is_windowed or self._recorder.size > self._recorder.limit:
            self._is_windowed = True
            self._trim()

    def _must_wait(self) -> bool:
        """Whether the app is ahead of its clients by more than it may be."""
        if len(self._clients) == 1:
            (client,) = self._clients
            if self.verdict is None and not client.is_leader:
                return False  # What comes before the start is not for it.
            return client.position < self._dropped + len(self._messages)
        if not self._is_windowed or not self._clients:
            return False
        slowest = min(client.bytes_read for client in self._clients)
        return self._bytes - slowest > self._window

    def _trim(self) -> None:
        """Forget what everyone has read, as nobody can come who needs it."""
        first = self._dropped + len(self._messages)
        if self._clients:
            first = min(client.position for client in self._clients)
        while self._dropped < first:
            size = len(self._messages.popleft().get("body", b""))
            self._budget.used -= size
            self._dropped += 1

    def release(self) -> None:
        """Give back the room that the messages take; nobody may join any more."""
        self._is_windowed = True
        self._trim()

    async def _everyone_gone(self) -> None:
        """Wait until no client needs the app's answer any more, and it has been kept.

        Many apps (Starlette's streams and files, below ASGI 2.4) cancel their own `send` when
        they hear of a disconnect, and every server reports one after the last byte.
        """
        self._is_watching = True
        for client in [*self._clients]:  # An eager task may learn at once that one has left.
            self._watch(client)
        while self._clients or self._is_keeping or (self._finish and not self._is_ended):
            await self._moved.wait()

    def _watch(self, client: Client) -> None:
        if client.watcher is None:
            client.watcher = asyncio.create_task(self._note_disconnect(client))

    async def _note_disconnect(self, client: Client) -> None:
        with contextlib.suppress(Exception):  # Whose `receive` is broken is not there either.
            while (await client.receive())["type"] != "http.disconnect":
                pass
        client.has_left = True
        self._leave(client)
        self._arrived.fire()  # The client may be waiting for a message.

    # The clients' side.

    def join(self, client: Client) -> None:
        """Take part from the first message on; `deliver` must follow."""
        self._clients.add(client)
        if client.is_leader:
            self._send_to_leader = client.send
        if self._is_watching:
            self._watch(client)
        self._moved.fire()

    async def deliver(self, client: Client) -> Landing:
        """Send a client its answer while it is produced.

        Raises:
            Exception: What the app raised before the response's end, to a follower that shares
                the failure. The leader learns it when the flight is over.
        """
        try:
            while True:
                while not self._is_ready_for(client):
                    if self._is_ended or self._is_over or client.has_left:
                        return self._landing_of(client)
                    await self._arrived.wait()
                if client.has_left or self._withholds_from(client):
                    return self._landing_of(client)
                message = self._messages[client.position - self._dropped]
                if client.is_leader or is_response_part(message):
                    try:
                        await client.send(own_copy(message))
                    except OSError as error:
                        client.has_left = True
                        self._departure = error
                self._advance(client, message)
        finally:
            self._leave(client)
            if client.watcher is not None:
                client.watcher.cancel()

    def _is_ready_for(self, client: Client) -> bool:
        """Tell whether there is a message that a client has not had.

        What comes before the response's start, such as early hints, is for the leader alone.
        """
        is_meant = client.is_leader or self.verdict is not None
        return is_meant and client.position < self._dropped + len(self._messages)

    def _withholds_from(self, client: Client) -> bool:
        if client.has_fallback and self.has_failed:
            return True
        if client.is_leader:
            return False
        match self.verdict:
            case Verdict.FAILED:
                return self.attempt == 1
            case Verdict.ALONE:
                return True
            case _:
                if client.is_meant is None:
                    client.is_meant = client.wants(self._start)
                return not client.is_meant

    def _advance(self, client: Client, message: Message) -> None:
        client.bytes_read += len(message.get("body", b""))
        client.position += 1
        if self._is_windowed:
            self._trim()
        self._moved.fire()

    def _landing_of(self, client: Client) -> Landing:
        """Say how it ended for a client that reads no further."""
        if client.has_left:
            return Landing.LEFT
        if self._withholds_from(client):
            return Landing.WITHHELD
        if self._is_ended or client.is_leader:
            return Landing.DELIVERED
        if self.error is not None:
            # Each raise adds to a traceback: without this, those of many followers pile up.
            raise self.error.with_traceback(self._traceback)
        return Landing.DELIVERED

    def _leave(self, client: Client) -> None:
        self._clients.discard(client)
        if self._is_windowed:
            self._trim()
        self._moved.fire()
