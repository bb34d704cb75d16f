"""From a file and variables to rules and options."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoserve import CacheMiddleware, ConfigError, MemoserveError, Rule
from memoserve._config_file import AdmissionTable, MetricsTable, VariantsTable
from memoserve._config_rule import RuleTable
from memoserve._config_sources import KEYS, fields_of, variable_of
from memoserve.config import Configuration, load, stack
from tests.middleware.config import rules as named

RULES = "tests.middleware.config.rules"
DIGITS = "1234567890123456"  # A secret that could be taken for a number.
RULE = '[[rules]]\npath = "/v1/model"\n'

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a `memoserve.toml` into a working directory of its own."""
    monkeypatch.chdir(tmp_path)

    def written(text: str) -> Path:
        (tmp_path / "memoserve.toml").write_text(text)
        return tmp_path

    return written


def read(**environ: str) -> Configuration:
    return load(environ={f"MEMOSERVE_{name}": text for name, text in environ.items()})


def problems(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(**environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


# What is right.


def test_a_rule_with_a_path_alone_has_the_defaults_of_rule(write: Write) -> None:
    write(RULE)

    assert read().rules == (Rule("/v1/model"),)


def test_every_key_of_a_rule_reaches_the_rule(write: Write) -> None:
    write(
        f"""
        [[rules]]
        path = "/v1/models/{{model}}/infer"
        methods = ["GET", "POST"]
        statuses = [200, 404]
        ttl = "none"
        stale_while_revalidate = 1
        stale_if_error = 2.5
        heuristic = 0.1
        etag = true
        jitter = 0.2
        models = ["a", "b"]
        epoch = "2026-11-20"
        ignore = ["/request_id"]
        defaults = {{ "/n" = 1 }}
        text = {{ "/text" = ["nfc", "strip"] }}
        vary = ["X-Tier"]
        private = "share"
        when = "{RULES}:is_deterministic"
        admit = "{RULES}:is_complete"
        min_cost = 0.05
        tags = ["documents"]
        ends_with = "data: [DONE]\\n\\n"
        max_request_bytes = "64kb"
        max_response_bytes = 1000
        coalesce = "process"
        finish = true
        model = ""
        """
    )

    assert read().rules == (
        Rule(
            "/v1/models/{model}/infer",
            methods=("GET", "POST"),
            statuses=(200, 404),
            ttl=None,
            stale_while_revalidate=1.0,
            stale_if_error=2.5,
            heuristic=0.1,
            etag=True,
            jitter=0.2,
            models=("a", "b"),
            epoch="2026-11-20",
            ignore=("/request_id",),
            defaults={"/n": 1},
            text={"/text": ("nfc", "strip")},
            vary=("X-Tier",),
            private="share",
            when=named.is_deterministic,
            admit=named.is_complete,
            min_cost=0.05,
            tags=("documents",),
            ends_with=b"data: [DONE]\n\n",
            max_request_bytes=65_536,
            max_response_bytes=1000,
            coalesce="process",
            finish=True,
        ),
    )


def test_epoch_and_tags_may_be_functions(write: Write) -> None:
    write(f'{RULE}epoch = "{RULES}:version"\ntags = "{RULES}:tags"')

    (rule,) = read().rules

    assert (rule.epoch, rule.tags) == (named.version, named.tags)


def test_every_option_of_the_cache_reaches_it(write: Write) -> None:
    write(
        """
        store = "memory://?max_bytes=1mb"
        secret = "0123456789abcdef"
        namespace = "other"
        mode = "shadow"
        client_control = "obey"
        credentials = ["x-key"]
        cache_status = false
        max_canonical_bytes = "1KB"
        flight_max_bytes = "1gb"
        store_deadline = 1
        lease = 2.5
        """
        + RULE
    )

    options = read().cache

    assert options == {
        "store": "memory://?max_bytes=1mb",
        "secret": "0123456789abcdef",
        "namespace": "other",
        "mode": "shadow",
        "client_control": "obey",
        "credentials": ("x-key",),
        "cache_status": False,
        "max_canonical_bytes": 1024,
        "flight_max_bytes": 1024**3,
        "store_deadline": 1.0,
        "lease": 2.5,
    }
    CacheMiddleware(_app, rules=[Rule("/")], **options)  # It takes all of them.


def test_sections_become_their_tables(write: Write) -> None:
    write(
        f"""{RULE}
        [metrics]
        port = 9464
        [admission]
        limit = {{ sentiment = 2 }}
        queue = 3
        deadline = 4
        [variants]
        shares = {{ v1 = 9, v2 = 1 }}
        """
    )

    read_ = read()

    assert read_.table(MetricsTable) == MetricsTable(port=9464)
    assert read_.table(AdmissionTable) == AdmissionTable(
        limit={"sentiment": 2}, queue=3, deadline=4.0
    )
    assert read_.table(VariantsTable) == VariantsTable(shares={"v1": 9.0, "v2": 1.0})


def test_what_is_not_said_is_not_there(write: Write) -> None:
    write(RULE)

    read_ = read()

    assert (read_.cache, read_.table(AdmissionTable), read_.table(VariantsTable)) == (
        {},
        None,
        None,
    )


def test_rules_of_python_code_come_after_those_of_the_file(write: Write) -> None:
    write(
        f"""include = [
            "{RULES}:sentiment",
            {{ rules = "{RULES}:summaries", options = {{ ttl = 5 }} }},
            "{RULES}:summaries",
        ]
        {RULE}"""
    )

    paths = [(rule.path, rule.ttl) for rule in read().rules]

    assert paths == [
        ("/v1/model", 300.0), ("/v1/sentiment", 300.0), ("/v1/summaries", 5),
        ("/v1/summaries", 60.0),
    ]  # fmt: skip


# The environment.


def test_the_environment_alone_is_enough(write: Write) -> None:
    write("").joinpath("memoserve.toml").unlink()

    configuration = read(
        RULES='[{"path": "/v1/model", "ttl": null}]',
        STORE="memory://?max_bytes=2mb",
        SECRET=DIGITS,
        CREDENTIALS="x-key, cookie",
        CACHE_STATUS="false",
        LEASE="3",
        FLIGHT_MAX_BYTES="1gb",
        METRICS_TOKEN=DIGITS,
        ADMISSION_LIMIT="2",
        ADMISSION_QUEUE="0",
        ADMISSION_DEADLINE="1.5",
        VARIANTS_SHARES='{"v1": 1}',
    )

    assert configuration.rules == (Rule("/v1/model", ttl=None),)
    assert configuration.cache == {
        "store": "memory://?max_bytes=2mb",
        "secret": DIGITS,
        "credentials": ("x-key", "cookie"),
        "cache_status": False,
        "lease": 3.0,
        "flight_max_bytes": 1024**3,
    }
    assert configuration.table(MetricsTable) == MetricsTable(token=DIGITS)
    assert configuration.table(AdmissionTable) == AdmissionTable(limit=2, queue=0, deadline=1.5)
    assert configuration.table(VariantsTable) == VariantsTable(shares={"v1": 1.0})


def test_the_environment_wins_and_every_value_knows_who_said_it(write: Write) -> None:
    write(
        f"""lease = 1
        store_deadline = 2
        {RULE}
        [admission]
        limit = 1
        queue = 1
        deadline = 1
        """
    )

    configuration = read(LEASE="7", ADMISSION_QUEUE="9", RULES='[{"path": "/other"}]')

    given = {name: (given.value, given.place) for name, given in configuration.keys.items()}
    assert given == {
        "lease": (7.0, "MEMOSERVE_LEASE"),
        "store_deadline": (2.0, "memoserve.toml:2"),
        "admission.limit": (1, "memoserve.toml:7"),
        "admission.queue": (9, "MEMOSERVE_ADMISSION_QUEUE"),
        "admission.deadline": (1.0, "memoserve.toml:9"),
    }
    assert [rule.path for rule in configuration.rules] == ["/other"]
    assert configuration.origins[0].place == "MEMOSERVE_RULES"


def test_an_empty_variable_counts_as_unset(write: Write) -> None:
    write(f"lease = 1\n{RULE}")

    assert read(LEASE="", CONFIG="").cache == {"lease": 1.0}


def test_included_rules_may_be_named_by_a_variable(write: Write) -> None:
    write("")

    configuration = read(INCLUDE=f"{RULES}:sentiment,{RULES}:summaries")

    assert [rule.path for rule in configuration.rules] == ["/v1/sentiment", "/v1/summaries"]
    assert {origin.place for origin in configuration.origins} == {"MEMOSERVE_INCLUDE"}


def test_a_variable_names_another_file(write: Write, tmp_path: Path) -> None:
    write("")
    (tmp_path / "other.toml").write_text(f"lease = 4\n{RULE}")

    configuration = read(CONFIG="other.toml")

    assert configuration.keys["lease"].place == "other.toml:1"


def test_a_path_that_is_passed_wins_over_the_variable(write: Write, tmp_path: Path) -> None:
    write("")
    (tmp_path / "other.toml").write_text(RULE)

    assert load(tmp_path / "other.toml", environ={"MEMOSERVE_CONFIG": "no.toml"}).rules


def test_rules_that_are_passed_are_for_who_has_configured_none(write: Write) -> None:
    write(RULE)
    passed = [Rule("/passed")]

    assert [rule.path for rule in load(rules=passed, environ={}).rules] == ["/v1/model"]
    assert load("/dev/null", rules=passed, environ={}).rules == tuple(passed)


def test_what_kubernetes_says_of_a_service_of_this_name_is_left_alone(write: Write) -> None:
    write(RULE)

    assert (
        read(
            PORT="tcp://10.0.0.1:80",
            METRICS_PORT="tcp://10.0.0.1:80",
            SERVICE_HOST="10.0.0.1",
            SERVICE_PORT="80",
            PORT_80_TCP_ADDR="10.0.0.1",
            METRICS_DIR="metrics",
        ).keys
        == {}
    )


def test_a_variable_that_may_be_somebody_elses_is_only_logged(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write(RULE)

    assert read(VERSION="1.0").rules
    assert caplog.messages == ["MEMOSERVE_VERSION is no variable of memoserve"]


# Secrets.


def test_a_secret_may_be_in_a_file_beside_the_configuration(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    write("")
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "secret").write_text("of the file's own folder\n")
    (folder / "m.toml").write_text(f'secret_file = "secret"\n{RULE}')

    of_file = load(folder / "m.toml", environ={})
    of_variable = load(folder / "m.toml", environ={"MEMOSERVE_SECRET_FILE": "secret"})

    secrets = [configuration.cache["secret"] for configuration in (of_file, of_variable)]
    assert secrets == ["of the file's own folder", "0123456789abcdef"]


def test_a_variable_replaces_the_secret_or_the_file_that_has_it(write: Write) -> None:
    write(f'secret_file = "nowhere"\n{RULE}[metrics]\ntoken = "old"')

    configuration = read(SECRET=DIGITS, METRICS_TOKEN=DIGITS)

    assert configuration.cache == {"secret": DIGITS}
    assert configuration.keys["metrics.token"].value == DIGITS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"short", "must hold a text of at least 16 characters", id="short"),
        pytest.param(b"\xff" * 16, "is no text in UTF-8", id="not-a-text"),
        pytest.param(None, "cannot be read: No such file or directory", id="absent"),
    ],
)
def test_a_file_without_a_secret_is_a_problem(
    write: Write, content: bytes | None, message: str
) -> None:
    folder = write(f'secret_file = "secret"\n{RULE}')
    if content is not None:
        (folder / "secret").write_bytes(content)

    (problem,) = problems()

    assert problem.startswith("memoserve.toml:1: secret_file")
    assert message in problem


