import json

import pytest

from loadgen.catalogue import MODELS, PATHS, Body, Model, item


@pytest.mark.parametrize("model", MODELS)
def test_an_item_is_a_function_of_seed_model_and_number(model: Model) -> None:
    assert item(model, 17, seed=42, salt="s") == item(model, 17, seed=42, salt="s")
    assert item(model, 17, seed=42, salt="s") != item(model, 17, seed=43, salt="s")


@pytest.mark.parametrize("model", MODELS)
def test_items_are_distinct(model: Model) -> None:
    values = {json.dumps(item(model, number, seed=1, salt="")) for number in range(2000)}

    assert len(values) == 2000


@pytest.mark.parametrize("model", MODELS)
def test_another_salt_shares_no_item_and_only_adds_a_tag(model: Model) -> None:
    plain, salted = item(model, 3, seed=1, salt=""), item(model, 3, seed=1, salt="0af3")

    assert plain != salted
    assert _without(" x3", plain) == _without(" 0af3x3", salted)


def _without(tag: str, body: Body) -> list[str]:
    return [str(value).removesuffix(tag) for value in body.values()]


def test_bodies_have_the_fields_of_the_api() -> None:
    fields = {model: set(item(model, 0, seed=1, salt="")) for model in MODELS}

    assert fields == {
        "sentiment": {"text"},
        "answer": {"question", "context"},
        "summarize": {"text", "max_length"},
    }
    assert set(PATHS.values()) == {"/v1/sentiment", "/v1/answer", "/v1/summarize"}
