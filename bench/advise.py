"""What `memoserve advise` foretells, and what a cache then does with the same log.

Run `python bench/advise.py`. A log of 100,000 bodies is written, advised upon by the command line
(its start included), and sent through a real cache three times: as it is, by the advised rule,
and by that rule with a ttl of five minutes of the log's time.
"""

import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from memoserve import CacheMiddleware, MemoryStore, Rule
from memoserve._advise_log import Logged, read_log
from memoserve._asgi import Message, Receive, Scope, replaying

BODIES = 100_000
QUESTIONS = 20_000
TTL = 300.0
PATH = "/v1/sentiment"
SECONDS = 3600.0 / BODIES * 6  # Between two requests: the log is of six hours.


def write_log(file: Path, seed: int = 42) -> None:
    """Write what an API gateway may log of a model: Zipf traffic, ids, times, careless spaces."""
    draw = random.Random(seed)
    ranks = range(1, QUESTIONS + 1)
    asked = draw.choices(ranks, [1 / rank**0.9 for rank in ranks], k=BODIES)
    with file.open("w", encoding="utf-8") as out:
        for number, question in enumerate(asked):
            text = f"The {question} was friendly, and we would gladly come again."
            body: dict[str, Any] = {
                "request_id": f"{draw.getrandbits(128):032x}",
                "timestamp": 1_790_000_000 + number * SECONDS,
                "user": f"u{draw.choice([1, 1, 1, 1, 2])}",
                "text": draw.choice([text, text, text, f" {text}", f"{text}\n"]),
                "options": {"top": draw.choice([1, 1, 1, 3]), "model": "small"},
            }
            if draw.random() < 0.5:
                body["language"] = "en"
            record = {"path": PATH, "body": body, "time": number * SECONDS}
            out.write(json.dumps(record) + "\n")


async def replayed(log: list[Logged], rule: Rule) -> float:
    """Send a log through a cache whose clock is the log's; return the share of hits."""
    now, hits = 0.0, 0
    model = replaying(200, [(b"content-type", b"application/json")], [b"{}"])
    store = MemoryStore(2**31, clock=lambda: now)
    cache = CacheMiddleware(model, rules=[rule], store=store, clock=lambda: now)

    async def send(message: Message) -> None:
        nonlocal hits
        if message["type"] == "http.response.start":
            hits += b"hit" in dict(message["headers"])[b"cache-status"]

    for each in log:
        now = each.time or 0.0
        await cache(_scope(), _receiving(each.body), send)
    await cache.aclose()
    return hits / len(log)


def _scope() -> Scope:
    headers = [(b"host", b"bench"), (b"content-type", b"application/json")]
    return {
        "type": "http", "method": "POST", "scheme": "http", "path": PATH,
        "raw_path": PATH.encode(), "query_string": b"", "root_path": "", "headers": headers,
    }  # fmt: skip


def _receiving(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def advised(file: Path) -> tuple[dict[str, Any], float]:
    """Run the command line; return what it says of the path, and its seconds."""
    command = [sys.executable, "-m", "memoserve", "advise", str(file), "--json", "--ttl", f"{TTL}"]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    (advice,) = json.loads(done.stdout)["paths"]
    return advice, seconds


def main() -> None:
    """Print what was foretold and what came."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log.jsonl"
        write_log(file)
        advice, seconds = advised(file)
        with file.open("rb") as lines:
            log = read_log(lines)
    ever, limited = advice["ratios"]
    ignore = [hint["pointer"] for hint in advice["ignore"]]
    text = {hint["pointer"]: tuple(hint["steps"]) for hint in advice["text"]}
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    print(f"advise: {len(log):,} bodies in {seconds:.1f} s ({cpu:.1f} s of processor)")
    print(advice["python"])
    for name, said, rule in (
        ("as it is", ever["now"], Rule(PATH, ttl=1e9)),
        ("by the advised rule", ever["advised"], Rule(PATH, ttl=1e9, ignore=ignore, text=text)),
        ("… with a ttl", limited["advised"], Rule(PATH, ttl=TTL, ignore=ignore, text=text)),
    ):
        came = asyncio.run(replayed(log, rule))
        print(f"{name:<22} foretold {said:.4f}  replayed {came:.4f}  apart {abs(said - came):.4f}")


if __name__ == "__main__":
    main()
