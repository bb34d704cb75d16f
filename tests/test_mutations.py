"""The breaks of `tests/mutations.py`, which is too slow to be run with the tests."""

import pytest

from tests.mutations import BREAKS, ROOT, Break


@pytest.mark.parametrize("mutation", BREAKS, ids=lambda mutation: mutation.name)
def test_every_break_finds_the_line_that_it_breaks(mutation: Break) -> None:
    text = (ROOT / "middleware" / "memoserve" / mutation.file).read_text()

    assert text.count(mutation.old) == 1
