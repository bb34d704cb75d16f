"""Admission: so many requests reach a model at once, so many more wait a little, the rest is told.

Rule: a request gets its turn in the order of its arrival, or a 503 with Retry-After within
`deadline` seconds; what it costs to wait is bounded in number and in time. Only what no cache
could answer comes here, since this layer is mounted inside the cache.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send, respond
from memoserve._events import (
    Event,
    Observer,
    QueueJoined,
    QueueLeft,
    QueuePassed,
    RequestRecord,
    RequestShed,
    tell,
)

__all__ = ["AdmissionMiddleware"]

_LONGEST_ADVICE = 60  # Seconds: by then whatever filled the queue may well be over.
_MEMORY = 0.1  # How much the latest request counts in the mean of their durations.
_MAX_QUEUES = 100  # Names beyond these share one queue, should they come from a client.


class AdmissionMiddleware:
    """Limit how many requests a model answers at once, with a short queue before it.

    Mount it inside the cache, so that hits never queue: the cache says which model a request is
    for. What no rule of the cache covers passes untouched.

    Args:
        app: The application.
        limit: Requests that one model answers at the same time; a mapping gives each model its
            own, and those it lacks none.
        queue: Requests that may wait for one model.
        deadline: Seconds after which a request that still waits is turned away.
        model: `callable(scope) -> str` names the model where there is no cache outside; an empty
            name passes.
        observer: Told of the queues, beside those that the outer layers know.

    Raises:
        ValueError: An argument is none of these.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: int | Mapping[str, int],
        queue: int,
        deadline: float,
        model: Callable[[Scope], str] | None = None,
        observer: Observer | None = None,
    ) -> None:
        limits = limit.values() if isinstance(limit, Mapping) else [limit]
        if not all(each >= 1 for each in limits):
            raise ValueError(f"limit must be at least 1, not {limit!r}")
        if not queue >= 0:
            raise ValueError(f"queue must not be negative, not {queue!r}")
        if not 0 < deadline < math.inf:
            raise ValueError(f"deadline must be a positive number of seconds, not {deadline!r}")
        self._app = app
        self._limit = limit
        self._queue = queue
        self._deadline = deadline
        self._model = model
        self._observer = observer
        self._turns: dict[str, _Turns] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request when its turn has come."""
        turns = self._turns_for(scope) if scope["type"] == "http" else None
        if turns is None:
            await self._app(scope, receive, send)
            return
        waiting = _Waiting(turns, self._observers(scope), receive)
        if not await waiting.passes(self._deadline):
            if not waiting.has_left:  # To nobody, nothing is said.
                await _turn_away(send, turns)
            return
        started = time.perf_counter()
        try:
            await self._app(scope, waiting.receive, send)
        finally:
            turns.end(time.perf_counter() - started)
            waiting.close()

    def _turns_for(self, scope: Scope) -> "_Turns | None":
        record: RequestRecord | None = scope.get("memoserve")
        model = "" if record is None else record.model
        if not model and self._model is not None:
            model = self._model(scope)
        if not model:
            return None
        if model not in self._turns:
            limit = self._limit.get(model) if isinstance(self._limit, Mapping) else self._limit
            if limit is None:
                return None
            if len(self._turns) >= _MAX_QUEUES:
                model = "other"
            self._turns.setdefault(model, _Turns(model, limit, self._queue))
        return self._turns[model]

    def _observers(self, scope: Scope) -> tuple[Observer, ...]:
        record: RequestRecord | None = scope.get("memoserve")
        known = () if record is None else record.observers
        if self._observer is None or self._observer in known:
            return known
        return (*known, self._observer)


class _Turns:
    """Who is being answered by one model, and who waits for it."""

    def __init__(self, model: str, limit: int, queue: int) -> None:
        self.model = model
        self._free = limit
        self._limit = limit
        self._queue = queue
        self._line: deque[asyncio.Future[None]] = deque()
        self._mean = 0.0  # Seconds that an answer takes.

    def take(self) -> bool:
        """Take a turn, if nobody has to be waited for."""
        if self._free and not self._line:
            self._free -= 1
            return True
        return False

    def join(self) -> "asyncio.Future[None] | None":
        """Stand in line, if there is room; the future is done when the turn has come."""
        if len(self._line) >= self._queue:
            return None
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        return turn

    def leave(self, turn: "asyncio.Future[None]") -> None:
        """Leave the line, or hand on a turn that has come too late."""
        if turn.done():
            self._hand_on()
        else:
            self._line.remove(turn)

    def end(self, seconds: float) -> None:
        """Give a turn back that was used."""
        self._mean += (seconds - self._mean) * (_MEMORY if self._mean else 1.0)
        self._hand_on()

    def _hand_on(self) -> None:
        if self._line:
            self._line.popleft().set_result(None)
        else:
            self._free += 1

    @property
    def advice(self) -> int:
        """Seconds until those who wait now will have been answered, as far as one can tell."""
        seconds = self._mean * (len(self._line) + self._limit) / self._limit
        return min(max(1, math.ceil(seconds)), _LONGEST_ADVICE)


class _Waiting:
    """One request; while it waits, it watches whether its client is still there."""

    def __init__(self, turns: _Turns, observers: tuple[Observer, ...], receive: Receive) -> None:
        self._turns = turns
        self._observers = observers
        self._receive = receive
        self._held: deque[Message] = deque()  # Read while waiting, for the app to read.
        self._reading: asyncio.Task[None] | None = None
        self._is_over = False
        self.has_left = False

    async def passes(self, deadline: float) -> bool:
        """Wait for a turn; False if there is no room, no time, or nobody any more to answer."""
        model = self._turns.model
        if self._turns.take():
            self._tell(QueuePassed(model, 0.0))
            return True
        started = time.perf_counter()
        turn = self._turns.join()
        has_turn = turn is not None and await self._wait(turn, deadline)
        if has_turn:
            self._tell(QueuePassed(model, time.perf_counter() - started))
        elif not self.has_left:
            self._tell(RequestShed(model))
        return has_turn

    async def _wait(self, turn: "asyncio.Future[None]", deadline: float) -> bool:
        self._tell(QueueJoined(self._turns.model))
        has_turn = False
        departure = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read_ahead(departure))
        try:
            # Unlike `await turn`, this leaves the future alone if the request is cancelled.
            await asyncio.wait(
                {turn, departure}, timeout=deadline, return_when=asyncio.FIRST_COMPLETED
            )
            has_turn = turn.done() and not self.has_left
        finally:
            self._is_over = True
            if not has_turn:
                self._turns.leave(turn)
                self.close()
            self._tell(QueueLeft(self._turns.model))
        return has_turn

    async def _read_ahead(self, departure: "asyncio.Future[None]") -> None:
        """Read until the client leaves, or until a body in pieces would have to be kept."""
        while not self._is_over:
            message = await self._receive()
            self._held.append(message)
            if message["type"] != "http.request":
                self.has_left = True
                departure.set_result(None)
                return
            if message.get("more_body", False):
                return

    async def receive(self) -> Message:
        """Return what was read ahead, then what comes."""
        while not self._held:
            if self._reading is None or self._reading.done():
                return await self._receive()
            await asyncio.wait({self._reading})
        return self._held.popleft()

    def close(self) -> None:
        """Read no further."""
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
        elif self._reading is not None and not self._reading.cancelled():
            self._reading.exception()  # The app has met it, too, when it read on.

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            tell(observer, event)


async def _turn_away(send: Send, turns: _Turns) -> None:
    """Say that it is too much just now, and when to come again (RFC 9110 §15.6.4)."""
    body = msgspec.json.encode(
        {
            "status": 503,
            "title": "Service Unavailable",
            "detail": f"too many requests wait for {turns.model!r}; come again later",
        }
    )
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"%d" % turns.advice),
    ]
    await respond(send, 503, headers, [body])