def test_one_source_may_not_say_a_secret_twice(write: Write) -> None:
    folder = write(f'secret = "0123456789abcdef"\nsecret_file = "s"\n{RULE}')
    (folder / "s").write_text("0123456789abcdef")

    assert problems() == [
        "memoserve.toml:2: secret_file and secret say the same thing: leave one of them out"
    ]


def test_no_message_repeats_a_secret(write: Write) -> None:
    """Nor does a log: see the tests of the stack (bug 18)."""
    write(f'secret = "hunter2"\n{RULE}[metrics]\ntoken = 123456')

    short = "hunter3"

    found = "\n".join(problems(SECRET=short))

    assert "hunter" not in found
    assert "123456" not in found


# What is wrong.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("lease = 'x'", '1: lease must be seconds above 0, not "x"', id="type"),
        pytest.param("lease = 0", "1: lease must be seconds above 0, not 0", id="range"),
        pytest.param("\nlese = 1", "2: 'lese' is no setting; did you mean 'lease'?", id="near"),
        pytest.param("zzz = 1", "1: 'zzz' is no setting; there are admission, cache", id="far"),
        pytest.param("metrics = 1", "1: metrics must be a table, not 1", id="no-table"),
        pytest.param(
            "[metrics]\ntoke = 'x'",
            "2: 'toke' is no setting of [metrics]; did you mean 'token'?",
            id="near-in-a-section",
        ),
        pytest.param(
            "[variants]", "1: variants.shares is missing: a table of names and", id="missing"
        ),
        pytest.param("rules = 1", "1: rules must be a list of tables, not 1", id="no-rules"),
        pytest.param("rules = ['a']", '1: rules must be a list of tables, not ["a"]', id="no-rule"),
        pytest.param(
            "[[rules]]\npath = '/a'\ntll = 1",
            "3: rules[0].tll is no setting of a rule; did you mean 'ttl'?",
            id="near-in-a-rule",
        ),
        pytest.param("[[rules]]\nttl = 1", "1: rules[0].path is missing: a path", id="no-path"),
        pytest.param(
            "[[rules]]\npath = '/a'\n\nprivate = 'partion'",
            "4: rules[0].private must be one of bypass, partition and share, "
            "not \"partion\"; did you mean 'partition'?",
            id="near-word",
        ),
        pytest.param(
            "[[rules]]\npath = '/a'\nmethods = ['POST', 'get']",
            "3: rules[0].methods must be a list of GET, HEAD, QUERY and POST, "
            'not ["POST", "get"]; did you mean \'GET\'?',
            id="word-in-a-list",
        ),
        pytest.param(
            "[[rules]]\npath = '/a'\nttl = inf",
            "3: rules[0].ttl must be a positive number of seconds or None, not inf",
            id="what-only-the-rule-refuses",
        ),
        pytest.param(
            "[[rules]]\npath = '/a'\nignore = ['a']",
            "3: rules[0].ignore must be JSON pointers to parts of the body, not 'a'; "
            "did you mean '/a'?",
            id="no-pointer",
        ),
        pytest.param(
            "[[rules]]\npath = '/a'\nwhen = 'nowhere_at_all:x'",
            "3: rules[0].when: 'nowhere_at_all:x' cannot be imported: ModuleNotFoundError: No mod",
            id="no-module",
        ),
        pytest.param(
            f"[[rules]]\npath = '/a'\nwhen = '{RULES}:is_deterministc'",
            f"3: rules[0].when: there is no 'is_deterministc' in '{RULES}:is_deterministc'; "
            "did you mean 'is_deterministic'?",
            id="near-function",
        ),
        pytest.param(
            f"[[rules]]\npath = '/a'\nadmit = '{RULES}:names'",
            f"3: rules[0].admit must be a function, unlike '{RULES}:names'",
            id="no-function",
        ),
        pytest.param(
            "[[rules]]\npath = '/a'\ntags = 'documents'",
            '3: rules[0].tags must be a list of names, or a function as "module:function", '
            "not 'documents'",
            id="a-name-alone",
        ),
        pytest.param(
            "[[rules]]\npath = '/a'\nepoch = 'bert:v2'",
            "3: rules[0].epoch: 'bert:v2' cannot be imported: ModuleNotFoundError: No module named "
            "'bert'; a plain text must not look like that",
            id="a-text-that-reads-like-a-function",
        ),
        pytest.param(
            f"include = ['{RULES}:names']",
            f"1: include: '{RULES}:names' must be rules, not str",
            id="no-rules-in-there",
        ),
        pytest.param(
            f"include = ['{RULES}:version.__name__']",
            f"1: include: '{RULES}:version.__name__' must be rules, not str",
            id="a-text-in-there",
        ),
        pytest.param(
            f"include = ['{RULES}:RULES_COUNT']",
            f"1: include: there is no 'RULES_COUNT' in '{RULES}:RULES_COUNT'",
            id="nothing-in-there",
        ),
        pytest.param(
            "include = ['math:pi']", "1: include: 'math:pi' must be rules, not float", id="a-number"
        ),
        pytest.param(
            f"include = [{{ rules = '{RULES}:sentiment', options = {{ a = 1 }} }}]",
            f"1: include: '{RULES}:sentiment' is no function, so it takes no options",
            id="options-for-a-list",
        ),
        pytest.param(
            f"include = ['{RULES}:failing']",
            f"1: include: '{RULES}:failing' raised LookupError: no weights",
            id="it-raises",
        ),
        pytest.param("a = 1\nb = = 2", "2: is no TOML: Invalid value, at column 5", id="syntax"),
        pytest.param("a = 'x", " is no TOML: ", id="unfinished"),
        pytest.param(
            f"secret = '{'x' * 200}'\nlease = '{'y' * 200}'", f'not "{"y" * 79}…', id="long"
        ),
        pytest.param("", " there are no rules, so nothing would be cached", id="no-rules-at-all"),
    ],
)
def test_a_problem_names_file_line_and_what_is_allowed(
    write: Write, text: str, expected: str
) -> None:
    write(text)

    (problem,) = problems()

    assert problem.startswith("memoserve.toml:")
    assert expected in problem


