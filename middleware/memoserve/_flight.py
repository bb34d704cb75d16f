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
import time
from collections.abc import Hashable, Iterable, Iterator
from types import TracebackType
from typing import Protocol

from memoserve._asgi import (
    ASGIApp,
    Message,
    ResponseRecorder,
    Scope,
    ends_response,
    is_response_part,
    own_copy,
)
from memoserve._client import Client, Landing, Verdict
from memoserve._tags import Tokens
from memoserve._waiting import Budget, Signal, Window

__all__ = ["Flight", "Keeper"]

_LONGEST_KEEPING = 0.1  # Seconds for which somebody waits for an answer to be stored.


class Keeper(Protocol):
    """What decides on a flight's response."""

    recorder: ResponseRecorder  # Takes the response in; its limit is the window's too.

    def judge(self, start: Message, flight: "Flight", /) -> Verdict:
        """Decide at the response's start what is to become of it."""
        ...

    async def keep_for(self, flight: "Flight", /) -> None:
        """Keep a response that has ended properly and, to a lone client, been sent.

        The flight can be joined until this returns.
        """


class Flight:
    """One call of the app.

    Args:
        scope: The request that the app is called with.
        leader: Who asks first, if the flight is for a client; `deliver` must follow.
        keeper: Decides what is to become of the response.
        budget: What all flights share.
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
    _started = _responded = 0.0  # By time.perf_counter().
    _waited = 0.0
    _is_ended = False  # The response's last message has been sent.
    _is_keeping = False  # From then on until it has been kept.
    _is_over = False  # The app has returned or raised.
    _is_windowed = False
    _is_watching = False
    _request: Iterator[Message] = iter(())  # What of it the app has not received.
    _traceback: TracebackType | None = None
    _departure: OSError | None = None  # What the last client to leave heard from `send`.

    def __init__(
        self,
        scope: Scope,
        leader: Client | None,
        keeper: Keeper,
        budget: Budget,
        *,
        attempt: int = 1,
        finish: bool = False,
    ) -> None:
        self.scope = scope
        self.attempt = attempt
        self.keys: set[Hashable] = set()  # Under which it can be found.
        self._keeper = keeper
        self._recorder = keeper.recorder
        self._budget = budget
        self._finish = finish
        self._window = Window(budget)
        self._furthest = keeper.recorder.limit  # The recorder may give its own limit up.
        self._start: Message = {}
        self._leader = leader
        self._clients: set[Client] = set() if leader is None else {leader}
        if leader is not None:
            leader.is_leader = True
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
                while self._is_being_kept and not self._recorder.is_too_large:
                    await self._moved.wait()

    @property
    def _is_being_kept(self) -> bool:
        return self._is_keeping or (not self._is_ended and self._recorder.is_full)

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
        """Call the app with the messages of the request; what it raises is `error`."""
        self._request = iter(request)
        self._started = time.perf_counter()
        try:
            await app(self.scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001  (the app's; who waits for it has it raised)
            self.error = error
            self._traceback = error.__traceback__
        finally:
            if not self._is_ended:
                self.cost = time.perf_counter() - self._started - self._waited

    async def _receive(self) -> Message:
        for message in self._request:
            return message
        await self._everyone_gone()
        return {"type": "http.disconnect"}

    def end(self) -> None:
        """Let nobody wait any more for an app that has ended, or will not be called."""
        self._is_over = True
        self.verdict = self.verdict or Verdict.FAILED
        if self._arrived:
            self._arrived.fire()

    async def over(self) -> None:
        """Wait until the app has returned; raises what it raised."""
        while not self._is_over:
            await self._arrived.wait()
        if self.error is not None:
            raise self.error.with_traceback(self._traceback)  # Less what followers added to it.

    async def _send(self, message: Message) -> None:
        kind, recorder = message["type"], self._recorder
        # `own_copy`, spelled out for most.
        message = {**message} if kind == "http.response.body" else own_copy(message)
        if self._is_ended:
            await self._send_late(message)
            return
        recorder.note(message)
        is_start = kind == "http.response.start" and self.verdict is None
        if is_start:
            self._start = message
            message["headers"] = [*recorder.headers]  # As bytes, of whatever kind they are.
            self._responded = time.perf_counter()
            self.verdict = self._keeper.judge(message, self)
        elif ends_response(message, has_trailers=self._start.get("trailers", False)):
            self._is_ended = True
        self._window.append(message)
        if self._budget.used > self._budget.limit:
            recorder.abandon()
        if self._is_windowed or recorder.size > recorder.limit:
            self.release()
        self.cost = time.perf_counter() - self._started - self._waited
        if self._arrived:
            self._arrived.fire()
        if self._is_ended:
            await self._land()
            return
        if not (is_start and recorder.lengths) and self._must_wait():
            await self._pace()
        if self._departure is not None and not self._clients and not self._finish:
            raise self._departure

    async def _send_late(self, message: Message) -> None:
        """Let whoever serves the leader say what it thinks of what follows an answer's end."""
        if self._leader is not None:
            await self._leader.send(message)

    async def _land(self) -> None:
        """Have the clients served that the app must wait for, and the response kept."""
        self._is_keeping = True
        if self._moved:
            self._moved.fire()
        try:
            if self._must_wait():
                await self._pace()
            await self._keeper.keep_for(self)
        finally:
            self._is_keeping = False
            if self._moved:
                self._moved.fire()

    async def _pace(self) -> None:
        """Wait for as long as the app must."""
        began = time.perf_counter()
        await asyncio.sleep(0)  # Clients were woken first, so that most are served by then.
        while self._must_wait():
            await self._moved.wait()
        self._waited += time.perf_counter() - began

    def _must_wait(self) -> bool:
        """Whether the app is ahead of its clients by more than it may be."""
        if len(self._clients) == 1:
            (client,) = self._clients
            if self.verdict is None and not client.is_leader:
                return False  # What comes before the start is not for it.
            return client.position < self._window.end
        if not self._is_windowed or not self._clients:
            return False
        slowest = min(client.bytes_read for client in self._clients)
        return self._window.size - slowest > self._furthest

    def _trim(self) -> None:
        """Forget what everyone has read, as nobody can come who needs it."""
        if self._clients:
            self._window.forget(min([client.position for client in self._clients]))
        else:
            self._window.clear()

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
            client.watch(self._note_disconnect)
        while self._clients or self._is_keeping or (self._finish and not self._is_ended):
            await self._moved.wait()

    def _note_disconnect(self, client: Client) -> None:
        self._leave(client)
        self._arrived.fire()  # The client may be waiting for a message.

    # The clients' side.

    def join(self, client: Client) -> None:
        """Take part from the first message on; `deliver` must follow."""
        self._clients.add(client)
        if self._is_watching:
            client.watch(self._note_disconnect)
        if self._moved:
            self._moved.fire()

    async def deliver(self, client: Client) -> Landing:
        """Send a client its answer while it is produced.

        Raises:
            Exception: What the app raised before the response's end, to a follower that shares
                the failure. The leader learns it when the flight is over.
        """
        try:
            while not client.has_left:
                # What comes before the response's start, such as early hints, is for the leader.
                is_meant = client.is_leader or self.verdict is not None
                if not (is_meant and client.position < self._window.end):
                    if self._is_ended or self._is_over:
                        break
                    await self._arrived.wait()
                elif self._withholds_from(client):
                    break
                else:
                    await self._serve(client)
            return self._landing_of(client)
        finally:
            client.has_left = True
            self._leave(client)
            if client.watcher is not None:
                client.watcher.cancel()

    async def _serve(self, client: Client) -> None:
        """Send a client what is there for it."""
        verdict = self.verdict  # With another one it may have to be withheld.
        window, is_leader = self._window, client.is_leader
        while self.verdict is verdict and not client.has_left:
            message = window.messages[client.position - window.first]
            if is_leader or is_response_part(message):
                try:
                    await client.send(message)
                except OSError as error:
                    client.has_left = True
                    self._departure = error
                    break
            client.bytes_read += len(message.get("body", b""))
            client.position += 1
            if self._is_windowed:
                self._trim()
            if self._moved:
                self._moved.fire()
            if client.position == window.end:
                break

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

    def _landing_of(self, client: Client) -> Landing:
        """Say how it ended for a client that reads no further."""
        if client.has_left and not (self._is_ended and client.position == self._window.end):
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
        if self._moved:
            self._moved.fire()
