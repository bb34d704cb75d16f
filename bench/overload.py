"""Three times more than a model can do: what admission makes of it, beside the bare app.

Rule: requests come at times that were fixed before, whatever became of earlier ones (open loop);
both arms have the same model, which serves so many at once and takes its time for each.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from memoserve import AdmissionMiddleware

AT_ONCE = 4
SERVICE = 0.02  # Seconds that the model takes for one request.
CAPACITY = AT_ONCE / SERVICE
OVERLOAD = 3.0
SECONDS = 10.0
DEADLINE = 0.25


class Model:
    """An app that computes for so many at once; the others wait inside, without a bound."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answer one request."""
        async with self._turns:
            await asyncio.sleep(SERVICE)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def ask(app: Any) -> tuple[int, float]:
    """Send one request; return its status and its seconds."""
    statuses: list[int] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    started = time.perf_counter()
    await app({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
    return statuses[0], time.perf_counter() - started


async def overload(app: Any) -> list[tuple[int, float]]:
    """Send three times what can be done, for some seconds, and wait for all answers."""
    chance = random.Random(3)
    began = time.perf_counter()
    due = 0.0
    tasks: list[asyncio.Task[tuple[int, float]]] = []
    while due < SECONDS:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(app)))
        due += chance.expovariate(OVERLOAD * CAPACITY)
    return list(await asyncio.gather(*tasks))


def row(name: str, answers: Sequence[tuple[int, float]]) -> str:
    """Say what became of the requests of one arm."""
    accepted = sorted(seconds for status, seconds in answers if status == 200)
    shed = sorted(seconds for status, seconds in answers if status == 503)
    median, late = statistics.median(accepted), accepted[int(0.99 * len(accepted))]
    refusal = shed[int(0.99 * len(shed))] if shed else 0.0
    return (
        f"{name:<20}{len(answers):>9}{len(accepted):>10}{len(shed):>9}"
        f"{1000 * median:>9.0f}{1000 * late:>9.0f}{1000 * refusal:>12.0f}"
    )


async def main() -> None:
    """Measure both arms."""
    print(
        f"{CAPACITY:.0f} requests/s can be answered, {OVERLOAD * CAPACITY:.0f} come; milliseconds"
    )
    print(f"{'':<20} requests  answered  refused      p50      p99 refusal p99")
    print(row("bare app", await overload(Model())))
    app = AdmissionMiddleware(
        Model(), limit=AT_ONCE, queue=64, deadline=DEADLINE, model=lambda _scope: "model"
    )
    print(row("with admission", await overload(app)))


if __name__ == "__main__":
    asyncio.run(main())
