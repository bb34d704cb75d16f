import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reference_app.settings import MAX_QUESTION_CHARS, Settings, SettingsError

README = Path(__file__).parents[2] / "reference_app" / "README.md"


def test_without_variables_there_are_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_a_variable_is_a_field_in_capitals() -> None:
    environ = {
        "MODELS": "random",
        "CANARY": "./canary",
        "CANARY_SHARE": "0.25",
        "QUEUE_SIZE": "0",
        "LOAD_FIRST": "true",
        "STORE_URL": "redis://cache:6379/0",
        "CACHE_TTL": "1.5",
        "TORCH_THREADS": "2",
        "MAX_TEXT_CHARS": "500",
        "LOG_LEVEL": "debug",
        "SOMETHING_ELSE": "x",
    }

    assert Settings.from_environment(environ) == Settings(
        models="random",
        canary="./canary",
        canary_share=0.25,
        queue_size=0,
        load_first=True,
        store_url="redis://cache:6379/0",
        cache_ttl=1.5,
        torch_threads=2,
        max_text_chars=500,
        log_level="debug",
    )


def test_an_empty_variable_is_unset() -> None:
    assert Settings.from_environment({"MODELS": "", "CACHE_TTL": ""}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("MODELS", "large", "one of bundled, hub, random, or a folder's path"),
        ("CANARY", "large", "one of bundled, hub, random, or a folder's path"),
        ("CANARY_SHARE", "1.1", "a number from 0 to 1"),
        ("STICKY", "no field", "credential or a header field's name"),
        ("STALE_IF_ERROR", "-1", "seconds, from 0 to 31536000"),
        ("QUEUE_SIZE", "-1", "a whole number from 0"),
        ("LOAD_FIRST", "perhaps", "true or false"),
        ("LOG_FORMAT", "xml", "one of text, json"),
        ("CACHE_TTL", "0", "seconds, above 0"),
        ("CACHE_TTL", "-1", "seconds, above 0"),
        ("CACHE_TTL", "nan", "seconds, above 0"),
        ("CACHE_TTL", "inf", "seconds, above 0"),
        ("CACHE_TTL", "5m", "seconds, above 0"),
        ("TORCH_THREADS", "0", "a whole number from 1"),
        ("TORCH_THREADS", "1.5", "a whole number from 1"),
        ("MAX_TEXT_CHARS", "99", "a whole number from 100"),
        ("LOG_LEVEL", "verbose", "one of debug, info, warning, error"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    variable: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({variable: value})

    assert str(caught.value).startswith(f"{variable} must be {allowed}")
    assert str(caught.value).endswith(f"not {value!r}")


def test_a_token_that_is_too_short_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"ADMIN_TOKEN": "hunter2"})

    assert str(caught.value) == "ADMIN_TOKEN must be a secret of 16 characters or more, not that"


def test_there_is_a_second_variant_only_where_it_has_models() -> None:
    one, two = Settings(), Settings(canary="hub", canary_share=0.25)

    assert one.sources == {"stable": "bundled"}
    assert two.sources == {"stable": "bundled", "canary": "hub"}
    assert two.shares == {"stable": 0.75, "canary": 0.25}


@pytest.mark.parametrize("max_text_chars", [100, 100_000])
def test_the_body_limit_admits_every_valid_request(max_text_chars: int) -> None:
    """The longest spelling of the longest question and context: each character as two escapes."""
    settings = Settings(max_text_chars=max_text_chars)
    longest = {"question": "😀" * MAX_QUESTION_CHARS, "context": "😀" * max_text_chars}

    body = json.dumps(longest, indent=8, ensure_ascii=True)

    assert len(body) <= settings.max_body_bytes


def test_the_readme_lists_every_variable_with_its_default() -> None:
    rows = {
        cells[1].strip(" `"): cells[2].strip(" `")
        for line in README.read_text(encoding="utf-8").splitlines()
        if len(cells := line.split("|")) > 3
        and cells[1].strip(" `").replace("_", "").isalpha()
        and cells[1].isupper()
    }
    fields: tuple[Any, ...] = msgspec.structs.fields(Settings)

    assert rows == {field.name.upper(): _spelled(field.default) for field in fields}


def _spelled(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
