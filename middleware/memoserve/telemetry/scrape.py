"""The page that Prometheus scrapes.

Rule: a scrape never holds up the event loop nor takes a thread from the application, however many
ask for the page and however long it is, and it never passes an empty page off as an answer.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from memoserve._asgi import Receive, Scope, Send, respond
from memoserve.telemetry import BUILD_INFO, prometheus_label
from memoserve.telemetry._prometheus import GuardedReader
from memoserve.telemetry.otel import OTelObserver, default_observer

__all__ = ["GuardedReader", "MetricsApp", "MetricsPage", "render"]

_logger = logging.getLogger("memoserve")

_OPENMETRICS = "application/openmetrics-text"
_PLAIN = "text/plain; charset=utf-8"

# Every observer shows it from its first moment, a prefix before it or not.
_SIGN_OF_LIFE = prometheus_label(BUILD_INFO.name).encode()

_NOT_HERE = b"""\
memoserve's metrics go to the MeterProvider that this application has set, and no metric of it
shows up in the Prometheus registry that this page reads. Give that provider a
memoserve.telemetry.scrape.GuardedReader(registry) and this page the same registry, or scrape
where the provider exports to.
"""
_FAILED = b"""\
A metric could not be rendered; the log says which. If it is an exponential histogram, have it
read by memoserve.telemetry.scrape.GuardedReader, which leaves it out, instead of a
PrometheusMetricReader.
"""


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """What a scraper gets."""

    status: int
    content_type: str
    body: bytes


class MetricsApp:
    """An ASGI app that answers GET and HEAD with the metrics, under any path.

    It never compresses: that would cost more CPU than the rendering.

    Args:
        observer: Whose metrics are shown: the one that `TelemetryMiddleware` was given, if it
            was given one; else this process's default.
        registry: What to show instead of the observer's registry: anything with `collect()`.
        max_age: Seconds between the end of a rendering and the start of the next; scrapes in
            between get the same page. 0 renders for each.
        clock: Seconds that only grow.

    Raises:
        ValueError: `max_age` is negative.
    """

    def __init__(
        self,
        observer: OTelObserver | None = None,
        *,
        registry: Collector | None = None,
        max_age: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not max_age >= 0:
            raise ValueError(f"max_age must not be negative, not {max_age!r}")
        self._observer = observer
        self._registry = registry
        self._max_age = max_age
        self._clock = clock
        self._pages: dict[bool, tuple[float, MetricsPage]] = {}  # Only the thread touches it.
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
        if scope["method"] not in ("GET", "HEAD"):
            await respond(send, 405, [(b"allow", b"GET, HEAD"), (b"content-length", b"0")], ())
            return
        page = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._page, _wants_openmetrics(scope)
        )
        headers = [
            (b"content-type", page.content_type.encode()),
            (b"content-length", b"%d" % len(page.body)),
        ]
        await respond(send, page.status, headers, [] if scope["method"] == "HEAD" else [page.body])

    def _page(self, openmetrics: bool) -> MetricsPage:  # noqa: FBT001 - from run_in_executor.
        kept = self._pages.get(openmetrics)
        if kept is not None and self._clock() - kept[0] < self._max_age:
            return kept[1]
        page = self._render(openmetrics=openmetrics)
        self._pages[openmetrics] = (self._clock(), page)
        return page

    def _render(self, *, openmetrics: bool) -> MetricsPage:
        try:
            registry = self._registry or (self._observer or default_observer()).registry
            page = render(registry or REGISTRY, openmetrics=openmetrics)
        except Exception:
            _logger.exception("the metrics could not be rendered")
            return MetricsPage(500, _PLAIN, _FAILED)
        return page if _SIGN_OF_LIFE in page.body else MetricsPage(501, _PLAIN, _NOT_HERE)


def render(registry: Collector, *, openmetrics: bool = False) -> MetricsPage:
    """Render what the registry collects, as OpenMetrics 1.0 or Prometheus' text 0.0.4."""
    encode, content_type = choose_encoder(_OPENMETRICS if openmetrics else "")
    return MetricsPage(200, content_type, encode(registry))


def _wants_openmetrics(scope: Scope) -> bool:
    """Tell whether the scraper reads OpenMetrics; all that do prefer it.

    The versions it names are not looked at: there is one that everybody reads, and a page for
    each spelling of a version would let a client fill the memory.
    """
    return any(
        name.lower() == b"accept" and _OPENMETRICS.encode() in value.lower()
        for name, value in scope["headers"]
    )
