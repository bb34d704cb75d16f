"""The page, against the files it loads and the API it talks to."""

import re
from html.parser import HTMLParser

import pytest

from tests.reference_app.running import running


class Page(HTMLParser):
    """What a page loads, where its links lead, and what its forms send."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.forms: dict[str, dict[str, str | None]] = {}
        self.labelled: set[str | None] = set()
        self.ids: list[str | None] = []
        self._fields: dict[str, str | None] = {}
        self._textarea = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        if source := given.get("src") or (tag == "link" and given.get("href")):
            self.loads.append(source)
        if tag == "a":
            self.links.append(str(given["href"]))
        if tag == "label":
            self.labelled.add(given.get("for"))
        if tag == "form":
            self._fields = self.forms[str(given["data-path"])] = {}
        if (name := given.get("name")) and tag in {"input", "textarea"}:
            assert given["id"] in self.labelled
            self._fields[name] = given.get("value", "")
            self._textarea = name if tag == "textarea" else ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self._fields[self._textarea] = data


@pytest.mark.parametrize(("path", "count"), [("/", 6), ("/reference", 5)])
async def test_a_page_loads_only_what_this_server_has(path: str, count: int) -> None:
    async with running() as client:
        page = Page((await client.get(path)).text)
        found = [await client.get(path) for path in page.loads + page.links if path != "data:,"]

    assert [response.status_code for response in found] == [200] * count
    assert {response.headers["content-type"].split(";")[0] for response in found[:2]} == {
        "text/css",
        "text/javascript",
    }
    assert not re.search(r"https?:", "".join(response.text for response in found[:2]))


async def test_the_browser_may_do_only_what_the_page_needs() -> None:
    async with running() as client:
        response = await client.get("/")

    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script>|\sstyle=|\son\w+=", response.text)


async def test_each_form_s_first_question_has_an_answer() -> None:
    async with running() as client:
        forms = Page((await client.get("/")).text).forms
        for path, fields in forms.items():
            fields.pop("stream", None)  # A box that is not ticked says nothing.
            body = {k: int(v or 0) if k == "max_length" else v for k, v in fields.items()}
            response = await client.post(path, json=body)
            assert response.status_code == 200, (path, response.text)

    assert set(forms) == {"/v1/sentiment", "/v1/summarize", "/v1/answer"}


@pytest.mark.parametrize("path", ["/", "/page.js", "/reference", "/health/live", "/health/ready"])
async def test_head_is_get_without_a_body(path: str) -> None:
    async with running() as client:
        response = await client.head(path)

    assert response.status_code == 200
    assert response.content == b""
    assert int(response.headers["content-length"]) > 0
