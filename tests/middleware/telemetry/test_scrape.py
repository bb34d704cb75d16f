"""The page that Prometheus scrapes."""

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar, asgi
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from memoserve._asgi import ASGIApp, Receive, Scope, Send
from memoserve._events import (
    FollowerJoined,
    KeyRefused,
    ModelCalled,
    RequestFinished,
    RequestStarted,
    StoreCalled,
    StoreOpened,
    StoreWritten,
)
from memoserve.stores.memory import MemoryStore, StoreUsage
from memoserve.telemetry._ledger import Totals
from memoserve.telemetry.otel import OTelObserver, default_observer
from memoserve.telemetry.scrape import MetricsApp

PLAIN = "text/plain; version=0.0.4; charset=utf-8"


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    # httpx types its transport more strictly than ASGI 3 does.
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a")


async def scrape(app: ASGIApp, path: str = "/metrics", accept: str = "*/*") -> httpx.Response:
    async with client_of(app) as client:
        return await client.get(path, headers={"accept": accept}, follow_redirects=True)


@pytest.fixture
def observer() -> OTelObserver:
    observer = OTelObserver()
    observer.observe(ModelCalled("sentiment", "ok", 0.5))
    return observer


class CountingObserver(OTelObserver):
    """Knows how often it was asked, and answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.collections = 0
        self.begun = threading.Event()
        self.gate = threading.Event()

    def totals(self) -> Totals:
        self.collections += 1
        self.begun.set()
        self.gate.wait(10)
        return super().totals()


class Foreign(Collector):
    """Metrics of somebody else."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


async def test_the_page_is_prometheus_text(observer: OTelObserver) -> None:
    response = await scrape(MetricsApp(observer))

    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert response.status_code == 200
    assert response.headers["content-type"] == PLAIN
    assert families["memoserve_model_duration_seconds"].type == "histogram"
    assert families["memoserve_workers"].samples[0].value == 1


async def test_labels_of_the_exporters_own_are_left_out(observer: OTelObserver) -> None:
    response = await scrape(MetricsApp(observer))

    assert "otel_scope" not in response.text
    assert "target_info" not in response.text


@pytest.mark.parametrize(
    "accept",
    [
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
            id="prometheus-3",
        ),
        pytest.param("Application/OpenMetrics-Text; version=0.0.1", id="prometheus-2"),
        pytest.param("application/openmetrics-text; version=nonsense", id="nonsense"),
    ],
)
async def test_openmetrics_is_for_who_reads_it(observer: OTelObserver, accept: str) -> None:
    response = await scrape(MetricsApp(observer), accept=accept)

    parse = openmetrics_parser.text_string_to_metric_families
    families = list(parse(response.text))  # type: ignore[no-untyped-call] # It has no types.
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert {family.unit for family in families} == {"seconds", ""}


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text"])
async def test_many_series_are_one_family(observer: OTelObserver, accept: str) -> None:
    """They are encoded a few at a time, so that nobody waits for all of them."""
    for number in range(50):
        observer.observe(ModelCalled(f"model-{number}", "ok", 0.5))

    response = await scrape(MetricsApp(observer), accept=accept)

    for comment in ("HELP", "TYPE"):
        assert response.text.count(f"# {comment} memoserve_model_duration_seconds ") == 1
    assert response.text.count("memoserve_model_duration_seconds_count{") == 51
    if accept == "*/*":
        families = list(text_string_to_metric_families(response.text))
    else:
        parse = openmetrics_parser.text_string_to_metric_families
        families = list(parse(response.text))  # type: ignore[no-untyped-call] # It has no types.
    names = [family.name for family in families]
    assert len(set(names)) == len(names)


async def test_head_has_the_headers_of_get_and_no_body(observer: OTelObserver) -> None:
    app = MetricsApp(observer)

    async with client_of(app) as client:
        get, head = await client.get("/"), await client.head("/")

    assert head.headers == get.headers
    assert int(head.headers["content-length"]) == len(get.content)
    assert head.content == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_allowed(observer: OTelObserver, method: str) -> None:
    async with client_of(MetricsApp(observer)) as client:
        response = await client.request(method, "/")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


async def test_nothing_is_compressed(observer: OTelObserver) -> None:
    async with client_of(MetricsApp(observer)) as client:
        response = await client.get("/", headers={"accept-encoding": "gzip"})

    assert "content-encoding" not in response.headers


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_a_server_hears_that_there_is_only_http(observer: OTelObserver, kind: str) -> None:
    async def never() -> dict[str, object]:
        raise AssertionError

    async def send(message: object) -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match=kind):
        await MetricsApp(observer)({"type": kind}, never, send)


@pytest.mark.parametrize("max_age", [-1.0, float("nan")])
def test_an_impossible_age_is_refused(max_age: float) -> None:
    with pytest.raises(ValueError, match="max_age must not be negative"):
        MetricsApp(max_age=max_age)


