"""The models: loaded behind a running server, one set for each variant.

Rule: nothing answers before everything is loaded and has answered once; what cannot be loaded is
said and kept, and every thread ends with the lifespan.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from memoserve import Observer
from reference_app.results import (
    AnswerResult,
    ModelInfo,
    SentimentResult,
    SummaryResult,
    SummaryTask,
    Task,
)
from reference_app.served import ServedModel
from reference_app.settings import Settings

if TYPE_CHECKING:  # Importing the models imports torch, which takes seconds: see load_models.
    from reference_app.models import Models

__all__ = ["Arm", "Inference", "Loader", "NotReadyError", "load_models", "summary_stream"]

Loader = Callable[[Settings], "Mapping[str, Models]"]

_logger = logging.getLogger("reference_app")


class NotReadyError(Exception):
    """No model can answer now; `retry_after` is None where waiting will not help."""

    def __init__(self, reason: str, *, retry_after: int | None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def load_models(settings: Settings) -> "Mapping[str, Models]":
    """Import torch and load each variant's models; takes seconds, so call it in a thread."""
    # Imported here, in a thread, so that the server answers meanwhile.
    import torch  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    from reference_app import models  # noqa: PLC0415

    # A log is no terminal; downloads have bars of their own.
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types there.
    torch.set_num_threads(settings.torch_threads)  # For the threads that start from now on.
    return {name: models.load_models(source) for name, source in settings.sources.items()}


class Arm:
    """The three models of one variant, as they are called."""

    def __init__(self, models: "Models", settings: Settings, observer: Observer | None) -> None:
        self.sentiment: ServedModel[str, SentimentResult] = ServedModel(
            "sentiment",
            models.sentiment,
            settings,
            length=len,
            spread=models.sentiment.spread,
            observer=observer,
        )
        self.summarize: ServedModel[SummaryTask, SummaryResult] = ServedModel(
            "summarize",
            models.summarize,
            settings,
            length=lambda task: len(task.text),
            group=lambda task: task.max_length.bit_length(),  # The longest keeps all others busy.
            observer=observer,
        )
        self.answer: ServedModel[tuple[str, str], AnswerResult] = ServedModel(
            "answer",
            models.answer,
            settings,
            length=lambda pair: len(pair[0]) + len(pair[1]),
            observer=observer,
        )

    def info(self, task: Task) -> ModelInfo:
        """Return what is known of the model behind a task."""
        match task:
            case "sentiment":
                return self.sentiment.info
            case "summarize":
                return self.summarize.info
            case "answer":
                return self.answer.info

    async def warm_up(self) -> None:
        """Have each model answer once."""
        await self.sentiment.warm_up("It works.")
        await self.summarize.warm_up(SummaryTask("It works. It was tried.", 8))
        await self.answer.warm_up(("Does it work?", "It works."))

    async def aclose(self) -> None:
        """End the models' threads."""
        for model in (self.sentiment, self.summarize, self.answer):
            await model.aclose()


class Inference:
    """The variants' models, from the start of the lifespan to its end.

    Args:
        load: Returns the models by variant; called once, in a thread, when the lifespan starts.
        settings: What the operator chose.
        observer: Returns, once the models are loaded, who is told of their batches.
        on_failure: Told, on the event loop, of the exception that ended loading.
    """

    def __init__(
        self,
        load: "Callable[[], Mapping[str, Models]]",
        settings: Settings,
        *,
        observer: Callable[[], Observer] | None = None,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self._load = load
        self._settings = settings
        self._observer = observer
        self._on_failure = on_failure
        self._arms: dict[str, Arm] = {}
        self._reason = "the app's lifespan has not started"
        self._retry_after: int | None = None

    @property
    def arms(self) -> Mapping[str, Arm]:
        """The models of each variant.

        Raises:
            NotReadyError: While they are being loaded, or if that has failed.
        """
        if not self._arms:
            raise NotReadyError(self._reason, retry_after=self._retry_after)
        return self._arms

    def arm(self, variant: str) -> Arm:
        """Return the models of a variant, of the first if it has no name; raises as `arms`."""
        arms = self.arms
        return arms.get(variant) or next(iter(arms.values()))

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncGenerator[None, None]:
        """Load the models while the server already answers; wait for every thread at the end.

        Raises:
            NotReadyError: They could not be loaded, and the operator wants them first.
        """
        self._unavailable("the models are being loaded", retry_after=1)
        loading = asyncio.create_task(self._load_and_warm_up())
        try:
            if self._settings.load_first:
                await loading
                self.arm("")
            yield
        finally:
            await loading  # It raises nothing, and a thread that imports torch cannot be cancelled.
            arms = list(self._arms.values())
            self._unavailable("the server is shutting down", retry_after=1)
            for arm in arms:
                await arm.aclose()

    async def _load_and_warm_up(self) -> None:
        started = time.perf_counter()
        arms: dict[str, Arm] = {}
        try:
            models = await asyncio.to_thread(self._load)
            for name, each in models.items():
                arms[name] = Arm(each, self._settings, self._observer and self._observer())
                await arms[name].warm_up()
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator must be told.
            for arm in arms.values():
                await arm.aclose()
            self._fail(error)
        else:
            self._arms = arms
            _logger.info("the models were loaded in %.1f s", time.perf_counter() - started)

    def _fail(self, error: Exception) -> None:
        _logger.error("the models could not be loaded", exc_info=error)
        self._unavailable(f"the models could not be loaded: {error}", retry_after=None)
        if self._on_failure is not None:
            self._on_failure(error)

    def _unavailable(self, reason: str, *, retry_after: int | None) -> None:
        self._arms, self._reason, self._retry_after = {}, reason, retry_after


async def summary_stream(
    model: ServedModel[SummaryTask, SummaryResult], text: str, max_length: int
) -> AsyncGenerator[str | SummaryResult, None]:
    """Yield a summary's pieces as they are generated, and at last all that is known of it."""
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[str | None] = asyncio.Queue()

    def on_text(so_far: str) -> None:
        loop.call_soon_threadsafe(news.put_nowait, so_far)

    call = asyncio.ensure_future(model(SummaryTask(text, max_length, on_text)))
    call.add_done_callback(lambda _: news.put_nowait(None))
    told = ""
    try:
        while (so_far := await news.get()) is not None:
            # What a later token may still change is held back: half of a character, and whatever
            # the tokenizer writes anew.
            if len(so_far) > len(told) and so_far.startswith(told) and so_far[-1] != "\ufffd":
                yield so_far[len(told) :]
                told = so_far
        yield await call
    finally:
        call.cancel()
        await asyncio.wait([call])  # It may be the last that holds on to its place in a batch.
