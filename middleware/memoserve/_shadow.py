"""What shadow mode compares: an answer that the cache would have given, and the app's own.

Rule: two answers are equal if no client could tell them apart but by their time: status, content
type and body, JSON by its value. However they were cut into chunks, and what else their headers
say, is no difference.
"""

from memoserve._asgi import Header, ResponseRecorder
from memoserve._entry import Entry
from memoserve._errors import UnkeyableBodyError
from memoserve._keys import canonical_json

__all__ = ["are_equal"]


def are_equal(entry: Entry, answer: ResponseRecorder, largest: int) -> bool:
    """Compare a stored answer with one that was sent completely.

    Larger bodies than the largest to be parsed, which holds up the event loop, are compared by
    their bytes.
    """
    if entry.status != answer.status or _content(entry.headers) != _content(answer.headers):
        return False
    ours, theirs = b"".join(entry.chunks), b"".join(answer.chunks)
    if ours == theirs or max(len(ours), len(theirs)) > largest:
        return ours == theirs
    return _value(ours, entry.headers) == _value(theirs, answer.headers)


def _content(headers: tuple[Header, ...]) -> list[Header]:
    """Return what says how the body is to be read."""
    names = {b"content-type", b"content-encoding"}
    return sorted((name.lower(), value) for name, value in headers if name.lower() in names)


def _value(body: bytes, headers: tuple[Header, ...]) -> bytes:
    """Return one spelling of the JSON in a body, of any other the body itself."""
    content = dict(_content(headers))
    is_json = b"json" in content.get(b"content-type", b"") and b"content-encoding" not in content
    try:
        return canonical_json(body) if is_json else body
    except UnkeyableBodyError:
        return body