async def test_scrapes_close_together_share_a_rendering() -> None:
    now = 100.0
    observer = CountingObserver()
    observer.gate.set()
    app = MetricsApp(observer, max_age=1.0, clock=lambda: now)
    first = await scrape(app)
    observer.observe(ModelCalled("sentiment", "ok", 0.5))

    now = 100.99
    soon = await scrape(app)
    now = 101.0
    later = await scrape(app)

    assert soon.text == first.text
    assert later.text != first.text
    assert observer.collections == 2


async def test_each_format_has_its_own_page(observer: OTelObserver) -> None:
    app = MetricsApp(observer, clock=lambda: 0.0)

    plain = await scrape(app)
    openmetrics = await scrape(app, accept="application/openmetrics-text")

    assert plain.headers["content-type"] != openmetrics.headers["content-type"]
    assert openmetrics.text.endswith("# EOF\n")


async def test_an_age_of_nought_always_renders() -> None:
    observer = CountingObserver()
    observer.gate.set()
    app = MetricsApp(observer, max_age=0, clock=lambda: 0.0)

    await scrape(app)
    await scrape(app)

    assert observer.collections == 2


async def test_a_crowd_of_scrapers_is_one_rendering_in_one_thread() -> None:
    observer = CountingObserver()
    app = MetricsApp(observer, clock=lambda: 0.0)

    crowd = asyncio.gather(*(scrape(app) for _ in range(20)))
    await asyncio.to_thread(observer.begun.wait, 10)
    observer.gate.set()

    assert {page.status_code for page in await crowd} == {200}
    assert observer.collections == 1


async def test_the_loop_goes_on_while_a_page_is_rendered(observer: OTelObserver) -> None:
    """The store answers only when the loop has had a turn: on the loop it would wait in vain."""
    asked, turned = threading.Event(), threading.Event()

    class SlowStore(MemoryStore):
        was_in_time = True

        def usage(self) -> StoreUsage:
            asked.set()
            self.was_in_time &= turned.wait(timeout=10)
            return super().usage()

    store = SlowStore()
    observer.observe(StoreOpened(store))

    page = asyncio.create_task(scrape(MetricsApp(observer)))
    await asyncio.to_thread(asked.wait, 10)
    turned.set()

    assert (await page).status_code == 200
    assert store.was_in_time


