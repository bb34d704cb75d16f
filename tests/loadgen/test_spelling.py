import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.spelling import Json, respelled, spelled

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(value=_JSON, seed=st.integers(0, 2**16))
def test_every_spelling_has_the_same_value(value: Json, seed: int) -> None:
    assert json.loads(respelled(value, random.Random(seed))) == value
    assert json.loads(spelled(value)) == value


def test_one_body_has_hundreds_of_spellings() -> None:
    rng = random.Random("spellings")
    value: Json = {"text": "Good, and/or bad: 50 °C 😀", "max_length": 40}

    spellings = {respelled(value, rng) for _ in range(1000)}

    assert len(spellings) > 950
    assert {json.dumps(json.loads(spelling), sort_keys=True) for spelling in spellings} == {
        json.dumps(value, sort_keys=True)
    }


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(rb'"max_length"\s*:\s*40\s*,', id="members-change-places"),
        pytest.param(rb"\\u00[0-9a-f]*[a-f]", id="lower-hex"),
        pytest.param(rb"\\u00[0-9A-F]*[A-F]", id="upper-hex"),
        pytest.param(rb"\\u[dD]83[dD]\\u[dD][eE]00", id="surrogate-pair"),
        pytest.param(rb"\\/", id="escaped-slash"),
        pytest.param(rb"^\s", id="leading-space"),
        pytest.param(rb"\n", id="line-feed"),
        pytest.param("😀".encode(), id="raw-utf-8"),
    ],
)
def test_each_kind_of_noise_occurs(sign: bytes) -> None:
    import re

    rng = random.Random("kinds")
    value: Json = {"text": "Good, and/or bad: jklmno, 50 °C 😀", "max_length": 40}

    assert any(re.search(sign, respelled(value, rng)) for _ in range(500))


def test_empty_containers_keep_their_kind() -> None:
    rng = random.Random(1)

    assert {json.dumps(json.loads(respelled({"a": [], "b": {}}, rng))) for _ in range(20)} <= {
        '{"a": [], "b": {}}',
        '{"b": {}, "a": []}',
    }
