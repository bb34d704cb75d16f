"""`memoserve stats`: what a service does, by differences of its metrics."""

import asyncio
import json
import math
import sys
import threading
from collections.abc import Iterator

import pytest
from rich.console import Console

import memoserve._commands  # noqa: F401  (for what is taken from `sys.modules` below)
from memoserve import CacheMiddleware, Rule, TelemetryMiddleware
from memoserve._asgi import Receive, Scope, Send, respond
from memoserve._stats import Scrape, figures, read_page
from memoserve.telemetry.scrape import MetricsApp
from tests.asgi import Model, ask
from tests.middleware.commands.running import Runner
from tests.servers import serving

command = sys.modules["memoserve._commands.stats"]  # The package has the command by that name.

_COUNT = "memoserve_request_duration_seconds_count"
_BUCKET = "memoserve_request_duration_seconds_bucket"


def page(
    hits: float = 0, misses: float = 0, bypasses: float = 0, *, saved: float = 0, errors: float = 0,
    is_open: float = 0,
) -> str:  # fmt: skip
    """Write a page of one model: hits take 1 to 2.5 ms, all else 0.1 to 0.25 s."""
    lines: list[str] = []
    for status, count, bound in (
        ("hit", hits, "0.0025"), ("miss", misses, "0.25"), ("bypass", bypasses, "+Inf"),
    ):  # fmt: skip
        labels = f'model="m",variant="",cache_status="{status}",outcome="ok"'
        total = 0.0
        for step in ("0.001", "0.0025", "0.1", "0.25", "+Inf"):
            total = count if step == bound else total
            lines.append(f'{_BUCKET}{{{labels},le="{step}"}} {total}')
        lines.append(f"{_COUNT}{{{labels}}} {count}")
    lines += [
        f'memoserve_model_time_saved_seconds_total{{model="m"}} {saved}',
        f'memoserve_store_errors_total{{operation="get",error_type="TimeoutError"}} {errors}',
        f'memoserve_breaker_open{{breaker="store"}} {is_open}',
        "memoserve_workers 4",
        "other_total 7",
    ]
    return "\n".join([*lines, ""])


def scrape(time: float, *counts: float, **more: float) -> Scrape:
    return read_page(page(*counts, **more), time)


def test_figures_are_of_the_time_between_two_scrapes() -> None:
    found = figures(
        scrape(10, 100, 100, 0, saved=5, errors=2),
        scrape(20, 130, 110, 10, saved=8, errors=5, is_open=1),
    )

    (model,) = found.models
    assert found.seconds == 10
    assert model.rate == 5
    assert model.hit_ratio == 0.75
    assert model.saved == 3
    assert model.latencies["hit"].p50 == pytest.approx(0.00175)
    assert model.latencies["miss"].p95 == pytest.approx(0.2425)
    assert model.latencies["bypass"].p50 == 0.25  # Above the last bound that says anything.
    assert set(model.latencies) == {"hit", "miss", "bypass"}
    assert found.store_errors == {"get TimeoutError": 3}
    assert found.open_breakers == ("store",)
    assert found.workers == 4


def test_a_counter_that_began_anew_is_not_negative() -> None:
    """A restart in between: all that it shows now is new (bug 57)."""
    found = figures(scrape(0, 1000, 10), scrape(2, 6, 2))

    assert found.models[0].rate == 4
    assert found.models[0].hit_ratio == 0.75


def test_without_an_earlier_scrape_it_is_all_since_the_start() -> None:
    found = figures(None, scrape(5, 3, 1))

    assert math.isnan(found.seconds)
    assert math.isnan(found.models[0].rate)
    assert found.models[0].hit_ratio == 0.75


def test_silence_has_no_ratio() -> None:
    found = figures(scrape(0, 3, 1), scrape(1, 3, 1))

    assert found.models[0].rate == 0
    assert math.isnan(found.models[0].hit_ratio)
    assert found.models[0].latencies == {}


def test_the_busiest_model_comes_first() -> None:
    text = page(1).replace('"m"', '"a"') + page(9).replace('"m"', '"b"')

    found = figures(None, read_page(text, 0))

    assert [model.model for model in found.models] == ["b", "a"]


