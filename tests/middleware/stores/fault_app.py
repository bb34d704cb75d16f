"""A service whose every answer follows from the question, so that a wrong one shows.

`STORE` and `SECRET` configure its cache, `CALLS` names a file that takes a line for each call of
the model: the process and the question. `MOST_MS` bounds the time that a question may ask for.
"""

import asyncio
import hashlib
import json
import os
import resource
from collections import Counter
from pathlib import Path
from typing import Any

from memoserve import CacheMiddleware, Rule
from memoserve._events import Event, RequestFinished, RequestStarted

PATH = "/v1/model"
LARGE_EVERY = 10  # Questions, of which one has an answer of 20 KB.


def answer_to(number: int) -> bytes:
    """Return what the model says to a question."""
    digest = hashlib.blake2b(b"%d" % number).hexdigest()
    filler = digest * 160 if number % LARGE_EVERY == 0 else ""
    return json.dumps({"n": number, "answer": digest, "filler": filler}).encode()


async def model(scope: Any, receive: Any, send: Any) -> None:
    """Answer, after as many milliseconds as the question says."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    if scope["path"] == "/state":
        await _say(send, json.dumps(state()).encode())
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    question = json.loads(body)
    if "CALLS" in os.environ:
        _note_call(Path(os.environ["CALLS"]), question["n"])
    asked = min(question.get("ms", 2), float(os.environ.get("MOST_MS", "inf")))
    await asyncio.sleep(asked / 1000)
    await _say(send, answer_to(question["n"]))


async def _say(send: Any, answer: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _note_call(calls: Path, number: int) -> None:
    with calls.open("a") as file:
        file.write(f"{os.getpid()} {number}\n")


class Counts:
    """How requests ended, by status."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()

    def observe(self, event: Event, /) -> None:
        if isinstance(event, RequestStarted):
            self.numbers["requests"] += 1
        elif isinstance(event, RequestFinished):
            self.numbers[event.status] += 1


counts = Counts()


def state() -> dict[str, float]:
    """Say what this process holds, and what it has counted."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    open_files = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return {
        **counts.numbers,
        "rss": pages * resource.getpagesize(),
        "sockets": sum("socket" in str(path) for path in open_files),
        "tasks": len(asyncio.all_tasks()),
    }


async def _live(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


app = CacheMiddleware(
    model,
    rules=[Rule(PATH, ttl=float(os.environ.get("TTL", "60")), tags=["all"])],
    store=os.environ.get("STORE", "memory://"),
    secret=os.environ.get("SECRET") or None,
    lease=float(os.environ.get("LEASE", "10")),
    observer=counts,
)
