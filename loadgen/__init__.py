"""A load generator for caches in front of models: plan, run, explain, judge.

Everything random happens in the plan; the run only sends; the explanation is theory; the verdict is
thresholds. The command line is ``python -m loadgen``; from Python, `drive` takes any
`httpx.AsyncClient`::

    plan = Plan(law=Zipf(10_000, 1.2), arrivals=Poisson(50), duration=10)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://app"
    ) as client:
        run = await drive(plan, client)
    assert run.explain(ttl=300).efficiency > 0.98
"""

from loadgen.arrivals import Closed, Constant, Gamma, Poisson, Stages
from loadgen.catalogue import Templates
from loadgen.churn import Churn
from loadgen.explain import Explanation
from loadgen.plan import Plan
from loadgen.popularity import HotSet, Uniform, Weights, Zipf
from loadgen.runner import Run, drive

__all__ = [
    "Churn",
    "Closed",
    "Constant",
    "Explanation",
    "Gamma",
    "HotSet",
    "Plan",
    "Poisson",
    "Run",
    "Stages",
    "Templates",
    "Uniform",
    "Weights",
    "Zipf",
    "drive",
]
