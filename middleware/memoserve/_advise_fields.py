"""What the name and the values of a field say of it: an id, a time, a person.

Rule: a name is read by its words, and a field that names the exchange must also look like it.
"""

import itertools
import re
from typing import Any

from memoserve._advise_log import ABSENT, Column

__all__ = ["ENOUGH", "doubt_about", "is_of_a_person", "is_of_the_exchange", "never_repeats"]

ENOUGH = 20  # Values, before it is said of a field that it never repeats.
_NEVER = 0.95  # Of the values are different: the field never repeats.

_EXCHANGE_WORDS = frozenset(
    {"request", "req", "trace", "span", "correlation", "nonce", "uuid", "guid", "idempotency"}
)
_TIME_WORDS = frozenset({"time", "timestamp", "ts", "date", "datetime", "created", "sent", "now"})
_PERSON_WORDS = frozenset(
    {"user", "session", "client", "customer", "account", "tenant", "member", "device"}
)
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")
_EPOCHS = ((1e9, 1e10), (1e12, 1e13), (1e15, 1e16), (1e18, 1e19))  # s, ms, µs, ns.


def is_of_the_exchange(column: Column) -> bool:
    """Tell whether a field says which request this is, or when it was made."""
    words = _words(column)
    if words & _PERSON_WORDS:
        return False
    if words & _TIME_WORDS and all(map(_is_time, column.values)):
        return never_repeats(column) or _only_grows(column)
    return never_repeats(column) and (bool(words & _EXCHANGE_WORDS) or words == {"id"})


def is_of_a_person(column: Column) -> bool:
    """Tell whether a field says for whom the answer is."""
    return bool(_words(column) & _PERSON_WORDS) and len(column.values) > 1


def doubt_about(column: Column) -> str:
    """Say why a field must not be ignored without a look."""
    if is_of_a_person(column):
        return "it may say whom the answer is for"
    return "it never repeats, but may be part of the question"


def _words(column: Column) -> set[str]:
    name = column.pointer.rpartition("/")[2]
    return {word.lower() for word in _WORD.findall(name)}


def never_repeats(column: Column) -> bool:
    """Tell whether nearly all of its values are different."""
    return len(column.values) >= max(ENOUGH, _NEVER * column.present)


def _only_grows(column: Column) -> bool:
    """Tell whether values go up with the log; codes are given in the order of first sight."""
    codes = [code for code in column.codes if code != ABSENT]
    steps = sum(now >= before - 1 for before, now in itertools.pairwise(codes))
    return len(column.values) >= ENOUGH and steps >= 0.99 * (len(codes) - 1)


def _is_time(value: Any) -> bool:
    if isinstance(value, str):
        return bool(_ISO_TIME.fullmatch(value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and any(low <= value < high for low, high in _EPOCHS)
