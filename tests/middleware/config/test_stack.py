"""The stack that a configuration makes, around a real exchange."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memoserve import ConfigError, Memoserve, Rule
from memoserve._config_secrets import masked
from memoserve.config import create_app
from tests.asgi import Call, Model, ask

PATH = "/v1/model"
METRICS = "/memoserve/metrics"
SECRET = "hunt/er2"  # noqa: S105  (of nothing)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory of its own, with one rule."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memoserve.toml").write_text(f'[[rules]]\npath = "{PATH}"\n')
    return tmp_path


def add(text: str) -> None:
    with Path("memoserve.toml").open("a") as file:
        file.write(text)


def problem(app: Any = None) -> str:
    with pytest.raises(ConfigError) as caught:
        Memoserve(app or Model())
    return str(caught.value)


async def scrape(app: Memoserve, *, path: str = METRICS, **scope: Any) -> Call:
    return await ask(app, b"", path=path, **{"method": "GET", "headers": [], **scope})


async def test_it_caches_and_measures_without_a_lifespan() -> None:
    model = Model()
    app = Memoserve(model)

    first, second = await ask(app, path=PATH), await ask(app, path=PATH)

    assert (model.calls, first.cache_status) == (1, "memoserve; fwd=miss")
    assert second.cache_status.startswith("memoserve; hit")
    page = (await scrape(app)).content.decode()
    assert 'memoserve_request_duration_seconds_count{cache_status="hit"' in page
    await app.aclose()


async def test_what_no_rule_covers_and_other_protocols_pass() -> None:
    model = Model()
    app = Memoserve(model)
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    assert (await ask(app, path="/other")).cache_status == ""
    await Memoserve(inner)({"type": "websocket", "path": METRICS}, _never, _never)
    assert (model.calls, seen) == (1, ["websocket"])


async def test_a_lifespan_reaches_the_app_and_closes_the_store() -> None:
    messages: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for word in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{word}"
            await send({"type": f"lifespan.{word}.complete"})

    says = iter(["startup", "shutdown"])

    async def receive() -> Any:
        return {"type": f"lifespan.{next(says)}"}

    async def send(message: Any) -> None:
        messages.append(message["type"])

    await Memoserve(app)({"type": "lifespan"}, receive, send)

    assert messages == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_layers_are_in_the_order_that_lets_a_hit_skip_the_queue() -> None:
    add(
        "[admission]\nlimit = 1\nqueue = 0\ndeadline = 1\n[variants]\nshares = { v1 = 1, v2 = 0 }\n"
    )
    seen: list[tuple[str, str]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        record = scope["memoserve"]
        seen.append((record.variant, record.model))
        await Model()(scope, receive, send)

    app = Memoserve(inner)
    asked_for = [(b"content-type", b"application/json"), (b"x-model-variant", b"v2")]

    first = await ask(app, path=PATH)
    second = await ask(app, path=PATH, headers=asked_for)
    third = await ask(app, path=PATH, headers=asked_for)

    assert seen == [("v1", PATH), ("v2", PATH)]
    assert (first.header(b"x-model-variant"), second.header(b"x-model-variant")) == (b"v1", b"v2")
    assert "hit" in third.cache_status


async def test_variants_may_be_nameless() -> None:
    add('[variants]\nshares = { v1 = 1 }\nheader = "none"\n')

    assert (await ask(Memoserve(Model()), path=PATH)).header(b"x-model-variant") is None


async def test_rules_may_come_from_the_code() -> None:
    app = Memoserve(Model(), config="/dev/null", rules=[Rule("/coded")])

    assert (await ask(app, path="/coded")).cache_status == "memoserve; fwd=miss"


# An app that is named.


@pytest.mark.parametrize("name", ["app", "make_app()"])
async def test_an_app_may_be_named_by_a_variable(name: str) -> None:
    app = create_app({"MEMOSERVE_APP": f"tests.middleware.config.rules:{name}"})

    statuses = [(await ask(app, path=PATH)).cache_status for _ in range(2)]

    assert statuses[0] == "memoserve; fwd=miss"
    assert statuses[1].startswith("memoserve; hit")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("", 'app must be "module:app" or "module:function()", not \'\'', id="unset"),
        pytest.param("service", "app must be", id="no-name"),
        pytest.param("nowhere_at_all:app", "cannot be imported", id="no-module"),
        pytest.param("tests.middleware.config.rules:names", "must be a function", id="no-app"),
        pytest.param("tests.middleware.config.rules:failing()", "LookupError", id="raises"),
    ],
)
def test_an_app_that_is_none_is_a_problem(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_app({"MEMOSERVE_APP": name})

    assert str(caught.value).startswith("MEMOSERVE_APP: app")
    assert message in str(caught.value)


# Who may read the metrics.


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        pytest.param("127.0.0.1", [], 200, id="this-machine"),
        pytest.param("127.8.8.8", [], 200, id="loopback"),
        pytest.param("::1", [], 200, id="ipv6"),
        pytest.param("::ffff:127.0.0.1", [], 200, id="mapped"),
        pytest.param("10.0.0.1", [], 403, id="another"),
        pytest.param("127.0.0.1", [(b"X-Forwarded-For", b"127.0.0.1")], 403, id="through-a-proxy"),
        pytest.param("127.0.0.1", [(b"via", b"1.1 proxy")], 403, id="through-another"),
    ],
)
async def test_metrics_are_for_this_machine(client: str, headers: list[Any], status: int) -> None:
    call = await scrape(Memoserve(Model()), client=(client, 1), headers=headers)

    assert call.status == status


async def test_who_has_no_address_gets_no_metrics() -> None:
    assert (await scrape(Memoserve(Model()), client=None)).status == 403


@pytest.mark.parametrize(
    ("config", "client", "header", "status"),
    [
        pytest.param('token = "t"', "10.0.0.1", b"Bearer t", 200, id="token"),
        pytest.param('token = "t"', "127.0.0.1", b"", 401, id="a-token-shuts-this-machine-out"),
        pytest.param('allow = ["10.0.0.0/8"]', "10.0.0.1", b"", 200, id="network"),
        pytest.param('allow = ["10.0.0.0/8"]', "127.0.0.1", b"", 403, id="another-network"),
        pytest.param('token = "t"\nallow = ["::1"]', "::1", b"", 200, id="both"),
    ],
)
async def test_a_token_or_a_network_may_be_given_instead(
    config: str, client: str, header: bytes, status: int
) -> None:
    add(f"[metrics]\n{config}\n")

    call = await scrape(
        Memoserve(Model()), client=(client, 1), headers=[(b"authorization", header)]
    )

    assert call.status == status


async def test_a_token_works_through_a_proxy() -> None:
    add('[metrics]\ntoken = "t"\n')
    headers = [(b"authorization", b"Bearer t"), (b"x-forwarded-for", b"10.0.0.1")]

    assert (await scrape(Memoserve(Model()), headers=headers)).status == 200


@pytest.mark.parametrize(
    ("config", "path", "status"),
    [
        pytest.param('path = "/numbers"', "/numbers", 200, id="elsewhere"),
        pytest.param('path = "/numbers"', METRICS, 418, id="not-where-they-were"),
        pytest.param('path = "none"', METRICS, 418, id="nowhere"),
        pytest.param("enabled = false", METRICS, 418, id="off"),
        pytest.param("", f"/other{METRICS}", 418, id="only-there"),
    ],
)
async def test_metrics_have_a_path_or_none(config: str, path: str, status: int) -> None:
    add(f"[metrics]\n{config}\n")

    assert (await scrape(Memoserve(Model(status=418)), path=path)).status == status


async def test_the_path_is_matched_after_the_root_path() -> None:
    call = await scrape(Memoserve(Model()), path=f"/root{METRICS}", root_path="/root")

    assert call.status == 200


async def test_without_metrics_nothing_is_recorded() -> None:
    add("[metrics]\nenabled = false\n")
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["memoserve"].observers)
        await Model()(scope, receive, send)

    await ask(Memoserve(inner), path=PATH)

    assert seen == [()]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param(
            "[metrics]\nallow = []",
            "memoserve.toml:4: allow must name somebody, since there is no token",
            id="nobody",
        ),
        pytest.param(
            '[metrics]\nallow = ["::1", "10.0.0.1/8"]',
            "memoserve.toml:4: allow must be networks or addresses; 10.0.0.1/8 has host bits set",
            id="no-network",
        ),
        pytest.param(
            '[variants]\nsticky = "a b"\nshares = { v1 = 1 }',
            "memoserve.toml:4: sticky must be 'credential' or a header field, not 'a b'",
            id="variants",
        ),
        pytest.param(
            '[variants]\nshares = { "v 1" = 1 }',
            "memoserve.toml:3: a variant's name is 1 to 64 of A-Za-z0-9._-, not 'v 1'",
            id="variant",
        ),
        pytest.param(
            "[admission]\nlimit = 1\nqueue = 1\ndeadline = inf",
            "memoserve.toml:6: deadline must be a positive number of seconds, not inf",
            id="admission",
        ),
    ],
)
def test_what_a_layer_refuses_has_its_place(config: str, message: str) -> None:
    add(config)

    assert problem() == message


# Stores, and their passwords.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("redis://host:6379/0", "redis://host:6379/0", id="nothing"),
        pytest.param("redis://u:p@host/0", "redis://***@host/0", id="user-and-password"),
        pytest.param("redis://:p@ss@host", "redis://***@host", id="an-at-sign"),
        pytest.param(
            "redis+sentinel://h/s?sentinel_password=p&db=1",
            "redis+sentinel://h/s?sentinel_password=***&db=1",
            id="option",
        ),
        pytest.param("memory://", "memory://", id="memory"),
    ],
)
def test_a_store_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@host:6379/0",
        f"redis+sentinel://host:1/?password={SECRET}",
        f"redis://host:6379/0?wrong={SECRET}&token={SECRET}",
        f"memory://user:{SECRET}@host",
        f"memory://{SECRET}@host",
    ],
)
def test_no_message_about_a_store_repeats_a_password(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MEMOSERVE_STORE", url)

    """Not even the traceback's cause (bug 18)."""
    with pytest.raises(ConfigError) as caught:
        Memoserve(Model())

    said = f"{caught.value}{caplog.text}"
    assert said.startswith("MEMOSERVE_STORE: ")
    assert not any(piece in said for piece in ("hunt", "er2"))
    assert caught.value.__suppress_context__


