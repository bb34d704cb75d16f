"""The pages in a real browser: what a visitor sees, hears and can reach with the keyboard."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.reference_app.test_app_end_to_end import serving, until_ready

CHROMIUM = shutil.which("chromium")
PATIENCE = 60_000  # Milliseconds: the machine may be busy.
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # A folder for those in the documentation.

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(CANARY="bundled", CANARY_SHARE="0") as (_, url):
        with httpx.Client(base_url=url, timeout=30) as client:
            until_ready(client)
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page that is open; whatever the browser complains about fails the test."""
    complaints: list[str] = []
    outside: list[str] = []
    with browser.new_context(base_url=url) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: outside.append(request.url))
        page.goto("/")
        expect(page.locator("#readiness")).to_have_text("The models are loaded.")
        yield page
    assert complaints == []
    assert [request for request in outside if not request.startswith((url, "data:"))] == []


def form(page: Page, title: str) -> Locator:
    return page.get_by_role("form", name=title)


def shot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


@pytest.mark.parametrize(
    ("title", "button", "answer"),
    [
        ("Sentiment", "Positive or negative?", r"POSITIVE \(\d+\.\d %\)"),
        ("Summary", "Shorten it", r"Leeds.*theatre"),
        ("Question and answer", "Find the answer", r"Mira Castell \(\d+\.\d %\)"),
    ],
)
def test_a_second_click_is_a_hit(page: Page, title: str, button: str, answer: str) -> None:
    output = form(page, title).locator("output")
    press = form(page, title).get_by_role("button", name=button)

    page.locator("#no-store").check()  # Whatever was asked before, this is the model.
    press.click()
    expect(output.locator(".badge")).to_have_text("bypass")
    page.locator("#no-store").uncheck()
    press.click()
    expect(output.locator(".badge")).to_have_text(re.compile("miss|hit"))
    press.click()

    expect(output.locator(".badge")).to_have_text("hit")
    expect(output.locator(".answer")).to_have_text(re.compile(answer))
    expect(output).to_contain_text(re.compile(r"from the cache, \d+ s old, in \d+ ms"))
    expect(output).to_contain_text("Cache-Status: memoserve; hit; ttl=")
    expect(output).to_contain_text("variant stable")


def test_of_five_at_once_one_asks_the_model(page: Page) -> None:
    card = form(page, "Summary")
    report = (
        "A storm reached York on Monday. The wind tore the roof off the school. "
        "95 homes lost power. In the evening it got quiet again."
    )
    card.get_by_label("A short report").fill(report)
    card.get_by_role("button", name="Ask 5 times at once").click()

    output = card.locator("output")
    expect(output).to_contain_text("The model was asked once")
    expect(output.locator(".answer")).to_contain_text("York")
    expect(output.locator(".badge").first).to_have_text("miss")
    shot(page, "page")


def test_the_live_numbers_count_what_was_asked(page: Page) -> None:
    card = form(page, "Sentiment")
    press = card.get_by_role("button", name="Positive or negative?")
    press.click()
    expect(card.locator(".badge")).to_be_visible()
    press.click()

    expect(page.locator("#live")).to_have_text(
        re.compile(r"Since the start: \d+ answers; \d+\.\d % of what may be cached came from the")
    )
    page.get_by_role("link", name="Live numbers").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What the cache is doing")


def test_a_summary_can_be_watched(page: Page) -> None:
    card = form(page, "Summary")
    card.get_by_label("Show it while it is generated").check()
    press = card.get_by_role("button", name="Shorten it")
    press.click()
    expect(card.locator(".badge")).to_have_text("miss")
    press.click()

    expect(card.locator(".badge")).to_have_text("hit")
    expect(card.locator(".answer")).to_have_text(re.compile(r"Leeds.*theatre"))


def test_an_error_is_shown_as_one(page: Page) -> None:
    card = form(page, "Sentiment")
    card.get_by_label("A sentence or two").fill("   ")
    card.get_by_role("button", name="Positive or negative?").click()

    expect(card.locator("output .bad")).to_contain_text("$.text")
    expect(card.locator("output .badge")).to_have_count(0)


def test_a_server_that_is_gone_is_said_to_be(page: Page) -> None:
    page.route("**/v1/sentiment", lambda route: route.abort())
    card = form(page, "Sentiment")
    card.get_by_role("button", name="Positive or negative?").click()

    expect(card.locator("output .bad")).to_contain_text("The server did not answer")


def test_the_keyboard_reaches_everything_in_order(page: Page) -> None:
    """And a question can be asked without a mouse; the focus stays where it was."""
    reached: list[str] = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "() => document.activeElement.id || document.activeElement.textContent.trim()"
            )
        )
    card = form(page, "Sentiment")
    button = card.get_by_role("button", name="Positive or negative?")
    button.focus()
    page.keyboard.press("Enter")
    expect(card.locator(".badge")).to_be_visible()

    assert reached[:3] == ["sentiment-text", "Positive or negative?", "Ask 5 times at once"]
    assert "no-store" in reached
    assert "API reference" in reached
    expect(button).to_be_focused()


_CONTRASTS = """() => {
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => rgb(color).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }).reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const back = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((rgb(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("body *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .filter((e) => e.offsetParent)
    .map((e) => {
      const [one, other] = [light(getComputedStyle(e).color), light(back(e))];
      const [low, high] = [Math.min(one, other), Math.max(one, other)];
      return [e.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(page: Page, scheme: Literal["light", "dark"]) -> None:
    """WCAG 2.2 asks for a contrast of 4.5."""
    page.emulate_media(color_scheme=scheme)
    card = form(page, "Question and answer")
    card.get_by_role("button", name="Find the answer").click()
    expect(card.locator(".badge")).to_be_visible()
    if scheme == "dark":
        shot(page, "page-dark")

    contrasts: list[list[Any]] = page.evaluate(_CONTRASTS)

    assert len(contrasts) > 20
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []


def test_the_page_fits_a_telephone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})

    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_every_field_and_button_has_a_name(page: Page) -> None:
    for role in ("textbox", "spinbutton", "checkbox", "button", "link"):
        for element in page.get_by_role(role).all():
            assert element.evaluate("e => (e.labels?.[0] ?? e).textContent.trim()")
    expect(page.locator("output[aria-live=polite]")).to_have_count(3)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)


def test_the_reference_shows_every_operation_without_a_network(page: Page) -> None:
    page.goto("/reference")

    expect(page.locator("section")).to_have_count(6)
    expect(page.get_by_role("heading", name="POST /v1/summarize")).to_be_visible()
    expect(page.get_by_role("region", name="Members of the body").first).to_contain_text("text")
    expect(page.locator("main")).to_contain_text("at least 8, at most 128, by default 40")


def test_the_reference_s_example_works(page: Page) -> None:
    page.goto("/reference")
    command = page.get_by_label("Example", exact=True).first.inner_text()

    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602  (as a user)

    assert "HTTP/1.1 200 OK" in done.stdout


@pytest.mark.parametrize("width", [390, 1280])
def test_the_charts_can_be_read_on_any_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto("/dashboard")
    label = page.locator("#latency text").first

    expect(label).to_be_visible()

    box = label.bounding_box()
    assert box is not None
    assert box["height"] > 10
    assert page.evaluate("document.documentElement.scrollWidth") == width
