"""The live page, in a real browser, fed by real requests to the app that serves it."""

import asyncio
import contextlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import Locator, Page, async_playwright

from tests.reference_app.running import until_ready

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

CHARTS = ("requests", "ratio", "latency", "savings")
# As dashboard.css has them, for what the traffic below makes.
COLOURS = {
    "light": {"hit": "#1f8a4c", "miss": "#cf5a0a", "model": "#1f66b8"},
    "dark": {"hit": "#6fd39b", "miss": "#ff9d57", "model": "#7cb8f5"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address() -> AsyncGenerator[str]:
    """The reference app in a process of its own, its models loaded."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reference_app", "--port", "0", stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        url = line.removeprefix("serving on ").strip()
        async with httpx.AsyncClient(base_url=url) as client:
            await until_ready(client)
        yield url
    finally:
        process.terminate()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncGenerator[Any]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        await launched.close()


@contextlib.asynccontextmanager
async def asking(url: str, who: str) -> AsyncGenerator[None]:
    """Ask all along: some questions again, some anew, some past the cache."""

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            for number in range(1_000_000):
                texts = [
                    f"Question {number} of {who}.",
                    "The dinner was lovely.",
                    "The dinner was cold.",
                ]
                for text in texts * 2:
                    await client.post(f"{url}/v1/sentiment", json={"text": text})
                await client.post(
                    f"{url}/v1/sentiment", json={"text": "Mine."}, headers={"authorization": "me"}
                )

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def opened(
    browser: Any, url: str, scheme: Literal["light", "dark"]
) -> AsyncGenerator[tuple[Page, list[str]]]:
    """Open the page; yields it, and what it complains of or loads from elsewhere."""
    complaints: list[str] = []
    page = await browser.new_page(
        color_scheme=scheme, viewport={"width": 1280, "height": 900}, reduced_motion="reduce"
    )
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(url) else complaints.append(request.url),
    )
    await page.goto(f"{url}/dashboard")
    yield page, complaints
    await page.close()


async def until(locator: Locator, attribute: str, condition: Callable[[str], bool]) -> None:
    """Wait for an attribute; the page's policy forbids Playwright to do so in the page."""
    async with asyncio.timeout(120):
        while not condition(await locator.get_attribute(attribute) or ""):  # noqa: ASYNC110  (a browser)
            await asyncio.sleep(0.1)


async def until_it_says(page: Page, selector: str, pattern: str) -> None:
    await page.locator(selector).filter(has_text=re.compile(pattern)).wait_for(timeout=120_000)


async def text_of(page: Page, selector: str) -> str:
    return await page.locator(selector).inner_text()


def has_colour(screenshot: bytes, colour: str) -> bool:
    """Tell whether many dots of a picture are of a colour, or nearly."""
    wanted = tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    dots = picture.getcolors(maxcolors=2**24) or []
    near = sum(
        count
        for count, dot in dots
        if isinstance(dot, tuple)
        and all(abs(a - b) <= 24 for a, b in zip(dot, wanted, strict=True))
    )
    return near >= 30


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_draws_what_the_app_does(
    browser: Any, address: str, scheme: Literal["light", "dark"], tmp_path: Path
) -> None:
    async with asking(address, scheme), opened(browser, address, scheme) as (page, complaints):
        for chart in CHARTS:  # Its paths, as soon as they are more than a dot.
            await until(page.locator(f"#{chart} path").first, "d", lambda path: path.count("L") > 6)
        tiles = {name: await text_of(page, f"#{name}") for name in ("rate", "recent", "overall")}
        saved = await text_of(page, "#saved")
        pictures = {
            chart: await page.locator(f"figure:has(#{chart})").screenshot() for chart in CHARTS
        }
        await page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
        named = await page.locator("#requests + .legend li").all_inner_texts()

    assert complaints == []
    assert float(tiles["rate"].replace(",", "")) > 0
    # Of six that may be answered from the cache, one is new each time.
    assert 60 < float(tiles["recent"].removesuffix(" %")) < 100
    assert 60 < float(tiles["overall"].removesuffix(" %")) < 100
    assert saved.split()[1] in {"ms", "s"}
    assert {"hit", "miss", "bypass"} <= set(named)
    assert has_colour(pictures["latency"], COLOURS[scheme]["hit"])
    assert has_colour(pictures["latency"], COLOURS[scheme]["miss"])
    assert has_colour(pictures["ratio"], COLOURS[scheme]["model"])
    assert has_colour(pictures["savings"], COLOURS[scheme]["model"])


async def test_the_hit_ratio_is_that_of_the_metrics(browser: Any, address: str) -> None:
    async with asking(address, "somebody"), opened(browser, address, "light") as (page, _):
        await until_it_says(page, "#overall", r"\d %")

    async with opened(browser, address, "light") as (page, _), httpx.AsyncClient() as client:
        await until_it_says(page, "#overall", r"\d %")
        await asyncio.sleep(2.5)  # Until a page has been rendered and read after the last answer.
        shown = await text_of(page, "#overall")
        counts: dict[str, float] = {}
        for line in (await client.get(f"{address}/metrics")).text.splitlines():
            if line.startswith("memoserve_request_duration_seconds_count"):
                status = line.split('cache_status="')[1].split('"')[0]
                counts[status] = counts.get(status, 0) + float(line.split()[-1])

    reused = sum(counts.get(status, 0) for status in ("hit", "stale", "coalesced"))
    cacheable = sum(counts.values()) - counts.get("bypass", 0)
    assert float(shown.removesuffix(" %")) == pytest.approx(100 * reused / cacheable, abs=0.06)


async def test_without_traffic_it_says_so(browser: Any, address: str) -> None:
    async with opened(browser, address, "light") as (page, complaints):
        # Of metrics as they are before the first request.
        await page.route("**/metrics", lambda route: route.fulfill(body="memoserve_workers 1.0\n"))
        await page.reload()
        await until_it_says(page, "#rate", r"^0$|no traffic")
        drawn = [
            await page.locator(f"#{chart} >> text=No traffic").text_content() for chart in CHARTS
        ]
        ratio = await text_of(page, "#recent")

    assert drawn == ["No traffic"] * 4
    assert ratio == "no traffic"
    assert complaints == []


async def test_a_restart_of_the_server_begins_anew(browser: Any, address: str) -> None:
    count = "memoserve_request_duration_seconds_count"

    def page_of(hits: int) -> str:
        return f'{count}{{model="m",cache_status="hit",outcome="ok"}} {hits}\n'

    async with opened(browser, address, "light") as (page, complaints):
        hits = iter([100, 200, 300, *[5] * 1000])
        await page.route("**/metrics", lambda route: route.fulfill(body=page_of(next(hits))))
        await page.reload()
        await until_it_says(page, "#rate", r"^\d\d")
        await until_it_says(page, "#rate", r"^0$")

    assert complaints == []


async def test_lost_contact_is_said_and_found_again(browser: Any, address: str) -> None:
    async with opened(browser, address, "light") as (page, _):
        await until_it_says(page, "#state", r"^Live\.$")
        await page.route("**/metrics", lambda route: route.abort())
        await until_it_says(page, "#state.lost", "No contact")
        lost = await text_of(page, "#state")
        await page.unroute("**/metrics")
        await until_it_says(page, "#state", r"^Live\.$")

    assert lost.startswith("No contact:")
