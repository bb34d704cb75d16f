"""Numbers, dates and amounts, as people write them.

Rule: a value reads well after any preposition that a template puts before it.
"""

import random

from reference_app.texts.grammar import words

__all__ = ["count", "duration", "length", "money", "number_word", "time", "year"]

_WORDS = words(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty"
)


def number_word(rng: random.Random) -> str:
    """Draw a small number in letters."""
    return rng.choice(_WORDS)


def year(rng: random.Random) -> str:
    """Draw a year between 1700 and 2026, most of them recent."""
    return str(rng.randint(1700, 2026) if rng.random() < 0.3 else rng.randint(1930, 2026))


def count(rng: random.Random) -> str:
    """Draw how many people there are: in figures, at times grouped by commas or in letters."""
    match rng.randrange(5):
        case 0:
            return number_word(rng)
        case 1:
            return f"{rng.randint(10, 900) * 100:,}"
        case 2:
            return f"{rng.randint(2, 90)} {rng.choice(('thousand', 'million'))}"
        case _:
            return str(rng.randint(13, 999))


def money(rng: random.Random) -> str:
    """Draw a price or a sum."""
    amount = rng.choice((rng.randint(2, 99), rng.randint(2, 99) * 10, rng.randint(2, 99) * 100))
    match rng.randrange(5):
        case 0:
            return f"${amount:,}"
        case 1:
            return f"{amount}.{rng.choice((20, 50, 80, 99))} euros"
        case 2:
            return f"{rng.randint(2, 99)} million {rng.choice(('dollars', 'euros'))}"
        case _:
            return f"{amount} {rng.choice(('dollars', 'euros', 'pounds'))}"


def time(rng: random.Random) -> str:
    """Draw a time of day."""
    match rng.randrange(4):
        case 0:
            return f"{rng.randint(1, 12)} {rng.choice(('am', 'pm'))}"
        case 1:
            return f"{rng.choice(_WORDS[:11])} o'clock"
        case _:
            return f"{rng.randint(6, 23)}:{rng.choice(('00', '05', '10', '15', '20', '30', '45'))}"


def duration(rng: random.Random) -> str:
    """Draw how long something takes."""
    amount = number_word(rng) if rng.random() < 0.4 else str(rng.randint(2, 90))
    return f"{amount} {rng.choice(('minutes', 'hours', 'days', 'weeks'))}"


def length(rng: random.Random) -> str:
    """Draw a length."""
    return f"{rng.randint(3, 900)} {rng.choice(('metres', 'meters', 'feet', 'kilometres'))}"