@pytest.mark.parametrize(
    ("buckets", "is_nothing"),
    [
        pytest.param("", True, id="none"),
        pytest.param(f'{_BUCKET}{{model="m",cache_status="hit",le="1.0"}} 0', True, id="empty"),
        pytest.param(
            f'{_BUCKET}{{model="m",cache_status="hit",le="0.5"}} nan\n'
            f'{_BUCKET}{{model="m",cache_status="hit",le="1.0"}} nan',
            True,
            id="torn",
        ),
        pytest.param(f'{_BUCKET}{{model="m",cache_status="hit",le="1.0"}} 2', False, id="one"),
    ],
)
def test_a_histogram_that_says_nothing_has_no_percentile(buckets: str, *, is_nothing: bool) -> None:
    text = f'{_COUNT}{{model="m",cache_status="hit"}} 2\n{buckets}\n'

    found = figures(None, read_page(text, 0))

    assert math.isnan(found.models[0].latencies["hit"].p50) is is_nothing


@pytest.mark.parametrize("text", ["", "other 1\n", "<html>", "memoserve_x{ 1\n"])
def test_another_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_page(text, 0)


# The command.


class Served:
    """A page of metrics that changes with every look, or a failure."""

    def __init__(self) -> None:
        self.pages: list[str | int] = []
        self.tokens: list[bytes | None] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/metrics"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.tokens.append(dict(scope["headers"]).get(b"authorization"))
        answer = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if isinstance(answer, int):
            await respond(send, answer, [], [b""])
        else:
            await respond(send, 200, [], [answer.encode()])


@pytest.fixture
def served() -> Iterator[Served]:
    """Serve in a thread, so that the command can be called in this one."""
    app = Served()
    loop = asyncio.new_event_loop()
    stopping, ready = asyncio.Event(), []

    async def serve() -> None:
        async with serving(app) as port:
            app.port = port
            ready.append(port)
            await stopping.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    while not ready:
        threading.Event().wait(0.005)
    yield app
    loop.call_soon_threadsafe(stopping.set)
    thread.join()
    loop.close()


def test_programs_get_json(memoserve: Runner, served: Served) -> None:
    served.pages = [page(10, 10), page(13, 11, saved=2, errors=1, is_open=1)]

    ran = memoserve("stats", served.url, "--json", "--interval", "0.05")

    document = json.loads(ran.out)
    (model,) = document["models"]
    assert ran.code == 0
    assert document["seconds"] >= 0.05
    assert model["hit_ratio"] == 0.75
    assert model["model_seconds_saved"] == 2
    assert set(model["latency"]) == {"hit", "miss"}
    assert document["store_errors"] == {"get TimeoutError": 1}
    assert document["open_breakers"] == ["store"]


def test_people_get_a_table(memoserve: Runner, served: Served) -> None:
    served.pages = [page(10, 10), page(13, 11, 1, saved=1234.5, errors=1, is_open=1)]

    ran = memoserve("stats", served.url, "--once", "--interval", "0.05")

    assert ran.code == 0
    for text in (
        "75.0%", "1.75 ms/2.43 ms", "1,234.5 s", "store errors: 1 of get TimeoutError",
        "the breaker of the store is open", "4 workers, in 0.",
    ):  # fmt: skip
        assert text in ran.out
    assert max(map(len, ran.out.splitlines())) <= 160


def test_totals_need_one_look(memoserve: Runner, served: Served) -> None:
    served.pages = [page(3, 1)]

    ran = memoserve("stats", served.url, "--total")

    assert "75.0%" in ran.out
    assert "since it began" in ran.out
    assert len(served.tokens) == 1


def test_silence_is_said(memoserve: Runner, served: Served) -> None:
    served.pages = [page(3, 1)]

    ran = memoserve("stats", served.url, "--interval", "0.01")

    assert "no covered request in this time" in ran.out
    assert "–" in ran.out


def test_long_times_are_seconds_and_unknown_ones_a_dash(memoserve: Runner, served: Served) -> None:
    lines = (
        f'{_COUNT}{{model="m",cache_status="hit"}} 2',
        f'{_COUNT}{{model="m",cache_status="miss"}} 2',
        f'{_BUCKET}{{model="m",cache_status="miss",le="10.0"}} 2',
    )
    served.pages = ["\n".join(lines)]

    ran = memoserve("stats", served.url, "--total")

    assert "5 s/9.5 s" in ran.out
    assert "–/–" in ran.out


