"""The generated texts: seeded, varied, and split by the spelling of names."""

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from reference_app.texts import (
    answer_example,
    is_held_out,
    names,
    sentiment_example,
    summary_example,
)
from reference_app.texts.grammar import Grammar, tidy

GENERATORS = [
    pytest.param(sentiment_example, id="sentiment"),
    pytest.param(answer_example, id="answer"),
    pytest.param(summary_example, id="summary"),
]
Generator = Callable[[random.Random], Any]


@pytest.mark.parametrize("generate", GENERATORS)
def test_one_seed_gives_one_sequence(generate: Generator) -> None:
    first, second = random.Random(5), random.Random(5)

    assert [generate(first) for _ in range(20)] == [generate(second) for _ in range(20)]


def test_a_sequence_is_the_same_in_every_process() -> None:
    """The order of a set of strings differs between processes, so no draw may depend on it."""
    program = (
        "import random; from reference_app import texts; rng = random.Random(9);"
        "print([(texts.sentiment_example(rng), texts.answer_example(rng),"
        " texts.summary_example(rng)) for _ in range(200)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1


@pytest.mark.parametrize("generate", GENERATORS)
def test_ten_thousand_distinct_items_are_quickly_had(generate: Generator) -> None:
    rng = random.Random(1)

    assert len({generate(rng) for _ in range(11_000)}) >= 10_000


@pytest.mark.parametrize("generate", GENERATORS)
def test_no_slot_or_symbol_is_left_open(generate: Generator) -> None:
    rng = random.Random(2)

    assert not re.search(r"[{}<>|@]|  ", str([generate(rng) for _ in range(3_000)]))


def test_both_labels_are_as_likely() -> None:
    rng = random.Random(3)
    labels = [sentiment_example(rng).label for _ in range(2_000)]

    assert 900 < labels.count("POSITIVE") < 1_100


def test_an_answer_stands_at_its_place_in_the_context() -> None:
    rng = random.Random(4)

    for example in (answer_example(rng) for _ in range(3_000)):
        end = example.start + len(example.answer)
        assert example.context[example.start : end] == example.answer


def test_every_fact_stands_in_text_and_summary() -> None:
    rng = random.Random(5)

    for example in (summary_example(rng) for _ in range(3_000)):
        for fact in example.facts:
            assert fact.lower() in example.text.lower()
            assert fact.lower() in example.summary.lower()


@pytest.mark.parametrize("draw", [names.person, names.place, names.company, names.title])
def test_a_name_is_held_out_by_its_spelling(draw: Callable[..., str]) -> None:
    rng = random.Random(6)
    trained = {word for _ in range(2_000) for word in draw(rng, "train").split()}
    unseen = {draw(rng, "held_out").split()[-1 if draw is names.person else 0] for _ in range(500)}

    assert all(is_held_out(name) for name in unseen)
    assert not unseen & trained


def test_one_name_in_eight_is_held_out() -> None:
    rng = random.Random(7)
    share = sum(is_held_out(names.title(rng)) for _ in range(4_000)) / 4_000

    assert 0.10 < share < 0.15


def test_a_grammar_with_an_unknown_symbol_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown symbol 'colour'"):
        Grammar({"sky": "a <colour> sky"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("so  good .", "so good.", id="spaces"),
        pytest.param("A old man and a apple", "An old man and an apple", id="article"),
        pytest.param("a cat", "a cat", id="consonant"),
    ],
)
def test_tidy_mends_what_empty_alternatives_leave(text: str, expected: str) -> None:
    assert tidy(text) == expected
