"""What micro-batching gains: sixteen callers of a model of full size, one by one and in batches.

Rule: both arms ask the same questions, and they take turns within one run; only their ratio counts.
"""

import asyncio
import itertools
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from memoserve import MicroBatcher
from reference_app.models import load_model
from reference_app.results import SummaryTask
from reference_app.texts import sentiment_example, summary_example

CALLERS = 16
ROUNDS = 3  # Of both arms.
SECONDS = float(os.environ.get("SECONDS", "8"))  # Of one arm in one round.
TOKENS = 60


async def calls_per_second(batcher: "MicroBatcher[Any, Any]", items: Sequence[Any]) -> float:
    """Keep all callers busy for a while, each asking again as soon as it has its answer."""
    questions = itertools.cycle(items)
    answered = 0
    started = time.perf_counter()

    async def ask_on() -> None:
        nonlocal answered
        while time.perf_counter() < started + SECONDS:
            await batcher(next(questions))
            answered += 1

    await asyncio.gather(*(ask_on() for _ in range(CALLERS)))
    await batcher.aclose()
    return answered / (time.perf_counter() - started)


async def compare(name: str, run: Any, items: Sequence[Any], length: Callable[[Any], int]) -> None:
    """Print what one model does either way."""
    run(items[:CALLERS])  # The slow first calls.
    single: list[float] = []
    batched: list[float] = []
    for _ in range(ROUNDS):
        single.append(await calls_per_second(MicroBatcher(run, max_size=1), items))
        batched.append(await calls_per_second(MicroBatcher(run, max_size=16, length=length), items))
    ratio = statistics.median(b / s for s, b in zip(single, batched, strict=True))
    print(
        f"{name:<28}{statistics.median(single):>14.1f}{statistics.median(batched):>14.1f}{ratio:>8.2f}"
    )


async def main() -> None:
    """Measure both models."""
    torch.set_num_threads(os.cpu_count() or 1)
    chance = random.Random(1)
    opinions = [sentiment_example(chance).text for _ in range(500)]
    reports = [SummaryTask(summary_example(chance).text, TOKENS) for _ in range(500)]
    print(f"{CALLERS} callers, full size, random weights, {torch.get_num_threads()} threads")
    print(f"{'':<28}{'one by one/s':>14}{'in batches/s':>14}{'ratio':>8}")
    sentiment = load_model("sentiment", "random")
    await compare("sentiment", sentiment.predict_many, opinions, lambda text: max(len(text), 120))
    summarize = load_model("summarize", "random")
    await compare(
        f"summaries of {TOKENS} tokens",
        summarize.predict_many,
        reports,
        lambda task: len(task.text),
    )


if __name__ == "__main__":
    asyncio.run(main())
