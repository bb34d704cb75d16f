"""A service whose every answer follows from the question, so that a wrong one shows.

`STORE` and `SECRET` configure its cache, `CALLS` names a file that takes a line for each call of
the model: the process and the question.
"""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from memoserve import CacheMiddleware, Rule

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
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    question = json.loads(body)
    if "CALLS" in os.environ:
        _note_call(Path(os.environ["CALLS"]), question["n"])
    await asyncio.sleep(question.get("ms", 2) / 1000)
    answer = answer_to(question["n"])
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _note_call(calls: Path, number: int) -> None:
    with calls.open("a") as file:
        file.write(f"{os.getpid()} {number}\n")


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
)