def test_a_token_is_sent(memoserve: Runner, served: Served) -> None:
    served.pages = [page(1)]

    memoserve("stats", served.url, "--total", "--token", "secret")

    assert served.tokens == [b"Bearer secret"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(401, "answers 401: it wants a --token", id="401"),
        pytest.param(500, "answers 500\n", id="500"),
        pytest.param("<html>", "is no page of metrics", id="no-metrics"),
    ],
)
def test_a_page_that_is_none_is_said(
    memoserve: Runner, served: Served, answer: str | int, message: str
) -> None:
    served.pages = [answer]

    ran = memoserve("stats", served.url)

    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(("http://127.0.0.1:1/",), 1, "cannot be read: ", id="refused"),
        pytest.param(("http://[::1/",), 1, "cannot be read: ", id="no-url"),
        pytest.param(("file:///etc/passwd",), 2, "must be like http://", id="scheme"),
        pytest.param(("http://h", "--interval", "0"), 2, "more than 0 seconds", id="interval"),
    ],
)
def test_what_cannot_be_read_ends_with_a_sentence(
    memoserve: Runner, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ran = memoserve("stats", *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_on_a_terminal_it_goes_on_until_it_is_interrupted(
    memoserve: Runner, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is away for a moment does not end it."""
    served.pages = [page(1, 1), page(4, 2), 503, page(4, 2)]
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(
        command, "make_console", lambda: Console(force_terminal=True, width=160, color_system=None)
    )

    ran = memoserve("stats", served.url)

    assert ran.code == 130
    assert "the first figures come in 2 s" in ran.out
    assert "75.0%" in ran.out
    assert "answers 503" in ran.out
    assert "no covered request in this time" in ran.out


def test_without_the_extra_it_is_named(
    memoserve: Runner, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    served.pages = [page(1)]

    ran = memoserve("stats", served.url)

    assert ran.code == 1
    assert "memoserve[prometheus]" in ran.err


SHADOW = """
memoserve_bypasses_total{model="m",reason="shadow"} 8
memoserve_bypasses_total{model="m",reason="credentials"} 2
memoserve_shadow_comparisons_total{model="m",result="equal"} 3
memoserve_shadow_comparisons_total{model="m",result="different"} 1
"""


def test_bypasses_are_told_by_reason_and_shadow_mode_by_result(
    memoserve: Runner, served: Served
) -> None:
    served.pages = [page(0, 0, 10) + SHADOW]

    document = json.loads(memoserve("stats", served.url, "--total", "--json").out)
    shown = memoserve("stats", served.url, "--total").out

    (model,) = document["models"]
    assert model["bypasses"] == {"shadow": 8, "credentials": 2}
    assert model["shadow"] == {"equal": 3, "different": 1, "hit_ratio": 0.5}
    assert "m bypasses: 8 shadow, 2 credentials\n" in shown
    assert "m in shadow mode: 3 equal, 1 different; live, 50.0% would be hits\n" in shown


def test_a_comparison_whose_request_is_not_counted_yet_has_no_ratio(
    memoserve: Runner, served: Served
) -> None:
    served.pages = [page(1, 1) + 'memoserve_shadow_comparisons_total{model="m",result="equal"} 1\n']

    document = json.loads(memoserve("stats", served.url, "--total", "--json").out)
    shown = memoserve("stats", served.url, "--total").out

    assert document["models"][0]["shadow"] == {"equal": 1, "different": 0, "hit_ratio": None}
    assert "m in shadow mode: 1 equal, 0 different\n" in shown


async def test_a_real_shadow_is_told(memoserve: Runner) -> None:
    """Three requests for one thing and one for another: two would have been hits."""
    metrics = MetricsApp(max_age=0)
    rules = [Rule("/v1/model", model="shadowed")]
    cache = TelemetryMiddleware(CacheMiddleware(Model(), rules=rules, mode="shadow"))
    for body in (b"[1]", b"[1]", b"[1]", b"[2]"):
        await ask(cache, body)

    async with serving(metrics) as port:
        ran = await asyncio.to_thread(
            memoserve, "stats", f"http://127.0.0.1:{port}/metrics", "--total", "--json"
        )

    (model,) = (each for each in json.loads(ran.out)["models"] if each["model"] == "shadowed")
    assert model["bypasses"] == {"shadow": 4}
    assert sum(model["shadow"][result] for result in ("equal", "different")) == 2
    assert model["shadow"]["hit_ratio"] == 0.5


async def test_the_names_are_those_of_a_real_service(memoserve: Runner) -> None:
    """What the service counts is what is shown, to the request (bug 57)."""
    metrics = MetricsApp(max_age=0)
    cache = TelemetryMiddleware(CacheMiddleware(Model(), rules=[Rule("/v1/model", model="real")]))
    for body in (b"[1]", b"[1]", b"[1]", b"[2]"):
        await ask(cache, body)

    async with serving(metrics) as port:
        ran = await asyncio.to_thread(
            memoserve, "stats", f"http://127.0.0.1:{port}/metrics", "--total", "--json"
        )

    (model,) = (each for each in json.loads(ran.out)["models"] if each["model"] == "real")
    assert model["hit_ratio"] == 0.5
    assert set(model["latency"]) == {"hit", "miss"}
    assert model["latency"]["hit"]["p95"] is not None
