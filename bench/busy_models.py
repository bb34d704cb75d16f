"""Cache hits while models keep all cores busy: how long they take, and what that costs the models.

Run `python -m bench.busy_models`. The reference app serves models of full size with random weights
in one process; six clients ask one model after the other for what is new, all the time, and hits
come at times fixed in advance, 50 a second. Servers whose models' threads step back, or do not,
take turns; what counts are the ratios of a round. The clients share the machine with the servers.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from reference_app.demo import address_of, wait_until_ready
from reference_app.texts import sentiment_example, summary_example
from tests.servers import Wire, request, wires

ARMS = {"as served": {}, "all as equals": {"MODEL_NICE": "0"}}
HITS = 50.0  # A second.
FAVOURITES = 50


class Turn(NamedTuple):
    """What one server did in one round."""

    hits: list[float]  # Seconds of each.
    misses: float  # A second, of all models.


@contextmanager
def serving(environment: dict[str, str]) -> Generator[int]:
    """Serve the reference app; yields the port."""
    command = [sys.executable, "-m", "reference_app", "--port", "0"]
    variables = {**os.environ, "MODELS": "random", "LOG_LEVEL": "warning", **environment}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables)
    try:
        url = address_of(server)
        wait_until_ready(server, url)
        yield int(url.rpartition(":")[2])
    finally:
        server.terminate()
        server.wait(timeout=60)


def questions(chance: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return what nobody has asked yet, of each model in its turn."""
    for number in itertools.count():
        text = f"{summary_example(chance).text} {chance.random()}"
        yield (
            ("/v1/sentiment", {"text": f"{sentiment_example(chance).text} {chance.random()}"}),
            ("/v1/summarize", {"text": text, "max_length": 40}),
            ("/v1/answer", {"question": "Who?", "context": text}),
        )[number % 3]


async def asked(wire: Wire, path: str, body: dict[str, Any]) -> str:
    """Ask one question; return what the cache said of it."""
    answer = await wire.ask(request(json.dumps(body).encode(), path=path))
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer}")
    return answer.cache_status


async def turn(port: int, seconds: float, chance: random.Random) -> Turn:
    """Load one server."""
    known = [{"text": sentiment_example(chance).text} for _ in range(FAVOURITES)]
    times: list[float] = []
    answered, new = 0, questions(chance)
    async with wires(port, 6, patience=120) as busy, wires(port, 10) as quick:
        for body in known:
            await asked(quick[0], "/v1/sentiment", body)
        end = time.perf_counter() + seconds
        free: asyncio.Queue[Wire] = asyncio.Queue()
        for wire in quick:
            free.put_nowait(wire)

        async def ask_on(wire: Wire) -> None:
            nonlocal answered
            while time.perf_counter() < end:
                await asked(wire, *next(new))
                answered += 1

        async def hit() -> None:
            wire = await free.get()
            began = time.perf_counter()
            said = await asked(wire, "/v1/sentiment", chance.choice(known))
            times.append(time.perf_counter() - began)
            if "; hit" not in said:
                raise RuntimeError(f"a favourite was no hit: {said}")
            free.put_nowait(wire)

        async with asyncio.TaskGroup() as group:
            for wire in busy:
                group.create_task(ask_on(wire))
            due = time.perf_counter()
            while due < end:
                due += chance.expovariate(HITS)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(hit())
    return Turn(times, answered / seconds)


def milliseconds(times: list[float], fraction: float) -> float:
    """Return the nearest rank."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] * 1000


def main(rounds: int, seconds: float) -> None:
    """Print a line for each turn, and then the medians of the rounds' ratios."""
    print(f"{'':16}{'hits':>6}{'p50':>8}{'p95':>8}{'p99 ms':>8}{'misses/s':>10}")
    turns: list[dict[str, Turn]] = []
    with ExitStack() as stack:
        ports = {name: stack.enter_context(serving(ARMS[name])) for name in ARMS}
        for number in range(rounds):
            chance = random.Random(number)
            turns.append(
                {name: asyncio.run(turn(port, seconds, chance)) for name, port in ports.items()}
            )
            for name, each in turns[-1].items():
                p50, p95, p99 = (milliseconds(each.hits, part) for part in (0.5, 0.95, 0.99))
                print(
                    f"{name:16}{len(each.hits):>6}{p50:>8.2f}{p95:>8.2f}{p99:>8.2f}"
                    f"{each.misses:>10.1f}",
                    flush=True,
                )
    served, equals = ([each[name] for each in turns] for name in ARMS)
    pairs = list(zip(served, equals, strict=True))
    slower = statistics.median(
        milliseconds(one.hits, 0.99) / milliseconds(other.hits, 0.99) for one, other in pairs
    )
    fewer = statistics.median(one.misses / other.misses for one, other in pairs)
    print(f"p99 of hits, {' / '.join(ARMS)}: {slower:.2f}; answers of the models: {fewer:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each turn")
    options = parser.parse_args()
    main(options.rounds, options.seconds)
