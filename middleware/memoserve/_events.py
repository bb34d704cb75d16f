"""What happened to a request, as small frozen records, and who is told of it.

Rule: an event carries names from closed sets and numbers; never a path, a body, a key or a
credential. What an observer does with an event can slow a request down but not break it.
"""

import logging
import time
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import msgspec

from memoserve._asgi import Scope
from memoserve.stores import Store

__all__ = [
    "BatchFinished",
    "BreakerChanged",
    "CacheStatus",
    "Event",
    "FollowerJoined",
    "FollowerLeft",
    "HttpRequestFinished",
    "KeyCollided",
    "KeyRefused",
    "ModelCalled",
    "Observer",
    "Outcome",
    "QueueJoined",
    "QueueLeft",
    "QueuePassed",
    "RequestFinished",
    "RequestRecord",
    "RequestShed",
    "RequestStarted",
    "ShadowCompared",
    "StoreCalled",
    "StoreOpened",
    "StoreWritten",
    "Tracer",
    "WriteResult",
    "tell",
]

_logger = logging.getLogger("memoserve")

CacheStatus = Literal["hit", "stale", "coalesced", "miss", "bypass", "error"]
Outcome = Literal["ok", "error", "cancelled"]
WriteResult = Literal["stored", "too_large", "uncacheable", "refused", "error"]


class RequestStarted(msgspec.Struct, frozen=True, gc=False):
    """A rule covers this request; one `RequestFinished` follows, whatever happens."""

    model: str


class RequestFinished(msgspec.Struct, frozen=True, gc=False):
    """A covered request has had its last byte, or has failed."""

    model: str
    variant: str
    status: CacheStatus
    outcome: Outcome
    seconds: float  # From the first layer's entry to the last byte sent.
    reason: str  # Why it was a bypass, from a closed list; empty otherwise.
    saved: float  # Seconds the app took for the answer that was reused; 0 if none was.
    age: float | None  # Seconds since the reused answer was stored; None if none was.


class HttpRequestFinished(msgspec.Struct, frozen=True, gc=False):
    """An HTTP request is over, whether a rule covers it or not; told only where that is asked for.

    The words are those of OpenTelemetry's semantic conventions for HTTP; empty is unknown.
    """

    method: str
    status: str  # Of three digits.
    route: str  # The pattern of the rule that covers the request.
    scheme: str
    version: str
    error: str  # The status or the exception's class name, if the request has failed.
    seconds: float  # Until the last byte, or until the app gave up.


class ModelCalled(msgspec.Struct, frozen=True, gc=False):
    """The app answered on behalf of a covered request that was no bypass."""

    model: str
    outcome: Outcome
    seconds: float


class StoreWritten(msgspec.Struct, frozen=True, gc=False):
    """The decision on storing one answer, and what became of it."""

    model: str
    result: WriteResult


class StoreCalled(msgspec.Struct, frozen=True, gc=False):
    """One call of a store; lookups in memory are not timed, as they cost less than the timing."""

    operation: Literal["get", "set", "delete", "lease"]
    seconds: float
    error: str  # The exception's class name; empty for success.


class StoreOpened(msgspec.Struct, frozen=True):
    """A cache starts to use a store, whose usage can be read from now on."""

    store: Store


class BreakerChanged(msgspec.Struct, frozen=True, gc=False):
    """What stands between the cache and something that may fail takes it for dead, or not."""

    breaker: str  # "store", or what an application calls its own.
    state: Literal["closed", "half_open", "open"]  # Closed is well; half open, it is being tried.


class FollowerJoined(msgspec.Struct, frozen=True, gc=False):
    """A request began to wait for another request's answer."""

    model: str


class FollowerLeft(msgspec.Struct, frozen=True, gc=False):
    """A request that waited for another's answer has it, or has given up."""

    model: str


class KeyCollided(msgspec.Struct, frozen=True, gc=False):
    """The store held an entry under this key whose verifier is another's (RFC 1321 is broken)."""

    model: str


class KeyRefused(msgspec.Struct, frozen=True, gc=False):
    """A JSON body could not be normalized and was keyed by its raw bytes."""

    model: str


class QueueJoined(msgspec.Struct, frozen=True, gc=False):
    """A request began to wait for its turn; one `QueueLeft` follows, whatever happens."""

    model: str


class QueueLeft(msgspec.Struct, frozen=True, gc=False):
    """A request that waited has its turn, or has given up."""

    model: str


