"""`memoserve advise`: what a log says of the rule to cache it by."""

import io
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from memoserve import CacheMiddleware, MemoryStore, Rule
from memoserve._advise import Advice, advise
from memoserve._advise_log import LogError, Logged, read_log, tabulate
from memoserve._advise_rule import python_rule, rule_of, toml_rule
from memoserve._errors import UnkeyableBodyError
from memoserve._keys import canonical_json
from memoserve.config import load
from tests.asgi import JSON, Call, Model, http_scope
from tests.middleware.commands.running import Runner


def advice_on(bodies: Iterable[Any], **options: Any) -> Advice:
    (table,) = tabulate(Logged("/v1/m", _encoded(body), None) for body in bodies)
    return advise(table, **options)


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


# Reading.


@pytest.mark.parametrize(
    ("lines", "options", "expected"),
    [
        pytest.param(
            [b'{"a":1}\n', b"\n", b"[2]"], {}, [("/", b'{"a":1}'), ("/", b"[2]")], id="bodies"
        ),
        pytest.param(
            [b'{"path":"/p","body":{"a": 1.50}}', b'{"body":"{}"}'],
            {"path": "/q"},
            [("/p", b'{"a": 1.50}'), ("/q", b"{}")],
            id="records",
        ),
        pytest.param(
            [b'{"body":1,"user":"x"}'], {}, [("/", b'{"body":1,"user":"x"}')], id="body-with-a-body"
        ),
        pytest.param([b'{"body":1,"user":"x"}'], {"form": "records"}, [("/", b"1")], id="asked"),
        pytest.param([b'{"body":1}'], {"form": "bodies"}, [("/", b'{"body":1}')], id="not-asked"),
        pytest.param([b"no json", b"{}"], {}, [("/", b"no json"), ("/", b"{}")], id="no-json"),
    ],
)  # fmt: skip
def test_a_log_holds_bodies_or_records(
    lines: list[bytes], options: dict[str, Any], expected: list[tuple[str, bytes]]
) -> None:
    found = read_log(lines, **options)

    assert [(each.path, each.body) for each in found] == expected


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b'{"body":1,"time":"x"}', b'{"body":1,"time":1e999}', b"{"]
)
def test_a_line_that_is_no_record_is_named(line: bytes) -> None:
    with pytest.raises(LogError, match="line 2"):
        read_log([b'{"body":1,"time":1}', line])


JSON_TEXTS = [
    b"1", b"1.0", b"true", b'"1"', b"null", b"[]", b"{}", b"[1]", b"[[1]]", b"[1,2]", b'{"0":1}',
    b'{"a":[1]}', b'{"a":{"0":1}}', b'{"a":[]}', b'{"a":{}}', b'{"a":null}', b'{"a":1,"b":1}',
    b'{"a":{"b":{"c":{"d":{"e":{"f":{"g":1}}}}}}}', b'{"a/b":1}', b'{"a":{"b":1}}', b"1.50",
    b'{"a":1,"a":1}', b"x", b'{"a":[1,2,3,4,5,6,7,8,9]}', b'{"a":[1,2,3,4,5,6,7,8,9,10]}', b"\xff",
    b'{"late":1}', b'{"late":2}', b'{"a":{"late":1}}', b"[1,2,3]",
]  # fmt: skip


@pytest.mark.parametrize("known", [0, 3, 10, 30], ids="{} learned".format)
def test_rows_are_equal_exactly_where_keys_are(monkeypatch: pytest.MonkeyPatch, known: int) -> None:
    """Whatever was seen while the places were learned."""
    monkeypatch.setattr("memoserve._advise_log._SAMPLE", known)
    spaced = [text.replace(b":", b" : ") for text in JSON_TEXTS]
    both = [*JSON_TEXTS, *spaced]

    (table,) = tabulate(Logged("/", body, None) for body in both)

    rows = list(zip(*(column.codes for column in table.columns), strict=True))
    for (row, body), (other, other_body) in itertools.combinations(zip(rows, both, strict=True), 2):
        assert (row == other) is (_key(body) == _key(other_body)), (body, other_body)


def _key(body: bytes) -> tuple[bool, bytes]:
    try:
        return True, canonical_json(body)
    except UnkeyableBodyError:
        return False, body


def test_an_object_with_many_names_has_data_for_names() -> None:
    bodies = [{"scores": {f"user{n}": 1}} for n in range(200)]

    advice = advice_on(bodies)

    assert advice.ratios[0].now == 0
    assert advice.requests == 200


def test_paths_are_told_apart_and_the_busiest_comes_first() -> None:
    log = [Logged(path, b"1", None) for path in ("/a", "/b", "/b")]

    assert [(table.path, table.count) for table in tabulate(log)] == [("/b", 2), ("/a", 1)]


# Advice.


