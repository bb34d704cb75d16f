"""What every host must do, and what a test needs to see that it does.

A *host* is a framework or a server into which memoserve is mounted. `test_contract.py` runs the
same tests against each of them, the real one in its installed version, over HTTP. To add one:

1. Write `tests/integrations/in_<name>.py` with one subclass of `Host`. Its `app` builds the app
   described below with the host's own means, and mounts memoserve with the options that it is given
   (none at all where they are None: some tests compare). A host that has processes of its own
   overrides `serve` instead, and lacks the claims "closing" and "inside", which look into the app.
2. Say aloud what it cannot do: `lacks = {"websockets": "Django speaks HTTP only"}`. The names are
   the arguments of `@claim` in `test_contract.py`; what is lacked is not tested, and a test sees to
   it that the documentation says it in the same words.
3. Add it to `HOSTS` in `test_contract.py`.

The app of the contract, in which `answer` is the function of this module:

    POST /v1/model                  `answer(diary, body)` as JSON. Where it returns None, the host's
                                    own 404. A handler of exceptions makes 410 of a LookupError.
    POST /v1/models/{model}/infer   the same
    POST /v1/stream                 "one", then `await diary.passing("more")`, then "two", each as a
                                    chunk of its own; notes "stream"
    POST /v1/behind                 "sent first", and a background task: it awaits
                                    `diary.passing("behind")` and notes "behind"
    POST /sub/model                 in a mounted app: `answer` and the `root_path` that it sees
    GET  /v1/plain                  a text; no rule covers it
    websocket /ws                   sends back each text
    lifespan                        notes "startup" and "shutdown"

What a handler does it notes in a `Diary`, a folder: it may run in another process.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from memoserve._asgi import ASGIApp
from tests.servers import serving

__all__ = ["Diary", "Host", "answer", "behind", "pieces"]

_PATIENCE = 30.0  # Seconds until a test that waits in vain fails.
_STEP = 0.005


class Diary:
    """What handlers did, and gates that hold them back until the test lets them pass."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, event: str) -> None:
        """Add an event."""
        with (self.folder / "events").open("a") as file:
            file.write(event + "\n")

    def events(self) -> list[str]:
        """Return all events so far, in order."""
        file = self.folder / "events"
        return file.read_text().splitlines() if file.exists() else []

    def count(self, event: str) -> int:
        """Return how often something happened."""
        return self.events().count(event)

    def open(self, gate: str) -> None:
        """Let everybody pass a gate, from now on."""
        (self.folder / gate).touch()

    async def passing(self, gate: str) -> None:
        """Wait until a gate is open."""
        await self._until((self.folder / gate).exists, f"nobody opened {gate!r}")

    async def until(self, event: str, count: int = 1) -> None:
        """Wait until something has happened so many times."""
        await self._until(lambda: self.count(event) >= count, f"{event!r} did not happen")

    async def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        # A file has no event to wait for, and the handler may be in another process.
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(otherwise)
            await asyncio.sleep(_STEP)


async def answer(diary: Diary, question: Mapping[str, Any]) -> dict[str, Any] | None:
    """Answer as the model of the contract; None: the host is to say 404 in its own way."""
    diary.note("model")
    match question.get("text"):
        case "missing":
            return None
        case "gone":
            raise LookupError("gone")
        case "failing":
            raise RuntimeError("failing")
        case "held":
            await diary.passing("held")
    return {"answer": str(question.get("text")).upper(), "call": diary.count("model")}


async def pieces(diary: Diary) -> AsyncIterator[bytes]:
    """Make the stream of the contract."""
    diary.note("stream")
    yield b"one"
    await diary.passing("more")
    yield b"two"


async def behind(diary: Diary) -> None:
    """Work when the answer has been sent."""
    await diary.passing("behind")
    diary.note("behind")


class Host:
    """One framework or server with memoserve in it."""

    name: ClassVar[str]
    schema_path: ClassVar[str] = "/openapi.json"
    lacks: ClassVar[Mapping[str, str]] = {}  # Claim to reason.

    def app(self, diary: Diary, options: Mapping[str, Any] | None) -> ASGIApp:
        """Build the app of the contract.

        Args:
            diary: Where handlers note what they do.
            options: As for `install`: `rules`, `store`, `metrics_path` …; None for no memoserve.
        """
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def serve(
        self, diary: Diary, options: Mapping[str, Any] | None, *, root_path: str = ""
    ) -> AsyncGenerator[str]:
        """Serve the app; yields its URL. When the block ends, so has the server."""
        # A bare app need not have a lifespan, one with memoserve must.
        lifespan = "auto" if options is None else "on"
        app = self.app(diary, options)
        async with serving(app, ws="auto", lifespan=lifespan, root_path=root_path) as port:
            yield f"http://127.0.0.1:{port}"
