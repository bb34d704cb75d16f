"""The page that Prometheus scrapes.

Rule: a scrape never holds up the event loop nor takes a thread from the application, however many
ask for the page and however long it is, and whoever may not read it learns nothing.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Literal

import msgspec

from memoserve._asgi import Receive, Scope, Send, respond
from memoserve.telemetry._exposition import OPENMETRICS, Collector, content_type, families, render
from memoserve.telemetry._ledger import Totals
from memoserve.telemetry.otel import OTelObserver, default_observer

__all__ = ["MetricsApp", "MetricsPage"]

_logger = logging.getLogger("memoserve")

_Format = Literal["plain", "openmetrics"]


class MetricsPage(msgspec.Struct, frozen=True):
    """What a scraper gets."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class MetricsApp:
    """An ASGI app that answers GET and HEAD with the metrics, under any path.

    It shows the numbers of all workers of a server together. It never compresses: that would cost
    more CPU than the rendering.

    Args:
        observer: Whose metrics are shown: the one that `TelemetryMiddleware` was given, if it
            was given one; else this process's default.
        registry: What to show beside them, such as `prometheus_client.REGISTRY` with its
            figures of the process: of the worker that renders the page, not of all.
        max_age: Seconds for which a page is shown again, by any worker. 0 renders for each.
        token: Who sends it (`Authorization: Bearer ...`) may read the page.
        allow: Networks such as `"10.0.0.0/8"` or addresses whose clients may read it. Behind a
            proxy of the same host everybody comes from 127.0.0.1: take a token there, or a port
            of its own. With neither `token` nor `allow`, everybody may read it.
        clock: Seconds that only grow.

    Raises:
        ValueError: `max_age` is negative, `token` is empty or `allow` names no network.
    """

    def __init__(
        self,
        observer: OTelObserver | None = None,
        *,
        registry: Collector | None = None,
        max_age: float = 1.0,
        token: str | None = None,
        allow: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not max_age >= 0:
            raise ValueError(f"max_age must not be negative, not {max_age!r}")
        self._guard = _Guard(token, allow)
        self._observer = observer
        self._registry = registry
        self._max_age = max_age
        self._clock = clock
        self._pages: dict[_Format, tuple[float, bytes]] = {}  # Only the thread touches it.
        # One thread, since two renderings at once would only compete for the GIL; our own, since
        # anyio's forty are for the application's handlers.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memoserve-metrics")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape.

        Raises:
            RuntimeError: The scope is no HTTP request; a server takes that for "no lifespan".
        """
        del receive
        if scope["type"] != "http":
            raise RuntimeError(f"MetricsApp answers HTTP requests, not {scope['type']}")
        client = scope.get("client")
        headers = {name.lower(): value for name, value in scope["headers"]}
        page = await asyncio.wrap_future(
            self._thread.submit(
                self.answer,
                scope["method"],
                client[0] if client else "",
                authorization=headers.get(b"authorization", b""),
                accept=headers.get(b"accept", b""),
            )
        )
        body = [] if scope["method"] == "HEAD" else [page.body]
        await respond(send, page.status, [*page.headers], body)

    def answer(
        self, method: str, client: str, *, authorization: bytes = b"", accept: bytes = b""
    ) -> MetricsPage:
        """Answer one scrape, in a thread where nobody minds the waiting."""
        if not self._guard.admits(client, authorization):
            return self._guard.refusal
        if method not in ("GET", "HEAD"):
            return _page(405, b"", (b"allow", b"GET, HEAD"))
        # Whoever reads OpenMetrics prefers it. The versions it names are not looked at: there is
        # one that everybody reads, and a page for each spelling would let a client fill the memory.
        wants: _Format = "openmetrics" if OPENMETRICS.encode() in accept.lower() else "plain"
        try:
            body = self._body(wants)
        except Exception:
            _logger.exception("the metrics could not be rendered")
            return _page(503, b"The metrics could not be rendered; the log says why.\n")
        kind = content_type(openmetrics=wants == "openmetrics")
        return _page(200, body, (b"content-type", kind.encode()))

    def _body(self, wants: _Format) -> bytes:
        observer = self._observer or default_observer()
        observer.start()
        if observer.workers is not None:
            return observer.workers.page(
                wants, self._max_age, lambda totals: self._rendered(totals, wants)
            )
        kept = self._pages.get(wants)
        if kept is not None and self._clock() - kept[0] < self._max_age:
            return kept[1]
        body = self._rendered(observer.totals(), wants)
        self._pages[wants] = (self._clock(), body)
        return body

    def _rendered(self, totals: Totals, wants: _Format) -> bytes:
        beside = [] if self._registry is None else [self._registry.collect()]
        return render([families(totals), *beside], openmetrics=wants == "openmetrics")


class _Guard:
    """Who may read the page."""

    def __init__(self, token: str | None, allow: Iterable[str]) -> None:
        if token == "":
            raise ValueError("token must not be empty")
        if isinstance(allow, str):
            raise ValueError(f"allow must be several networks, not {allow!r}")
        self._expected = None if token is None else b"Bearer " + token.encode()
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(each) for each in allow]
        self.refusal = _page(403, b"This address may not read the metrics.\n")
        if token is not None:
            challenge = (b"www-authenticate", b'Bearer realm="metrics"')
            self.refusal = _page(401, b"The metrics need a bearer token.\n", challenge)

    def admits(self, client: str, authorization: bytes) -> bool:
        if self._expected is None and not self._networks:
            return True
        has_token = self._expected is not None and hmac.compare_digest(
            authorization, self._expected
        )
        return has_token or self._is_near(client)

    def _is_near(self, client: str) -> bool:
        try:
            address = ip_address(client)
        except ValueError:  # A Unix socket has none.
            return False
        mapped = getattr(address, "ipv4_mapped", None)  # Of a socket that takes both families.
        return any((mapped or address) in network for network in self._networks)


def _page(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> MetricsPage:
    kind = () if any(name == b"content-type" for name, _ in headers) else (_PLAIN,)
    return MetricsPage(status, (*kind, *headers, (b"content-length", b"%d" % len(body))), body)


_PLAIN = (b"content-type", b"text/plain; charset=utf-8")