def spread(count: int, make: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask ten questions in turn, each with what `make` adds for the number of the request."""
    return [{"text": f"how is number {n % 10}", **make(n)} for n in range(count)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("request_id", lambda n: f"r{n}", id="request-id"),
        pytest.param("requestId", lambda n: f"r{n}", id="camel-case"),
        pytest.param("id", lambda n: n, id="id"),
        pytest.param("traceparent-trace", lambda n: n, id="trace"),
        pytest.param("timestamp", lambda n: 1.7e9 + n, id="epoch"),
        pytest.param("created_at", lambda n: 1_700_000_000_000 + n // 3, id="growing-time"),
        pytest.param("time", lambda n: f"2026-01-01T00:00:{n:02}Z", id="iso"),
    ],
)
def test_what_names_one_exchange_is_to_be_ignored(name: str, value: Callable[[int], Any]) -> None:
    """bug 12: it kills the hit ratio."""
    advice = advice_on(spread(100, lambda n: {name: value(n)}))

    (hint,) = advice.ignore
    assert hint.pointer == f"/{name}"
    assert advice.ratios[0].advised == pytest.approx(0.9)
    assert hint.gain == pytest.approx(0.9 - advice.ratios[0].now)
    assert advice.doubtful == ()


def test_several_such_fields_go_together() -> None:
    """Ignoring only one of them would make no hit."""
    advice = advice_on(
        spread(100, lambda n: {"meta": {"request_id": n, "nonce": n}, "uuid": n, "top": 3})
    )

    assert {hint.pointer for hint in advice.ignore} == {"/meta/request_id", "/meta/nonce", "/uuid"}
    assert advice.ratios[0].now == 0
    assert advice.ratios[0].advised == pytest.approx(0.9)


def test_a_field_that_makes_no_hit_is_left_alone() -> None:
    bodies = [{"text": f"question {n}", "request_id": n, "top": 3} for n in range(100)]

    advice = advice_on(bodies)

    assert advice.ignore == ()
    assert advice.ratios[0].advised == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("document_id", lambda n: n, id="what-is-asked-about"),
        pytest.param("seed", lambda n: n, id="what-changes-the-answer"),
        pytest.param("date", lambda n: f"2026-01-{n % 28 + 1:02}", id="a-day-that-is-asked-about"),
        pytest.param("prompt", lambda n: f"who is number {n}", id="the-question"),
        pytest.param("user", lambda n: f"u{n % 20}", id="who-asks"),
        pytest.param("user_id", lambda n: n, id="who-asks-each"),
        pytest.param("request_id", lambda n: n % 50, id="an-id-that-repeats"),
        pytest.param("timestamp", lambda n: n, id="no-time"),
        pytest.param("time", lambda n: f"{n} o'clock", id="no-time-either"),
        pytest.param("created", lambda n: [n], id="no-value"),
        pytest.param("now", lambda n: n % 2 == 0, id="no-number"),
    ],
)
def test_what_may_be_asked_or_by_whom_is_never_advised_to_be_ignored(
    name: str, value: Callable[[int], Any]
) -> None:
    """bug 3: an answer to another question, or to another person's."""
    advice = advice_on(spread(100, lambda n: {name: value(n)}))

    assert advice.ignore == ()
    assert advice.ratios[0].advised == advice.ratios[0].now


def test_fields_whose_meaning_decides_are_named_with_the_doubt() -> None:
    advice = advice_on(spread(200, lambda n: {"user": f"u{n % 20}", "request_id": n}))
    never = advice_on(spread(200, lambda n: {"document_id": n}))

    assert [(hint.pointer, hint.doubt) for hint in advice.doubtful] == [
        ("/user", "it may say whom the answer is for")
    ]
    assert [(hint.pointer, hint.doubt) for hint in never.doubtful] == [
        ("/document_id", "it never repeats, but may be part of the question")
    ]
    assert never.doubtful[0].gain == pytest.approx(0.95)


def test_what_models_are_asked_is_not_even_named() -> None:
    advice = advice_on({"prompt": f"who is number {n}"} for n in range(100))

    assert advice.doubtful == ()


def test_texts_are_normalized_by_the_steps_that_merge_questions() -> None:
    spellings = ["a caf\u00e9", "a cafe\u0301", " a caf\u00e9", "a  caf\u00e9"]

    advice = advice_on({"q": spellings[n % 4], "n": n // 4} for n in range(40))

    (hint,) = advice.text
    assert (hint.pointer, hint.steps) == ("/q", ("nfc", "strip", "collapse"))
    assert hint.gain == pytest.approx(0.75)
    assert advice.ratios[0].advised == pytest.approx(0.75)
    assert advice.risky_text == ()


def test_capitals_are_the_users_to_judge() -> None:
    advice = advice_on({"q": ("How is it", "how is it", None, 7)[n % 4]} for n in range(8))

    assert advice.text == ()
    (hint,) = advice.risky_text
    assert (hint.steps, hint.gain) == (("casefold",), 0.125)


def test_what_is_absent_may_be_a_default() -> None:
    bodies = spread(40, lambda n: {"top": 3} if n % 20 < 10 else {})
    scattered = spread(40, lambda n: {"extra": [1]} if n % 20 < 10 else {})

    advice = advice_on(bodies)

    (hint,) = advice.defaults
    assert (hint.pointer, hint.example, hint.gain) == ("/top", 3, 0.25)
    assert advice_on(scattered).defaults[0].pointer == "/extra/0"  # Of an array of known length.


@pytest.mark.parametrize("value", [None, [1] * 20, "a text with words in it"])
def test_no_default_is_made_of_what_is_none(value: Any) -> None:
    advice = advice_on(spread(40, lambda n: {"x": value} if n % 20 < 10 else {}))

    assert advice.defaults == ()


def test_what_is_always_the_same_is_named() -> None:
    advice = advice_on(spread(20, lambda n: {"model": "m"}))

    assert [(each.pointer, each.value) for each in advice.constants] == [("/model", "m")]


def test_one_question_over_and_over_has_nothing_to_advise() -> None:
    advice = advice_on([{"a": 1}] * 10)

    assert advice.ratios[0].now == advice.ratios[0].advised == 0.9
    assert python_rule(advice) == "Rule('/v1/m')"


def test_one_column_is_enough() -> None:
    advice = advice_on({"request_id": n} for n in range(100))

    assert advice.ratios[0].advised == pytest.approx(0.99)


def test_what_has_no_canonical_form_is_counted() -> None:
    advice = advice_on([b"[1.50]", b"[1.50]", b"[1.50] ", b"[1]"])

    assert advice.refused == 3
    assert advice.ratios[0].now == 0.25


# The rule.


def test_the_rule_is_one_in_python_and_in_the_configuration(tmp_path: Path) -> None:
    advice = advice_on({'te"xt\x7f': ("a b", " a b")[n % 2], "request_id": n} for n in range(100))
    file = tmp_path / "memoserve.toml"
    file.write_text(toml_rule(advice), encoding="utf-8")

    (configured,) = load(file, environ={}).rules

    rule = rule_of(advice)
    assert rule.ignore == ["/request_id"]
    assert rule.text == {'/te"xt\x7f': ("strip",)}
    assert eval(python_rule(advice), {"Rule": Rule}) == rule  # noqa: S307
    assert (list(configured.ignore), dict(configured.text)) == (rule.ignore, rule.text)
    assert configured.path == rule.path


# Against the cache itself.


async def replayed(log: list[Logged], rule: Rule, *, entries: int | None = None) -> float:
    """Send a log through a real cache, with its own clock, and return the share of hits."""
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0])
    cache = CacheMiddleware(Model(), rules=[rule], store=store, clock=lambda: now[0])
    hits = 0
    for each in log:
        now[0] = each.time or 0.0
        scope = http_scope(path=each.path, headers=(JSON,))
        call = await Call(scope, [each.body]).run(cache)
        hits += "hit" in call.cache_status
    await cache.aclose()
    return hits / len(log)


def some_log(seed: int) -> list[Logged]:
    draw = random.Random(seed)
    log: list[Logged] = []
    for n in range(400):
        body: dict[str, Any] = {"text": f"what is {int(draw.paretovariate(0.8)) % 60}"}
        if draw.random() < 0.3:
            body["text"] += " "
        body["request_id"] = n
        body["options"] = {"top": draw.choice([1, 1.0, True, "1"])}
        log.append(Logged("/v1/m", json.dumps(body).encode(), n * 1.5))
    return log


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ttl", [20.0, 200.0])
async def test_the_ratio_is_that_of_a_replay(seed: int, ttl: float) -> None:
    """Exactly: with the rule and without it."""
    log = some_log(seed)
    (table,) = tabulate(log)

    advice = advise(table, ttls=[ttl])

    rule = rule_of(advice)
    assert advice.ratios[1].now == await replayed(log, Rule("/v1/m", ttl=ttl))
    advised = Rule("/v1/m", ttl=ttl, ignore=rule.ignore, text=rule.text)
    assert advice.ratios[1].advised == await replayed(log, advised)
    assert advice.ratios[0].advised > advice.ratios[1].advised > 0.1


def test_room_for_few_keeps_those_that_were_used_last() -> None:
    bodies = ["a", "b", "a", "c", "a", "b"]  # With room for two: b is gone when it comes again.

    advice = advice_on(bodies, entries=[2, 3])

    assert [(each.entries, each.now) for each in advice.ratios] == [
        (None, 0.5), (2, pytest.approx(2 / 6)), (3, 0.5),
    ]  # fmt: skip


def test_times_out_of_order_are_put_in_order() -> None:
    log = [Logged("/", b"1", time) for time in (9.0, 0.0, 5.0)]
    (table,) = tabulate(log)

    assert advise(table, ttls=[4.5]).ratios[1].now == pytest.approx(1 / 3)


# The command.


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    file = tmp_path / "log.jsonl"
    bodies = spread(100, lambda n: {"request_id": n, "user": f"u{n // 50}", "model": "m" * 80})
    for n, body in enumerate(bodies):
        body["text"] = (body["text"], f" {body['text']}")[n // 10 % 2]
        if n // 10 % 4 < 2:
            body["top"] = 3
    bodies[0] = {"a": 1}
    lines = [json.dumps(body) for body in bodies]
    file.write_text("\n".join([*lines, '{"a":1.50}', ""]))
    return file


def test_people_get_a_rule_and_a_warning(memoserve: Runner, log_file: Path) -> None:
    ran = memoserve("advise", str(log_file), "--path", "/v1/m", "--entries", "5")

    assert ran.code == 0
    for text in (
        "/v1/m: 101 requests", "1 bodies are keyed by their bytes", "for ever", "/request_id: +",
        "/text strip: +", "/user: +", "it may say whom", "/top: +", "Rule(\n    '/v1/m',",
        'ignore = ["/request_id"]', "These are hints.",
    ):  # fmt: skip
        assert text in ran.out


def test_programs_get_all_of_it(
    memoserve: Runner, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(log_file.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)

    document = json.loads(memoserve("advise", "-", "--json").out)

    (advice,) = document["paths"]
    assert "judg" in document["warning"] or "hints" in document["warning"]
    assert advice["requests"] == 101
    assert advice["ratios"][0]["ttl"] is None
    assert advice["ignore"][0]["pointer"] == "/request_id"
    assert advice["toml"].startswith("[[rules]]")


def test_times_give_the_ratio_of_usual_ttls(memoserve: Runner, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(f'{{"body":{n % 2},"time":{n * 50}}}' for n in range(50)))

    usual = memoserve("advise", str(file))
    given = json.loads(memoserve("advise", str(file), "--ttl", "120", "--json").out)

    assert all(f"{ttl} s" in usual.out for ttl in ("60", "300", "3600"))
    assert "always the same" not in usual.out
    assert [ratio["ttl"] for ratio in given["paths"][0]["ratios"]] == [None, 120]


def test_what_is_always_the_same_is_shown(memoserve: Runner, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"model":"m","a":1}\n{"model":"m","a":2}')

    assert '/model = "m"' in memoserve("advise", str(file)).out


@pytest.mark.parametrize(("count", "is_told"), [(19, True), (20, False)])
def test_a_short_log_says_why_there_is_no_advice(
    memoserve: Runner, tmp_path: Path, count: int, *, is_told: bool
) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(f'{{"text":"x","request_id":{n}}}' for n in range(count)))

    shown = memoserve("advise", str(file)).out
    (advice,) = json.loads(memoserve("advise", str(file), "--json").out)["paths"]

    said = f"/: {count} requests\n  too few to tell identifiers from questions (20 at least)"
    assert (said in shown) is is_told
    assert advice["is_of_too_few"] is is_told
    assert bool(advice["ignore"]) is not is_told


def test_the_busiest_paths_are_shown(memoserve: Runner, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(f'{{"body":1,"path":"/{n}"}}' for n in range(25)))

    ran = memoserve("advise", str(file))

    assert "/19: 1 requests" in ran.out
    assert "/20: 1 requests" not in ran.out
    assert "5 more paths" in ran.out


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        pytest.param("", (), 1, "there is no request in", id="empty"),
        pytest.param("[1]", ("--form", "records"), 1, "line 1 is no record", id="no-record"),
        pytest.param("1", ("--ttl", "60"), 2, "needs a log with times", id="no-times"),
        pytest.param("1", ("--ttl", "0"), 2, "more than 0 seconds", id="ttl"),
        pytest.param("1", ("--path", "x"), 2, "must start with a slash", id="path"),
        pytest.param("1", ("--entries", "0"), 2, "entries", id="entries"),
    ],
)
def test_a_log_that_says_nothing_ends_with_a_sentence(
    memoserve: Runner,
    tmp_path: Path,
    text: str,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(text)

    ran = memoserve("advise", str(file), *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


@pytest.mark.parametrize("name", ["nowhere.jsonl", "a\0b", "."])
def test_a_file_that_cannot_be_read_is_named(memoserve: Runner, name: str) -> None:
    ran = memoserve("advise", name)

    assert (ran.code, "cannot read" in ran.err) == (2, True)
