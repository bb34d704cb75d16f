"""The app of the contract in Ray Serve: `python -m tests.integrations.in_ray_serve PORT FOLDER`.

The process is a cluster, with folders for its own. Each line of its input names the folder of a
test whose app it is to serve from now on, a prefix, and the number of replicas; an empty one ends
that app. It says
`ready`, or why not, and ends with its input.
"""

import asyncio
import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import ray
from fastapi import FastAPI
from ray import serve

from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from memoserve_integrations.ray_serve import install
from tests.integrations.contract import Diary, Host
from tests.integrations.in_fastapi import add_routes
from tests.integrations.in_starlette import living, on_lookup
from tests.integrations.processes import (
    ROOT,
    HostEndedError,
    free_port,
    read_options,
    write_options,
)

_SAYS = "memoserve says "  # Ray writes to the same output.


class RayServeHost(Host):
    name = "ray_serve"
    lacks: ClassVar[Mapping[str, str]] = {
        "closing": "Ray Serve has processes of its own",
        "inside": "Ray Serve has processes of its own",
    }

    @contextlib.asynccontextmanager
    async def serve(
        self, diary: Diary, options: Mapping[str, Any] | None, *, root_path: str = ""
    ) -> AsyncGenerator[str]:
        write_options(diary.folder, options)
        cluster = Cluster.of_this_process()
        await asyncio.to_thread(cluster.ask, str(diary.folder), root_path or "/")
        try:
            yield f"http://127.0.0.1:{cluster.port}{root_path}"
        finally:
            await asyncio.to_thread(cluster.ask)


class Cluster:
    """A Ray of our own, which takes seconds to start: one for all tests."""

    _one: "ClassVar[Cluster | None]" = None

    def __init__(self) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integrations.in_ray_serve", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_DEDUP_LOGS": "0"},
            start_new_session=True,
        )
        atexit.register(self._end)
        self._answer()

    @classmethod
    def of_this_process(cls) -> "Cluster":
        cls._one = cls._one or cls()
        return cls._one

    def ask(self, *words: str) -> None:
        """Have it serve an app, or nothing."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_SAYS):
                said = json.loads(line.removeprefix(_SAYS))
                if said != "ready":
                    raise HostEndedError(said)
                return
        raise HostEndedError("the cluster has ended")

    def _end(self) -> None:
        self._process.communicate()  # Its input ends, and it.


def main(port: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            _temp_dir=folder,
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            say("ready")
            for line in sys.stdin:
                say(obey(*json.loads(line)))
        finally:
            serve.shutdown()
            ray.shutdown()


def obey(folder: str = "", prefix: str = "", replicas: str = "1") -> str:
    if not folder:
        serve.delete("contract")
        return "ready"
    try:
        serve.run(deployed(Path(folder), int(replicas)), name="contract", route_prefix=prefix)
    except Exception:  # noqa: BLE001  (whatever it is, the test is to read it)
        return traceback.format_exc()
    return "ready"


def deployed(folder: Path, replicas: int) -> Any:
    diary, options = Diary(folder), read_options(folder)
    app = FastAPI(lifespan=lambda _: living(diary), exception_handlers={LookupError: on_lookup})
    add_routes(app, diary)
    if options is not None:
        install(app, **options)
    if replicas > 1:
        app.add_middleware(Signing)
    environment = {"MEMOSERVE_METRICS_DIR": str(folder / "metrics")} if replicas > 1 else {}
    deployment: Any = serve.deployment(
        serve.ingress(app)(),
        num_replicas=replicas,
        max_ongoing_requests=100,  # Those who wait for one answer take a place each.
        ray_actor_options={"num_cpus": 0.1, "runtime_env": {"env_vars": environment}},
        graceful_shutdown_wait_loop_s=0.1,
    )
    return deployment.bind()


class Signing:
    """Middleware outside of memoserve's, which says whose answer this is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sign_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-replica", b"%d" % os.getpid())]
            await send(message)

        await self._app(scope, receive, sign_and_send)


def say(said: str) -> None:
    print(_SAYS + json.dumps(said), flush=True)  # noqa: T201  (to the process that started this one)


if __name__ == "__main__":
    main(int(sys.argv[1]))
