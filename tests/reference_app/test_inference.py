"""Models behind threads, with gates in place of long calls."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from memoserve._events import BreakerChanged
from reference_app.breaker import BreakerOpenError
from reference_app.inference import Arm, Inference, NotReadyError, summary_stream
from reference_app.results import SummaryResult, SummaryTask
from reference_app.settings import Settings
from tests.asgi import settle
from tests.middleware.cases import Notes
from tests.reference_app.fake_models import FakeModels, fake_models


@asynccontextmanager
async def loaded(models: FakeModels, **settings: Any) -> AsyncGenerator[Arm, None]:
    inference = Inference(cast("Any", lambda: {"stable": models}), Settings(**settings))
    async with inference.lifespan(None):
        yield await until_loaded(inference)


async def until_loaded(inference: Inference) -> Arm:
    async with asyncio.timeout(30):
        while True:
            try:
                return inference.arm("")
            except NotReadyError:
                await asyncio.sleep(0.005)


async def entered(gate: threading.Event) -> None:
    assert await asyncio.to_thread(gate.wait, 30)


def hold(models: FakeModels) -> None:
    """Let the next batch of the sentiment model begin and not end."""
    models.sentiment.gate.clear()
    models.sentiment.entered.clear()


async def test_each_model_answers_in_a_thread_of_its_own() -> None:
    models = fake_models()
    async with loaded(models) as arm:
        await arm.sentiment("a")
        await arm.summarize(SummaryTask("a", 8))
        await arm.answer(("a", "b"))
        await arm.sentiment("a")

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
    async with loaded(models) as arm:
        models.summarize.gate.clear()
        slow = asyncio.create_task(arm.summarize(SummaryTask("long", 40)))
        quick = await arm.sentiment("good")
        waits = not slow.done()
        models.summarize.gate.set()
        summary = await slow

    assert waits
    assert quick.label == "POSITIVE"
    assert summary.summary == "long"


async def test_who_leaves_the_line_costs_no_inference() -> None:
    models = fake_models()
    async with loaded(models) as arm:
        hold(models)
        first = asyncio.create_task(arm.sentiment("first"))
        await entered(models.sentiment.entered)
        second = asyncio.create_task(arm.sentiment("second"))
        third = asyncio.create_task(arm.sentiment("third"))
        await settle()
        second.cancel()
        await asyncio.wait([second])
        models.sentiment.gate.set()
        await asyncio.gather(first, third)

    assert models.sentiment.calls[1:] == ["first", "third"]
    assert second.cancelled()


async def test_a_call_that_was_abandoned_leaves_the_model_usable() -> None:
    models = fake_models()
    async with loaded(models) as arm:
        hold(models)
        abandoned = asyncio.create_task(arm.sentiment("abandoned"))
        await entered(models.sentiment.entered)
        abandoned.cancel()
        waiting = asyncio.create_task(arm.sentiment("good"))
        models.sentiment.gate.set()
        result = await waiting

    assert result.label == "POSITIVE"


async def test_a_model_s_exception_reaches_its_caller_only() -> None:
    models = fake_models()
    async with loaded(models) as arm:
        models.sentiment.error = RuntimeError("broken")
        with pytest.raises(RuntimeError, match="broken"):
            await arm.sentiment("a")
        models.sentiment.error = None
        result = await arm.sentiment("good")

    assert result.label == "POSITIVE"


async def test_a_model_that_keeps_failing_is_left_alone_and_the_others_are_not(caplog: Any) -> None:
    models = fake_models()
    async with loaded(models, breaker_failures=2) as arm:
        models.sentiment.error = RuntimeError("broken")
        for _ in range(2):
            with pytest.raises(RuntimeError, match="broken"):
                await arm.sentiment("a")
        with pytest.raises(BreakerOpenError, match="'sentiment' keeps failing"):
            await arm.sentiment("a")
        other = await arm.answer(("q", "c"))

    assert len(models.sentiment.calls) == 3  # The warm-up's, and two.
    assert other.answer == "c"
    assert "the breaker of the model 'sentiment' is open" in caplog.text


async def test_an_observer_is_told_what_a_breaker_does() -> None:
    models, notes = fake_models(), Notes()
    inference = Inference(
        cast("Any", lambda: {"stable": models}),
        Settings(breaker_failures=1),
        observer=lambda: notes,
    )
    async with inference.lifespan(None):
        arm = await until_loaded(inference)
        models.answer.error = OSError("broken")
        with pytest.raises(OSError, match="broken"):
            await arm.answer(("q", "c"))

    assert notes.of(BreakerChanged) == [BreakerChanged("answer", "open")]


async def test_calls_that_meet_share_a_batch_with_their_like() -> None:
    models = fake_models()
    notes = Notes()
    inference = Inference(
        cast("Any", lambda: {"stable": models}), Settings(), observer=lambda: notes
    )
    async with inference.lifespan(None):
        arm = await until_loaded(inference)
        notes.events.clear()
        tasks = [SummaryTask("a b c", length) for length in (40, 50, 100)]
        results = await asyncio.gather(*(arm.summarize(task) for task in tasks))

    assert [result.summary for result in results] == ["a b c"] * 3
    assert [event.size for event in notes.events if hasattr(event, "size")] == [2, 1]


async def test_a_variant_has_models_of_its_own() -> None:
    arms = {"stable": fake_models("v1"), "canary": fake_models("v2")}
    inference = Inference(cast("Any", lambda: arms), Settings())
    async with inference.lifespan(None):
        await until_loaded(inference)
        versions = [inference.arm(name).info("answer").version for name in ("", "stable", "canary")]
        await inference.arm("canary").sentiment("good")

    assert versions == ["v1", "v1", "v2"]
    assert [len(models.sentiment.calls) for models in arms.values()] == [1, 2]


async def test_before_the_lifespan_nothing_answers() -> None:
    with pytest.raises(NotReadyError, match="lifespan"):
        Inference(cast("Any", dict), Settings()).arm("")


async def test_nothing_outlives_the_lifespan() -> None:
    models = fake_models()
    async with loaded(models) as arm:
        await arm.sentiment("a")

    with pytest.raises(RuntimeError, match="closed"):
        await arm.sentiment("a")
    assert not [t.name for t in threading.enumerate() if t.name == "sentiment_0"]


async def test_an_end_while_loading_waits_for_the_loader() -> None:
    may_load, has_loaded = threading.Event(), threading.Event()

    def load() -> Any:
        assert may_load.wait(30)
        has_loaded.set()
        return {"stable": fake_models()}

    inference = Inference(load, Settings())
    async with inference.lifespan(None):
        asyncio.get_running_loop().call_soon(may_load.set)

    assert has_loaded.is_set()
    with pytest.raises(NotReadyError, match="shutting down"):
        inference.arm("")


async def test_models_may_have_to_be_there_before_anything_is_served() -> None:
    inference = Inference(cast("Any", lambda: {"stable": fake_models()}), Settings(load_first=True))
    async with inference.lifespan(None):
        assert inference.arm("").info("answer").version == "v1"


async def test_what_has_to_be_there_and_is_not_ends_the_start() -> None:
    inference = Inference(cast("Any", {}.popitem), Settings(load_first=True))

    with pytest.raises(NotReadyError, match="could not be loaded"):
        async with inference.lifespan(None):
            raise AssertionError


async def test_nobody_need_be_told_of_a_failure() -> None:
    inference = Inference(cast("Any", {}.popitem), Settings())
    async with inference.lifespan(None):
        pass

    with pytest.raises(NotReadyError, match="shutting down"):
        inference.arm("")


@pytest.mark.parametrize("at", ["load", "warm-up"])
async def test_a_failure_to_load_is_told_and_kept(at: str, caplog: Any) -> None:
    models = fake_models()
    models.answer.error = OSError("no weights")
    failures: list[Exception] = []

    def load() -> Any:
        if at == "load":
            raise OSError("no weights")
        return {"stable": models}

    told = asyncio.Event()

    def on_failure(error: Exception) -> None:
        failures.append(error)
        told.set()

    inference = Inference(load, Settings(), on_failure=on_failure)
    async with inference.lifespan(None), asyncio.timeout(30):
        await told.wait()
        with pytest.raises(NotReadyError, match="no weights") as caught:
            inference.arm("")

    assert caught.value.retry_after is None
    assert [str(error) for error in failures] == ["no weights"]
    assert "no weights" in caplog.text
    assert not [t.name for t in threading.enumerate() if t.name == "sentiment_0"]


async def test_a_stream_s_pieces_are_the_summary() -> None:
    models = fake_models()
    async with loaded(models) as arm:
        *pieces, last = [piece async for piece in summary_stream(arm.summarize, "a bc d", 8)]

    assert pieces == ["a", " bc", " d"]
    assert last == SummaryResult("a bc d", 3, truncated=False)


async def test_what_may_still_change_is_held_back() -> None:
    """Half a character, and a beginning that was rewritten."""

    async def model(task: SummaryTask) -> SummaryResult:
        assert task.on_text is not None
        for so_far in ("", "a", "a\ufffd", "aé", "aé", "x", "aé ."):
            task.on_text(so_far)
        return SummaryResult("aé.", 6, truncated=False)

    *pieces, last = [piece async for piece in summary_stream(cast("Any", model), "t", 8)]

    assert pieces == ["a", "é", " ."]
    assert last == SummaryResult("aé.", 6, truncated=False)


async def test_a_stream_that_is_closed_gives_its_call_up() -> None:
    started, given_up = asyncio.Event(), asyncio.Event()

    async def model(task: SummaryTask) -> SummaryResult:
        assert task.on_text is not None
        task.on_text("a")
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        raise AssertionError

    stream = summary_stream(cast("Any", model), "t", 8)
    first = await anext(stream)
    await stream.aclose()

    assert first == "a"
    assert given_up.is_set()
