"""Which requests a rule covers, and which rules there can be."""

import os
import subprocess
import sys
from typing import Any

import pytest

from memoserve import CacheMiddleware, Rule, StoredResponse
from memoserve._asgi import Scope
from memoserve._keys import Edits
from memoserve._rules import RuleBook, route_path
from tests.asgi import Model

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "relative-path": ({"path": "v1"}, "'v1'"),
    "empty-path": ({"path": ""}, "''"),
    "path-of-another-type": ({"path": b"/v1"}, "b'/v1'"),
    "unknown-convertor": ({"path": "/{a:word}"}, "/{a:word}"),
    "duplicate-parameter": ({"path": "/{a}/{a}"}, "/{a}/{a}"),
    "models-without-parameter": ({"models": ["a"]}, "'/v1'"),
    "models-of-another-parameter": ({"path": "/{model_name}", "models": ["a"]}, "model_name"),
    "models-as-string": ({"path": "/{model}", "models": "abc"}, "'abc'"),
    "methods-empty": ({"methods": ()}, r"\(\)"),
    "methods-unsafe": ({"methods": {"DELETE"}}, "DELETE"),
    "methods-lower-case": ({"methods": ["post"]}, "'post'"),
    "methods-as-string": (
        {"methods": "POST"},
        r"methods must be a collection, such as \['POST'\], not",
    ),
    "methods-as-number": ({"methods": 1}, "methods must be a collection, not 1"),
    "statuses-empty": ({"statuses": ()}, r"\(\)"),
    "statuses-interim": ({"statuses": [103]}, "103"),
    "statuses-beyond": ({"statuses": [600]}, "600"),
    "heuristic-negative": ({"heuristic": -0.1}, "-0.1"),
    "heuristic-as-string": ({"heuristic": "0.1"}, "heuristic must be .* not '0.1'"),
    "heuristic-above-one": ({"heuristic": 1.5}, "1.5"),
    "statuses-as-number": ({"statuses": 200}, "statuses must be a collection, not 200"),
    "ttl-zero": ({"ttl": 0}, "0"),
    "ttl-negative": ({"ttl": -1.5}, "-1.5"),
    "ttl-nan": ({"ttl": float("nan")}, "nan"),
    "ttl-infinite": ({"ttl": float("inf")}, "inf"),
    "ttl-as-string": (
        {"ttl": "300"},
        "ttl must be a positive number of seconds or None, not '300'",
    ),
    "jitter-one": ({"jitter": 1}, "1"),
    "jitter-as-string": ({"jitter": "0.1"}, "jitter must be .* not '0.1'"),
    "jitter-negative": ({"jitter": -0.1}, "-0.1"),
    "swr-negative": ({"stale_while_revalidate": -1}, "stale_while_revalidate .* -1"),
    "swr-infinite": ({"stale_while_revalidate": float("inf")}, "inf"),
    "sie-nan": ({"stale_if_error": float("nan")}, "stale_if_error .* nan"),
    "min-cost-as-string": ({"min_cost": "1s"}, "min_cost must be .* not '1s'"),
    "min-cost-negative": ({"min_cost": -1}, "min_cost .* -1"),
    "request-bytes-zero": ({"max_request_bytes": 0}, "max_request_bytes .* 0"),
    "response-bytes-negative": ({"max_response_bytes": -1}, "max_response_bytes .* -1"),
    "response-bytes-as-string": (
        {"max_response_bytes": "2mb"},
        "max_response_bytes must be a positive number of bytes, not '2mb'",
    ),
    "ignore-as-string": ({"ignore": "/id"}, "'/id'"),
    "ignore-no-pointer": ({"ignore": ["id"]}, "ignore must be .* not 'id'; did you mean '/id'"),
    "ignore-everything": ({"ignore": [""]}, "''"),
    "ignore-a-number": ({"ignore": [1]}, "ignore must be JSON pointers .* not 1; .* '/1'"),
    "ignore-none": ({"ignore": None}, "ignore must be a collection, not None"),
    "defaults-no-pointer": (
        {"defaults": {"n": 1}},
        "defaults must be .* not 'n'; did you mean '/n'",
    ),
    "defaults-as-list": ({"defaults": ["/n"]}, r"defaults must map JSON pointers, not be \['/n'\]"),
    "defaults-bad-escape": ({"defaults": {"/~2": 1}}, "/~2"),
    "defaults-nan": ({"defaults": {"/n": float("nan")}}, "nan"),
    "defaults-infinity": ({"defaults": {"/n": [float("inf")]}}, "inf"),
    "defaults-set": ({"defaults": {"/n": {1, 2}}}, "{1, 2}"),
    "defaults-bytes": ({"defaults": {"/n": b"x"}}, "b'x'"),
    "defaults-object": ({"defaults": {"/n": object()}}, "object"),
    "defaults-number-as-name": ({"defaults": {"/n": {1: 2}}}, "{1: 2}"),
    "defaults-lone-surrogate": ({"defaults": {"/n": "\ud800"}}, "ud800"),
    "text-step": ({"text": {"/q": ("lower",)}}, "lower"),
    "text-as-string": (
        {"text": {"/q": "strip"}},
        r"text must be a collection, such as \['strip'\], not",
    ),
    "text-empty": ({"text": {"/q": ()}}, r"\(\)"),
    "text-no-pointer": ({"text": {"q": ("strip",)}}, "'q'"),
    "vary-as-string": ({"vary": "accept"}, "'accept'"),
    "tags-as-string": ({"tags": "news"}, "tags must be .* 'news'"),
    "tags-as-number": ({"tags": 1}, "tags must be a collection, not 1"),
    "private": ({"private": "hide"}, "hide"),
    "private-as-list": ({"private": []}, r"private=\[\]"),
    "coalesce": ({"coalesce": "cluster"}, "cluster"),
}


