"""A circuit breaker around a model.

Rule: after so many failures in a row nobody is made to wait for another one; after a pause a single
call tries again, and its success lets everyone through. A caller who gives up, or finds too many
before him, says nothing about the model.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from memoserve import OverloadedError

__all__ = ["Breaker", "BreakerOpenError", "State"]

State = Literal["closed", "open", "half_open"]
_Result = TypeVar("_Result")


class BreakerOpenError(Exception):
    """The model has failed too often just now to be asked."""

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(f"the model {name!r} keeps failing and is left alone for a while")
        self.retry_after = max(1, math.ceil(retry_after))  # Whole seconds.


class Breaker:
    """Guards calls of one model, on one event loop.

    Args:
        name: Of the model, for the error.
        failures: In a row, after which it opens.
        pause: Seconds for which it stays open before one call may try.
        on_change: Told of each new state.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        pause: float = 10.0,
        on_change: Callable[[State], None] = lambda _state: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._limit = failures
        self._pause = pause
        self._on_change = on_change
        self._clock = clock
        self._failures = 0
        self._opened_at = 0.0
        self._state: State = "closed"

    @property
    def state(self) -> State:
        """`closed` lets all calls through, `open` none, `half_open` has one call trying."""
        return self._state

    async def call(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Await what `work` returns, unless the model had better be left alone.

        Raises:
            BreakerOpenError: The model was not asked.
            Exception: What `work` raises.
        """
        is_trial = self._enter()
        try:
            result = await work()
        except (asyncio.CancelledError, OverloadedError):
            if is_trial:
                self._change("open")  # Since long enough ago: the next call tries.
            raise
        except Exception:
            self._note_failure(is_trial=is_trial)
            raise
        self._failures = 0
        if is_trial:
            self._change("closed")
        return result

    def _enter(self) -> bool:
        """Return whether this call is the one that tries."""
        if self._state == "closed":
            return False
        left = self._opened_at + self._pause - self._clock()
        if self._state == "half_open" or left > 0:
            raise BreakerOpenError(self._name, left)
        self._change("half_open")
        return True

    def _note_failure(self, *, is_trial: bool) -> None:
        self._failures += 1
        if is_trial or (self._state == "closed" and self._failures >= self._limit):
            self._opened_at = self._clock()
            self._change("open")

    def _change(self, state: State) -> None:
        self._state = state
        self._on_change(state)
