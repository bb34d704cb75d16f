"""Conditional and partial requests, answered from what is stored; and its validation.

Rule: pure. A condition that cannot be read is a condition that was not set, so that a client gets
the whole answer in doubt. Sources: RFC 9110 §8.8 (validators), §13 (conditions), §14 (ranges),
§15.4.5 (304); RFC 9111 §3.2 (updating), §4.3 (validation).
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

import msgspec

from memoserve._asgi import Header
from memoserve._directives import http_date, split_list
from memoserve._policy import replayable

__all__ = [
    "Answer",
    "Conditions",
    "conditions_of",
    "entity_tag",
    "freshened",
    "selected",
    "validates",
    "validators_of",
    "without_conditions",
]

_CONDITIONAL_FIELDS = frozenset({b"if-none-match", b"if-modified-since", b"range", b"if-range"})

# A 304 does not replace these: they describe the stored body, not the one that was not sent
# (RFC 9111 §3.2).
_OF_THE_BODY = frozenset(
    {
        b"content-encoding", b"content-length", b"content-md5", b"content-range", b"etag",
        b"content-digest", b"repr-digest",
    }
)  # fmt: skip


class Conditions(msgspec.Struct, frozen=True):
    """The fields of one request that ask for less than the whole answer."""

    if_none_match: bytes | None = None  # Lines joined; None where there is none.
    if_modified_since: bytes | None = None
    range: bytes | None = None
    if_range: bytes | None = None


class Answer(msgspec.Struct, frozen=True):
    """What a stored answer becomes for one request."""

    status: int
    headers: Sequence[Header]
    chunks: Sequence[bytes]
    made_at: float  # Seconds since the epoch; it stands in for a Last-Modified (§13.1.3).


def conditions_of(headers: Iterable[Header]) -> Conditions:
    """Read the conditions of a request."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _CONDITIONAL_FIELDS:
            found[lowered] = b", ".join((found[lowered], value)) if lowered in found else value
    return Conditions(
        found.get(b"if-none-match"),
        found.get(b"if-modified-since"),
        found.get(b"range"),
        found.get(b"if-range"),
    )


def selected(answer: Answer, conditions: Conditions, method: str, now: float) -> Answer:
    """Return what a request with conditions gets of a stored answer (RFC 9110 §13.2.2)."""
    if answer.status == 200 and _is_unchanged(answer, conditions, now):
        kept = [pair for pair in answer.headers if not _is_of_content(pair[0])]
        return Answer(304, kept, (), answer.made_at)
    if method == "HEAD":
        return Answer(answer.status, _with_known_length(answer), (), answer.made_at)
    if answer.status == 200 and method == "GET" and conditions.range is not None:
        return _part(answer, conditions.range, conditions.if_range)
    return answer


def _is_of_content(name: bytes) -> bool:
    return name.startswith(b"content-") and name not in {
        b"content-location",
        b"content-security-policy",
    }


def _is_unchanged(answer: Answer, conditions: Conditions, now: float) -> bool:
    if conditions.if_none_match is not None:  # It stands in for the date (§13.1.3).
        return _matches(conditions.if_none_match, _value(answer.headers, b"etag"))
    if conditions.if_modified_since is None:
        return False
    since, modified = http_date(conditions.if_modified_since, now), answer.made_at
    if (stated := _value(answer.headers, b"last-modified")) is not None:
        modified = http_date(stated, now) or now
    return since is not None and modified <= since


def _matches(listed: bytes, etag: bytes | None) -> bool:
    """Compare weakly (RFC 9110 §8.8.3.2): what differs in a W/ alone is the same."""
    if listed.strip() == b"*":
        return True
    if etag is None:
        return False
    return any(_opaque(tag) == _opaque(etag) for tag in split_list(listed))


def _opaque(tag: bytes) -> bytes:
    return tag.strip().removeprefix(b"W/")


def _value(headers: Iterable[Header], name: bytes) -> bytes | None:
    return next((value.strip() for key, value in headers if key == name), None)


def _with_known_length(answer: Answer) -> Sequence[Header]:
    """Return the fields of a GET's answer with the length that it did not state itself."""
    if not answer.chunks or _value(answer.headers, b"content-length") is not None:
        return answer.headers
    return _with_length(answer.headers, sum(map(len, answer.chunks)))


def _with_length(headers: Iterable[Header], size: int) -> list[Header]:
    kept = [pair for pair in headers if pair[0] != b"content-length"]
    return [*kept, (b"content-length", b"%d" % size)]


_ONE_RANGE = re.compile(rb"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


def _part(answer: Answer, wanted: bytes, if_range: bytes | None) -> Answer:
    """Return one range of a whole answer; all of it where several are asked for (§14.2)."""
    found = _ONE_RANGE.fullmatch(wanted)
    if found is None or found[1] == found[2] == b"" or not _is_same(answer.headers, if_range):
        return answer
    body = b"".join(answer.chunks)
    size = len(body)
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < first:
            return answer  # No range at all (§14.1.1).
    else:
        first, last = max(0, size - int(found[2])), size - 1
    if first >= size:
        kept = [pair for pair in answer.headers if not _is_of_content(pair[0])]
        unsatisfied = [(b"content-range", b"bytes */%d" % size), (b"content-length", b"0")]
        return Answer(416, [*kept, *unsatisfied], (), answer.made_at)
    part = body[first : last + 1]
    content_range = (b"content-range", b"bytes %d-%d/%d" % (first, last, size))
    headers = [*_with_length(answer.headers, len(part)), content_range]
    return Answer(206, headers, (part,), answer.made_at)


def _is_same(headers: Sequence[Header], if_range: bytes | None) -> bool:
    """Compare strongly (RFC 9110 §13.1.5): the parts must be of the very same bytes."""
    if if_range is None:
        return True
    validator = if_range.strip()
    if validator.startswith(b'"'):
        return validator == _value(headers, b"etag")
    return validator == _value(headers, b"last-modified")


def validators_of(headers: Iterable[Header]) -> list[Header]:
    """Return the request fields that ask whether a stored answer still holds."""
    fields = {b"etag": b"if-none-match", b"last-modified": b"if-modified-since"}
    found = dict[bytes, bytes]()
    for name, value in headers:
        if name in fields:
            found.setdefault(fields[name], value)
    return list(found.items())


def without_conditions(headers: Iterable[Header]) -> list[Header]:
    """Return a request's fields less those that ask for less than the whole answer."""
    return [pair for pair in headers if pair[0].lower() not in _CONDITIONAL_FIELDS]


def validates(stored: Iterable[Header], update: Iterable[Header]) -> bool:
    """Tell whether a 304 speaks of the stored answer (RFC 9111 §4.3.4)."""
    theirs = _value([(name.lower(), value) for name, value in update], b"etag")
    ours = _value(stored, b"etag")
    return theirs is None or ours is None or _opaque(theirs) == _opaque(ours)


def freshened(stored: Sequence[Header], update: Iterable[Header]) -> list[Header]:
    """Return the stored fields as a 304 updates them (RFC 9111 §3.2).

    Fields that say how old the answer is come from the update alone.
    """
    new = [(name.lower(), value) for name, value in update]
    new = [pair for pair in new if pair[0] not in _OF_THE_BODY]
    replaced = {name for name, _ in new} | {b"age", b"date"}
    kept = [pair for pair in replayable(stored) if pair[0] not in replaced]
    return [*kept, *new]


def entity_tag(chunks: Iterable[bytes]) -> bytes:
    """Make a strong validator of the stored bytes, the same in every process (§8.8.3)."""
    digest = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        digest.update(chunk)
    return b'"%s"' % digest.hexdigest().encode()
