"""vLLM's own way of loading middleware, under uvicorn, set up by the environment alone."""

import contextlib
import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

import memoserve
from memoserve import ConfigError, Rule
from memoserve.config import load
from memoserve_integrations import vllm
from tests.documents import ROOT

UVICORN = [sys.executable, "-m", "uvicorn", "--factory"]
VLLM = "tests.integrations.vllm_server:create_app"
FOR_VLLM = "memoserve_integrations.vllm.Memoserve"
FIRST, SECOND = "first-key", "second-key"
QUESTION: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@dataclass
class Server:
    url: str

    def ask(self, path: str, body: Any, key: str = FIRST) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.post(self.url + path, json=body, headers=headers, timeout=60)

    def chat(self, key: str = FIRST, **more: Any) -> httpx.Response:
        return self.ask("/v1/chat/completions", QUESTION | {"temperature": 0} | more, key)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, timeout=60)

    @property
    def asked(self) -> list[str]:
        """What the app was asked, and that it has heard of its start."""
        events: list[str] = self.get("/health").json()
        return events

    def client(self, key: str = FIRST) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)


def environment(middleware: str, variables: dict[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MEMOSERVE_")}
    return {**kept, "MIDDLEWARE": middleware, **variables}


@contextlib.contextmanager
def serving(middleware: str, factory: str = VLLM, **variables: str) -> Generator[Server]:
    """Serve the app by a uvicorn of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [*UVICORN, factory, "--fd", str(listener.fileno()), "--log-level", "warning"],
            cwd=ROOT,
            env=environment(middleware, variables),
            pass_fds=[listener.fileno()],
        )
        try:
            yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    """Serve it with the rules for vLLM, and API keys."""
    with serving(FOR_VLLM, KEYS=f"{FIRST},{SECOND}") as started:
        yield started


def test_openais_client_gets_the_same_answer_and_the_model_is_asked_once(server: Server) -> None:
    with server.client() as client:
        create = client.chat.completions.with_raw_response.create
        first, second = (create(**QUESTION, temperature=0, user=user) for user in ("a", "b"))

    assert first.headers["cache-status"] == "memoserve; fwd=miss"
    assert second.headers["cache-status"].startswith("memoserve; hit")
    assert first.parse() == second.parse()
    assert first.parse().choices[0].message.content == "HELLO"


def test_a_stream_is_replayed(server: Server) -> None:
    before = server.asked.count("chat")

    with server.client() as client:
        streams = [
            list(client.chat.completions.create(**QUESTION, temperature=0, seed=1, stream=True))
            for _ in range(2)
        ]

    assert streams[0] == streams[1]
    assert [chunk.choices[0].delta.content for chunk in streams[0]] == ["HELLO", None]
    assert server.asked.count("chat") == before + 1


def test_a_hit_is_for_who_has_the_key_that_vllm_has_let_in(server: Server) -> None:
    """The check of keys is inside of the cache (bug 20)."""
    body: dict[str, Any] = {"seed": 20}
    assert server.chat(**body).status_code == 200

    statuses = {
        key: (answer.status_code, answer.headers["cache-status"].partition("; ttl")[0])
        for key in (FIRST, SECOND, "wrong", "")
        for answer in [server.chat(key, **body)]
    }

    assert statuses == {
        FIRST: (200, "memoserve; hit"),
        SECOND: (200, "memoserve; fwd=miss"),
        "wrong": (401, "memoserve; fwd=miss"),
        "": (401, "memoserve; fwd=miss"),
    }
    assert server.chat("wrong", **body).status_code == 401


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"temperature": 0.7}, id="sampled"),
        pytest.param({"kv_transfer_params": {"do_remote_decode": True}}, id="split"),
    ],
)
def test_what_may_be_another_answer_or_moves_memory_passes_by(
    server: Server, more: dict[str, Any]
) -> None:
    """It is no question, or has an effect elsewhere (bug 54)."""
    answers = [server.chat(**more) for _ in range(2)]

    said = {answer.headers["cache-status"] for answer in answers}
    assert said == {"memoserve; fwd=bypass; detail=when"}


def test_scores_are_cached_too_but_not_of_what_is_only_named(server: Server) -> None:
    texts = {"model": "m", "text_1": "a", "text_2": "b"}
    picture = texts | {"text_1": {"content": [{"image_url": {"url": "https://host/a.png"}}]}}

    first, second = server.ask("/score", texts), server.ask("/score", texts | {"priority": 1})
    named = server.ask("/score", picture)

    assert first.headers["cache-status"] == "memoserve; fwd=miss"
    assert second.headers["cache-status"].startswith("memoserve; hit")
    assert named.headers["cache-status"] == "memoserve; fwd=bypass; detail=when"


def test_the_rest_of_the_app_goes_on(server: Server) -> None:
    health = server.get("/health", origin="http://elsewhere")

    assert health.json()[0] == "startup"
    assert health.headers["access-control-allow-origin"] == "*"
    assert "cache-status" not in health.headers


def test_metrics_are_there_for_this_machine_alone(server: Server) -> None:
    server.chat()

    page = server.get("/memoserve/metrics")
    through_a_proxy = server.get("/memoserve/metrics", **{"x-forwarded-for": "127.0.0.1"})

    assert page.status_code == 200
    assert 'memoserve_request_duration_seconds_count{cache_status="' in page.text
    assert through_a_proxy.status_code == 403


def test_the_class_of_the_package_itself_needs_nothing_but_variables() -> None:
    rules = '[{"path": "/v1/chat/completions", "ttl": 60, "ignore": ["/user"]}]'
    token = "of-the-scraper"  # noqa: S105  (of nothing)

    with serving("memoserve.Memoserve", MEMOSERVE_RULES=rules, MEMOSERVE_METRICS_TOKEN=token) as up:
        first, second = up.chat("", user="a"), up.chat("", user="b")
        without = up.get("/memoserve/metrics")
        with_token = up.get("/memoserve/metrics", authorization=f"Bearer {token}")

    assert first.headers["cache-status"] == "memoserve; fwd=miss"
    assert second.headers["cache-status"].startswith("memoserve; hit")
    assert (without.status_code, with_token.status_code) == (401, 200)


def test_a_server_may_mount_it_around_an_app_that_is_named() -> None:
    with serving(
        "tests.integrations.vllm_server.pass_on",
        "memoserve.config:create_app",
        MEMOSERVE_APP=f"{VLLM}()",
        MEMOSERVE_INCLUDE="memoserve_integrations.openai:openai_rules",
    ) as up:
        said = [up.chat().headers["cache-status"] for _ in range(2)]
        events = up.asked

    assert said[0] == "memoserve; fwd=miss"
    assert said[1].startswith("memoserve; hit")
    assert events == ["startup", "chat"]


def test_a_wrong_configuration_ends_the_start() -> None:
    done = subprocess.run(
        [*UVICORN, VLLM],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=environment(FOR_VLLM, {"MEMOSERVE_LEASE": "soon", "MEMOSERVE_STOER": "x"}),
    )

    assert done.returncode != 0
    assert 'MEMOSERVE_LEASE: lease must be seconds above 0, not "soon"' in done.stderr
    assert "did you mean 'MEMOSERVE_STORE'?" in done.stderr


@pytest.mark.parametrize("kind", [memoserve.Memoserve, vllm.Memoserve])
def test_it_is_a_class_that_is_made_with_the_app_alone(kind: type) -> None:
    required = [
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is inspect.Parameter.empty
    ]

    assert inspect.isclass(kind)
    assert required == ["app"]


def test_who_asks_for_the_class_is_told_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMOSERVE_LEASE", "soon")

    with pytest.raises(ConfigError, match="lease must be seconds above 0"):
        _ = vllm.Memoserve


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Memoserv'"):
        _ = vllm.Memoserv


def test_rules_take_the_options_of_openais() -> None:
    rules = vllm.vllm_rules(ttl=5, private="share", ignore=["/request_id"], prefix="/api/v1")

    assert {(rule.ttl, rule.private) for rule in rules} == {(5, "share")}
    assert all({"/priority", "/request_id", "/user"} <= set(rule.ignore) for rule in rules[:3])
    assert [rule.path for rule in rules[:5]] == [
        "/api/v1/embeddings", "/api/v1/chat/completions", "/api/v1/completions",
        "/api/v1/responses", "/pooling",
    ]  # fmt: skip


def test_they_can_be_included_with_options() -> None:
    include = '[{"rules": "memoserve_integrations.vllm:vllm_rules", "options": {"ttl": 9}}]'

    rules = load("/dev/null", environ={"MEMOSERVE_INCLUDE": include}).rules

    assert {rule.ttl for rule in rules} == {9}


@pytest.mark.parametrize("body", [[], "text", {"kv_transfer_params": {}}, {"temperature": 1}])
def test_what_is_no_question_for_a_cache_is_refused(body: Any) -> None:
    chat: Rule = vllm.vllm_rules()[1]

    assert chat.when is not None
    assert not chat.when(body)
