import json
import re
from html.parser import HTMLParser

import pytest

from loadgen.compare import compared
from loadgen.report_page import comparison_page, report_page
from loadgen.verdict import Exit, Finding
from tests.loadgen.runs import finished_run
from tests.loadgen.test_document import documented


class _Links(HTMLParser):
    """What a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "action"}]


def _read(page: str) -> _Links:
    links = _Links()
    links.feed(page)
    return links


def _plots(page: str) -> list[str]:
    (found,) = re.findall(r'id="report-plots">(.*?)</script>', page, re.DOTALL)
    return [plot["title"] for plot in json.loads(found)]


_DOCUMENT = documented(finished_run(), Finding(Exit.FAILED, "<b>slow</b> & late", "p99"))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(report_page(_DOCUMENT), id="run"),
        pytest.param(
            comparison_page(_DOCUMENT, _DOCUMENT, compared(_DOCUMENT, _DOCUMENT)), id="ab"
        ),
    ],
)
def test_a_page_loads_nothing(page: str) -> None:
    links = _read(page)

    assert links.found == []
    assert "link" not in links.tags
    assert "@import" not in page.split("</style>", maxsplit=1)[0]
    assert "url(" not in page.split("</style>", maxsplit=1)[0]
    assert "Plotly" in page


def test_a_report_has_its_seven_plots() -> None:
    assert _plots(report_page(_DOCUMENT)) == [
        "Hit ratio over time",
        "Response by percentile: hit against miss",
        "Response over time",
        "Offered, sent and done",
        "Lag",
        "Popularity by rank",
        "Why misses were misses",
    ]


def test_what_a_run_says_is_escaped() -> None:
    page = report_page(_DOCUMENT)

    assert "&lt;b&gt;slow&lt;/b&gt; &amp; late" in page
    assert "<b>slow</b>" not in page


def test_a_model_named_like_a_tag_cannot_end_the_script() -> None:
    document = json.loads(json.dumps(_DOCUMENT))
    document["plan"]["law"] = "</script><script>alert(1)</script>"

    assert "</script><script>alert" not in report_page(document)


def test_light_and_dark_have_a_value_for_each_colour() -> None:
    page = report_page(_DOCUMENT)
    light, dark = re.findall(r"\{([^{}]*--paper:[^{}]*)\}", page.split("</style>")[0])
    names = [set(re.findall(r"(--[\w-]+):", theme)) for theme in (light, dark)]
    (plots,) = re.findall(r'id="report-plots">(.*?)</script>', page, re.DOTALL)

    assert names[0] == names[1]
    assert set(re.findall(r'"(--[\w-]+)"', plots)) <= names[0]
