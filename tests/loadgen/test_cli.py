import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator

from loadgen import cli, crosscheck, prove, verdict
from loadgen.cli import main
from loadgen.document import SCHEMA_FILE
from loadgen.outcome import parse_cache_status
from loadgen.prove import Profile
from tests.loadgen.apps import CachedApp, Receive, Scope, Send, answer, read_body
from tests.loadgen.runs import finished_run
from tests.loadgen.serving import free_port, serving
from tests.loadgen.test_document import documented


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
    assert errors.decode() == ""


def test_a_second_ctrl_c_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli, "main", interrupted)

    assert _called(monkeypatch, "run") == 130


def test_a_run_leaves_a_folder_of_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ideal: str
) -> None:
    folder, summary = tmp_path / "new" / "results", tmp_path / "summary.md"
    summary.write_text("before\n")

    code = _called(
        monkeypatch, "run", ideal, *_SHORT, "--out", str(folder), "--workers", "2",
        "--junit", str(tmp_path / "junit.xml"), "--summary-md", str(summary),
        "--fail-if", "max[hit] > 50s",
    )  # fmt: skip

    assert code == 0
    assert {path.name for path in folder.iterdir()} == {
        "run.json",
        "report.html",
        "requests.csv",
        "latency.hgrm",
    }
    Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(
        json.loads((folder / "run.json").read_text())
    )
    assert 'name="max[hit] &gt; 50s"' in (tmp_path / "junit.xml").read_text()
    assert summary.read_text().startswith("before\n### loadgen: PASS")

    again = _called(
        monkeypatch, "report", str(folder / "run.json"), "--html", str(tmp_path / "again.html")
    )
    assert again == 0
    assert (tmp_path / "again.html").read_text() == (folder / "report.html").read_text()


def test_a_threshold_of_ones_own_fails_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    code = _called(monkeypatch, "run", ideal, *_SHORT, "--fail-if", "p50[miss] > 1ms")

    assert code == 1
    assert "FAILED: p50[miss] > 1ms: p50 is " in capsys.readouterr().out


def test_what_an_expression_names_is_judged_by_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("errors", "unexplained", "hit_efficiency", "unexpected")
    lenient = [part for name in names for part in ("--fail-if", f"{name} > 1000")]

    with serving(CachedApp(raw_keys=True)) as url:
        code = _called(
            monkeypatch, "run", url, *_SHORT, "--spelling", "1", "--items", "5", *lenient
        )

    assert code == 0


def test_a_disk_that_is_full_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    code = _called(monkeypatch, "run", ideal, *_SHORT, "--json", "/dev/full")

    captured = capsys.readouterr()
    assert code == 2
    assert captured.err == "Error: cannot write the result: /dev/full: No space left on device\n"


def test_a_plan_is_written_and_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, ideal: str
) -> None:
    path = str(tmp_path / "plan.jsonl")

    written = _called(
        monkeypatch, "plan", "--write", path, "--stages", "0:40,1s:80,2s:200x100ms",
        "--duration", "3s", "--churn", "1s:0.5@10",
    )  # fmt: skip
    replayed = _called(monkeypatch, "replay", ideal, path, "--speed", "3")
    fitted = _called(monkeypatch, "fit", path, "--items", "10000")

    output = capsys.readouterr().out
    assert (written, replayed, fitted) == (0, 0, 0)
    assert "--law zipf:" in output
    assert "fewer than ten requests an item" in output


def test_a_plan_may_go_to_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _called(monkeypatch, "plan", "--write", "-", *_SHORT) == 0
    assert capsys.readouterr().out.startswith('{"schema": "memoserve.plan/1"')


def test_a_trace_of_keys_is_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, ideal: str
) -> None:
    path = tmp_path / "keys"
    path.write_text("\n".join(["home", "about", "home", "home"] * 20))

    code = _called(monkeypatch, "replay", ideal, str(path), "--rate", "100", "--model", "answer")
    fitted = _called(monkeypatch, "fit", str(path))

    output = capsys.readouterr().out
    assert (code, fitted) == (0, 0)
    assert "hit ratio 97.5%" in output
    assert "cumulated shares differ" in output


