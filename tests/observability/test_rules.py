"""Prometheus' configuration, rules and alerts, checked and run by its own tool."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from memoserve.telemetry import INSTRUMENTS, prometheus_label, prometheus_names

FOLDER = Path(__file__).parent.parent.parent / "observability" / "prometheus"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)

# What Prometheus says of itself and of what it scrapes.
OF_PROMETHEUS = {"up", "scrape_duration_seconds", "__name__"}


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in load(name)["groups"] for rule in group["rules"]]


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@needs_promtool
def test_prometheus_accepts_the_configuration() -> None:
    check = promtool("check", "config", "--lint-fatal", FOLDER / "prometheus.yml")

    assert check.returncode == 0, check.stderr
    assert "2 rule files found" in check.stdout


@needs_promtool
@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_rules_and_alerts_say_what_they_should(file: Path) -> None:
    run = promtool("test", "rules", file)

    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_is_seen_firing_and_quiet() -> None:
    expected: dict[str, set[bool]] = {rule["alert"]: set() for rule in rules("alerts.yml")}
    windows = {(rule["alert"], rule["labels"].get("window", "")) for rule in rules("alerts.yml")}
    fired: set[tuple[str, str]] = set()

    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for query in test["promql_expr_test"]:
                for alert in re.findall(r'alertname="(\w+)"', query["expr"]):
                    expected[alert].add(bool(query["exp_samples"]))
                    for sample in query["exp_samples"]:
                        window = re.search(r'window="(\w+)"', sample["labels"])
                        fired.add((alert, window[1] if window else ""))

    assert all(seen == {False, True} for seen in expected.values()), expected
    assert fired == windows


@pytest.mark.parametrize("alert", rules("alerts.yml"), ids=lambda rule: rule["alert"])
def test_every_alert_says_whom_it_wakes_and_what_to_do(alert: dict[str, Any]) -> None:
    annotations = alert["annotations"]

    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert set(annotations) == {"summary", "description", "runbook"}
    assert "{{" in annotations["summary"]
    assert len(annotations["runbook"]) > 60


@pytest.mark.parametrize("file", ["rules.yml", "alerts.yml"])
def test_only_metrics_and_labels_of_the_catalogue_are_used(file: str) -> None:
    """A name that is misspelt here would be an alert that never fires."""
    labels = {prometheus_label(key) for each in INSTRUMENTS for key in each.attributes}
    labels |= {"job", "instance", "le", "outcome", "otel_metric_overflow", "__name__"}
    known = {name for each in INSTRUMENTS for name in prometheus_names(each)} | OF_PROMETHEUS
    known |= {rule["record"] for rule in rules("rules.yml")}

    used_labels: set[str] = set()
    for rule in rules(file):
        names = re.findall(
            r"\b(?:job\w*:[\w:]+|memoserve_\w+|up|scrape_duration_seconds)\b", rule["expr"]
        )
        assert names
        assert set(names) - {"memoserve_"} <= known
        for group in re.findall(r"(?:by|on|ignoring) \(([^)]*)\)", rule["expr"]):
            used_labels |= {label.strip() for label in group.split(",")}
        for matchers in re.findall(r"\{([^}]*)\}", rule["expr"]):
            used_labels |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))

    assert used_labels <= labels


def test_panels_that_a_runbook_names_are_on_the_dashboard() -> None:
    from observability.grafana.dashboard import dashboard

    titles = {panel["title"] for panel in _panels(dashboard()["panels"])}

    named = {
        name
        for rule in rules("alerts.yml")
        for name in re.findall(r"(?:[Pp]anel|[Rr]ow) '([^']+)'", rule["annotations"]["runbook"])
    }
    assert named
    assert named <= titles


def _panels(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for panel in panels for each in [panel, *_panels(panel.get("panels", []))]]
