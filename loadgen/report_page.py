"""``report.html``: one file that needs nothing else, today or in ten years.

Rule: everything is in the file, plotly.js among it (5 MB): reports that fetched their JavaScript
went blank when it moved. What comes from a run is escaped.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadgen.plots import comparison_plots, proof_plots, run_plots
from loadgen.verdict import Exit

__all__ = ["comparison_page", "has_plotly", "report_page"]

Document = Mapping[str, Any]

_PAGE = Path(__file__).with_name("page")


def has_plotly() -> bool:
    """Return whether the plots' library is there."""
    return find_spec("plotly") is not None


def report_page(document: Document) -> str:
    """Draw a run or a proof."""
    if "arms" in document:
        return _page(
            "The proof of a cache",
            [_verdict(document), _sentences(document), _arms_table(document["arms"])],
            proof_plots(document),
            _footer(document),
        )
    return _page(
        "A load test of a cache",
        [_verdict(document), _warnings(document), _figures(document), _groups_table(document)],
        run_plots(document),
        _footer(document),
    )


def comparison_page(first: Document, second: Document, table: Sequence[Sequence[str]]) -> str:
    """Draw two runs over each other."""
    rows = _table("a and b", ("figure", "a", "b", "b / a"), table)
    footer = f"a: {_footer(first)}<br>b: {_footer(second)}"
    return _page("Two load tests compared", [rows], comparison_plots(first, second), footer)


def _page(title: str, body: Iterable[str], plots: Sequence[Document], footer: str) -> str:
    parts = {
        "TITLE": escape(title),
        "STYLE": _asset("report.css"),
        "BODY": "\n".join(body),
        "FOOTER": footer,
        "PLOTLY": _plotly().replace("</script", "<\\/script"),
        "PLOTS": json.dumps(plots).replace("<", "\\u003c"),
        "SCRIPT": _asset("report.js"),
    }
    page, *rest = _asset("report.html").split("@")
    for name, text in zip(rest[::2], rest[1::2], strict=True):
        page += parts[name] + text
    return page


@cache
def _plotly() -> str:
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")


def _asset(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _verdict(document: Document) -> str:
    verdict = document["verdict"]
    failed = " failed" if verdict["exit"] else ""
    items = "".join(f"<li>{escape(finding)}</li>" for finding in verdict["findings"])
    return (
        f'<section class="verdict{failed}"><strong>{Exit(verdict["exit"]).name}</strong>'
        f"{f'<ul>{items}</ul>' if items else ' Every check passed.'}</section>"
    )


def _warnings(document: Document) -> str:
    return "".join(
        f'<p class="warning">This scenario {escape(text)}.</p>' for text in document["warnings"]
    )


def _sentences(document: Document) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in document["sentences"])


def _figures(document: Document) -> str:
    ratios, response = document["hit_ratio"], document["response"]
    figures = {
        "hit ratio": _share(ratios["observed"]),
        "achievable": _share(ratios["achievable"]),
        "predicted": _share(ratios["predicted"]),
        "of achievable": _share(ratios["efficiency"]),
        "p50": _ms(response["p50"]),
        "p99": _ms(response["p99"]),
        "answers a second": f"{document['rps']:,.0f}",
        "unexplained misses": f"{document['unexplained_count']:,}",
    }
    items = (f"<li><b>{value}</b><span>{name}</span></li>" for name, value in figures.items())
    return f'<ul class="figures">{"".join(items)}</ul>'


def _groups_table(document: Document) -> str:
    groups = {"all": document, **document["outcomes"], **document["models"]}
    rows = [
        [
            name,
            f"{group.get('count', document['finished']):,}",
            *(_ms(group["response"][part]) for part in ("p50", "p95", "p99", "max")),
            _ms(group["service"]["p50"]),
        ]
        for name, group in groups.items()
    ]
    heads = ("requests", "count", "p50", "p95", "p99", "max", "service p50")
    return _table("Response (done − due) and service (done − sent)", heads, rows)


def _arms_table(arms: Mapping[str, Document]) -> str:
    rows = [
        [
            name,
            f"{arm['finished']:,}",
            f"{arm['plan']['rate']:.0f}",
            *_arm_times(arm),
            *(_share(share) for share in _arm_ratios(arm)),
        ]
        for name, arm in arms.items()
    ]
    heads = (
        "traffic", "requests", "per s", "p50", "p95", "p99", "observed", "achievable", "predicted",
    )  # fmt: skip
    return _table("Response (done − due) and hit ratio by kind of traffic", heads, rows)


def _arm_times(arm: Document) -> list[str]:
    if arm["void"]:
        return ["void"] * 3
    return [_ms(arm["response"][part]) for part in ("p50", "p95", "p99")]


def _arm_ratios(arm: Document) -> list[float | None]:
    if arm["plan"]["bypass"]:  # Nothing was asked of the cache.
        return [None] * 3
    return [arm["hit_ratio"][part] for part in ("observed", "achievable", "predicted")]


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _footer(document: Document) -> str:
    environment = document["environment"]
    arms: Mapping[str, Document] = document.get("arms", {})
    plan: Document = document.get("plan", {})
    for arm in arms.values():
        plan = arm["plan"]
    words = (
        environment["command"],
        f"Python {environment['python']}, {environment['cpus']} CPUs, {environment['platform']}",
        f"plan {plan.get('sha256', '')[:12]}, seed {plan.get('seed', '')}",
    )
    return escape(" · ".join(words))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.1f} ms"