async def test_a_metric_that_cannot_be_rendered_costs_only_itself(
    observer: OTelObserver, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug 58. The exporter of OpenTelemetry loses the page for an exponential histogram."""
    broken = Metric("broken", "Not a number.", "gauge")
    broken.add_sample("broken", {}, "many")  # type: ignore[arg-type] # That is the point.
    beside = Metric("beside", "A number.", "gauge")
    beside.add_sample("beside", {}, 1.0)
    app = MetricsApp(observer, registry=Foreign(broken, beside))

    response = await scrape(app)

    assert response.status_code == 200
    assert "beside 1.0" in response.text
    assert "memoserve_workers 1.0" in response.text
    assert "broken" not in response.text
    assert "broken is left out: it cannot be rendered" in caplog.text


async def test_a_registry_that_fails_costs_only_itself(
    observer: OTelObserver, caplog: pytest.LogCaptureFixture
) -> None:
    """As a `PrometheusMetricReader` does for an exponential histogram (0.66b2)."""
    registry = CollectorRegistry()
    view = View(instrument_name="foreign", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider(
        [PrometheusMetricReader(registry=registry)], views=[view], shutdown_on_exit=False
    )
    provider.get_meter("foreign").create_histogram("foreign").record(1.0)

    response = await scrape(MetricsApp(observer, registry=registry))

    assert response.status_code == 200
    assert "memoserve_workers 1.0" in response.text
    assert "metrics are left out: they cannot be collected" in caplog.text


async def test_no_family_is_there_twice(provider: MeterProvider) -> None:
    """An application that exports to Prometheus itself has our numbers in its registry, too."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("shop").create_counter("orders").add(3)

    response = await scrape(MetricsApp(OTelObserver(provider), registry=registry))

    assert response.text.count("# TYPE memoserve_workers gauge") == 1
    assert "orders_total{" in response.text


async def test_metrics_that_are_exported_elsewhere_are_shown_here_too(
    global_provider: MeterProvider,
) -> None:
    response = await scrape(MetricsApp())

    assert response.status_code == 200
    assert "memoserve_workers 1.0" in response.text


async def test_a_page_that_cannot_be_made_is_no_empty_page(
    observer: OTelObserver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Totals:
        raise TimeoutError("locked")

    monkeypatch.setattr(observer, "totals", fail)

    response = await scrape(MetricsApp(observer))

    assert response.status_code == 503
    assert "could not be rendered" in response.text
    assert "locked" in caplog.text


def knocking(
    app: ASGIApp, address: tuple[str, int] | None, authorization: str = ""
) -> httpx.AsyncClient:
    """A client that comes from an address, or through a Unix socket, which gives none."""

    async def from_address(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": address}, receive, send)

    transport = httpx.ASGITransport(from_address)
    headers = [(b"authorization", authorization.encode("latin-1"))]
    return httpx.AsyncClient(transport=transport, base_url="http://a", headers=headers)


@pytest.mark.parametrize(
    ("address", "authorization", "status"),
    [
        pytest.param("10.1.2.3", "", 200, id="network"),
        pytest.param("::ffff:10.1.2.3", "", 200, id="network-through-ipv6"),
        pytest.param("192.168.0.1", "", 401, id="elsewhere"),
        pytest.param("::1", "", 401, id="elsewhere-ipv6"),
        pytest.param("nonsense", "", 401, id="no-address"),
        pytest.param("", "", 401, id="unix-socket"),
        pytest.param("192.168.0.1", "Bearer sesame", 200, id="token"),
        pytest.param("", "Bearer sesame", 200, id="unix-socket-token"),
        pytest.param("192.168.0.1", "Bearer sesam", 401, id="wrong-token"),
        pytest.param("192.168.0.1", "Basic sesame", 401, id="other-scheme"),
        pytest.param("192.168.0.1", "Bearer s\xe9same", 401, id="not-ascii"),
    ],
)
async def test_metrics_are_for_a_network_or_a_token(
    observer: OTelObserver, address: str, authorization: str, status: int
) -> None:
    """Bug 18: what is not public is not shown by accident."""
    app = MetricsApp(observer, allow=["10.0.0.0/8"], token="sesame")  # noqa: S106  (no secret)
    peer = (address, 1234) if address else None

    async with knocking(app, peer, authorization) as client:
        response = await client.get("/metrics")

    assert response.status_code == status
    assert ("memoserve_" in response.text) == (status == 200)
    assert ("www-authenticate" in response.headers) == (status == 401)


async def test_who_is_elsewhere_is_refused_where_there_is_no_token(observer: OTelObserver) -> None:
    app = MetricsApp(observer, allow=["127.0.0.1", "::1"])

    async with knocking(app, ("10.0.0.1", 1)) as client:
        refused = await client.post("/metrics")
    async with knocking(app, ("127.0.0.1", 1)) as client:
        allowed = await client.get("/metrics")

    assert (refused.status_code, allowed.status_code) == (403, 200)
    assert "memoserve_" not in refused.text


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({"token": ""}, "token must not be empty", id="empty-token"),
        pytest.param({"allow": ["example.org"]}, "example.org", id="a-name"),
        pytest.param({"allow": "10.0.0.0/8"}, "allow must be several", id="one-string"),
    ],
)
def test_a_guard_that_guards_nothing_is_refused(options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MetricsApp(**options)


async def test_by_default_the_page_is_that_of_the_default_observer(fresh_process: None) -> None:
    app = MetricsApp()
    default_observer().observe(KeyRefused("sentiment"))

    response = await scrape(app)

    assert 'memoserve_key_refusals_total{model="sentiment"} 1.0' in response.text


def test_the_global_registry_stays_as_it_was(observer: OTelObserver) -> None:
    names = {family.name for family in REGISTRY.collect()}

    assert not [name for name in names if "memoserve" in name]


def bare(app: MetricsApp) -> ASGIApp:
    return app


def routed(app: MetricsApp) -> ASGIApp:
    return Starlette(routes=[Route("/metrics", app)])


def mounted(app: MetricsApp) -> ASGIApp:
    return Starlette(routes=[Mount("/metrics", app)])


def in_litestar(app: MetricsApp) -> ASGIApp:
    handler = asgi("/metrics", copy_scope=True)(app)
    # Without its logging, which would stay configured for all tests that follow.
    return Litestar([handler], logging_config=None)  # type: ignore[return-value] # It has ASGI types of its own.


@pytest.mark.parametrize("host", [bare, routed, mounted, in_litestar])
async def test_it_runs_wherever_an_asgi_app_does(
    observer: OTelObserver, host: Callable[[MetricsApp], ASGIApp]
) -> None:
    response = await scrape(host(MetricsApp(observer)))

    assert response.status_code == 200
    assert "memoserve_model_duration_seconds_count" in response.text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_to_say(observer: OTelObserver) -> None:
    store = MemoryStore()
    for event in (
        StoreOpened(store),
        RequestStarted("sentiment"),
        FollowerJoined("sentiment"),
        RequestFinished("sentiment", "v1", "bypass", "ok", 0.1, "credentials", 0.5, 1.0),
        StoreWritten("sentiment", "stored"),
        StoreCalled("get", 0.1, "TimeoutError"),
        KeyRefused("sentiment"),
    ):
        observer.observe(event)
    page = (await scrape(MetricsApp(observer))).content

    lint = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=page,
        capture_output=True,
        check=False,
    )

    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")
