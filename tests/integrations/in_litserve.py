"""The app of the contract in LitServe: `python -m tests.integrations.in_litserve FOLDER PORT`."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import litserve
from fastapi import Depends, HTTPException
from fastapi.responses import PlainTextResponse

from memoserve_integrations.litserve import middleware
from tests.integrations.contract import Diary, Host, answer, pieces
from tests.integrations.processes import free_port, read_options, running, write_options

MODULE = ("tests.integrations.in_litserve",)


class LitServeHost(Host):
    name = "litserve"
    lacks: ClassVar[Mapping[str, str]] = {
        "background": "LitServe has no background tasks",
        "closing": "LitServe has processes of its own",
        "inside": "LitServe has processes of its own",
        "lifespan": "LitServe gives its users no lifespan",
        "mounted": "LitServe serves the paths of its models only",
        "websockets": "LitServe speaks HTTP only",
    }

    @contextlib.asynccontextmanager
    async def serve(
        self, diary: Diary, options: Mapping[str, Any] | None, *, root_path: str = ""
    ) -> AsyncGenerator[str]:
        write_options(diary.folder, options)
        port = free_port()
        command = [*MODULE, str(diary.folder), str(port), root_path]
        url = f"http://127.0.0.1:{port}"
        async with running(command, diary.folder, url=url, path="/health"):
            yield url


class Model(litserve.LitAPI):
    """The model, in a process of its own."""

    def setup(self, device: str) -> None:
        self.diary = Diary(Path(sys.argv[1]))

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        if "text" not in request:
            raise HTTPException(422, "no text")
        return request

    def predict(self, question: dict[str, Any]) -> dict[str, Any]:
        found = asyncio.run(answer(self.diary, question))
        if found is None:
            raise HTTPException(404, "no such text")
        return found


def no_body() -> dict[str, Any]:
    return {}


class Stream(litserve.LitAPI):
    """The stream, piece by piece."""

    def setup(self, device: str) -> None:
        self.diary = Diary(Path(sys.argv[1]))

    # LitServe makes FastAPI's endpoint of these types.
    def decode_request(self, request: Annotated[dict[str, Any], Depends(no_body)]) -> Any:
        return request

    def predict(self, question: Any) -> Iterator[bytes]:
        with asyncio.Runner() as runner:
            parts = pieces(self.diary)
            while (part := runner.run(anext(parts, None))) is not None:
                yield part

    def encode_response(self, parts: Iterator[bytes]) -> Any:
        yield from parts


def main(folder: Path, port: int, root_path: str = "", api_servers: str = "1") -> None:
    options = read_options(folder)
    server = litserve.LitServer(
        [
            Model(api_path="/v1/model"),
            Model(api_path="/v1/models/{model}/infer"),
            Stream(api_path="/v1/stream", stream=True),
        ],
        accelerator="cpu",
        middlewares=[] if options is None else [middleware(**options)],
    )

    @server.app.get("/v1/plain", response_class=PlainTextResponse)
    def plain() -> str:
        return "plain"

    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=int(api_servers),
        generate_client_file=False,
        root_path=root_path,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
