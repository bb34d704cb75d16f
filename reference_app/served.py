"""One model as the app calls it: in batches, off the event loop, and behind a breaker.

Rule: a model takes one batch at a time, in a thread of its own, so that a long summary delays
neither the event loop nor another model. A call that has begun runs to its end, since nothing can
interrupt a forward pass; one that waits and is given up is not computed.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from memoserve import MicroBatcher, Observer
from memoserve._events import BreakerChanged
from reference_app.breaker import Breaker, State
from reference_app.results import ModelInfo
from reference_app.settings import Settings

__all__ = ["Predictor", "ServedModel"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Taken_contra = TypeVar("_Taken_contra", contravariant=True)
_Given_co = TypeVar("_Given_co", covariant=True)

_logger = logging.getLogger("reference_app")


class Predictor(Protocol[_Taken_contra, _Given_co]):
    """What a model has to offer."""

    @property
    def info(self) -> ModelInfo:
        """Say which weights answer."""
        ...

    def predict_many(self, items: Sequence[_Taken_contra], /) -> Sequence[_Given_co]:
        """Answer several items in one forward pass, in their order."""
        ...


class ServedModel(Generic[_Item, _Result]):
    """A model that many call at once.

    Args:
        name: Its label in metrics and logs.
        model: What is called, in a thread.
        settings: How large batches may be, and when the breaker opens.
        length: How long an item is; items of like length share a batch.
        spread: How many times longer than another they may be.
        group: Items share a batch only if this is equal.
        observer: Told of batches, and of what the breaker does.
    """

    def __init__(
        self,
        name: str,
        model: Predictor[_Item, _Result],
        settings: Settings,
        *,
        length: Callable[[_Item], float],
        spread: float = 1.5,
        group: Callable[[_Item], Hashable] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.info = model.info
        self._name = name
        self._batcher = MicroBatcher[_Item, _Result](
            model.predict_many,
            model=name,
            max_size=settings.batch_size,
            max_wait=settings.batch_wait,
            length=length,
            spread=spread,
            group=group,
            nice=settings.model_nice,
            observer=observer,
        )
        self._breaker = Breaker(
            name,
            failures=settings.breaker_failures,
            pause=settings.breaker_pause,
            on_change=self._tell_state,
        )
        self._observer = observer

    async def __call__(self, item: _Item) -> _Result:
        """Answer one item.

        Raises:
            BreakerOpenError: The model keeps failing.
            OverloadedError: Too many wait already.
            Exception: What the model raised.
        """
        return await self._breaker.call(lambda: self._batcher(item))

    async def warm_up(self, item: _Item) -> None:
        """Make the slow first call, so that no user has to."""
        await self._batcher(item)

    async def aclose(self) -> None:
        """Answer those who wait, and end the thread."""
        await self._batcher.aclose()

    def _tell_state(self, state: State) -> None:
        level = logging.INFO if state == "closed" else logging.WARNING
        _logger.log(level, "the breaker of the model %r is %s", self._name, state)
        if self._observer is not None:
            self._observer.observe(BreakerChanged(self._name, state))
