"""What a curl command line sends, as curl itself and as `_curl` have it."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from memoserve._asgi import Receive, Scope, Send, respond
from memoserve._curl import SentRequest, is_curl, sent_by_curl, sent_to
from tests.asgi import read_all
from tests.servers import serving

_NOT_COMPARED = {b"user-agent", b"content-length", b"accept-encoding"}

COMMANDS = [
    pytest.param("curl -sX POST {host}/v1/x -d a=1 -d b=2", id="data"),
    pytest.param("curl -s http://{host}/a/../b?x=1 --json '{{\"a\":1}}'", id="json"),
    pytest.param("curl -s -G {host}/q -d a=1 --data-urlencode 'b=c d&é'", id="get"),
    pytest.param("curl -s {host} -d @{file} -H 'Content-Type: application/json'", id="file"),
    pytest.param("curl -s {host} --data-binary @{file} -H 'Accept:' -H 'X-E;'", id="binary"),
    pytest.param("curl -s {host} -d @- -H 'x-a: 1' -H 'X-A: 2' < {file}", id="stdin"),
    pytest.param("curl -s -u me:pw {host}/p%20q --data-raw '@x'", id="user-and-raw"),
    pytest.param("curl -s -u me: {host}", id="user-without-password"),
    pytest.param("curl -s http://u:p%40w@{host}/ -I", id="head-and-user-in-the-url"),
    pytest.param("curl -s {host}/x --url-query 'a=b c' --url-query +r=%C3 -b k=v", id="query"),
    pytest.param("curl -s {host} -A me -e ref -r 0-5", id="named-fields"),
    pytest.param("curl -s --json '{{\"a\":' --json '1}}' {host} \\\n -H \"A: it's\"", id="lines"),
    pytest.param("curl -s {host} --data-urlencode @{file} --data-urlencode =x=y", id="encoded"),
    pytest.param("curl -s {host} --data-urlencode n@{file} --data-urlencode é", id="named-file"),
    pytest.param("curl -s '{host}?a=b#frag' -H 'Host: other.example'", id="host-and-fragment"),
    pytest.param("curl -sS --oauth2-bearer tok --url {host}/é -d ''", id="bearer-and-no-ascii"),
    pytest.param("curl -s -X QUERY {host} -d '{{}}' -H @{fields}", id="fields-of-a-file"),
    pytest.param("curl -s --compressed {host}/x", id="compressed"),
]


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_is_read_as_curl_runs_it(tmp_path: Path, command: str) -> None:
    """Real curl, real server: the scope that a cache would be handed."""
    seen: list[tuple[Scope, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            seen.append((scope, await read_all(receive)))
            await respond(send, 200, [], [])

    file, fields = tmp_path / "body.json", tmp_path / "fields.txt"
    file.write_bytes(b'{"a": 1,\r\n "b": 2}\n')
    fields.write_text("Content-Type: application/json\n\nX-File: 1\n")
    async with serving(app) as port:
        line = command.format(host=f"127.0.0.1:{port}", file=file, fields=fields)
        await asyncio.to_thread(subprocess.run, ["bash", "-c", line], check=True)
    (scope, body), *_ = seen

    ours = sent_by_curl(
        line.partition(" <")[0], lambda name: (file if name == "-" else Path(name)).read_bytes()
    )

    assert ours.body == body
    mine = ours.scope()
    for name in ("method", "scheme", "path", "raw_path", "query_string"):
        assert mine[name] == scope[name], name
    assert _compared(mine) == _compared(scope)


def _compared(scope: Scope) -> list[tuple[bytes, bytes]]:
    return sorted(pair for pair in scope["headers"] if pair[0] not in _NOT_COMPARED)


def _no_file(name: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory", name)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param("wget http://h", "no curl command", id="other-program"),
        pytest.param("curl ", "no curl command", id="nothing"),
        pytest.param("curl h -d 'x", "no closing quotation", id="open-quote"),
        pytest.param("curl h -d $'x'", r"\$'…' is not understood", id="ansi-c"),
        pytest.param("curl h --frob", "option --frob not recognized", id="unknown"),
        pytest.param("curl h --data=x", "are two words", id="equals"),
        pytest.param("curl h -F a=b", "--form is not understood", id="form"),
        pytest.param("curl -d x", "one URL is needed, not 0", id="no-url"),
        pytest.param("curl h g", "one URL is needed, not 2", id="two-urls"),
        pytest.param("curl h -H nonsense", "a header field is like", id="field"),
        pytest.param("curl ftp://h/x", "must be like http://host/path", id="scheme"),
        pytest.param("curl http://h:port/x", "is no URL", id="port"),
        pytest.param("curl 'h/a b'", "no spaces", id="space"),
        pytest.param("curl h --url-query @f", "a query from the file", id="query-file"),
    ],
)
def test_what_is_not_understood_is_refused(command: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sent_by_curl(command, _no_file)


def test_a_file_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        sent_by_curl("curl h -d @nothing", _no_file)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        pytest.param("http://h:80/x", b"h", id="default-port"),
        pytest.param("https://h:443/x", b"h", id="default-port-of-tls"),
        pytest.param("http://h:443/x", b"h:443", id="other-port"),
        pytest.param("http://[::1]:8000/x", b"[::1]:8000", id="ipv6"),
    ],
)
def test_the_host_has_its_port_unless_it_is_the_scheme_s(url: str, host: bytes) -> None:
    sent = sent_to(url, method="POST")

    assert sent.headers == ((b"host", host),)
    assert sent.raw_path == b"/x"


def test_a_lone_quote_outside_of_quotes_is_a_character() -> None:
    sent = sent_by_curl("curl h -d it\\'s \\\n-d b", _no_file)

    assert sent.body == b"it's&b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"curl h", True), (b"  curl.exe h", True), (b"{}", False), (b"curly", False)],
)
def test_curl_is_told_from_bodies(text: bytes, expected: bool) -> None:
    assert is_curl(text) is expected


def test_a_path_is_read_as_servers_do() -> None:
    sent = SentRequest(
        method="GET", scheme="http", raw_path=b"/%C3%A9", query_string=b"", headers=(), body=b""
    )

    assert sent.path == "/é"