@pytest.mark.parametrize(("options", "shown"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_rule_fails_when_it_is_made(options: dict[str, Any], shown: str) -> None:
    """It shows the value that is wrong; HEAD, 206 and 304 have no way in (bug 30, bug 48)."""
    options = {"path": "/v1", **options}

    with pytest.raises(ValueError, match=shown):
        Rule(**options)


RIGHT: dict[str, dict[str, Any]] = {
    "nothing": {},
    "all-methods": {"methods": ["GET", "HEAD", "QUERY", "POST"]},
    "statuses": {"statuses": (200, 203, 300, 301, 404, 410)},
    "no-ttl": {"ttl": None},
    "ttl-below-a-second": {"ttl": 0.001},
    "jitter": {"jitter": 0.99},
    "stale": {"stale_while_revalidate": 60, "stale_if_error": 1e9},
    "models": {"path": "/{model}/infer", "models": ["a", "b"]},
    "model-path": {"path": "/{model:path}", "models": ["a/b"]},
    "defaults": {"defaults": {"/a": [None, True, 1, 2**70, 0.1, "é", {"b": {}}]}},
    "text": {"text": {"/q": ["nfc", "strip", "collapse", "casefold"]}},
    "callables": {"epoch": str, "when": bool, "admit": bool, "tags": lambda body, response: ["a"]},
    "coalesce": {"coalesce": "process"},
}


@pytest.mark.parametrize("options", RIGHT.values(), ids=RIGHT.keys())
def test_a_right_rule_is_kept_as_given(options: dict[str, Any]) -> None:
    rule = Rule(**{"path": "/v1", **options})

    assert {name: getattr(rule, name) for name in options} == options


def test_an_unknown_convertor_is_refused_without_assertions_too() -> None:
    """Starlette asserts, which `python -O` leaves out."""
    code = (
        "from memoserve import Rule\n"
        "try:\n    Rule('/{a:word}')\n"
        "except ValueError as error:\n    print(error)"
    )

    shown = subprocess.run(
        [sys.executable, "-O", "-c", code], check=True, capture_output=True, text=True
    )

    assert "/{a:word}" in shown.stdout


def test_rules_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match="rules must not be empty"):
        RuleBook([])


@pytest.mark.parametrize("rules", [["/x"], "/x", Rule("/x"), None], ids=repr)
def test_rules_must_be_rules(rules: Any) -> None:
    with pytest.raises(ValueError, match="rules must be several Rule objects, not ") as caught:
        CacheMiddleware(Model(), rules=rules)

    assert str(caught.value).endswith(repr(rules))


def found(method: str, path: str, *rules: Rule) -> Rule | None:
    coverage = RuleBook(rules).find({"method": method, "path": path})
    return None if coverage is None else coverage.rule


def test_the_first_rule_for_path_and_method_decides() -> None:
    special = Rule("/v1/chat", ttl=1)
    getting = Rule("/v1/{name}", methods={"GET"})
    general = Rule("/v1/{rest:path}")
    rules = (special, getting, general)

    assert found("POST", "/v1/chat", *rules) is special
    assert found("GET", "/v1/chat", *rules) is getting
    assert found("POST", "/v1/other", *rules) is general
    assert found("POST", "/v1/a/b", *rules) is general
    assert found("GET", "/v1/a/b", *rules) is None
    assert found("POST", "/v2", *rules) is None


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/v1/a", "/v1/a", True),
        ("/v1/a", "/v1/a/", False),
        ("/v1/a", "/v1/ab", False),
        ("/v1/a", "/V1/a", False),
        ("/v1/{x}", "/v1/", False),
        ("/v1/{x}", "/v1/a/b", False),
        ("/v1/{x:int}", "/v1/7", True),
        ("/v1/{x:int}", "/v1/a", False),
        ("/v1/{x}.json", "/v1/a.json", True),
        ("/v1/{x}.json", "/v1/axjson", False),
        ("/{rest:path}", "/", True),
        ("/{rest:path}", "/a/b", True),
    ],
)
def test_a_pattern_matches_as_in_starlette(pattern: str, path: str, expected: bool) -> None:
    assert (found("POST", path, Rule(pattern)) is not None) is expected