def test_a_store_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMOSERVE_STORE", "mongodb://localhost")

    assert problem().startswith("MEMOSERVE_STORE: store must be a URL with one of memory://")


def test_partitions_in_a_shared_store_need_a_secret() -> None:
    add('private = "partition"\n')
    Path("memoserve.toml").write_text(
        f'store = "redis://127.0.0.1:1/0"\n{Path("memoserve.toml").read_text()}'
    )

    assert problem() == (
        "memoserve.toml:1: private='partition' in a store that is shared needs a secret"
    )


# How it is found out.


def test_a_wrong_configuration_is_logged_since_servers_may_swallow_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    add("tll = 1\n")

    with caplog.at_level(logging.CRITICAL), pytest.raises(ConfigError):
        Memoserve(Model())

    (record,) = caplog.records
    assert "rules[0].tll is no setting of a rule" in record.getMessage()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_without_the_extra_the_page_says_what_to_install(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("scrape", "_exposition"):
        monkeypatch.delitem(sys.modules, f"memoserve.telemetry.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    app = Memoserve(Model())
    call = await scrape(app, method=method)

    assert call.status == 501
    assert (b"pip install 'memoserve[prometheus]'" in call.content) == (method == "GET")
    assert "there is nothing at /memoserve/metrics" in caplog.text
    assert (await ask(app, path=PATH)).cache_status == "memoserve; fwd=miss"


def test_an_extra_that_the_store_needs_is_named() -> None:
    code = (
        "import sys; sys.modules['redis'] = None; from memoserve import ConfigError, Memoserve\n"
        "try: Memoserve(print)\n"
        "except ConfigError as error: print(error)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MEMOSERVE_STORE": "redis://localhost"},
    )

    expected = "MEMOSERVE_STORE: redis:// needs redis-py: pip install memoserve[redis]"
    assert done.stdout.strip() == expected


def test_an_extra_that_the_port_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    add("[metrics]\nport = 0\n")
    for module in ("scrape", "_exposition", "_server"):
        monkeypatch.delitem(sys.modules, f"memoserve.telemetry.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    assert "pip install 'memoserve[prometheus]'" in problem()


def test_importing_the_class_brings_no_client_and_no_sdk() -> None:
    code = (
        "import sys; from memoserve import Memoserve\n"
        "print([m for m in ('redis', 'starlette', 'opentelemetry.sdk') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"


async def _never(*_: Any) -> Any:
    raise AssertionError
