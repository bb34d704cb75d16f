import asyncio
import functools
import io
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from rich.console import Console

from loadgen import Zipf
from loadgen.catalogue import BUNDLED
from loadgen.proof_report import judge_proof, print_proof, proof_document, raw_hit_ratio, speed_up
from loadgen.prove import Profile, Proof, TargetError, check_target, prove
from loadgen.records import Records
from loadgen.report import VOID
from loadgen.verdict import Exit, Thresholds
from tests.loadgen.apps import CachedApp, Receive, Scope, Send, answer
from tests.loadgen.virtual import run_virtually

_PROFILE = Profile(probe=2, baseline=4, arm=8)


@asynccontextmanager
async def _unwatched(_title: str) -> AsyncGenerator[Callable[[Records], None]]:
    yield lambda records: None


def _client(app: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Any callable of three.
    return httpx.AsyncClient(transport=transport, base_url="http://app")


def _proved(app: object, *, stop_after: float | None = None) -> Proof:
    async def proving() -> Proof:
        stop = asyncio.Event()
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, stop.set)
        async with _client(app) as client:
            return await prove(
                client,
                profile=_PROFILE,
                zipf=Zipf(2000, 1.2),
                seed=1,
                salt="s",
                stop=stop,
                watching=_unwatched,
            )

    return run_virtually(proving())


@functools.cache
def _ideal() -> Proof:
    return _proved(CachedApp(inference=0.05))


def _printed(proof: Proof) -> str:
    console = Console(file=io.StringIO(), width=110, markup=False)
    print_proof(console, proof)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # It is a StringIO.
    return str(text)


def test_an_ideal_cache_is_proved() -> None:
    proof = _ideal()

    assert judge_proof(proof, Thresholds()) == []
    assert list(proof.arms) == ["no cache", "cold Zipf", "warm Zipf", "uniform", "respelled Zipf"]
    assert proof.capacity == pytest.approx(80, rel=0.05)
    assert proof.rate == pytest.approx(44, rel=0.05)
    for arm in proof.arms.values():
        assert arm.explanation.efficiency == 1
        if not arm.run.plan.bypass:
            assert arm.explanation.observed == pytest.approx(arm.predicted, abs=0.05)


def test_the_arms_show_what_they_are_for() -> None:
    arms = _ideal().arms

    ratios = {name: arm.explanation.observed for name, arm in arms.items()}

    assert ratios["no cache"] == 0
    assert ratios["warm Zipf"] == 1
    assert ratios["uniform"] < 0.25
    assert ratios["cold Zipf"] > 0.5
    assert ratios["respelled Zipf"] == ratios["cold Zipf"]
    assert raw_hit_ratio(arms["respelled Zipf"]) == 0
    assert raw_hit_ratio(arms["cold Zipf"]) == pytest.approx(ratios["cold Zipf"])
    assert speed_up(arms["cold Zipf"], arms["warm Zipf"]) > 10


def test_the_report_has_a_row_for_each_arm_and_says_what_follows() -> None:
    proof = _ideal()

    text = _printed(proof)

    assert all(name in text for name in proof.arms)
    assert "the efficiency is the cache's" in text
    assert "keyed by its bytes it would have got 0.0%" in text
    assert "times faster" in text
    assert VOID not in text
    document = proof_document(proof)
    assert document["arms"]["cold Zipf"]["hit_ratio"]["efficiency"] == 1
    assert document["speed_up"]["all"] > 10


def test_hits_misses_and_everything_stand_beside_the_usual_claim() -> None:
    proof = _ideal()

    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in _printed(proof).partition("usually claimed")[2].splitlines()
        if line.startswith("│")
    }

    assert rows["no cache"][2:] == ["50.0", "50.0", "200–500", "800–1,500"]
    assert rows["cold Zipf, misses"][2:] == ["50.0", "50.0", "", ""]
    assert rows["warm Zipf, hits"][4:] == ["5–20", "30–50"]
    assert rows["warm Zipf, misses"][:4] == ["0", "–", "–", "–"]
    assert rows["no cache / warm Zipf, all"][4:] == ["10–25 ×", "15–30 ×"]
    assert float(rows["no cache / warm Zipf, hits"][2].removesuffix(" ×")) > 10
    hits, misses, everything = (
        int(rows[f"cold Zipf, {part}"][0].replace(",", "")) for part in ("hits", "misses", "all")
    )
    assert hits + misses == everything
    assert "and 100.0% (of 100.0% achievable) once warm" in _printed(proof)


