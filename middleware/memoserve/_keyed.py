"""What key a request gets, of what, and why.

Rule: the key is made by the code that the cache itself runs; here its material gets names.
"""

import time
from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from memoserve._asgi import Message, Receive, replaying
from memoserve._curl import SentRequest
from memoserve._directives import cache_control
from memoserve._errors import UnkeyableBodyError
from memoserve._events import RequestRecord
from memoserve._keys import cache_key, canonical_json
from memoserve._request import KEY_PARTS, Question
from memoserve._rules import Rule, RuleBook
from memoserve._shared import Options, Shared

__all__ = ["CacheSettings", "Keyed", "keyed", "uncovered"]

_NO_APP = replaying(404, (), ())  # Nobody asks it.


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What of a `CacheMiddleware` has a say in keys."""

    rules: tuple[Rule, ...]
    namespace: str = "memoserve"
    client_control: Literal["ignore", "obey"] = "ignore"
    credentials: Collection[str] | None = None
    secret: bytes | None = None
    max_canonical_bytes: int = 262_144
    variant: str = ""

    def options(self) -> Options:
        """Return the options of a cache.

        Raises:
            ValueError: One of them cannot be.
        """
        return Options(
            namespace=self.namespace,
            mode="live",
            client_control=self.client_control,
            credentials=self.credentials,
            secret=self.secret,
            cache_status=True,
            max_canonical_bytes=self.max_canonical_bytes,
            flight_max_bytes=2**62,
            store_deadline=1.0,
            lease=1.0,
            clock=time.time,
        )


class Keyed(msgspec.Struct, frozen=True, kw_only=True):
    """The key of one request, or why it has none."""

    rule: Rule | None  # None: no rule covers it.
    bypass: str = ""  # Why it goes past the cache.
    index: str = ""  # The namespace, a colon and the MD5.
    verifier: bytes = b""
    refusal: str = ""  # Why the bytes of the body stand for it; empty if its canonical form does.
    body: bytes = b""  # The canonical form, or the bytes.
    material: tuple[tuple[str, str | bytes], ...] = ()  # Beside fields and body.
    fields: tuple[tuple[str, tuple[bytes, ...]], ...] = ()  # Those that are there: their lines.

    @property
    def md5(self) -> str:
        """The key without the namespace."""
        return self.index.rpartition(":")[2]

    @property
    def is_canonical(self) -> bool:
        """The body's canonical form is part of the key, not its bytes."""
        return bool(self.index) and not self.refusal


async def keyed(sent: SentRequest, settings: CacheSettings) -> Keyed:
    """Return the key that a cache gives a request.

    Raises:
        ValueError: The settings cannot be those of a cache.
    """
    scope = sent.scope()
    book, options = RuleBook(settings.rules, settings.credentials), settings.options()
    coverage = book.find(scope)
    if coverage is None:
        return Keyed(rule=None)
    shared = Shared(_NO_APP, options, settings.rules, "memory://", None)
    record = RequestRecord(0.0)
    record.variant = settings.variant
    question = Question(shared, coverage, scope, record, coverage.fields.read(scope))
    bypass = await question.read(None, _whole(sent.body), None)
    if bypass is not None:
        return Keyed(rule=coverage.rule, bypass=bypass)
    refusal, body = _body_of(question, options)
    return Keyed(
        rule=coverage.rule,
        index=question.key.index,
        verifier=question.key.verifier,
        refusal=refusal,
        body=body,
        material=_material(question),
        fields=_fields(question, coverage.fields.keyed),
    )


def uncovered(sent: SentRequest) -> str:
    """Say that no rule covers a request, and what may be amiss."""
    hint = ": say --url" if sent.is_sent_anywhere else ""
    return f"{sent.method} {sent.path} is covered by no rule{hint}"


def _body_of(question: Question, options: Options) -> tuple[str, bytes]:
    """Return why the body is keyed by its bytes, and what of it is in the key."""
    content = question.body.content
    refusal = _refusal(question, options)
    try:
        canonical = canonical_json(content, question.coverage.edits)
    except UnkeyableBodyError as error:
        return refusal or str(error), content
    parts = question.key_parts()
    if cache_key(options.namespace, parts, [canonical], is_canonical=True) == question.key:
        return "", canonical
    return refusal, content


def _refusal(question: Question, options: Options) -> str:
    """Return what, beside the JSON text itself, keeps a body from being read."""
    fields = question.fields
    if question.body.size > options.max_canonical_bytes:
        return f"it has more than max_canonical_bytes, {options.max_canonical_bytes}"
    if not fields.is_json:
        return "Content-Type does not say that it is JSON in UTF-8"
    if fields.is_encoded:
        return "it has a Content-Encoding"
    if b"no-transform" in cache_control(fields.cache_control):
        return "the client asks for no-transform"
    return ""


def _material(question: Question) -> tuple[tuple[str, str | bytes], ...]:
    named = dict(zip(KEY_PARTS, question.key_parts(), strict=True))
    del named["fields"]
    return tuple(named.items())


def _fields(
    question: Question, names: Sequence[bytes]
) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    return tuple(
        (name.decode("latin-1"), lines if isinstance(lines, tuple) else (lines,))
        for name, lines in zip(names, question.fields.keyed, strict=True)
        if lines is not None
    )


def _whole(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
