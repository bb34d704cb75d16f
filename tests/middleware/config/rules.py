"""What a configuration names as "module:function"."""

from typing import Any

from memoserve import Rule, StoredResponse
from memoserve._asgi import Scope
from tests.asgi import Model

names = ("a", "b")
sentiment = [Rule("/v1/sentiment", model="sentiment")]


def is_deterministic(body: Any) -> bool:
    return bool(body.get("temperature") == 0)


def is_complete(answer: StoredResponse) -> bool:
    return answer.status == 200


def version(scope: Scope) -> str:
    return str(scope["path"])


def tags(body: Any, answer: StoredResponse) -> list[str]:
    return [body["tag"], str(answer.status)]


def summaries(*, ttl: float = 60.0) -> list[Rule]:
    return [Rule("/v1/summaries", ttl=ttl)]


def failing() -> list[Rule]:
    raise LookupError("no weights")


with_functions = [Rule("/v1/functions", admit=is_complete, ends_with=b"[DONE]")]
app = Model()


def make_app() -> Model:
    return Model()