def test_a_key_made_of_bytes_fails_the_respelled_arm_only() -> None:
    findings = judge_proof(_proved(CachedApp(inference=0.05, raw_keys=True)), Thresholds())

    assert {finding.exit for finding in findings} == {Exit.FAILED}
    assert {finding.text.partition(":")[0] for finding in findings} == {"respelled Zipf"}
    assert any("unexplained misses" in finding.text for finding in findings)


class _HoldingUp(CachedApp):
    """Blocks the loop that it shares with the generator for 0.2 s, every tenth of its requests."""

    held_up = 0

    def __init__(self, *, times: float = math.inf) -> None:
        super().__init__(inference=0.05)
        self.times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.requests % 10 == 0 and self.requests > 200 and self.held_up < self.times:
            self.held_up += 1
            asyncio.get_running_loop()._virtual.now += 0.2  # type: ignore[attr-defined]
        await super().__call__(scope, receive, send)


def test_latency_of_a_generator_that_lags_is_void_and_the_rest_stands() -> None:
    proof = _proved(_HoldingUp())

    text = _printed(proof)
    assert judge_proof(proof, Thresholds()) == []
    assert proof.arms["cold Zipf"].void
    assert "How much faster a hit is than inference is void" in text
    assert "cold Zipf: latency void, the generator lagged" in text
    assert VOID in text
    assert "speed_up" not in proof_document(proof)


def test_an_arm_that_lags_is_run_once_more_at_half_the_rate() -> None:
    proof = _proved(_HoldingUp(times=5))

    rates = [arm.run.plan.arrivals.rate for arm in proof.arms.values()]
    assert not any(arm.void for arm in proof.arms.values())
    assert rates == pytest.approx([proof.rate] * 5)
    assert proof.rate == pytest.approx(0.5 * 0.55 * proof.capacity)
    assert judge_proof(proof, Thresholds()) == []


@pytest.mark.parametrize(
    ("seconds", "arms"),
    [(1, []), (4, []), (9, ["no cache", "cold Zipf"])],
    ids=["probe", "first-arm", "second-arm"],
)
def test_what_was_measured_before_an_interrupt_is_reported(seconds: float, arms: list[str]) -> None:
    proof = _proved(CachedApp(inference=0.05), stop_after=seconds)

    assert proof.interrupted
    assert list(proof.arms)[: len(arms)] == arms
    assert [finding.exit for finding in judge_proof(proof, Thresholds())] == [Exit.INTERRUPTED]
    assert _printed(proof) is not None


async def _plain(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.01)
    await answer(send)


async def _failing(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.01)
    await answer(send, status=500)


@pytest.mark.parametrize(
    ("app", "code", "message"),
    [
        pytest.param(_plain, Exit.FAILED, "no Cache-Status or X-Cache", id="no-header"),
        pytest.param(
            CachedApp(inference=0.01, obey=False),
            Exit.FAILED,
            'client_control="obey"',
            id="disobedient",
        ),
        pytest.param(_failing, Exit.UNREACHABLE, "answers: status 500", id="failing"),
    ],
)
def test_without_a_way_past_the_cache_there_is_no_proof(
    app: object, code: Exit, message: str
) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        _proved(app)

    assert caught.value.exit_code is code


def test_a_cache_that_takes_part_unasked_is_found() -> None:
    class Forgetful(CachedApp):
        """Obeys at first."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.obey = self.requests < 300
            await super().__call__(scope, receive, send)

    findings = judge_proof(_proved(Forgetful(inference=0.05)), Thresholds())

    assert any("took part in" in finding.text for finding in findings)


@pytest.mark.parametrize(
    ("app", "message"),
    [(_failing, "sentiment: status 500"), (CachedApp(), None)],
    ids=["failing", "good"],
)
async def test_a_target_is_checked_first(app: object, message: str | None) -> None:
    async with _client(app) as client:
        if message is None:
            await check_target(client, BUNDLED.mix)
            return
        with pytest.raises(TargetError, match=message) as caught:
            await check_target(client, BUNDLED.mix)

    assert caught.value.exit_code is Exit.UNREACHABLE