def test_another_app_is_asked_by_templates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    request = 'POST /v1/chat {"prompt": "say {item}", "temperature": 0}'

    code = _called(
        monkeypatch, "run", ideal, *_SHORT, "--request", request, "--header", "X-Team: blue"
    )

    assert code == 0
    assert "/v1/chat" in capsys.readouterr().out


def test_a_closed_loop_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    code = _called(
        monkeypatch, "run", ideal, "--closed", "3", "--max-requests", "60", "--ui", "live"
    )

    assert code == 0
    assert "a closed loop" in capsys.readouterr().out


def test_a_capacity_is_part_of_what_was_achievable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    code = _called(
        monkeypatch, "run", ideal, *_SHORT, "--capacity", "3", "--ttl", "500ms",
        "--fail-if", "hit_ratio < 1%",
    )  # fmt: skip

    assert code == 0
    assert "was predicted" in capsys.readouterr().out


def test_the_servers_own_counts_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Counted(CachedApp):
        counts: ClassVar[Counter[str]] = Counter()

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/metrics":
                lines = [
                    f'memoserve_request_duration_seconds_count{{cache_status="{status}"}} {count}'
                    for status, count in self.counts.items()
                ]
                page = "\n".join(
                    ["# TYPE memoserve_request_duration_seconds histogram", *lines, ""]
                )
                await answer(send, body=page.encode(), content_type=b"text/plain")
                return

            async def counting(message: dict[str, Any]) -> None:
                said = dict(message.get("headers", ())).get(b"cache-status")
                if said:
                    self.counts[str(parse_cache_status(said.decode()).outcome)] += 1
                await send(message)

            await super().__call__(scope, receive, counting)

    path = tmp_path / "run.json"
    with serving(Counted(inference=0.005)) as url:
        agreed = _called(
            monkeypatch, "run", url, *_SHORT, "--metrics-url", f"{url}/metrics", "--json", str(path)
        )
        nowhere = _called(monkeypatch, "run", url, *_SHORT, "--metrics-url", f"{url}/v1/nowhere")

    captured = capsys.readouterr()
    assert (agreed, nowhere) == (0, 4)
    assert "count the same requests" in captured.out
    assert "shows no metrics" in captured.err
    assert json.loads(path.read_text())["server_counts"]["hit"] > 0


def test_counts_that_differ_make_a_run_invalid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crosscheck, "_ATTEMPTS", 1)

    class Silent(CachedApp):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/metrics":
                await answer(send, body=b"\n", content_type=b"text/plain")
            else:
                await super().__call__(scope, receive, send)

    with serving(Silent()) as url:
        code = _called(monkeypatch, "run", url, *_SHORT, "--metrics-url", f"{url}/metrics")

    assert code == 3
    assert "count other requests: hit " in capsys.readouterr().out


def test_metrics_of_the_generator_are_served(monkeypatch: pytest.MonkeyPatch, ideal: str) -> None:
    assert _called(monkeypatch, "run", ideal, *_SHORT, "--prom-port", str(free_port())) == 0


def test_metrics_on_a_taken_port_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ideal: str
) -> None:
    port = ideal.rpartition(":")[2]

    assert _called(monkeypatch, "run", ideal, *_SHORT, "--prom-port", port) == 2
    assert "cannot be exported" in capsys.readouterr().err


def test_certificates_that_are_none_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")

    assert _called(monkeypatch, "run", "https://a", "--ca", str(path)) == 2
    assert "holds no certificates" in capsys.readouterr().err


def test_a_forecast_needs_no_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = _called(monkeypatch, "predict", "--duration", "60")
    bounded = _called(monkeypatch, "predict", "--ttl", "10s", "--capacity", "500", "--items", "900")

    output = capsys.readouterr().out
    assert (plain, bounded) == (0, 0)
    assert "expected hit ratio from cold: " in output
    assert "in the long run, with this ttl" in output
    assert "in the long run, 500 entries per model" in output


