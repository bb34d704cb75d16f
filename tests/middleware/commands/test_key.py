"""`memoserve key`: the key that a cache really uses."""

import asyncio
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memoserve import CacheMiddleware, MemoryStore, Rule
from memoserve._curl import SentRequest, sent_by_curl, sent_to
from memoserve._keyed import CacheSettings, keyed
from tests.asgi import Call, Model, http_scope
from tests.middleware.commands.running import Runner
from tests.servers import serving

_JSON = (("content-type", "application/json"), ("accept", "*/*"))
_GZIP = (*_JSON, ("content-encoding", "gzip"))
_KEY = (*_JSON, ("x-api-key", "me"))
_KEPT = (*_JSON, ("cache-control", "no-transform"))


def _posted(
    body: bytes, headers: Any = _JSON, url: str = "http://h/v1/a%20b?x=1", method: str = "POST"
) -> SentRequest:
    return sent_to(url, method=method, headers=headers, body=body)


def _settings(path: str = "/v1/a b", *, obey: bool = False, **options: Any) -> CacheSettings:
    rule = Rule(path, **options)
    return CacheSettings(
        rules=(rule,),
        secret=b"0123456789abcdef",
        client_control="obey" if obey else "ignore",
    )


@pytest.mark.parametrize(
    ("sent", "settings", "refusal"),
    [
        pytest.param(_posted(b'{"b":1, "a":2}'), _settings(), "", id="canonical"),
        pytest.param(
            _posted(b'{"b":1,"id":"x"}'),
            _settings("/v1/{m}", ignore=["/id"], defaults={"/c": 1}, text={"/b": ["strip"]}),
            "",
            id="edited",
        ),
        pytest.param(_posted(b'{"a":1,"a":2}'), _settings(), "duplicate", id="duplicate"),
        pytest.param(_posted(b"1e400"), _settings(), "number", id="number"),
        pytest.param(_posted(b"{}", ()), _settings(), "Content-Type", id="no-type"),
        pytest.param(_posted(b"{}", _GZIP), _settings(), "Content-Encoding", id="encoded"),
        pytest.param(_posted(b"{}", _KEPT), _settings(obey=True), "no-transform", id="obeyed"),
        pytest.param(_posted(b"{}", _KEPT), _settings(), "", id="not-obeyed"),
        pytest.param(
            _posted(b"[" + b" " * 300_000 + b"]"), _settings(), "max_canonical_bytes", id="large"
        ),
        pytest.param(_posted(b"{}", _KEY), _settings(private="share"), "", id="shared"),
        pytest.param(_posted(b"{}", _KEY), _settings(private="partition"), "", id="partition"),
        pytest.param(
            _posted(b"{}", (*_JSON, ("x-tier", "1"))), _settings(vary=["X-Tier"]), "", id="vary"
        ),
        pytest.param(
            _posted(b"", (), method="GET"), _settings(methods={"GET"}), "Content-Type", id="get"
        ),
    ],
)
async def test_the_key_is_where_a_cache_keeps_the_answer(
    sent: SentRequest, settings: CacheSettings, refusal: str
) -> None:
    store = MemoryStore()
    cache = CacheMiddleware(
        Model(),
        rules=settings.rules,
        store=store,
        secret=settings.secret,
        client_control=settings.client_control,
    )
    await Call({**http_scope(), **sent.scope()}, [sent.body]).run(cache)
    await cache.aclose()

    found = await keyed(sent, settings)

    assert await store.get(found.index) is not None
    assert found.index == f"memoserve:{found.md5}"
    assert bool(found.refusal) is bool(refusal)
    assert refusal in found.refusal
    assert found.is_canonical is not bool(refusal)


async def test_a_variant_and_an_epoch_belong_to_the_key() -> None:
    sent = _posted(b"{}")

    plain = await keyed(sent, _settings())
    varied = await keyed(sent, CacheSettings(rules=(Rule("/v1/a b"),), variant="v2"))
    later = await keyed(sent, _settings(epoch="2"))

    assert len({plain.index, varied.index, later.index}) == 3
    assert dict(varied.material)["variant"] == "v2"
    assert dict(later.material)["epoch"] == b"2"


async def test_real_curl_through_a_real_server_meets_the_key(
    memoserve: Runner, tmp_path: Path
) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"text": "good",\n "top": 3}\n')
    store = MemoryStore()
    cache = CacheMiddleware(Model(), rules=[Rule("/v1/sentiment")], store=store)
    async with serving(cache) as port:
        line = f"curl -s http://127.0.0.1:{port}/v1/sentiment --json @{file}"
        await asyncio.to_thread(subprocess.run, line.split(), check=True)

        ran = await asyncio.to_thread(memoserve, "key", "--json", "--curl", line)

        document = json.loads(ran.out)
        assert ran.code == 0
        assert document["canonical"]
        assert document["body"] == '{"text":"good","top":3}'
        assert await store.get(document["index"]) is not None


def test_a_body_is_an_argument_a_file_or_standard_input(
    memoserve: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"a": "é"}'
    file = tmp_path / "body.json"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    keys = {memoserve("key", source).out for source in (text, str(file), "-")}

    assert len(keys) == 1
    assert '{"a":"é"}' in keys.pop()


