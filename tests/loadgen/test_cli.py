import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadgen import cli, prove, verdict
from loadgen.cli import main
from loadgen.prove import Profile
from tests.loadgen.apps import CachedApp, Receive, Scope, Send, answer, read_body
from tests.loadgen.serving import free_port, serving


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may be busy: here lag is not the question."""
    monkeypatch.setattr(verdict, "_LAG_FLOOR", 60.0)
    monkeypatch.setattr(verdict, "_CPU_LIMIT", 60.0)


def _called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["loadgen", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def ideal() -> Iterator[str]:
    with serving(CachedApp(inference=0.005)) as url:
        yield url


_SHORT = ("--duration", "1", "--rate", "60")


def test_a_run_against_an_ideal_cache_passes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    ideal: str,
) -> None:
    path = tmp_path / "run.json"

    code = _called(monkeypatch, "run", ideal, *_SHORT, "--spelling", "0.5", "--json", str(path))

    output = capsys.readouterr().out
    document = json.loads(path.read_text())
    assert code == 0
    assert output.splitlines()[-1] == "PASS"
    assert "\x1b" not in output
    assert document["verdict"] == {"exit": 0, "findings": []}
    assert document["hit_ratio"]["efficiency"] == 1
    assert document["sent"] == document["plan"]["requests"] > 30
    assert document["plan"]["salt"]


def test_a_result_that_cannot_be_written_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    code = _called(monkeypatch, "run", ideal, *_SHORT, "--json", "/proc/run.json")

    captured = capsys.readouterr()
    assert code == 2
    assert "PASS" in captured.out
    assert captured.err.startswith("Error: cannot write the result: ")
    assert captured.err.count("\n") == 1


def test_a_key_made_of_bytes_fails_with_its_misses_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(CachedApp(raw_keys=True)) as url:
        code = _called(monkeypatch, "run", url, *_SHORT, "--spelling", "1", "--items", "5")

    output = capsys.readouterr().out
    assert code == 1
    assert "unexplained: sentiment item 0, respelled, request" in output
    assert "FAILED: " in output


def test_a_salt_of_ones_own_meets_a_warm_cache_without_blame(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    first = _called(monkeypatch, "run", ideal, *_SHORT, "--salt", "mine")
    second = _called(monkeypatch, "run", ideal, *_SHORT, "--salt", "mine")

    assert (first, second) == (0, 0)
    assert "hit ratio 100.0%" in capsys.readouterr().out


def test_without_salt_items_have_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    code = _called(monkeypatch, "run", ideal, *_SHORT, "--salt", "none", "--mix", "answer=1")

    output = capsys.readouterr().out
    assert code == 0
    assert "salt none" in output
    assert "sentiment" not in output


def test_a_generator_without_room_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(CachedApp(inference=0.5)) as url:
        code = _called(monkeypatch, "run", url, *_SHORT, "--max-inflight", "1")

    assert code == 3


async def _plain(scope: Scope, receive: Receive, send: Send) -> None:
    await read_body(receive)
    await answer(send)


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    await read_body(receive)
    await answer(send, body=b"<html>", content_type=b"text/html")


async def _missing(scope: Scope, receive: Receive, send: Send) -> None:
    await read_body(receive)
    await answer(send, status=404)


@pytest.mark.parametrize("command", ["run", "prove"])
@pytest.mark.parametrize(
    ("app", "code", "message"),
    [
        pytest.param(_plain, 1, "the server sends no Cache-Status", id="no-header"),
        pytest.param(_page, 4, "answered text/html, not JSON", id="no-json"),
        pytest.param(_missing, 4, "status 404", id="not-found"),
    ],
)
def test_a_server_of_another_kind_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    app: object,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(cli, "SHORT", Profile(probe=0.2, baseline=0.2, arm=0.2))
    options = _SHORT if command == "run" else ()
    with serving(app) as url:
        assert _called(monkeypatch, command, url, *options) == code

    captured = capsys.readouterr()
    assert message in captured.out + captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("command", ["run", "prove"])
def test_nobody_there_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code = _called(monkeypatch, command, f"http://127.0.0.1:{free_port()}")

    assert code == 4
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'URL'"),
        (["run", "localhost:8000"], "the target must be an http URL"),
        (["run", "http://a", "--rate", "-1"], "-1.0 is not in the range"),
        (["run", "http://a", "--rate", "nan"], "rate must be positive, not nan"),
        (["run", "http://a", "--law", "pareto"], "the law must be zipf"),
        (["run", "http://a", "--arrivals", "never"], "arrivals must be poisson or constant"),
        (["run", "http://a", "--mix", "translate=1"], "mix must give weights"),
        (["run", "http://a", "--mix", "answer=x"], "a weight must be a number"),
        (["run", "http://a", "--mix", "answer=0"], "mix must give weights"),
        (["run", "http://a", "--rate", "0.01", "--duration", "1"], "the plan has no request"),
        (["run", "http://a", "--json", "/nowhere/run.json"], "there is no folder /nowhere"),
        (["prove", "http://a", "--exponent", "1000"], "exponent must be in 0 .. 100"),
        (["prove", "http://a", "--profile", "endless"], "'endless' is not one of"),
        (["dance"], "No such command"),
    ],
)
def test_wrong_usage_is_explained(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert _called(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_help_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _called(monkeypatch, "--help") == 0
    assert "130 interrupted" in " ".join(capsys.readouterr().out.split())


def test_a_proof_over_real_sockets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "proof.json"
    monkeypatch.setattr(cli, "SHORT", Profile(probe=0.3, baseline=0.5, arm=1.0))
    monkeypatch.setattr(prove, "_RATES", (1.0, 50.0))

    with serving(CachedApp(inference=0.02)) as url:
        code = _called(monkeypatch, "prove", url, "--json", str(path))

    output = capsys.readouterr().out
    document = json.loads(path.read_text())
    assert code == 0
    assert output.splitlines()[-1] == "PASS"
    assert document["arms"]["warm Zipf"]["hit_ratio"]["observed"] == 1
    assert document["speed_up"]["all"] > 1


@pytest.mark.parametrize("command", ["run", "prove"])
def test_ctrl_c_ends_at_once_with_a_report(command: str) -> None:
    class Interrupting(CachedApp):
        """Presses Ctrl-C when the traffic has begun."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if self.requests == 20:
                process.send_signal(signal.SIGINT)
            await super().__call__(scope, receive, send)

    with serving(Interrupting(inference=0.01)) as url:
        arguments = [sys.executable, "-m", "loadgen", command, url]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            output, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert b"INTERRUPTED" in output
    assert errors == b""


def test_a_second_ctrl_c_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli, "main", interrupted)

    assert _called(monkeypatch, "run") == 130
