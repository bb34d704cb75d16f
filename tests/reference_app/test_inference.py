"""Models behind threads, with gates in place of long calls."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from reference_app.inference import Inference, NotReadyError
from tests.reference_app.fake_models import FakeModels, fake_models


@asynccontextmanager
async def loaded(models: FakeModels) -> AsyncGenerator[Inference, None]:
    inference = Inference(cast("Any", lambda: models))
    async with inference.lifespan(None):
        await until_loaded(inference)
        yield inference


async def until_loaded(inference: Inference) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                inference.info("answer")
            except NotReadyError:
                await asyncio.sleep(0.005)
            else:
                return


async def entered(gate: threading.Event) -> None:
    assert await asyncio.to_thread(gate.wait, 30)


async def test_each_model_answers_in_a_thread_of_its_own() -> None:
    models = fake_models()
    async with loaded(models) as inference:
        await inference.sentiment("a")
        await inference.summarize("a", 8)
        await inference.answer("a", "b")
        await inference.sentiment("a")

    assert models.sentiment.threads == {"sentiment_0"}
    assert models.summarize.threads == {"summarize_0"}
    assert models.answer.threads == {"answer_0"}


async def test_ready_means_that_every_model_has_answered_once() -> None:
    models = fake_models()
    async with loaded(models):
        counts = [len(m.calls) for m in (models.sentiment, models.summarize, models.answer)]

    assert counts == [1, 1, 1]


async def test_a_busy_model_delays_neither_the_loop_nor_another_model() -> None:
    models = fake_models()
    async with loaded(models) as inference:
        models.summarize.gate.clear()
        slow = asyncio.create_task(inference.summarize("long", 40))
        quick = await inference.sentiment("good")
        waits = not slow.done()
        models.summarize.gate.set()
        summary = await slow

    assert waits
    assert quick.label == "POSITIVE"
    assert summary.summary == "long"


async def test_who_leaves_the_line_costs_no_inference() -> None:
    models = fake_models()
    async with loaded(models) as inference:
        models.sentiment.gate.clear()
        models.sentiment.entered.clear()
        first = asyncio.create_task(inference.sentiment("first"))
        await entered(models.sentiment.entered)
        second = asyncio.create_task(inference.sentiment("second"))
        third = asyncio.create_task(inference.sentiment("third"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        models.sentiment.gate.set()
        await asyncio.gather(first, third)

    assert [text for (text,) in models.sentiment.calls[1:]] == ["first", "third"]
    assert second.cancelled()


async def test_a_call_that_was_abandoned_leaves_the_model_usable() -> None:
    models = fake_models()
    async with loaded(models) as inference:
        models.sentiment.gate.clear()
        models.sentiment.entered.clear()
        abandoned = asyncio.create_task(inference.sentiment("abandoned"))
        await entered(models.sentiment.entered)
        abandoned.cancel()
        waiting = asyncio.create_task(inference.sentiment("good"))
        models.sentiment.gate.set()
        result = await waiting

    assert result.label == "POSITIVE"


async def test_a_model_s_exception_reaches_its_caller_only() -> None:
    models = fake_models()
    async with loaded(models) as inference:
        models.sentiment.error = RuntimeError("broken")
        with pytest.raises(RuntimeError, match="broken"):
            await inference.sentiment("a")
        models.sentiment.error = None
        result = await inference.sentiment("good")

    assert result.label == "POSITIVE"


async def test_before_the_lifespan_nothing_answers() -> None:
    inference = Inference(cast("Any", fake_models))

    with pytest.raises(NotReadyError, match="lifespan"):
        await inference.sentiment("a")


async def test_nothing_outlives_the_lifespan() -> None:
    models = fake_models()
    async with loaded(models) as inference:
        await inference.sentiment("a")

    with pytest.raises(NotReadyError, match="shutting down"):
        await inference.sentiment("a")
    assert not [t.name for t in threading.enumerate() if t.name == "sentiment_0"]


async def test_an_end_while_loading_waits_for_the_loader() -> None:
    may_load, has_loaded = threading.Event(), threading.Event()

    def load() -> Any:
        assert may_load.wait(30)
        has_loaded.set()
        return fake_models()

    inference = Inference(load)
    async with inference.lifespan(None):
        asyncio.get_running_loop().call_soon(may_load.set)

    assert has_loaded.is_set()


async def test_nobody_need_be_told_of_a_failure() -> None:
    inference = Inference(cast("Any", {}.popitem))
    async with inference.lifespan(None):
        pass

    with pytest.raises(NotReadyError, match="shutting down"):
        inference.info("answer")


@pytest.mark.parametrize("at", ["load", "warm-up"])
async def test_a_failure_to_load_is_told_and_kept(at: str, caplog: Any) -> None:
    models = fake_models()
    models.answer.error = OSError("no weights")
    failures: list[Exception] = []

    def load() -> Any:
        if at == "load":
            raise OSError("no weights")
        return models

    told = asyncio.Event()

    def on_failure(error: Exception) -> None:
        failures.append(error)
        told.set()

    inference = Inference(load, on_failure=on_failure)
    async with inference.lifespan(None), asyncio.timeout(30):
        await told.wait()
        with pytest.raises(NotReadyError, match="no weights") as caught:
            inference.info("answer")

    assert caught.value.retry_after is None
    assert [str(error) for error in failures] == ["no weights"]
    assert "no weights" in caplog.text
