"""LitServe with OpenAI's API: `python -m tests.integrations.openai_on_litserve FOLDER PORT`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litserve

from memoserve_integrations.litserve import middleware
from memoserve_integrations.openai import openai_rules
from tests.integrations.contract import Diary


class Reverser(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.diary = Diary(Path(sys.argv[1]))

    def predict(self, request: Any) -> Iterator[str]:
        self.diary.note("model")
        yield from request.messages[-1].content.split()[::-1]


def main(port: int) -> None:
    server = litserve.LitServer(
        Reverser(spec=litserve.OpenAISpec()),
        accelerator="cpu",
        middlewares=[middleware(rules=openai_rules())],
    )
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False)


if __name__ == "__main__":
    main(int(sys.argv[2]))