def test_a_file_may_hold_a_curl_command(memoserve: Runner, tmp_path: Path) -> None:
    body, command = tmp_path / "body.json", tmp_path / "command.sh"
    body.write_text("[1]")
    command.write_text(f"curl http://h/v1 \\\n  --json @{body}\n")

    ran = memoserve("key", str(command))

    assert (ran.code, "application/json" in ran.out) == (0, True)


def test_curl_may_read_the_body_from_standard_input(
    memoserve: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1]")))

    ran = memoserve("key", "--json", "--curl", "curl http://h/v1 --json @-")

    assert json.loads(ran.out)["body"] == "[1]"


def test_what_is_keyed_by_its_bytes_says_why(memoserve: Runner) -> None:
    ran = memoserve("key", '{"a": 1, "a": 2}')

    assert ran.code == 0
    assert "by its bytes: " in ran.out
    assert "uplicate" in ran.out


def test_digests_and_bytes_are_shown_in_hexadecimal(memoserve: Runner, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"\xff\x00")

    ran = memoserve(
        "key", str(file), "--json", "-H", "Content-Type: a/b", "-H", "X-Key: 1", "-H", "A: 1",
        "--private", "partition", "--secret", "0123456789abcdef", "--vary", "a",
        "-H", "A: 2",
    )  # fmt: skip

    document = json.loads(ran.out)
    assert document["body"] == "ff00"
    assert document["refusal"].startswith("Content-Type")
    assert len(document["material"]["credentials"]) == 64
    assert document["fields"]["a"] == ["1", "2"]
    assert document["fields"]["host"] == ["localhost:8000"]


def test_all_that_shapes_a_rule_can_be_given(memoserve: Runner) -> None:
    options = (
        "--rule", "/v1/{m}", "--methods", "post,get", "--ignore", "/id", "--default", "/top=3",
        "--text", "/text=strip,casefold", "--epoch", "2", "--variant", "b", "--namespace", "mine",
        "--obey", "--url", "https://h/v1/x",
    )  # fmt: skip

    ran = memoserve("key", '{"id": 1, "text": " A"}', "--json", *options)

    document = json.loads(ran.out)
    assert document["body"] == '{"text":"a","top":3}'
    assert document["index"] == f"mine:{document['key']}"
    assert document["material"]["scheme"] == "https"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param((), 2, "either SOURCE or --curl", id="nothing"),
        pytest.param(("{}", "--curl", "curl h"), 2, "either SOURCE or --curl", id="both"),
        pytest.param(("nowhere.json",), 2, "cannot read nowhere.json", id="no-file"),
        pytest.param(("a\0b",), 2, "cannot read", id="no-name"),
        pytest.param(("--curl", "curl h -d @nowhere"), 2, "cannot read nowhere", id="curl-file"),
        pytest.param(("--curl", "curl h --frob"), 2, "--frob not recognized", id="curl"),
        pytest.param(("{}", "--url", "ftp://h"), 2, "must be like", id="url"),
        pytest.param(("{}", "-H", "x"), 2, "a header is like", id="field"),
        pytest.param(("{}", "--default", "/a"), 2, "a default is like", id="default"),
        pytest.param(("{}", "--default", "/a=x"), 2, "is no JSON", id="default-value"),
        pytest.param(("{}", "--text", "/a=frob"), 2, "text must be some of", id="text"),
        pytest.param(("{}", "--secret", "short"), 2, "at least 16 bytes", id="secret"),
        pytest.param(("{}", "-H", "Cookie: a"), 1, "past the cache: credentials", id="bypass"),
        pytest.param(
            ("{}", "--rule", "/{other:int}"),
            1,
            "POST / is covered by no rule: say --url",
            id="no-url",
        ),
        pytest.param(
            ("{}", "--rule", "/other", "--url", "localhost/a"),
            1,
            "POST /a is covered by no rule\n",
            id="another-url",
        ),
        pytest.param(
            ("--curl", "curl h --json 1", "--rule", "/a"),
            1,
            "POST / is covered by no rule\n",
            id="curl-elsewhere",
        ),
        pytest.param(("{}", "--rule", "a"), 2, "path must start with a slash", id="rule"),
    ],
)
def test_what_has_no_key_ends_with_a_sentence(
    memoserve: Runner, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ran = memoserve("key", *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_the_md5_is_that_of_the_material() -> None:
    """The key is the digest of what is shown, not of anything beside it."""
    sent = sent_by_curl("curl h --json [1]", lambda _: b"")

    first = asyncio.run(keyed(sent, CacheSettings(rules=(Rule("/"),))))
    again = asyncio.run(keyed(sent, CacheSettings(rules=(Rule("/"),))))

    assert first == again
    assert len(first.md5) == len(hashlib.md5(usedforsecurity=False).hexdigest())


@pytest.mark.parametrize("path", ["/v1/sentiment", "/v1/a b?c", "/v1/é:x"])
def test_a_body_is_sent_to_the_path_of_the_rule(memoserve: Runner, path: str) -> None:
    ran = memoserve("key", "{}", "--rule", path, "--json")

    assert json.loads(ran.out)["material"]["path"] == path