class QueuePassed(msgspec.Struct, frozen=True, gc=False):
    """A request has its turn."""

    model: str
    seconds: float  # That it waited: 0 if there was room at once.


class RequestShed(msgspec.Struct, frozen=True, gc=False):
    """A request was turned away: the queue was full, or its turn did not come in time."""

    model: str


class BatchFinished(msgspec.Struct, frozen=True, gc=False):
    """Several calls of a model ran as one, or failed as one."""

    model: str
    size: int
    seconds: float


class ShadowCompared(msgspec.Struct, frozen=True, gc=False):
    """In shadow mode, what the cache would have answered was compared with the app's answer."""

    model: str
    result: Literal["equal", "different"]


Event = (
    RequestStarted
    | RequestFinished
    | HttpRequestFinished
    | ModelCalled
    | StoreWritten
    | StoreCalled
    | StoreOpened
    | BreakerChanged
    | FollowerJoined
    | FollowerLeft
    | KeyCollided
    | KeyRefused
    | QueueJoined
    | QueueLeft
    | QueuePassed
    | RequestShed
    | BatchFinished
    | ShadowCompared
)


class Observer(Protocol):
    """Whoever wants to know. Called on the event loop, synchronously: be quick."""

    def observe(self, event: Event, /) -> None:
        """Take note of one event."""


def tell(observer: Observer, event: Event) -> None:
    """Tell one observer; if it raises, that is logged and no harm to the request."""
    try:
        observer.observe(event)
    except Exception:
        _logger.exception("an observer failed on %s", type(event).__name__)


class Tracer(Protocol):
    """Whoever keeps a span for each covered request, in `RequestRecord.span`."""

    def begin(self, record: "RequestRecord", scope: Scope, /) -> Any:
        """Begin the span and make it current; what is returned goes to `leave`."""

    def leave(self, token: Any, /) -> None:
        """Make it current no more, in the context in which it began."""

    def follow(self, record: "RequestRecord", leader: "RequestRecord", /) -> None:
        """Note whose answer this request shares."""

    def end(self, record: "RequestRecord", ended: float, /) -> None:
        """End the span; `ended` is by time.perf_counter()."""


class RequestRecord(msgspec.Struct):
    """What the layers know of one request, in `scope["memoserve"]`.

    The outermost layer makes it, each fills in its part, and whoever made it finishes it: as a
    context manager it does so itself, however the request ends.
    """

    started: float  # By time.perf_counter(), like `sent`.
    observers: tuple[Observer, ...] = ()
    model: str = ""  # Empty until a rule has matched.
    rule: str = ""
    variant: str = ""
    status: CacheStatus = "error"  # Until somebody knows better.
    outcome: Outcome = "ok"
    reason: str = ""
    saved: float = 0.0
    age: float | None = None
    sent: float | None = None  # When the last byte went out.
    is_timed_as_http: bool = False  # By the one layer that was told to.
    # Of who is traced:
    tracer: Tracer | None = None
    span: object = None
    key: str = ""
    store_seconds: float = 0.0

    def __enter__(self) -> Self:
        """Begin; the moment of the start was given."""
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say how the request ended, and report it."""
        if error is not None:
            self.fail(error)
        self.finish(time.perf_counter())

    def emit(self, event: Event) -> None:
        """Tell every observer of this request."""
        for observer in self.observers:
            tell(observer, event)

    def fail(self, error: BaseException) -> None:
        """Say how the request ended, unless it was over or somebody inside knows better.

        What is no `Exception` was raised to end the task: asyncio's cancellation and others.
        """
        if self.sent is None and self.outcome == "ok":
            self.outcome = "error" if isinstance(error, Exception) else "cancelled"

    def finish(self, now: float) -> None:
        """Report the request, if a rule covered it; `now` is the end where no byte was sent."""
        ended = now if self.sent is None else self.sent
        if self.tracer is not None:
            self.tracer.end(self, ended)
        if self.model and self.observers:
            event = RequestFinished(
                self.model,
                self.variant,
                self.status,
                self.outcome,
                ended - self.started,
                self.reason,
                self.saved,
                self.age,
            )
            for observer in self.observers:
                try:  # `tell`, spelled out, as every hit waits for it.
                    observer.observe(event)
                except Exception:
                    _logger.exception("an observer failed at the end of a request")
