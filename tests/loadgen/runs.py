"""A finished run to report on, without sending anything."""

from loadgen import Constant, Plan, Run, Zipf
from loadgen.outcome import CacheStatus, Outcome
from loadgen.records import Records

PLAN = Plan(law=Zipf(50, 1.2), arrivals=Constant(100), duration=10, salt="r", spelling=0.2)


def finished_run(*, service: float = 0.001, inference: float = 0.02, plan: Plan = PLAN) -> Run:
    """Return what an ideal cache would have made of `plan`; the first byte comes half-way."""
    records, seen = Records(len(plan.rows)), set[object]()
    started = 1000.0
    for row, due in enumerate(plan.rows.due):
        hit = plan.key(row) in seen
        seen.add(plan.key(row))
        sent = started + due + 0.0005
        took = service * (1 + row % 10 / 10) if hit else inference
        records.send(row, due=started + due, now=sent)
        records.answer(
            row,
            now=sent + took,
            first=sent + took / 2,
            status=200,
            cache=CacheStatus(Outcome.HIT if hit else Outcome.MISS, 300 if hit else None),
            streamed=True,
        )
    return Run(plan, records, elapsed=plan.duration, cpu=0.3, started=started)
