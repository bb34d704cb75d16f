"""`memoserve explain`: why two requests share an answer, or do not."""

import json
import sys
from pathlib import Path

import pytest

from memoserve._explain import Difference, differences_in_json
from tests.middleware.commands.running import Runner

_DUPLICATE = 'Detected duplicate key "a" at line 1 column 12'


@pytest.mark.parametrize(
    ("one", "other", "differences"),
    [
        pytest.param(b"1", b"1.0", [("", "number 1 vs number 1.0")], id="number"),
        pytest.param(b"[1]", b"[true]", [("/0", "number 1 vs true")], id="true"),
        pytest.param(b'"1"', b"1", [("", 'string "1" vs number 1')], id="string"),
        pytest.param(b'{"a":1}', b'{"a":2}', [("/a", "number 1 vs number 2")], id="member"),
        pytest.param(b"{}", b'{"a":null}', [("/a", "missing in the first, null")], id="missing"),
        pytest.param(b'{"a":{}}', b"{}", [("/a", "object {}, missing in the second")], id="gone"),
        pytest.param(b'{"/":1}', b'{"/":2}', [("/~1", "number 1 vs number 2")], id="escaped"),
        pytest.param(
            b"[1,2]", b"[2]", [("/0", "number 1 vs number 2"), ("", "2 elements vs 1")], id="array"
        ),
        pytest.param(b"[]", b"{}", [("", "array [] vs object {}")], id="kinds"),
        pytest.param(b'{"a":[1]}', b'{"a":[1]}', [], id="same"),
    ],
)
def test_differences_are_named_by_pointers(
    one: bytes, other: bytes, differences: list[tuple[str, str]]
) -> None:
    found = differences_in_json(one, other)

    assert found == [Difference("body", name, what) for name, what in differences]


def test_long_values_are_cut() -> None:
    (found,) = differences_in_json(b'"%s"' % (b"x" * 500), b"1")

    assert len(found.what) < 100
    assert "…" in found.what


def explained(memoserve: Runner, *arguments: str) -> tuple[int, list[str], list[str]]:
    ran = memoserve("explain", *arguments, "--json")
    document = json.loads(ran.out)
    assert document["shared"] is (ran.code == 0)
    both = [
        [f"{each['where']} {each['name']} {each['what']}".replace("  ", " ") for each in listed]
        for listed in (document["differences"], document["harmless"])
    ]
    return ran.code, both[0], both[1]