def _result(folder: Path, name: str, *, service: float) -> str:
    path = folder / name
    path.write_text(json.dumps(documented(finished_run(service=service))))
    return str(path)


def test_two_results_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slow = _result(tmp_path, "slow.json", service=0.01)
    fast = _result(tmp_path, "fast.json", service=0.001)
    page = tmp_path / "ab.html"

    good = _called(monkeypatch, "compare", slow, fast, "--fail-if", "p99.b > p99.a")
    bad = _called(
        monkeypatch, "compare", slow, fast, "--fail-if", "p50.b < p50.a", "--html", str(page)
    )
    unclear = _called(monkeypatch, "compare", slow, fast, "--fail-if", "p50 < 1s")

    captured = capsys.readouterr()
    assert (good, bad, unclear) == (0, 1, 2)
    assert "FAILED: p50.b < p50.a" in captured.out
    assert "say of which run" in captured.err
    assert "Two load tests compared" in page.read_text()


def test_a_proof_leaves_a_report_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "SHORT", Profile(probe=0.3, baseline=0.5, arm=0.5))
    monkeypatch.setattr(prove, "_RATES", (1.0, 40.0))

    with serving(CachedApp(inference=0.02)) as url:
        code = _called(monkeypatch, "prove", url, "--out", str(tmp_path), "--items", "500")

    document = json.loads((tmp_path / "run.json").read_text())
    Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(document)
    assert code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "report.html"}
    assert "Hit ratio by kind of traffic" in (tmp_path / "report.html").read_text()
    assert _called(monkeypatch, "compare", *[str(tmp_path / "run.json")] * 2) == 2


def test_a_pipe_that_was_closed_is_no_error() -> None:
    command = f"{sys.executable} -m loadgen plan --write - --duration 600 | head -1"

    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)  # noqa: S607  (as a user)

    assert done.returncode == 0
    assert done.stderr == b""


def test_a_screen_that_cannot_be_written_is_one_clear_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "loadgen", "plan", "--write", "-", "--duration", "600"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )

    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: No space left on device")
    assert b"Traceback" not in done.stderr


def test_reports_need_their_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "has_plotly", lambda: False)
    path = _result(tmp_path, "run.json", service=0.01)

    assert _called(monkeypatch, "report", path, "--html", str(tmp_path / "r.html")) == 2
    assert "pip install plotly" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "http://a", "--fail-if", "p99 > 50"], "a time needs its unit"),
        (["run", "http://a", "--fail-if", "p99[blue] > 1s"], "neither an outcome nor a model"),
        (["run", "http://a", "--fail-if", "p99.b > 1s"], "one run only"),
        (["run", "http://a", "--request", "GET"], "a request reads"),
        (["run", "http://a", "--header", "oops"], "a header reads"),
        (["run", "http://a", "--duration", "0"], "must be positive"),
        (["run", "http://a", "--duration", "-5"], "a duration reads like"),
        (["run", "http://a", "--stages", "x"], "a stage reads"),
        (["run", "http://a", "--churn", "x"], "churn reads like"),
        (["run", "http://a", "--ca", "/nowhere/ca"], "there is no file"),
        (["run", "http://a", "--transport", "smoke"], "'smoke' is not one of"),
        (["plan", "--write", "/nowhere/plan"], "cannot write the plan"),
        (["replay", "http://a", "/nowhere/plan"], "cannot be read"),
        (["replay", "http://a", "/dev/null"], "has no key"),
        (["fit", "/dev/null"], "has no key"),
        (["predict", "--law", "x"], "the law must be"),
        (["prove", "http://a", "--request", "GET /"], "must have {item}"),
        (["report", "/nowhere", "--html", "x"], "cannot be read"),
        (["compare", "/nowhere", "/nowhere"], "cannot be read"),
    ],
)
def test_wrong_usage_of_the_rest_is_explained(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert _called(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_trace_asks_a_model_that_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text("a\n")

    assert _called(monkeypatch, "replay", "http://a", str(path), "--model", "x") == 2
    assert "no such model: x" in capsys.readouterr().err
