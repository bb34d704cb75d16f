"""A context-free grammar whose sentences are drawn at random.

Rule: a rule is written as its alternatives between bars; `<symbol>` in an alternative is replaced
by a draw of that symbol. An unknown symbol fails when the grammar is made, not when it is drawn.
"""

import random
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["Grammar", "phrases", "tidy", "words"]

_SYMBOL = re.compile(r"<(\w+)>")


def phrases(text: str) -> tuple[str, ...]:
    """Split alternatives at bars; line breaks and indentation around them do not count."""
    return tuple(" ".join(part.split()) for part in text.split("|"))


def words(text: str) -> tuple[str, ...]:
    """Split a list of single words."""
    return tuple(text.split())


def tidy(text: str) -> str:
    """Close up the spaces that empty alternatives leave, and spell "a" before a vowel as "an"."""
    text = " ".join(text.split())
    text = re.sub(r" ([,.!?])", r"\1", text)
    return re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)


class Grammar:
    """Rules by name.

    Raises:
        ValueError: a rule mentions a symbol that has no rule.
    """

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules: Final = {name: phrases(text) for name, text in rules.items()}
        for name, text in rules.items():
            for symbol in _SYMBOL.findall(text):
                if symbol not in self._rules:
                    raise ValueError(f"rule {name!r} mentions the unknown symbol {symbol!r}")

    def draw(self, text: str, rng: random.Random) -> str:
        """Replace every symbol in `text` by a draw."""
        return tidy(self._expand(text, rng))

    def _expand(self, text: str, rng: random.Random) -> str:
        def replace(match: re.Match[str]) -> str:
            return self._expand(rng.choice(self._rules[match[1]]), rng)

        return _SYMBOL.sub(replace, text)
