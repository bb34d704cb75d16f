"""The generator's metrics, and the server's beside what was seen."""

import builtins
import socket
import urllib.request
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from loadgen import Closed, Plan, Uniform, crosscheck
from loadgen.crosscheck import (
    MetricsError,
    disagreement,
    quiet_counts,
    read_counts,
    settled_counts,
)
from loadgen.outcome import CacheStatus, Outcome
from loadgen.records import Records
from loadgen.telemetry import Metrics, exporting
from tests.loadgen.apps import Receive, Scope, Send, answer, read_body
from tests.loadgen.runs import PLAN
from tests.loadgen.serving import free_port, serving


def _scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        return str(page.read().decode())


def _ended(metrics: Metrics, plan: Plan = PLAN) -> None:
    records = Records(len(plan.rows), journal=True)
    metrics.begin(plan, records, 0.75)
    for row in range(3):
        records.send(row, due=0.0, now=0.001)
    records.answer(0, now=0.011, status=200, cache=CacheStatus(Outcome.HIT))
    records.answer(1, now=0.021, status=503, cache=CacheStatus(Outcome.ERROR))
    metrics.take(records.take())


def test_prometheus_can_scrape_the_generator() -> None:
    port = free_port()

    with exporting(prometheus_port=port, otlp=None) as metrics:
        _ended(metrics)
        text = _scraped(port)

    model = PLAN.model(0)
    assert f'loadgen_requests_total{{model="{model}",outcome="hit",status="200"}} 1.0' in text
    assert 'outcome="error",status="503"} 1.0' in text
    assert "loadgen_response_seconds_bucket" in text
    assert "loadgen_lag_seconds_count" in text
    assert "loadgen_target_rps 100.0" in text
    assert "loadgen_inflight 1.0" in text
    assert "loadgen_hit_ratio_predicted 0.75" in text
    with pytest.raises(OSError, match="refused"):
        _scraped(port)


def test_before_the_first_run_there_is_little_to_see() -> None:
    port = free_port()

    with exporting(prometheus_port=port, otlp=None) as metrics:
        metrics.take(Records(1, journal=True).take())
        text = _scraped(port)

    assert "loadgen_inflight" not in text


def test_a_closed_loop_has_no_target() -> None:
    port, plan = free_port(), Plan(law=Uniform(9), arrivals=Closed(2, requests=9), duration=1)

    with exporting(prometheus_port=port, otlp=None) as metrics:
        _ended(metrics, plan)
        text = _scraped(port)

    assert "loadgen_target_rps" not in text


def test_metrics_are_pushed_by_otlp() -> None:
    received: list[tuple[str, bytes]] = []

    async def collector(scope: Scope, receive: Receive, send: Send) -> None:
        received.append((scope["path"], await read_body(receive)))
        await answer(send, body=b"", content_type=b"application/x-protobuf")

    with (
        serving(collector) as url,
        exporting(prometheus_port=None, otlp=f"{url}/v1/metrics") as metrics,
    ):
        _ended(metrics)

    assert {path for path, _ in received} == {"/v1/metrics"}
    assert any(b"loadgen.requests" in body for _, body in received)


def test_a_taken_port_is_an_error_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            pytest.raises(OSError, match="in use"),
            exporting(prometheus_port=port, otlp=None),
        ):
            pass


def test_without_the_extra_otlp_is_a_missing_module(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_otlp(name: str, *arguments: Any, **options: Any) -> Any:
        if "otlp" in name:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_otlp)

    with (
        pytest.raises(ModuleNotFoundError, match="otlp"),
        exporting(prometheus_port=None, otlp="http://a"),
    ):
        pass


_NAME = "memoserve_request_duration_seconds"


def _page(counts: Mapping[str, int]) -> bytes:
    lines = [f"# TYPE {_NAME} histogram"]
    for status, count in counts.items():
        for model in ("a", "b"):
            labels = f'cache_status="{status}",model="{model}"'
            lines.append(f'{_NAME}_bucket{{{labels},le="+Inf"}} {count}')
            lines.append(f"{_NAME}_count{{{labels}}} {count}")
            lines.append(f"{_NAME}_sum{{{labels}}} 1.5")
    lines += ["# TYPE other counter", 'other_total{cache_status="hit"} 99', ""]
    return "\n".join(lines).encode()


class _Counting:
    """Serves one page after another, the last one for ever."""

    def __init__(self, *pages: bytes) -> None:
        self.pages = list(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        await answer(send, body=body, content_type=b"text/plain")


async def test_the_servers_counts_are_read_over_all_models() -> None:
    with serving(_Counting(_page({"hit": 3, "miss": 1, "odd": 7}))) as url:
        counts = await read_counts(url)

    assert counts == {Outcome.HIT: 6, Outcome.MISS: 2}


async def test_a_server_that_counts_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crosscheck, "_PAUSE", 0.0)
    pages = [_page({"hit": 3}), _page({"hit": 4}), _page({"hit": 5})]

    with serving(_Counting(*pages)) as url:
        counts = await settled_counts(url, Counter({Outcome.HIT: 6}), {Outcome.HIT: 4})

    assert disagreement(counts, {Outcome.HIT: 4}) is None


async def test_what_is_still_being_counted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crosscheck, "_PAUSE", 0.0)

    with serving(_Counting(*[_page({"hit": count}) for count in (1, 2, 3, 3, 9)])) as url:
        counts = await quiet_counts(url)

    assert counts == {Outcome.HIT: 6}


async def test_counts_that_differ_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crosscheck, "_PAUSE", 0.0)

    with serving(_Counting(_page({"hit": 2, "miss": 2}))) as url:
        counts = await settled_counts(url, Counter(), {Outcome.HIT: 5, Outcome.MISS: 4})

    assert disagreement(counts, {Outcome.HIT: 5, Outcome.MISS: 4}) == "hit 5 here, 4 there"


@pytest.mark.parametrize("page", [b"<html>", b"x{ 1"], ids=["html", "cut-off"])
async def test_a_page_that_is_none_is_one_sentence(page: bytes) -> None:
    with serving(_Counting(page)) as url, pytest.raises(MetricsError, match="shows no metrics"):
        await read_counts(url)


async def test_no_page_is_one_sentence() -> None:
    with pytest.raises(MetricsError, match="shows no metrics: ConnectError"):
        await read_counts(f"http://127.0.0.1:{free_port()}")


def test_a_batch_has_what_has_ended_since() -> None:
    records = Records(3, journal=True)
    for row in (2, 0):
        records.send(row, due=0.0, now=0.0)
    records.answer(2, now=1.0, status=200, cache=CacheStatus(Outcome.HIT, 7), first=0.5)
    records.fail(0, now=2.0, reason="timed out")

    batch, nothing = records.take(), records.take()
    copy = Records(3)
    copy.put(batch)

    assert batch.rows == array("q", [2, 0])
    assert len(nothing.rows) == 0
    assert (copy.done[2], copy.first[2], copy.ttl[2], copy.status[2]) == (1.0, 0.5, 7, 200)
    assert copy.failures == {"timed out": 1}
    assert copy.counts == {Outcome.HIT: 1, Outcome.ERROR: 1}
