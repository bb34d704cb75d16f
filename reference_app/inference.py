"""The models: loaded behind a running server, called off the event loop.

Rule: a model answers one call at a time, in a thread of its own, so that a long summary delays
neither the event loop nor a question. Who gives up while waiting in line is taken out of it; a
call that has begun runs to its end, since nothing can interrupt a forward pass.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar, TypeVarTuple, assert_never

from reference_app.settings import Settings

if TYPE_CHECKING:  # Importing the models imports torch, which takes seconds: see load_models.
    from reference_app.models import AnswerResult, ModelInfo, Models, SentimentResult, SummaryResult

__all__ = ["TASKS", "Inference", "Loader", "NotReadyError", "Task", "load_models"]

Task = Literal["sentiment", "summarize", "answer"]
TASKS: tuple[Task, ...] = ("sentiment", "summarize", "answer")

Loader = Callable[[Settings], "Models"]
_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

_logger = logging.getLogger("reference_app")


class NotReadyError(Exception):
    """No model can answer now; `retry_after` is None where waiting will not help."""

    def __init__(self, reason: str, *, retry_after: int | None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def load_models(settings: Settings) -> "Models":
    """Import torch and load the three models; takes seconds, so call it in a thread."""
    # Imported here, in a thread, so that the server answers meanwhile.
    import torch  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    from reference_app import models  # noqa: PLC0415

    # A log is no terminal; downloads have bars of their own.
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types there.
    torch.set_num_threads(settings.torch_threads)  # For the threads that start from now on.
    return models.load_models(settings.models)


class Inference:
    """Three models and a thread for each.

    Args:
        load: Returns the models; called once, in a thread, when the lifespan starts.
        on_failure: Told, on the event loop, of the exception that ended loading.
    """

    def __init__(
        self, load: Callable[[], "Models"], *, on_failure: Callable[[Exception], None] | None = None
    ) -> None:
        self._load = load
        self._on_failure = on_failure
        self._models: Models | None = None
        self._reason = "the app's lifespan has not started"
        self._retry_after: int | None = None
        self._threads: dict[Task, ThreadPoolExecutor] = {}

    @property
    def models(self) -> "Models":
        """The loaded models.

        Raises:
            NotReadyError: While they are being loaded, or if that has failed.
        """
        if self._models is None:
            raise NotReadyError(self._reason, retry_after=self._retry_after)
        return self._models

    def info(self, task: Task) -> "ModelInfo":
        """Return what is known of the model behind a task; raises as `models` does."""
        match task:
            case "sentiment":
                return self.models.sentiment.info
            case "summarize":
                return self.models.summarize.info
            case "answer":
                return self.models.answer.info
            case _:
                assert_never(task)

    async def sentiment(self, text: str) -> "SentimentResult":
        """Return the label of a text and its probabilities."""
        return await self._call("sentiment", self.models.sentiment.predict, text)

    async def summarize(self, text: str, max_length: int) -> "SummaryResult":
        """Return a summary of at most `max_length` tokens."""
        return await self._call("summarize", self.models.summarize.predict, text, max_length)

    async def answer(self, question: str, context: str) -> "AnswerResult":
        """Return the span of the context that answers the question."""
        return await self._call("answer", self.models.answer.predict, question, context)

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncGenerator[None, None]:
        """Load the models while the server already answers; wait for every thread at the end."""
        self._threads = {task: ThreadPoolExecutor(1, thread_name_prefix=task) for task in TASKS}
        self._unavailable("the models are being loaded", retry_after=1)
        loading = asyncio.create_task(self._load_and_warm_up())
        try:
            yield
        finally:
            await loading  # It never raises, and a thread that imports torch cannot be cancelled.
            self._unavailable("the server is shutting down", retry_after=1)
            for threads in self._threads.values():
                await asyncio.to_thread(threads.shutdown, cancel_futures=True)

    async def _call(
        self, task: Task, predict: Callable[[*_Arguments], _Result], *arguments: *_Arguments
    ) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads[task], predict, *arguments)

    async def _load_and_warm_up(self) -> None:
        started = time.perf_counter()
        try:
            models = await asyncio.to_thread(self._load)
            await self._warm_up(models)
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator must be told.
            self._fail(error)
        else:
            self._models = models
            _logger.info("the models were loaded in %.1f s", time.perf_counter() - started)

    async def _warm_up(self, models: "Models") -> None:
        """Make each model's slow first call, so that no user has to."""
        await self._call("sentiment", models.sentiment.predict, "It works.")
        await self._call("summarize", models.summarize.predict, "It works. It was tried.", 8)
        await self._call("answer", models.answer.predict, "Does it work?", "It works.")

    def _fail(self, error: Exception) -> None:
        _logger.error("the models could not be loaded", exc_info=error)
        self._unavailable(f"the models could not be loaded: {error}", retry_after=None)
        if self._on_failure is not None:
            self._on_failure(error)

    def _unavailable(self, reason: str, *, retry_after: int | None) -> None:
        self._models, self._reason, self._retry_after = None, reason, retry_after