def test_all_that_is_wrong_in_one_rule_is_told(write: Write) -> None:
    write(
        f"""{RULE}
        ttl = "5m"
        ignore = ["request_id"]
        min_cost = inf
        text = {{ "text" = ["strip"] }}
        when = "{RULES}:nothing"
        """
    )

    found = [problem.partition(" ")[::2] for problem in problems()]

    assert [place for place, _ in found] == [f"memoserve.toml:{line}:" for line in range(4, 9)]
    assert found[1][1].endswith("did you mean '/request_id'?")
    assert found[3][1].endswith("did you mean '/text'?")


def test_a_folder_without_a_file_is_named(write: Write) -> None:
    folder = write("")
    (empty,) = problems()
    (folder / "memoserve.toml").unlink()

    (absent,) = problems()

    assert empty.startswith("memoserve.toml: there are no rules")
    assert absent.startswith(f"memoserve.toml: there is no such file in {folder.resolve()}, and ")
    assert "there are no rules, so nothing would be cached" in absent


def test_all_problems_are_told_at_once_in_the_order_of_the_lines(write: Write) -> None:
    write(
        f"""lese = 1
        {RULE}
        when = "{RULES}:nothing"
        ttl = "x"
        [admission]
        limit = 0
        """
    )

    places = [problem.split(" ")[0] for problem in problems(LEASE="x", STOER="y")]

    assert places == [
        "memoserve.toml:1:", "memoserve.toml:5:", "memoserve.toml:6:", "memoserve.toml:7:",
        "memoserve.toml:7:", "memoserve.toml:8:", "MEMOSERVE_LEASE:", "MEMOSERVE_STOER:",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        pytest.param("LEASE", "soon", 'lease must be seconds above 0, not "soon"', id="scalar"),
        pytest.param("LESE", "1", "is no variable of memoserve; did you mean 'MEMOSERVE_LEASE'?",
                     id="near"),
        pytest.param("RULES", "/v1", "rules must be a list of tables in JSON", id="no-json"),
        pytest.param("RULES", "[{}]", "rules[0].path is missing", id="no-path"),
        pytest.param("ADMISSION_LIMIT", "3", "admission.queue is missing", id="missing"),
        pytest.param("METRICS_ENABLED", "yes", 'must be true or false, not "yes"', id="flag"),
    ],
)  # fmt: skip
def test_a_problem_names_its_variable(
    write: Write, variable: str, text: str, expected: str
) -> None:
    write(RULE)

    problem = problems(**{variable: text})[0]

    assert problem.startswith(f"MEMOSERVE_{variable}: ")
    assert expected in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "other.toml: cannot be read: No such file or directory", id="absent"),
        pytest.param(b"a = '\xff'", "other.toml: is no text in UTF-8", id="not-utf-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem(
    write: Write, content: bytes | None, message: str
) -> None:
    folder = write(RULE)
    if content is not None:
        (folder / "other.toml").write_bytes(content)

    assert problems(CONFIG="other.toml")[0] == message


