"""The proof on paper: one table, a few sentences, a verdict.

Rule: a latency of a generator that lagged is void, here and in every sentence made of it; what does
not depend on the clock stands.
"""

import math
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from loadgen.claim import claim_sentence, claim_table
from loadgen.document import cache_model, run_document
from loadgen.outcome import Outcome
from loadgen.prove import Arm, Proof
from loadgen.records import percentile, summarize
from loadgen.report import VOID, milliseconds, ratio
from loadgen.theory import forecast
from loadgen.verdict import Exit, Finding, Thresholds, judge_cache, judge_delivery

__all__ = ["judge_proof", "print_proof", "proof_document", "raw_hit_ratio", "speed_up"]


def judge_proof(proof: Proof, thresholds: Thresholds) -> list[Finding]:
    """Judge all arms on everything but latency, which may be void."""
    if proof.interrupted:
        return [Finding(Exit.INTERRUPTED, "the figures cover what was sent")]
    return [
        Finding(finding.exit, f"{arm.name}: {finding.text}", f"{arm.name}: {finding.check}")
        for arm in proof.arms.values()
        for finding in _arm_findings(arm, thresholds)
    ]


def _arm_findings(arm: Arm, thresholds: Thresholds) -> Iterator[Finding]:
    yield from judge_delivery(arm.run, thresholds)
    if not arm.run.plan.bypass:
        yield from judge_cache(arm.explanation, thresholds, cold=True)
        return
    records = arm.run.records
    served = records.finished - records.counts[Outcome.BYPASS] - records.counts[Outcome.ERROR]
    if served:
        text = f"the cache took part in {served} requests, unasked"
        yield Finding(Exit.FAILED, text, "bypass")


def print_proof(console: Console, proof: Proof) -> None:
    """Print the table and what follows from it."""
    if proof.arms:
        console.print(_table(proof))
    if (claims := claim_table(proof)) is not None:
        console.print(claims)
    for sentence in _sentences(proof):
        console.print(sentence, soft_wrap=True)
    for arm in proof.arms.values():
        if arm.void:
            why = "; ".join(arm.void)
            console.print(f"{arm.name}: latency void, {why}", style="yellow", soft_wrap=True)


def _table(proof: Proof) -> Table:
    table = Table(title="response (done − due), ms, and hit ratio by kind of traffic")
    table.add_column("traffic")
    for name in ("requests", "per s", "p50", "p95", "p99", "observed", "achievable", "predicted"):
        table.add_column(name, justify="right")
    for arm in proof.arms.values():
        records, plan = arm.run.records, arm.run.plan
        response = summarize(records.responses(records.rows()))
        times = [milliseconds(value) for value in (response.p50, response.p95, response.p99)]
        explanation = arm.explanation
        ratios = [explanation.observed, explanation.achievable, arm.predicted]
        table.add_row(
            arm.name,
            f"{records.finished:,}",
            f"{plan.arrivals.rate:.0f}",
            *([VOID] * 3 if arm.void else times),
            *(["–"] * 3 if plan.bypass else map(ratio, ratios)),
        )
    return table


def _sentences(proof: Proof) -> Iterator[str]:
    if proof.capacity:
        yield (
            f"Without its cache the app answered {proof.capacity:.0f} requests a second at most; "
            f"the arms ask for {proof.rate:.0f}, at times fixed in advance."
        )
    cold, uniform = proof.arms.get("cold Zipf"), proof.arms.get("uniform")
    if cold and uniform:
        yield (
            f"From cold, {ratio(cold.explanation.observed)} of the Zipf traffic was answered "
            f"without the model, {cold.explanation.efficiency:.1%} of what any cache could have "
            f"done. Without favourites it is {ratio(uniform.explanation.observed)} from the same "
            "cache: the ratio is the traffic's, the efficiency is the cache's."
        )
    respelled = proof.arms.get("respelled Zipf")
    if respelled:
        yield (
            f"Respelled, the same JSON still got {ratio(respelled.explanation.observed)}; "
            f"keyed by its bytes it would have got {ratio(raw_hit_ratio(respelled))}."
        )
    warm = proof.arms.get("warm Zipf")
    if cold and warm:
        yield _speed_up_sentence(cold, warm)
    if (compared := claim_sentence(proof)) is not None:
        yield compared
    without = proof.arms.get("no cache")
    if without and warm and not (without.void or warm.void):
        yield (
            "As long as more than 5 % miss, p95 and p99 are the model's; once warm, p99 goes from "
            f"{milliseconds(_response_p99(without))} to {milliseconds(_response_p99(warm))} ms."
        )


def _speed_up_sentence(cold: Arm, warm: Arm) -> str:
    if cold.void or warm.void:
        return "How much faster a hit is than inference is void: the generator lagged."
    miss, hit = _median_service(cold, Outcome.MISS), _median_service(warm, Outcome.HIT)
    models = ", ".join(
        f"{model} {speed_up(cold, warm, model):.1f}" for model in cold.run.plan.models
    )
    return (
        f"A hit took {milliseconds(hit)} ms where a miss took {milliseconds(miss)} ms (medians): "
        f"{speed_up(cold, warm):.1f} times faster ({models})."
    )


def speed_up(cold: Arm, warm: Arm, model: str | None = None) -> float:
    """Return the median service time of a miss by that of a hit; NaN where one is missing."""
    miss = _median_service(cold, Outcome.MISS, model)
    return miss / _median_service(warm, Outcome.HIT, model)


def raw_hit_ratio(arm: Arm) -> float:
    """Return the hit ratio of an unbounded cache that is keyed by the bytes of the body."""
    plan = arm.run.plan
    distinct = len(set(zip(plan.rows.models, plan.bodies(), strict=True)))
    return 1 - distinct / len(plan.rows) if len(plan.rows) else math.nan


def _response_p99(arm: Arm) -> float:
    records = arm.run.records
    return summarize(records.responses(records.rows())).p99


def _median_service(arm: Arm, outcome: Outcome, model: str | None = None) -> float:
    records, plan = arm.run.records, arm.run.plan
    rows = [row for row in records.rows(outcome) if model is None or plan.model(row) == model]
    return percentile(sorted(records.services(rows)), 0.5)


def proof_document(proof: Proof) -> dict[str, Any]:
    """Return the proof as JSON values; latencies are there even where void, and say so."""
    document: dict[str, Any] = {
        "capacity": proof.capacity,
        "rate": proof.rate,
        "interrupted": proof.interrupted,
        "arms": {
            arm.name: run_document(
                arm.run,
                arm.explanation,
                arm.predicted,
                # Of a warm cache or one that stays out, no curve from empty is expected.
                forecast(arm.run.plan, cache_model(arm.explanation)) if arm.is_cold else (),
            )
            | {"void": list(arm.void)}
            for arm in proof.arms.values()
        },
        "sentences": list(_sentences(proof)),
    }
    cold, warm = proof.arms.get("cold Zipf"), proof.arms.get("warm Zipf")
    if cold and warm and not (cold.void or warm.void):
        ratios = {model: speed_up(cold, warm, model) for model in cold.run.plan.models}
        known = {model: value for model, value in ratios.items() if math.isfinite(value)}
        document["speed_up"] = known | {"all": speed_up(cold, warm)}
    return document
