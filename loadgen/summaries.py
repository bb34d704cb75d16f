"""The verdict for machines and for pull requests: JUnit XML and Markdown.

Rule: every check that was made is a test case, the passed ones too, so that a dashboard sees when
one is no longer made.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from loadgen.verdict import CHECKS, Exit, Finding

__all__ = ["junit", "markdown"]


def junit(findings: Sequence[Finding], expressions: Sequence[str], seconds: float) -> str:
    """Return a JUnit test suite with one case for each check."""
    names = dict.fromkeys([*CHECKS, *expressions, *(finding.check for finding in findings)])
    suite = ET.Element(
        "testsuite",
        name="loadgen",
        tests=str(len(names)),
        failures=str(len({finding.check for finding in findings})),
        errors="0",
        skipped="0",
        time=f"{seconds:.3f}",
    )
    for name in names:
        case = ET.SubElement(suite, "testcase", classname="loadgen", name=name, time="0")
        for finding in findings:
            if finding.check == name:
                kind = finding.exit.name
                failure = ET.SubElement(case, "failure", type=kind, message=finding.text)
                failure.text = f"{kind}: {finding.text}"
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def markdown(document: Mapping[str, Any]) -> str:
    """Return a run or a proof as a few lines for a pull request."""
    verdict = document["verdict"]
    lines = [f"### loadgen: {Exit(verdict['exit']).name}", ""]
    lines += [f"- {finding}" for finding in verdict["findings"]]
    arms = document.get("arms") or {"run": document}
    lines += [
        "" if verdict["findings"] else "Every check passed.\n",
        "| traffic | requests | p50 ms | p95 ms | p99 ms | observed | achievable | predicted |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, arm in arms.items():
        times = [_number(arm["response"][part], 1e3, "") for part in ("p50", "p95", "p99")]
        ratios = arm["hit_ratio"]
        shares = [_number(ratios[part], 100, " %") for part in _RATIOS]
        cells = [name, f"{arm['finished']:,}", *times, *shares]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_RATIOS = ("observed", "achievable", "predicted")


def _number(value: float | None, scale: float, unit: str) -> str:
    return "–" if value is None else f"{value * scale:.1f}{unit}"
