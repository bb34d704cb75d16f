"""A short run of the fuzzer; `python tests/fuzz.py` makes a long one."""

import random

from tests.fuzz import fuzz, outcomes


def test_two_seconds_of_anything_break_nothing() -> None:
    """bug 4, bug 6, bug 7, bug 8, bug 17, bug 32; other examples each time."""
    counts = fuzz(2, random.randrange(2**32))

    assert counts.total() > 0
    assert min(outcomes.values()) > 0
    assert len(outcomes) == 4