@pytest.mark.parametrize(
    ("arguments", "code", "differences", "harmless"),
    [
        pytest.param(('{"a":1}', '{"a":1}'), 0, [], [], id="same"),
        pytest.param(
            ('{"a":1,"b":2}', '{"b":2, "a":1}'),
            0,
            [],
            ["body spelled in two ways: order of members, spaces, escapes"],
            id="spelling",
        ),
        pytest.param(
            ('{"a":1,"id":"x"}', '{"a":1,"id":"y"}', "--ignore", "/id"),
            0,
            [],
            ['body /id string "x" vs string "y"'],
            id="ignored",
        ),
        pytest.param(
            ('{"a":1,"id":"x"}', '{"a":1.0,"id":"y"}', "--ignore", "/id"),
            1,
            ["body /a number 1 vs number 1.0"],
            ['body /id string "x" vs string "y"'],
            id="different",
        ),
        pytest.param(
            ('{"a":1,"a":1}', '{"a":1}'),
            1,
            [
                f"body the first is keyed by its bytes: {_DUPLICATE}",
                "body the bytes differ from byte 6 on",
            ],
            [],
            id="duplicate-name",
        ),
        pytest.param(
            ("[1.50]", "[1.50] "),
            1,
            [
                "body the first is keyed by its bytes: the number 1.50 would change to 1.5",
                "body the second is keyed by its bytes: the number 1.50 would change to 1.5",
                "body the bytes differ from byte 6 on",
            ],
            [],
            id="both-by-bytes",
        ),
        pytest.param(
            ("curl h/a?x=1 --json [1]", "curl h/b --json [1]"),
            1,
            [
                "path '/a' vs '/b'",
                "query_string 'x=1' vs ''",
            ],
            [],
            id="path-and-query",
        ),
        pytest.param(
            ("curl h/%61 --json [1]", "curl h/a --json [1]", "--epoch", "2"),
            1,
            ["raw_path '/%61' vs '/a'"],
            [],
            id="escaped-path",
        ),
        pytest.param(
            ("curl -X QUERY h --json [1]", "curl h --json [1]"),
            1,
            ["rule two rules, or one with other options", "method 'QUERY' vs 'POST'"],
            [],
            id="method",
        ),
        pytest.param(
            ("curl h --json [1] -H 'Accept: a/b'", "curl g --json [1] -H Accept:"),
            1,
            ["field accept 'a/b' vs absent", "field host 'h' vs 'g'"],
            [],
            id="fields",
        ),
        pytest.param(
            (
                "curl h --json [1] -u a:b", "curl h --json [1] -u a:c", "--private", "partition",
                "--secret", "0123456789abcdef",
            ),
            1,
            ["credentials the credentials are two, and each has a cache of its own"],
            [],
            id="credentials",
        ),
        pytest.param(
            ("curl h --json [1] -u a:b", "curl h/x --json [1]"),
            1,
            ["bypass the first goes past the cache: credentials"],
            [],
            id="bypass",
        ),
        pytest.param(
            ("curl h/a --json [1]", "curl h/b --json [1]", "--rule", "/a"),
            1,
            ["rule the second, POST /b is covered by no rule"],
            [],
            id="no-rule",
        ),
        pytest.param(
            ("[1]", "[2]", "--rule", "/v1/{model}"),
            1,
            [
                "rule the first, POST / is covered by no rule: say --url",
                "rule the second, POST / is covered by no rule: say --url",
            ],
            [],
            id="no-url",
        ),
        pytest.param(
            ("[1]", "[2]", "--rule", "/v1/sentiment"),
            1,
            ["body /0 number 1 vs number 2"],
            [],
            id="the-path-of-the-rule",
        ),
    ],
)  # fmt: skip
def test_the_reason_is_found(
    memoserve: Runner, arguments: tuple[str, ...], code: int, differences: list[str],
    harmless: list[str],
) -> None:  # fmt: skip
    found = explained(memoserve, *arguments)

    assert found == (code, differences, harmless)


def test_bytes_that_are_equal_with_and_without_a_type_are_two_questions(memoserve: Runner) -> None:
    code, differences, _ = explained(
        memoserve, "curl h -H 'Content-Type: application/json' -d [1]", "curl h -d [1]"
    )

    assert code == 1
    assert differences[0].startswith("field content-type 'application/json' vs ")
    assert differences[1].startswith("body the second is keyed by its bytes: Content-Type")
    assert len(differences) == 2


def test_people_get_lines(memoserve: Runner, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"a": 1}')

    same = memoserve("explain", str(file), '{"a":1}')
    other = memoserve("explain", str(file), '{"b":1}')

    assert same.out.startswith("one answer: both have the key ")
    assert "no part of the key\n  body: spelled in two ways" in same.out
    assert other.out == (
        "two answers\n  body /a: number 1, missing in the second\n"
        "  body /b: missing in the first, number 1\n"
    )


def test_standard_input_is_read_once(memoserve: Runner) -> None:
    ran = memoserve("explain", "-", "-")

    assert (ran.code, "standard input" in ran.err) == (2, True)


def test_the_rules_of_a_configuration_count_unless_one_is_given(
    memoserve: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memoserve.toml").write_text('[[rules]]\npath = "/"\nignore = ["/id"]\n')

    configured, _, _ = explained(memoserve, '{"id":1}', '{"id":2}')
    given, _, _ = explained(memoserve, '{"id":1}', '{"id":2}', "--rule", "/")

    assert (configured, given) == (0, 1)


def test_functions_are_found_in_the_working_directory_until_the_command_ends(
    memoserve: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "explained.py").write_text("def version(scope): return scope['path']\n")
    (tmp_path / "memoserve.toml").write_text('[[rules]]\npath = "/"\nepoch = "explained:version"\n')
    before = sys.path.copy()

    code, _, _ = explained(memoserve, '{"a":1}', '{"a":1.0}')

    assert (code, sys.path) == (1, before)
    assert sys.modules.pop("explained").__file__ == str(tmp_path / "explained.py")
