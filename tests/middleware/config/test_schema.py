"""The JSON Schema that ships for editors, and the keys that it and the constructors share."""

import inspect
import json
import re
import tomllib
from importlib import resources
from typing import Any

import jsonschema
import msgspec
import pytest

from memoserve import AdmissionMiddleware, CacheMiddleware, Rule, VariantMiddleware
from memoserve._config_file import (
    AdmissionTable,
    ConfigFile,
    MetricsTable,
    VariantsTable,
    json_schema,
)
from memoserve._config_rule import RuleTable
from memoserve._config_sources import fields_of
from memoserve._config_values import option
from memoserve.telemetry.middleware import TelemetryMiddleware
from tests.middleware.config.written import EXAMPLE, PAGE, page

SHIPPED = json.loads(resources.files("memoserve").joinpath("memoserve.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SHIPPED)


def parameters(kind: type) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if name not in {"app", "clock", "observer", "tracer_provider", "chance"}
    }


def test_the_schema_that_ships_is_the_one_of_the_code() -> None:
    """`python -m tests.middleware.config.written` writes it anew."""
    jsonschema.Draft202012Validator.check_schema(SHIPPED)
    assert json_schema() == SHIPPED


def test_the_reference_in_the_documentation_is_the_one_of_the_code() -> None:
    """As above."""
    text = PAGE.read_text()

    assert text.count("<!-- keys: ") == 6
    assert page(text) == text


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL))
def test_it_accepts_what_the_documentation_shows(block: str) -> None:
    VALIDATOR.validate(tomllib.loads(block))


def test_it_accepts_the_example() -> None:
    VALIDATOR.validate(tomllib.loads(EXAMPLE.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "lese = 1",
        "lease = 0",
        'store_deadline = "1s"',
        'secret = "short"',
        'namespace = "{a}"',
        'flight_max_bytes = "1tb"',
        'include = ["no_colon"]',
        "rules = 1",
        "[[rules]]\nttl = 1",
        '[[rules]]\npath = "no-slash"',
        '[[rules]]\npath = "/a"\ntll = 1',
        '[[rules]]\npath = "/a"\nttl = "5m"',
        '[[rules]]\npath = "/a"\nmethods = []',
        '[[rules]]\npath = "/a"\nmethods = ["PUT"]',
        '[[rules]]\npath = "/a"\nprivate = "partion"',
        '[[rules]]\npath = "/a"\ntags = "documents"',
        '[[rules]]\npath = "/a"\ntext = { "/a" = ["nfd"] }',
        '[metrics]\npath = "metrics"',
        "[metrics]\nport = 70000",
        "[admission]\nlimit = 1",
        "[variants]\nshares = { v1 = -1 }",
    ],
)
def test_it_rejects_what_the_code_rejects(text: str) -> None:
    assert not VALIDATOR.is_valid(tomllib.loads(text))


def test_every_argument_of_a_rule_has_a_key_with_its_default() -> None:
    of_rule = {name: getattr(Rule("/"), name) for name in Rule.__struct_fields__}
    of_key = {
        name: option(name, getattr(RuleTable(path="/"), name)) for name in fields_of(RuleTable)
    }

    assert of_key | {"methods": frozenset(of_key["methods"])} == of_rule


def test_every_option_of_the_cache_has_a_key_with_its_default() -> None:
    keys = {name: getattr(ConfigFile(), name) for name in fields_of(ConfigFile)}
    ours = {"secret_file", "include", "metrics", "admission", "variants"}

    of_cache = parameters(CacheMiddleware)

    assert of_cache.pop("rules") is inspect.Parameter.empty
    assert keys.pop("rules") == ()
    assert {name: value for name, value in keys.items() if name not in ours} == of_cache


@pytest.mark.parametrize(
    ("table", "kind", "names"),
    [
        pytest.param(AdmissionTable, AdmissionMiddleware, {}, id="admission"),
        pytest.param(VariantsTable, VariantMiddleware, {"variants": "shares"}, id="variants"),
        pytest.param(
            MetricsTable,
            TelemetryMiddleware,
            {"metrics_port": "port", "metrics_host": "host"},
            id="metrics",
        ),
    ],
)
def test_every_option_of_a_layer_has_a_key_with_its_default(
    table: type[msgspec.Struct], kind: type, names: dict[str, str]
) -> None:
    absent = {msgspec.NODEFAULT: inspect.Parameter.empty}
    defaults = {
        name: absent.get(field.default, field.default) for name, field in fields_of(table).items()
    }
    of_layer = {names.get(name, name): value for name, value in parameters(kind).items()}

    of_layer.pop("model", None)  # For who has no cache.

    assert {name: defaults[name] for name in of_layer} == of_layer
