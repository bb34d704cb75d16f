"""The header fields of a request, sorted by what they mean to a cache.

Rule: what may carry a credential is taken for one; a field that nobody named is no part of the
key. Names come from clients, so what is remembered of them is bounded.
"""

import enum
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import assert_never

import msgspec

from memoserve._asgi import Header, Scope
from memoserve._directives import split_list

__all__ = [
    "ALWAYS_KEYED",
    "CREDENTIAL_WORDS",
    "HeaderFilter",
    "Lines",
    "RequestFields",
    "host_of",
    "vary_values",
]

# Fields whose values are in every key, so that a Vary on them is honoured already.
ALWAYS_KEYED = (b"content-type", b"content-encoding", b"content-language", b"host", b"accept")
_CONTENT_TYPE, _CONTENT_ENCODING = 0, 1  # Their places in it.

_CREDENTIAL_FIELDS = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
CREDENTIAL_WORDS = (
    b"auth", b"token", b"key", b"secret", b"session", b"user", b"email", b"identity", b"tenant",
)  # fmt: skip
_NO_CREDENTIALS = frozenset(
    {b"user-agent", b"sec-websocket-key", b"idempotency-key", b"sec-fetch-user"}
)
_OVERRIDES = frozenset({b"x-http-method-override", b"x-original-url", b"x-rewrite-url"})
_PRECONDITIONS = frozenset({b"if-match", b"if-unmodified-since"})  # Those of changes.
_CONDITIONAL = frozenset({b"if-none-match", b"if-modified-since"})
_RANGED = frozenset({b"range", b"if-range"})

_KEPT_NAMES = 512


Lines = bytes | tuple[bytes, ...] | None  # What a request has of one field.


class _Kind(enum.Enum):
    """What a request header field means to the cache."""

    CREDENTIAL = enum.auto()
    AUTHORIZATION = enum.auto()  # Which somebody has said is none.
    OVERRIDE = enum.auto()
    PRECONDITION = enum.auto()
    CONDITIONAL = enum.auto()
    RANGED = enum.auto()
    CACHE_CONTROL = enum.auto()
    PRAGMA = enum.auto()


class RequestFields(msgspec.Struct):
    """The header fields of one request that matter to the cache."""

    # For each name that belongs to the key, in the filter's order: its line, its lines, or None.
    keyed: list[Lines]
    credentials: Sequence[Header] = ()
    cache_control: Sequence[bytes] = ()
    pragma: Sequence[bytes] = ()
    is_authorized: bool = False  # It has the credentials that RFC 9111 §3.5 is about.
    is_overridden: bool = False
    is_precondition: bool = False  # It depends on a state of the resource that only the app has.
    is_conditional: bool = False
    is_ranged: bool = False
    is_plain: bool = True  # Nothing in it but what belongs to the key, or does not matter.

    @property
    def asks_for_less(self) -> bool:
        """A whole answer is not wanted in any case."""
        return self.is_conditional or self.is_ranged

    @property
    def is_json(self) -> bool:
        """The body claims to be JSON in UTF-8; of two types nobody knows which the app goes by."""
        content_type = self.keyed[_CONTENT_TYPE]
        return isinstance(content_type, bytes) and _claims_json(content_type)

    @property
    def is_encoded(self) -> bool:
        """The body is not to be read as it came."""
        lines = self.keyed[_CONTENT_ENCODING]
        return lines is not None and _is_encoded(_lines(lines))


class HeaderFilter:
    """Sorts request header fields by what they mean, remembering each name it has seen.

    Args:
        vary: Field names that belong to the key beside those that always do.
        credentials: Names that carry credentials, instead of the built-in list.
    """

    def __init__(self, vary: Collection[bytes], credentials: Collection[bytes] | None) -> None:
        self.keyed = (*ALWAYS_KEYED, *sorted(set(vary).difference(ALWAYS_KEYED)))
        self._nothing: list[Lines] = [None] * len(self.keyed)
        self._credentials = credentials
        self._kinds: dict[bytes, tuple[_Kind | None, bytes, int | None] | None] = {}

    def plain(self, scope: Scope) -> list[Lines] | None:
        """Return `keyed` of a request in which nothing else matters, None of any other.

        It is what `read` finds, at a third of its cost.
        """
        if scope.get("extensions") and _may_have_a_certificate(scope):
            return None
        keyed = self._nothing.copy()
        kinds = self._kinds
        for name, value in scope["headers"]:
            learned = kinds[name] if name in kinds else self._learn(name)
            if learned is not None:
                kind, _, place = learned
                if kind is not None or place is None or keyed[place] is not None:
                    return None
                if type(value) is not bytes:
                    return None
                keyed[place] = value
        return keyed

    def read(self, scope: Scope) -> RequestFields:
        """Go once over the headers of a request."""
        keyed = self._nothing.copy()
        fields = RequestFields(keyed)
        for name, value in scope["headers"]:
            learned = self._kinds[name] if name in self._kinds else self._learn(name)
            if learned is None:
                continue
            kind, lowered, place = learned
            if kind is not None:
                _note(fields, kind, lowered, value)
            if place is not None:  # A field may be both: a user's tier that a rule varies on.
                others, value = keyed[place], bytes(value)
                keyed[place] = value if others is None else (*_lines(others), value)
        if scope.get("extensions") and (certificate := _client_certificate(scope)):
            _note(fields, _Kind.CREDENTIAL, b"", certificate)
        return fields

    def _learn(self, name: bytes) -> tuple[_Kind | None, bytes, int | None] | None:
        """Find out what a name means: its kind, its spelling, its place in the key, or nothing."""
        lowered = bytes(name).lower()
        kind = self._kind_of(lowered)
        place = self.keyed.index(lowered) if lowered in self.keyed else None
        learned = None if kind is None and place is None else (kind, lowered, place)
        if len(self._kinds) < _KEPT_NAMES:
            self._kinds[name] = learned
        return learned

    def _kind_of(self, name: bytes) -> _Kind | None:
        if name in _OVERRIDES:
            return _Kind.OVERRIDE
        if self._carries_credentials(name):
            return _Kind.CREDENTIAL
        return _Kind.AUTHORIZATION if name == b"authorization" else _KINDS.get(name)

    def _carries_credentials(self, name: bytes) -> bool:
        if self._credentials is not None:
            return name in self._credentials
        if name in _CREDENTIAL_FIELDS:
            return True
        return name not in _NO_CREDENTIALS and any(word in name for word in CREDENTIAL_WORDS)


