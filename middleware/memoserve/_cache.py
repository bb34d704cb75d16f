"""The cache as an ASGI middleware.

Rule: this object holds options and what requests share; one `Exchange` holds one request. What
no rule covers passes through untouched.
"""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Literal

from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send
from memoserve._events import Observer, RequestRecord
from memoserve._exchange import Exchange
from memoserve._invalidation import invalidating, is_safe
from memoserve._recall import serve_recalled, spelling
from memoserve._rules import Coverage, Rule, RuleBook
from memoserve._shared import Options, Shared
from memoserve.stores import Store

__all__ = ["CacheMiddleware"]

_READ_OFTEN = frozenset({list, tuple})  # An iterator would have no credentials the second time.


class CacheMiddleware:
    """Answer repeated questions from a cache, and ask the app once what many ask at once.

    Args:
        app: The application.
        rules: What is cached, and how; the first that matches a request decides.
        store: A URL (`memory://?max_bytes=256mb`) or a `Store`, which then stays the caller's
            to close.
        namespace: The prefix of all keys. Caches with one store and one namespace share answers.
        mode: With `"shadow"` the app answers every request, as if nothing were in front of it; the
            store is filled, and the observer hears, of each request that would have been a hit,
            whether its answer would have been the app's.
        client_control: Whether request directives (RFC 9111 §5.2.1) are followed. By default
            they are not, since a client that can force misses can force load.
        credentials: Names of the header fields that carry credentials, instead of the built-in
            list.
        secret: Keys the HMAC that names a credential's partition. A store that is shared needs
            it for rules with `private="partition"`; in memory a random one will do.
        cache_status: Whether answers say what happened (`Cache-Status`, RFC 9211) and their Age.
        max_canonical_bytes: Larger JSON bodies are keyed by their bytes, hashed in a thread.
        flight_max_bytes: Bytes that request bodies and unfinished answers may hold together;
            beyond it requests bypass the cache.
        store_deadline: Seconds after which a call of a store is given up.
        lease: Seconds for which one process has the turn to ask the app, among all that share a
            store in Redis; renewed while it asks, so this is how long its death goes unnoticed.
        observer: Told what happens.
        clock: Seconds since the epoch, the same on all hosts that share a store.

    Raises:
        ValueError: An option is none of these.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        rules: Iterable[Rule],
        store: str | Store = "memory://",
        namespace: str = "memoserve",
        mode: Literal["live", "shadow"] = "live",
        client_control: Literal["ignore", "obey"] = "ignore",
        credentials: Collection[str] | None = None,
        secret: str | bytes | None = None,
        cache_status: bool = True,
        max_canonical_bytes: int = 262_144,
        flight_max_bytes: int = 268_435_456,
        store_deadline: float = 0.05,
        lease: float = 10.0,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        options = Options(
            namespace=namespace,
            mode=mode,
            client_control=client_control,
            credentials=credentials,
            secret=secret.encode() if isinstance(secret, str) else secret,
            cache_status=cache_status,
            max_canonical_bytes=max_canonical_bytes,
            flight_max_bytes=flight_max_bytes,
            store_deadline=store_deadline,
            lease=lease,
            clock=clock,
        )
        self._rules = RuleBook(rules, credentials)
        self._shared = Shared(app, options, self._rules.rules, store, observer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            if type(scope.get("headers", ())) not in _READ_OFTEN:
                scope = {**scope, "headers": list(scope["headers"])}
            coverage = self._rules.find(scope)
            record: RequestRecord | None = scope.get("memoserve")
            if coverage is None:
                if self._rules.has_safe_methods and not is_safe(scope["method"]):
                    send = invalidating(self._shared, scope, send)
            elif record is None or not record.rule:  # Else a cache outside has it.
                if record is not None:
                    self._shared.begin(record, coverage)
                is_mine = self._shared.own_observers if record is None else record.tracer
                answer = self._answer_and_report if is_mine else self._answer
                await answer(coverage, record, scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            send = self._living(send)
        await self.app(scope, receive, send)

    async def _answer(
        self,
        coverage: Coverage,
        record: RequestRecord | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a covered request, the short way if there is one."""
        shared = self._shared
        # What has more to say may go past the cache, and then its body is not ours to read.
        keyed = coverage.fields.plain(scope) if coverage.is_plain else None
        message = name = recalled = None
        if keyed is not None:
            message = await receive()
            name = spelling(coverage, scope, keyed, record, message)
            known = shared.spelled.get(name)
            if known is not None:
                recalled = await serve_recalled(shared, known, record, send)
                if recalled is None:
                    return
        exchange = Exchange(shared, coverage, record, scope, receive, send)
        await exchange.run(keyed, message, name, recalled)

    async def _answer_and_report(
        self,
        coverage: Coverage,
        outer: RequestRecord | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Do what the layers outside do not: end the request's record, or its span."""
        if (record := outer) is None:
            record, scope = self._shared.begun(coverage, scope)
        tracer = record.tracer
        token = None if tracer is None else tracer.begin(record, scope)
        try:
            await self._answer(coverage, record, scope, receive, send)
        except BaseException as error:
            record.fail(error)
            raise
        finally:
            if tracer is not None:
                tracer.leave(token)
            if outer is None:
                record.finish(time.perf_counter())

    async def aclose(self) -> None:
        """Drain what runs behind, for at most 5 seconds, and close what was opened here.

        The ASGI lifespan does this; call it where there is none.
        """
        await self._shared.aclose()

    def _living(self, send: Send) -> Send:
        """Connect before the server hears that the app is up, close before it hears of the end."""

        async def live_and_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._shared.connect()
            elif message["type"].startswith("lifespan.shutdown."):
                await self.aclose()
            await send(message)

        return live_and_send
