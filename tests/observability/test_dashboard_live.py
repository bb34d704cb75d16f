"""Every query of the dashboard, put to a Prometheus that has watched the reference app at work."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from memoserve.telemetry import SHADOW_COMPARISONS, WORKERS, prometheus_names
from observability.grafana.dashboard import dashboard
from tests.observability.queries import Asked, asked, expanded
from tests.observability.stack import PROGRAMS, Stack, numbers, running

ASKED = list(asked(dashboard()))

pytestmark = [
    pytest.mark.skipif(
        any(shutil.which(program) is None for program in PROGRAMS), reason="programs are missing"
    ),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stack]:
    """Twenty seconds of traffic, in whose middle Redis hangs."""
    folder: Path = tmp_path_factory.mktemp("prometheus")
    async with running(folder) as stack:
        await stack.load(8)
        with stack.redis_hanging():
            await stack.load(4)
            await stack.load_until(stack.apps[0], "memoserve_store_errors_total")
        await stack.load(8)
        # Until Prometheus has seen what was counted last: workers write once a second.
        await asyncio.sleep(3)
        yield stack


@pytest.mark.parametrize("query", ASKED, ids=lambda query: query.name)
async def test_a_query_has_an_answer(stack: Stack, query: Asked) -> None:
    series = await stack.query(expanded(query.expr), is_instant=query.is_instant)

    found = [number for each in series for number in numbers(each)]
    is_idle = prometheus_names(SHADOW_COMPARISONS)[0] in query.expr
    assert bool(found) is not is_idle  # The reference app answers live, and compares nothing.


async def test_the_rules_have_answers_and_no_errors(stack: Stack) -> None:
    answer = await stack.client.get(f"{stack.prometheus}/api/v1/rules")

    groups = answer.json()["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    for name in ("job_model:memoserve_hit_ratio:rate5m", "job:memoserve_slow:ratio_rate1h"):
        assert await stack.query(name)


async def test_all_workers_were_seen(stack: Stack) -> None:
    series = await stack.query(prometheus_names(WORKERS)[0])

    assert sorted(max(numbers(each)) for each in series) == [1, 2]
