"""How many bytes a text means."""

__all__ = ["bytes_of"]

_UNITS = {"kb": 1024, "mb": 1024**2, "gb": 1024**3}


def bytes_of(text: str) -> int:
    """Read `1048576`, `512kb`, `256mb` or `2gb`."""
    number, unit = text[:-2], text[-2:].lower()
    if unit not in _UNITS:
        number, unit = text, ""
    if not number.isdecimal():
        raise ValueError(f"max_bytes must be a number of bytes, kb, mb or gb, not {text!r}")
    return int(number) * _UNITS.get(unit, 1)
