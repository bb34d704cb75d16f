"""What micro-batching gains: sixteen callers of a model of full size, one by one and in batches.

Rule: both arms ask the same questions, and they take turns within one run; only their ratio counts.
The models have as many threads as the reference app gives them unless it is told otherwise, one
each: with more, one question alone keeps more cores busy, and a batch has less to gain.
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
from reference_app.settings import Settings
from reference_app.texts import sentiment_example, summary_example

CALLERS = 16
ROUNDS = 3  # Of both arms.
SECONDS = float(os.environ.get("SECONDS", "8"))  # Of one arm in one round.
TOKENS = 60


async def throughput(
    batcher: "MicroBatcher[Any, Any]", items: Sequence[Any]
) -> tuple[float, float]:
    """Keep all callers busy, each asking again as soon as it has its answer.

    Returns answers per second, and per second of processor time, which others on the machine
    disturb less.
    """
    questions = itertools.cycle(items)
    answered = 0
    started, worked = time.perf_counter(), time.process_time()

    async def ask_on() -> None:
        nonlocal answered
        while time.perf_counter() < started + SECONDS:
            await batcher(next(questions))
            answered += 1

    await asyncio.gather(*(ask_on() for _ in range(CALLERS)))
    await batcher.aclose()
    return (
        answered / (time.perf_counter() - started),
        answered / (time.process_time() - worked),
    )


async def compare(
    name: str,
    run: Any,
    items: Sequence[Any],
    length: Callable[[Any], int],
    spread: float = 1.5,
) -> None:
    """Print what one model does either way, its batches made as the reference app makes them."""
    run(items[:CALLERS])  # The slow first calls.
    single: list[tuple[float, float]] = []
    batched: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        single.append(await throughput(MicroBatcher(run, max_size=1), items))
        batcher = MicroBatcher(run, max_size=16, length=length, spread=spread)
        batched.append(await throughput(batcher, items))
    wall, work = (
        statistics.median(b[each] / s[each] for s, b in zip(single, batched, strict=True))
        for each in (0, 1)
    )
    one, many = (statistics.median(each[0] for each in arm) for arm in (single, batched))
    print(f"{name:<28}{one:>14.1f}{many:>14.1f}{wall:>8.2f}{work:>20.2f}")


async def main() -> None:
    """Measure both models."""
    torch.set_num_threads(int(os.environ.get("THREADS", Settings().torch_threads)))
    chance = random.Random(1)
    opinions = [sentiment_example(chance).text for _ in range(500)]
    reports = [SummaryTask(summary_example(chance).text, TOKENS) for _ in range(500)]
    print(f"{CALLERS} callers, full size, random weights, {torch.get_num_threads()} threads")
    print(f"{'':<28}{'one by one/s':>14}{'in batches/s':>14}{'ratio':>8}{'by processor time':>20}")
    sentiment = load_model("sentiment", "random")
    await compare("sentiment", sentiment.predict_many, opinions, len, sentiment.spread)
    summarize = load_model("summarize", "random")
    await compare(
        f"summaries of {TOKENS} tokens",
        summarize.predict_many,
        reports,
        lambda task: len(task.text),
    )


if __name__ == "__main__":
    asyncio.run(main())