_KINDS: Mapping[bytes, _Kind] = {
    b"cache-control": _Kind.CACHE_CONTROL,
    b"pragma": _Kind.PRAGMA,
    **dict.fromkeys(_PRECONDITIONS, _Kind.PRECONDITION),
    **dict.fromkeys(_CONDITIONAL, _Kind.CONDITIONAL),
    **dict.fromkeys(_RANGED, _Kind.RANGED),
}


def _lines(value: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_encoded(lines: tuple[bytes, ...]) -> bool:
    return any(line.strip().lower() not in {b"", b"identity"} for line in lines)


def _note(fields: RequestFields, kind: _Kind, name: bytes, value: bytes) -> None:
    fields.is_plain = False
    match kind:
        case _Kind.CREDENTIAL:
            fields.credentials = [*fields.credentials, (name, value)]
            fields.is_authorized |= name == b"authorization"
        case _Kind.AUTHORIZATION:
            fields.is_authorized = True
        case _Kind.CACHE_CONTROL:
            fields.cache_control = [*fields.cache_control, value]
        case _Kind.PRAGMA:
            fields.pragma = [*fields.pragma, value]
        case _Kind.OVERRIDE:
            fields.is_overridden = True
        case _Kind.PRECONDITION:
            fields.is_precondition = True
        case _Kind.RANGED:
            fields.is_ranged = True
        case _Kind.CONDITIONAL:
            fields.is_conditional = True
        case _:
            assert_never(kind)


@functools.lru_cache(maxsize=256)
def _claims_json(content_type: bytes) -> bool:
    media_type, _, parameters = content_type.lower().partition(b";")
    media_type = media_type.strip()
    is_json = media_type == b"application/json" or media_type.endswith(b"+json")
    charset = parameters.partition(b"charset=")[2].partition(b";")[0].strip(b' "')
    return is_json and charset in {b"", b"utf-8", b"utf8", b"us-ascii"}


def _may_have_a_certificate(scope: Scope) -> bool:
    """Tell whether there may be one, without reading a chain that is an iterator."""
    tls = scope["extensions"].get("tls")
    return bool(tls and (tls.get("client_cert_name") or tls.get("client_cert_chain")))


def _client_certificate(scope: Scope) -> bytes:
    """Return what the TLS extension of ASGI says of the client's certificate."""
    if not (tls := scope["extensions"].get("tls")):
        return b""
    chain = tls.get("client_cert_chain") or ()
    return "\n".join([tls.get("client_cert_name") or "", *chain]).strip().encode()


def host_of(scope: Scope) -> bytes:
    """Return the authority that a request names."""
    for name, value in scope["headers"]:
        if name.lower() == b"host":
            host: bytes = value.strip().lower()
            return host
    return b""


def vary_values(headers: Iterable[Header], names: Sequence[bytes]) -> list[list[bytes]]:
    """Return, for each of the named fields, its name and what a request says in it.

    Lines are combined and white space around members goes (RFC 9111 §4.1); language tags are
    compared without case (RFC 5646 §2.1.1). An absent field is not an empty one.
    """
    pairs = [(name.lower(), value) for name, value in headers]
    return [
        [name, *_combined(name, [value for key, value in pairs if key == name])] for name in names
    ]


def _combined(name: bytes, lines: Sequence[bytes]) -> list[bytes]:
    if not lines:
        return []
    members = [member.strip() for line in lines for member in split_list(line)]
    value = b",".join(members)
    return [value.lower() if name == b"accept-language" else value]