@pytest.mark.parametrize(
    ("options", "path", "expected"),
    [
        pytest.param({"path": "/v1/a"}, "/v1/a", "/v1/a", id="pattern"),
        pytest.param({"path": "/v1/{x}"}, "/v1/a", "/v1/{x}", id="pattern-with-parameter"),
        pytest.param({"path": "/v1/a", "model": "m"}, "/v1/a", "m", id="named"),
        pytest.param({"path": "/{model}", "model": "m"}, "/a", "m", id="named-with-parameter"),
        pytest.param({"path": "/{model}", "models": ["a"]}, "/a", "a", id="listed"),
        pytest.param({"path": "/{model}", "models": ["a"]}, "/b", "other", id="unlisted"),
        pytest.param({"path": "/{model}"}, "/a", "other", id="none-listed"),
    ],
)
def test_a_label_comes_from_the_rule_and_never_from_the_path(
    options: dict[str, Any], path: str, expected: str
) -> None:
    """Else whoever makes up paths makes up time series (bug 56)."""
    coverage = RuleBook([Rule(**options)]).find({"method": "POST", "path": path})

    assert coverage is not None
    assert coverage.model == expected


def digest(**options: Any) -> bytes:
    coverage = RuleBook([Rule(**{"path": "/v1/a", **options})]).find(
        {"method": "POST", "path": "/v1/a"}
    )
    assert coverage is not None
    return coverage.digest


def test_whatever_shapes_a_key_is_in_the_digest() -> None:
    """Two rules that treat bodies or askers in different ways share nothing (bug 3, bug 14)."""
    digests = [
        digest(),
        digest(path="/v1/{x}"),
        digest(methods=["POST", "QUERY"]),
        digest(ignore=["/a"]),
        digest(ignore=["/a", "/b"]),
        digest(defaults={"/a": 1}),
        digest(defaults={"/a": 1.0}),
        digest(defaults={"/a": True}),
        digest(text={"/a": ["strip"]}),
        digest(text={"/a": ["strip", "nfc"]}),
        digest(vary=["x-lang"]),
        digest(private="share"),
        digest(private="partition"),
    ]

    assert len(set(digests)) == len(digests)


def test_what_shapes_no_key_is_not_in_the_digest() -> None:
    """A new ttl does not empty the cache."""
    assert digest(ttl=5, jitter=0.1, tags=["a"], min_cost=1, coalesce=False, model="m") == digest()


def test_the_order_of_a_set_says_nothing() -> None:
    """bug 11."""
    assert digest(methods=["GET", "POST"]) == digest(methods=("POST", "GET"))
    assert digest(vary=["X-A", "x-b"]) == digest(vary=["x-B", "x-a"])


def test_every_process_makes_the_same_digest() -> None:
    """Whatever Python's hashes are seeded with (bug 11)."""
    code = (
        "from memoserve._rules import Rule, RuleBook\n"
        "rule = Rule('/a', methods={'GET', 'HEAD', 'QUERY', 'POST'}, vary={'x', 'y', 'z'})\n"
        "print(RuleBook([rule]).find({'method': 'POST', 'path': '/a'}).digest.hex())"
    )

    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(digests) == 1


def test_coverage_names_edits_and_vary() -> None:
    rule = Rule("/v1", ignore=["/id"], defaults={"/n": 1}, text={"/q": ["nfc"]}, vary=["X-Lang"])

    coverage = RuleBook([rule]).find({"method": "POST", "path": "/v1"})

    assert coverage is not None
    assert coverage.vary == {b"x-lang"}
    assert coverage.edits == Edits(("/id",), {"/n": 1}, {"/q": ["nfc"]})


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"path": "/v1"}, "/v1"),
        ({"path": "/v1", "root_path": ""}, "/v1"),
        ({"path": "/api/v1", "root_path": "/api"}, "/v1"),
        ({"path": "/api", "root_path": "/api"}, "/"),
        ({"path": "/v1", "root_path": "/api"}, "/v1"),
        ({"path": "/apiary", "root_path": "/api"}, "/apiary"),
    ],
)
def test_rules_are_matched_after_the_root_path(scope: Scope, expected: str) -> None:
    """Servers and mounts put the prefix into the path, some proxies do not (bug 27)."""
    assert route_path(scope) == expected


def test_a_stored_response_shows_its_body() -> None:
    response = StoredResponse(200, (), (b'{"a":', b"[1]}"), cost=0.5)

    assert response.body == b'{"a":[1]}'
    assert response.json() == {"a": [1]}
    assert response.age == 0


@pytest.mark.parametrize("body", [b"", b"{", b'"\xff"'])
def test_a_body_that_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|truncated|UTF-8|decode"):
        StoredResponse(200, (), (body,), cost=0.5).json()
