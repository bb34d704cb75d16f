"""What nobody may read in a message, a log or a listing: secrets, and passwords in URLs."""

import re
from pathlib import Path
from urllib.parse import unquote

__all__ = ["masked", "says_a_secret_of", "secret_in"]

_HIDDEN = re.compile(r"(?<=[?&])(\w*(?:password|secret|token)\w*=)([^&]*)", re.IGNORECASE)


def secret_in(path: Path) -> str:
    """Return what a file holds, without the end of its last line.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8") from error
    except ValueError as error:  # A path with a NUL.
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error


def masked(url: str) -> str:
    """Return a URL without the name and the password of its user."""
    scheme, mark, rest = url.partition("://")
    before, at, place = rest.rpartition("@")
    shown = f"{scheme}{mark}***@{place}" if before or at else url
    return _HIDDEN.sub(r"\1***", shown)


def says_a_secret_of(url: str, message: str) -> bool:
    """Tell whether a message repeats what `masked` would leave out."""
    before = url.partition("://")[2].rpartition("@")[0]
    password = before.partition(":")[2] or before
    # In pieces, since one that is not escaped is taken for a port, a path and more.
    hidden = [*re.split(r"[:/?#@]", password), *(found[2] for found in _HIDDEN.finditer(url))]
    return any(each in message for piece in hidden if piece for each in (piece, unquote(piece)))
