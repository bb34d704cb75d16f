"""Log lines as objects, with what names the request they belong to."""

import json
import logging
from typing import Any

import pytest

from reference_app.logs import JSONFormatter, configure_logging
from reference_app.request_id import RequestIdMiddleware
from reference_app.settings import Settings
from tests.asgi import ask

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def formatted(message: str = "it rains in %s", *arguments: Any, **fields: Any) -> dict[str, Any]:
    record = logging.LogRecord("reference_app", logging.WARNING, "f", 1, message, arguments, None)
    for name, value in fields.items():
        setattr(record, name, value)
    found: dict[str, Any] = json.loads(JSONFormatter().format(record))
    return found


def test_a_line_is_an_object() -> None:
    line = formatted("it rains in %s", 'Oslo "now"\n', created=0.5)

    assert line == {
        "timestamp": "1970-01-01T00:00:00.500000+00:00",
        "severity": "WARNING",
        "logger": "reference_app",
        "message": 'it rains in Oslo "now"\n',
    }


def test_an_exception_is_in_the_same_line() -> None:
    try:
        raise OSError("no weights")
    except OSError as error:
        line = formatted("failed", exc_info=(type(error), error, error.__traceback__))

    assert line["exception"].endswith("OSError: no weights")


@pytest.mark.parametrize(
    ("traceparent", "names"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", {"trace_id": TRACE, "span_id": SPAN}, id="version-0"),
        pytest.param(
            f"cc-{TRACE}-{SPAN}-01-more", {"trace_id": TRACE, "span_id": SPAN}, id="later-version"
        ),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", {}, id="no-trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", {}, id="no-parent"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", {}, id="capitals"),
        pytest.param("nonsense", {}, id="nonsense"),
    ],
)
async def test_a_line_of_a_request_names_it(traceparent: str, names: dict[str, str]) -> None:
    lines: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        lines.append(formatted("inside"))

    headers = [(b"x-request-id", b"r-1"), (b"Traceparent", traceparent.encode())]
    await ask(RequestIdMiddleware(app), headers=headers)
    outside = formatted("outside")

    assert {k: v for k, v in lines[0].items() if k.endswith("_id")} == {
        "request_id": "r-1",
        **names,
    }
    assert "request_id" not in outside


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_operator_chooses_the_format(
    log_format: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, own = logging.getLogger(), logging.getLogger("reference_app")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(own, "level", own.level)
    monkeypatch.setattr(logging.getLogger("memoserve"), "level", logging.NOTSET)

    configure_logging(Settings(log_format=log_format, log_level="info"))
    own.info("ready")
    (line,) = capsys.readouterr().err.splitlines()

    if log_format == "json":
        assert json.loads(line)["message"] == "ready"
    else:
        assert line.endswith("INFO reference_app: ready")
