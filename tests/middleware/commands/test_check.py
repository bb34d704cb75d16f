"""`memoserve check` and `memoserve schema`."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memoserve._config_file import json_schema
from memoserve._config_load import load
from memoserve._curl import sent_to
from memoserve._keyed import CacheSettings, keyed
from tests.middleware.commands.running import Runner

RULES = "tests.middleware.config.rules"
CONFIG = f"""
store = "redis://user:hunter2@localhost:1/0"
secret = "0123456789abcdef"
[metrics]
path = "/numbers"
[[rules]]
path = "/v1/models/{{model}}/infer"
models = ["bert"]
private = "partition"
[[rules]]
path = "/v1/chat"
when = "{RULES}:is_deterministic"
ttl = "none"
ends_with = "x"
"""

Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a `memoserve.toml` into a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MEMOSERVE_")]:
        monkeypatch.delenv(name)

    def written(text: str) -> None:
        (tmp_path / "memoserve.toml").write_text(text)

    return written


@pytest.fixture
def asked(write: Write, memoserve: Runner) -> Callable[..., dict[str, Any]]:
    """Ask what becomes of a request under `CONFIG`, or another configuration."""

    def asked_for(*arguments: str, config: str = CONFIG) -> dict[str, Any]:
        write(config)
        ran = memoserve("check", "--json", *arguments)
        assert ran.code == 0, ran
        document: dict[str, Any] = json.loads(ran.out)
        return {"warnings": document["warnings"], **document["request"]}

    return asked_for


def test_every_value_is_shown_with_who_has_said_it(
    write: Write, memoserve: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(CONFIG)
    monkeypatch.setenv("MEMOSERVE_LEASE", "3")

    ran = memoserve("check")

    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert "valid; rules: 2" in lines
    assert 'store "redis://***@localhost:1/0" memoserve.toml:2' in lines
    assert 'secret "***" memoserve.toml:3' in lines
    assert "lease 3.0 MEMOSERVE_LEASE" in lines
    assert "cache_status true default" in lines
    assert 'metrics.path "/numbers" memoserve.toml:5' in lines
    assert "rules[1] memoserve.toml:10" in lines
    assert f'when "{RULES}:is_deterministic" memoserve.toml:12' in lines
    assert 'ttl "none" memoserve.toml:13' in lines
    assert 'methods ["POST"] default' not in lines
    assert not any(line.startswith("admission") for line in lines)
    assert "hunter2" not in ran.out
    assert "0123456789abcdef" not in ran.out


def test_defaults_of_rules_are_shown_on_demand(write: Write, memoserve: Runner) -> None:
    write(CONFIG)

    ran = memoserve("check", "--all", "--request", "/v1/chat", "--body", '{"temperature": 0}')

    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines.count('methods ["POST"] default') == 2
    assert "rule rules[1] /v1/chat memoserve.toml:10" in lines


def test_programs_get_all_of_it(write: Write, memoserve: Runner) -> None:
    write(f'include = ["{RULES}:with_functions"]\n[admission]\nlimit=1\nqueue=1\ndeadline=1\n')

    document = json.loads(memoserve("check", "--json").out)

    settings = {each["key"]: (each["value"], each["source"]) for each in document["settings"]}
    (rule,) = document["rules"]
    of_rule = {each["key"]: (each["value"], each["source"]) for each in rule["settings"]}
    assert document["valid"] is True
    assert settings["admission.limit"] == (1, "memoserve.toml:3")
    assert settings["include"] == ([f"{RULES}:with_functions"], "memoserve.toml:1")
    assert (rule["name"], rule["source"]) == ("rules[0]", "memoserve.toml:1")
    assert of_rule["path"] == ("/v1/functions", "memoserve.toml:1")
    assert of_rule["admit"] == (f"{RULES}:is_complete", "memoserve.toml:1")
    assert of_rule["defaults"] == ({}, "default")
    assert of_rule["ends_with"] == ("[DONE]", "memoserve.toml:1")
    assert "request" not in document


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["people", "programs"])
def test_what_is_wrong_is_said_and_the_exit_code_tells(
    write: Write, memoserve: Runner, options: tuple[str, ...]
) -> None:
    write(f"{CONFIG}tll = 1\n[metrics2]\n")

    ran = memoserve("check", *options)

    problems = [
        "memoserve.toml:15: rules[1].tll is no setting of a rule; did you mean 'ttl'?",
        "memoserve.toml:16: 'metrics2' is no setting; did you mean 'metrics'?",
    ]
    assert ran.code == 1
    if options:
        assert json.loads(ran.out) == {"valid": False, "problems": problems}
    else:
        assert (ran.out, ran.err.splitlines()) == ("", problems)


def test_what_only_the_layers_refuse_is_found_too(write: Write, memoserve: Runner) -> None:
    write(f'store = "mongodb://x"\n{CONFIG.replace("store", "#")}')

    ran = memoserve("check")

    assert ran.code == 1
    assert ran.err.startswith("memoserve.toml:1: store must be a URL with one of memory://")


def test_another_file_may_be_checked(write: Write, memoserve: Runner, tmp_path: Path) -> None:
    write("")
    (tmp_path / "other.toml").write_text(CONFIG)

    assert memoserve("check", "--config", "other.toml").code == 0
    assert memoserve("check", "--config", "nowhere.toml").code == 1


def test_functions_are_found_in_the_working_directory(
    write: Write, memoserve: Runner, tmp_path: Path
) -> None:
    (tmp_path / "of_the_service.py").write_text("def final(body): return True\n")
    write('[[rules]]\npath = "/a"\nwhen = "of_the_service:final"\n')
    before = sys.path.copy()

    assert memoserve("check").code == 0
    assert sys.path == before
    del sys.modules["of_the_service"]


# What becomes of a request.


def test_a_request_is_told_its_rule_and_key(asked: Callable[..., dict[str, Any]]) -> None:
    found = asked("--request", "POST /v1/models/bert/infer?a=1", "--body", '{"b": 1, "a": 2}')

    assert found | {"key": ""} == {
        "rule": "rules[0]",
        "path": "/v1/models/{model}/infer",
        "source": "memoserve.toml:6",
        "model": "bert",
        "variant": "",
        "bypass": "",
        "key": "",
        "is_stable": True,
        "refusal": "",
        "is_shadow": False,
        "is_metrics": False,
        "warnings": [],
    }
    assert found["key"].startswith("memoserve:")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ("--request", "/v1/chat", "--body", '{"temperature": 1}'),
            {"rule": "rules[1]", "bypass": "when", "key": ""},
            id="when",
        ),
        pytest.param(
            ("--request", "POST /v1/chat", "--body", '{"temperature": 0}', "-H", "X-Token: a"),
            {"bypass": "credentials"},
            id="credentials",
        ),
        pytest.param(
            ("--request", "POST /v1/models/x/infer", "--body", '{"a":1,"a":2}'),
            {"bypass": "", "model": "other"},
            id="by-its-bytes",
        ),
        pytest.param(("--request", "GET /v1/chat"), {"rule": "", "key": ""}, id="another-method"),
        pytest.param(("--request", "GET /numbers"), {"is_metrics": True}, id="metrics"),
        pytest.param(
            ("--curl", "curl localhost/v1/models/bert/infer --json '{}'"),
            {"rule": "rules[0]", "model": "bert"},
            id="curl",
        ),
    ],
)
def test_a_request_is_told_what_becomes_of_it(
    asked: Callable[..., dict[str, Any]], arguments: tuple[str, ...], expected: dict[str, Any]
) -> None:
    assert asked(*arguments).items() >= expected.items()


def test_a_function_that_raises_is_told_without_a_traceback(
    asked: Callable[..., dict[str, Any]],
) -> None:
    found = asked("--request", "POST /v1/chat", "--body", "[]")

    (warning,) = found["warnings"]
    assert found["bypass"] == "rule-error"
    assert warning.startswith("a callable of the rule '/v1/chat'")
    assert warning.endswith("AttributeError: 'list' object has no attribute 'get'")


@pytest.mark.parametrize(
    ("rule", "is_told"),
    [
        pytest.param("statuses = [201]", True, id="without-200"),
        pytest.param("statuses = [200, 201]", False, id="with-200"),
        pytest.param("statuses = [201]\nttl = 'none'", False, id="what-the-response-grants"),
        pytest.param("", False, id="default"),
    ],
)
def test_a_ttl_that_hardly_stores_anything_is_told(
    write: Write, memoserve: Runner, rule: str, *, is_told: bool
) -> None:
    write(f'[[rules]]\npath = "/a"\n{rule}\n')

    ran = memoserve("check")
    document = json.loads(memoserve("check", "--json").out)

    said = "memoserve.toml:1: rules[0].statuses has no 200: others are only stored where"
    assert ran.code == 0
    assert (f"warning: {said}" in ran.out) is is_told
    assert [line.startswith(said) for line in document["warnings"]] == [True] * is_told


def test_the_variant_is_told_and_is_part_of_the_key(asked: Callable[..., dict[str, Any]]) -> None:
    config = f"{CONFIG}[variants]\nshares = {{ v1 = 1, v2 = 0 }}\n"
    request = ("--request", "POST /v1/models/bert/infer", "--body", "{}")

    first = asked(*request, config=config)
    second = asked(*request, "-H", "X-Model-Variant: v2", config=config)
    passing = asked("--request", "POST /other", config=config)

    assert (first["variant"], second["variant"], passing["variant"]) == ("v1", "v2", "v1")
    assert first["key"] != second["key"]


def test_a_key_that_is_another_in_each_process_is_told(
    asked: Callable[..., dict[str, Any]],
) -> None:
    request = ("--request", "POST /v1/models/bert/infer", "-H", "Authorization: me")
    without = "[[rules]]" + CONFIG.partition("[[rules]]")[2]

    assert asked(*request)["is_stable"] is True
    assert asked(*request, config=without)["is_stable"] is False


def test_a_shadow_is_told(write: Write, memoserve: Runner) -> None:
    write(f'mode = "shadow"\n{CONFIG}')

    ran = memoserve("check", "--request", "/v1/models/bert/infer", "--body", "{}")

    assert "stored if the answer may be; but the app answers: mode is shadow" in ran.out
    assert "key                           memoserve:" in ran.out


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param(
            ("--request", "/v1/models/bert/infer", "--body", "{}"),
            [
                "rule rules[0] /v1/models/{model}/infer memoserve.toml:3",
                "model bert",
                "variant v1",
                "cache looked up, and stored if the answer may be",
                "body by its canonical form",
                "key memoserve:",
            ],
            id="key",
        ),
        pytest.param(
            ("--request", "/v1/models/bert/infer", "--body", "{}", "-H", "Cookie: a"),
            ["key memoserve:", "(another in each process: set a secret)"],
            id="unstable",
        ),
        pytest.param(
            ("--request", "/v1/models/bert/infer", "--body", '{"a":1,"a":2}'),
            ["body by its bytes: "],
            id="bytes",
        ),
        pytest.param(
            ("--request", "/v1/chat", "--body", "[]"),
            ["cache goes past it: rule-error", "warning: a callable of the rule '/v1/chat'"],
            id="bypass",
        ),
        pytest.param(("--request", "/x"), ["rule none: it passes untouched"], id="no-rule"),
        pytest.param(
            ("--request", "GET /memoserve/metrics"),
            ["rule none: these are the metrics, and no rule is asked"],
            id="metrics",
        ),
    ],
)
def test_people_are_told_in_words(
    write: Write, memoserve: Runner, arguments: tuple[str, ...], lines: list[str]
) -> None:
    rules = "[[rules]]" + CONFIG.partition("[[rules]]")[2]
    write(f"[variants]\nshares = {{ v1 = 1 }}\n{rules}")

    ran = memoserve("check", *arguments)

    assert ran.code == 0
    said = " ".join(ran.out.split())
    assert [line for line in lines if line not in said] == []


def test_the_key_is_that_of_the_other_command(
    asked: Callable[..., dict[str, Any]],
) -> None:
    found = asked("--request", "/v1/models/bert/infer", "--body", '{"b":1}')
    rules = load(environ={}).rules
    headers = [("content-type", "application/json"), ("accept", "*/*")]
    sent = sent_to("http://localhost:8000/v1/models/bert/infer", method="POST", headers=headers,
                   body=b'{"b": 1}')  # fmt: skip

    other = asyncio.run(keyed(sent, CacheSettings(rules=rules, secret=b"0123456789abcdef")))

    assert found["key"] == other.index


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("--request", "POST"), "--request is like 'POST /v1/model'", id="no-path"),
        pytest.param(("--body", "{}"), "--header and --body need --request", id="body-alone"),
        pytest.param(("-H", "a: b"), "--header and --body need --request", id="header-alone"),
        pytest.param(
            ("--curl", "curl localhost", "--request", "/"), "--curl says all", id="curl-and-request"
        ),
        pytest.param(("--request", "/a", "-H", "nothing"), "a header is like", id="header"),
        pytest.param(("--request", "/a", "--body", "no-file"), "cannot read no-file", id="file"),
        pytest.param(("--curl", "curl --frobnicate x"), "frobnicate", id="curl"),
        pytest.param(("--frobnicate",), "No such option", id="option"),
    ],
)
def test_wrong_usage_has_an_exit_code_of_its_own(
    write: Write, memoserve: Runner, arguments: tuple[str, ...], message: str
) -> None:
    write(CONFIG)

    ran = memoserve("check", *arguments)

    assert ran.code == 2
    assert message in ran.err


def test_a_typed_request_without_a_body_keeps_its_type(
    asked: Callable[..., dict[str, Any]],
) -> None:
    request = ("--request", "POST /v1/models/bert/infer")

    plain = asked(*request)
    typed = asked(*request, "-H", "Content-Type: text/plain")

    assert plain["key"] != typed["key"]


def test_the_schema_is_printed(memoserve: Runner) -> None:
    ran = memoserve("schema")

    assert (ran.code, json.loads(ran.out)) == (0, json_schema())
