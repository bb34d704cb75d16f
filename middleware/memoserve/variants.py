"""Variants: several versions of a model behind one address, each with its share of the traffic.

Rule: the same asker gets the same variant, on every host and after every restart, for as long as
the shares allow: a change of shares moves only the askers that it must. The variant is part of the
cache's key and of the metrics, so no answer of one version is ever taken for another's.
"""

import hashlib
import math
import random
import re
import time
from collections.abc import Callable, Mapping

from memoserve._asgi import ASGIApp, Header, Message, Receive, Scope, Send, with_headers
from memoserve._events import Observer, RequestRecord
from memoserve._fields import HeaderFilter

__all__ = ["VariantMiddleware"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # It goes into a header field and a metric's label.
_FIELD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 §5.6.2


class VariantMiddleware:
    """Choose a variant for each request: an A/B test, or a canary with a tenth of the traffic.

    Mount it outside the cache and inside telemetry. The app reads the choice from
    `scope["memoserve"].variant`; the client reads it from the response's `X-Model-Variant`, and
    may ask for a variant in a request field of that name.

    Args:
        app: The application, with the cache around it.
        variants: Name to share; only the proportions count. A variant with a share of 0 is there
            for those who ask for it.
        sticky: What an asker is known by: `"credential"`, which takes whatever the cache takes
            for one, or the name of a header field. (A cookie for this purpose would make every
            request private.) An asker without it is dealt a variant at random, each time anew.
        header: The field that names the variant, in requests and responses; None to let nobody
            choose and to tell nobody.
        observer: Told of requests, if no telemetry is mounted outside.
        chance: Returns a number from 0 up to 1 for an asker whom nothing identifies.

    Raises:
        ValueError: An argument is none of these.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        variants: Mapping[str, float],
        sticky: str = "credential",
        header: str | None = "x-model-variant",
        observer: Observer | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        _check(variants, sticky, header)
        self._app = app
        self._names = {name.encode(): name for name in variants}
        self._shares = {name: share for name, share in variants.items() if share > 0}
        self._sticky = None if sticky == "credential" else sticky.lower().encode()
        self._credentials = HeaderFilter((), None)
        self._header = None if header is None else header.lower().encode()
        self._observers = () if observer is None else (observer,)
        self._chance = chance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        outer: RequestRecord | None = scope.get("memoserve")
        record = outer or RequestRecord(time.perf_counter(), observers=self._observers)
        record.variant = self._variant_for(scope)
        send = self._naming(record, send)
        if outer is not None:
            await self._app(scope, receive, send)
            return
        with record:
            await self._app({**scope, "memoserve": record}, receive, send)

    def _variant_for(self, scope: Scope) -> str:
        asked_for = _values(scope, self._header)
        if len(asked_for) == 1 and asked_for[0] in self._names:
            return self._names[asked_for[0]]
        identity = self._identity(scope)
        if not identity:
            return self._dealt(self._chance())
        return max(self._shares, key=lambda name: self._score(name, identity))

    def _identity(self, scope: Scope) -> bytes:
        if self._sticky is not None:
            return b"\n".join(_values(scope, self._sticky))
        return b"\n".join(
            b"%b:%b" % pair for pair in sorted(self._credentials.read(scope).credentials)
        )

    def _dealt(self, chance: float) -> str:
        """Return the variant whose part of the whole holds this number."""
        left = chance * sum(self._shares.values())
        for name, share in self._shares.items():
            left -= share
            if left < 0:
                return name
        return next(iter(self._shares))  # Rounding has left a last bit of the whole.

    def _score(self, name: str, identity: bytes) -> float:
        """Weigh a variant for an asker: weighted rendezvous hashing (Mosharaf et al. 2014).

        Each variant wins in proportion to its share, and another share or another variant moves
        only those askers who come to it or leave it.
        """
        digest = hashlib.blake2b(identity, key=name.encode(), digest_size=8).digest()
        uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
        return -self._shares[name] / math.log(uniform)

    def _naming(self, record: RequestRecord, send: Send) -> Send:
        """Name the variant in the response, if a rule of the cache covers the request."""
        if self._header is None:
            return send
        varies = [self._header, b"authorization" if self._sticky is None else self._sticky]
        fields: list[Header] = [
            (self._header, record.variant.encode()),
            (b"vary", b", ".join(varies)),  # For caches further out.
        ]

        async def name_and_send(message: Message) -> None:
            if message["type"] == "http.response.start" and record.rule:
                message = with_headers(message, fields)
            await send(message)

        return name_and_send


def _values(scope: Scope, name: bytes | None) -> list[bytes]:
    return [value.strip() for field, value in scope["headers"] if field.lower() == name]


def _check(variants: Mapping[str, float], sticky: str, header: str | None) -> None:
    for name, share in variants.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"a variant's name is 1 to 64 of A-Za-z0-9._-, not {name!r}")
        if not 0 <= share < math.inf:
            raise ValueError(f"a variant's share is a number from 0, not {share!r}")
    if not any(share > 0 for share in variants.values()):
        raise ValueError(f"variants must have a share above 0, not {dict(variants)!r}")
    if not _FIELD.fullmatch(sticky):
        raise ValueError(f"sticky must be 'credential' or a header field, not {sticky!r}")
    if header is not None and not _FIELD.fullmatch(header):
        raise ValueError(f"header must be the name of a header field, not {header!r}")
