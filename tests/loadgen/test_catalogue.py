import json
from collections.abc import Mapping

import pytest

from loadgen import Constant, Plan, Templates, Uniform
from loadgen.catalogue import BUNDLED, Question
from loadgen.spelling import Json

MODELS = tuple(BUNDLED.mix)


def _item(model: str, number: int, *, seed: int, salt: str) -> Mapping[str, Json]:
    value = BUNDLED.question(model, number, seed=seed, salt=salt).value
    assert isinstance(value, Mapping)
    return value


@pytest.mark.parametrize("model", MODELS)
def test_an_item_is_a_function_of_seed_model_and_number(model: str) -> None:
    assert _item(model, 17, seed=42, salt="s") == _item(model, 17, seed=42, salt="s")
    assert _item(model, 17, seed=42, salt="s") != _item(model, 17, seed=43, salt="s")


@pytest.mark.parametrize("model", MODELS)
def test_items_are_distinct(model: str) -> None:
    values = {json.dumps(_item(model, number, seed=1, salt="")) for number in range(2000)}

    assert len(values) == 2000


@pytest.mark.parametrize("model", MODELS)
def test_another_salt_shares_no_item_and_only_adds_a_tag(model: str) -> None:
    plain, salted = _item(model, 3, seed=1, salt=""), _item(model, 3, seed=1, salt="0af3")

    assert plain != salted
    assert _without(" x3", plain) == _without(" 0af3x3", salted)


def _without(tag: str, body: Mapping[str, Json]) -> list[str]:
    return [str(value).removesuffix(tag) for value in body.values()]


def test_bodies_have_the_fields_of_the_api() -> None:
    questions = {model: BUNDLED.question(model, 0, seed=1, salt="") for model in MODELS}

    assert {model: set(_item(model, 0, seed=1, salt="")) for model in questions} == {
        "sentiment": {"text"},
        "answer": {"question", "context"},
        "summarize": {"text", "max_length"},
    }
    assert {question.method for question in questions.values()} == {"POST"}
    assert {question.path for question in questions.values()} == {
        "/v1/sentiment",
        "/v1/answer",
        "/v1/summarize",
    }


_CHAT = 'POST /v1/chat {"messages": [{"role": "user", "content": "say {item}"}], "temperature": 0}'


def test_other_apps_are_asked_by_templates() -> None:
    catalogue = Templates((_CHAT, "GET /things/{item}?full=1"))

    chat = catalogue.question("/v1/chat", 7, seed=1, salt="s")
    thing = catalogue.question("/things", 7, seed=1, salt="s")

    assert catalogue.mix == {"/v1/chat": 1, "/things": 1}
    assert thing == Question("GET", "/things/sx7?full=1")
    assert chat.value == {
        "messages": [{"role": "user", "content": "say sx7"}],
        "temperature": 0,
    }


def test_a_plan_of_templates_has_their_bodies() -> None:
    plan = Plan(
        law=Uniform(3), arrivals=Constant(2), duration=2, catalogue=Templates((_CHAT,)), spelling=1
    )

    assert {plan.model(row) for row in range(4)} == {"/v1/chat"}
    assert all(json.loads(body)["temperature"] == 0 for body in plan.bodies())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("/v1/chat", "a request reads"),
        ("POST v1/chat {item}", "a request reads"),
        ("POST /v1/chat {}", "must have {item}"),
        ("POST /v1/{item} {oops", "is no JSON"),
    ],
)
def test_a_template_that_makes_no_sense_is_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Templates((template,))


def test_two_requests_of_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="same path"):
        Templates(("GET /a/{item}", "POST /a/{item}"))


def test_an_unknown_model_has_no_items() -> None:
    with pytest.raises(KeyError):
        Templates((_CHAT,)).question("/v2", 1, seed=1, salt="")