def test_what_the_documentation_shows_is_what_is_said(write: Write) -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    shown = re.findall(r"^(?:memoserve\.toml:\d+|MEMOSERVE_\w+): .*$", page, re.MULTILINE)
    write(
        "\n" * 7
        + '[[rules]]\ntll = 1\npath = "/a"\n'
        + "\n" * 4
        + '[[rules]]\npath = "/b"\nprivate = "partion"\n'
    )

    assert problems(LEASE="soon") == shown


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
_plausible = st.sampled_from(["/a", "/{model}", 1, 0.5, True, "none", ["/a"], {"/a": ["nfc"]}])


@settings(deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from([*fields_of(RuleTable)]), _plausible | _json, max_size=5)
        | _json,
        max_size=3,
    )
)
def test_whatever_rules_are_said_there_are_rules_or_problems(said: Any) -> None:
    environ = {"MEMOSERVE_RULES": json.dumps(said), "MEMOSERVE_INCLUDE": f"{RULES}:sentiment"}

    with contextlib.suppress(ConfigError):
        assert load("/dev/null", environ=environ).rules


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*map(variable_of, KEYS)]), st.text(max_size=9), max_size=4))
def test_whatever_variables_say_it_can_be_used_or_is_a_problem(environ: dict[str, str]) -> None:
    rules = [Rule("/v1/model")]

    with contextlib.suppress(ConfigError):
        stack(load("/dev/null", environ=environ, rules=rules), _app)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param("RULES", "[" * 100_000, "this is none", id="deep"),
        pytest.param("LEASE", "[" * 100_000, "lease must be seconds above 0", id="deep-scalar"),
        pytest.param("STORE", "redis://\udcff", "is no text in UTF-8", id="not-utf-8"),
        pytest.param("SECRET_FILE", "a\0b", "embedded null byte", id="nul"),
    ],
)
def test_variables_that_nobody_means_are_problems(
    write: Write, name: str, text: str, message: str
) -> None:
    write(RULE)

    (problem,) = problems(**{name: text})

    assert message in problem


@pytest.mark.parametrize(
    "text", [f"a = {'[' * 100_000}", f"a = {'9' * 5_000}"], ids=["deep", "long-integer"]
)
def test_files_that_nobody_means_are_problems(write: Write, text: str) -> None:
    write(text)

    assert problems()[0].startswith("memoserve.toml: is no TOML")


def test_a_byte_order_mark_is_no_part_of_the_file(write: Write) -> None:
    write(f"\ufefflease = 3\n{RULE}")

    assert read().keys["lease"].place == "memoserve.toml:1"


def test_a_problem_is_a_value_error_and_one_of_ours(write: Write) -> None:
    write("")

    with pytest.raises(ValueError, match="no rules") as caught:
        read()

    assert isinstance(caught.value, MemoserveError)


def test_numbers_that_are_none_are_refused(write: Write) -> None:
    write(f"lease = nan\nstore_deadline = -1\n{RULE}")

    assert len(problems()) == 2


async def _app(scope: Any, receive: Any, send: Any) -> None: ...
