"""The dashboard, as far as it can be proved without a Grafana server.

Its structure is checked against the types that Grafana publishes, its expressions by a parser of
PromQL, and its names against the catalogue. `test_dashboard_live.py` executes what it asks.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml

from memoserve.telemetry import INSTRUMENTS, prometheus_label, prometheus_names
from observability.grafana.builders import STATUS_COLOURS
from observability.grafana.dashboard import FILE, dashboard
from tests.observability.queries import Asked, asked, expanded, panels

SCHEMA = json.loads((Path(__file__).parent / "grafana-schema.json").read_text())
GRAFANA = FILE.parent.parent
DASHBOARD = dashboard()
PANELS = [panel for panel in panels(DASHBOARD) if panel["type"] != "row"]
ASKED = list(asked(DASHBOARD))

# Metrics of Prometheus' own, and of redis_exporter.
FOREIGN = re.compile(r"(redis_\w+|scrape_duration_seconds)$")


def complaints(instance: Any, schema: Any) -> list[str]:
    validator = jsonschema.Draft7Validator(schema)
    return [
        f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(instance)
    ]


def test_the_file_is_what_the_code_makes() -> None:
    command = [sys.executable, "-m", "observability.grafana.dashboard", "--check"]

    run = subprocess.run(command, cwd=FILE.parents[3], check=False)

    assert run.returncode == 0, "run python -m observability.grafana.dashboard"


def test_a_file_that_was_edited_by_hand_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from observability.grafana import dashboard as module

    monkeypatch.setattr(module, "FILE", tmp_path / "new" / "memoserve.json")
    monkeypatch.setattr(sys, "argv", ["dashboard"])
    written = module.main()
    monkeypatch.setattr(sys, "argv", ["dashboard", "--check"])
    unchanged = module.main()
    module.FILE.write_text(module.FILE.read_text().replace("percentunit", "percent"))

    assert (written, unchanged, module.main()) == (0, 0, 1)


def test_grafanas_types_accept_the_dashboard() -> None:
    plain = json.loads(json.dumps(DASHBOARD))
    for annotation in plain["annotations"]["list"]:
        # The datasource's plugin reads these (grafana-prometheus, annotations.ts); the types are
        # of the core alone.
        for field in ("expr", "step", "titleFormat"):
            del annotation[field]

    assert complaints(plain, SCHEMA["dashboard"]) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(("panels", 0, "gridPos", "h"), "6", id="text-for-a-number"),
        pytest.param(("refresh",), 5, id="number-for-text"),
        pytest.param(("panels", 0, "title"), ["a"], id="list-for-text"),
    ],
)
def test_the_types_would_refuse_what_is_wrong(path: tuple[Any, ...], value: Any) -> None:
    broken = json.loads(json.dumps(DASHBOARD))
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    assert complaints(broken, SCHEMA["dashboard"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_grafanas_types_accept_what_is_special_to_a_panel(panel: dict[str, Any]) -> None:
    kinds = SCHEMA[panel["type"]]
    custom = panel["fieldConfig"]["defaults"]["custom"]

    assert complaints(panel["options"], _all_optional(kinds["options"])) == []
    assert complaints(custom, _all_optional(kinds["custom"])) == []


def _all_optional(schema: Any) -> Any:
    """Grafana fills in what is left out."""
    if isinstance(schema, dict):
        return {key: _all_optional(value) for key, value in schema.items() if key != "required"}
    return [_all_optional(each) for each in schema] if isinstance(schema, list) else schema


def test_it_is_the_classic_format_that_every_grafana_loads_from_files() -> None:
    assert DASHBOARD["schemaVersion"] <= 41
    assert DASHBOARD["uid"] == "memoserve"
    assert not {"id", "apiVersion", "spec", "elements"} & set(DASHBOARD)


def test_the_first_screen_has_nine_panels_three_by_three() -> None:
    first = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in first)

    assert [(p["gridPos"]["x"], p["gridPos"]["w"]) for p in first] == [(0, 8), (8, 8), (16, 8)] * 3
    # A unit of the grid is 30 pixels and a gap of 8; Grafana's own bars take less than 150, a
    # browser's less than 120.
    assert bottom * 38 <= 1080 - 150 - 120


def test_panels_neither_overlap_nor_leave_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(DASHBOARD):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert not taken & cells, panel["title"]
            taken |= cells


def test_every_panel_has_a_number_of_its_own() -> None:
    numbers = [panel["id"] for panel in panels(DASHBOARD)]

    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    named = set(re.findall(r"\b(?:memoserve|redis|scrape)_\w+", panel["description"]))
    used = {name for target in panel["targets"] for name in _metrics(target["expr"])}

    assert re.match(r"[A-Z]|p\d\d ", panel["title"])
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["noValue"] == "No traffic"
    assert panel["datasource"]["uid"] == "${datasource}"
    assert named, "the description names no metric"
    assert named <= set(_known()) | used
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)


def test_a_status_has_one_colour_everywhere() -> None:
    coloured = [panel for panel in PANELS if "cache status" in panel["title"]]

    for panel in coloured:
        overrides = {
            each["matcher"]["options"]: each["properties"][0]["value"]["fixedColor"]
            for each in panel["fieldConfig"]["overrides"]
        }
        assert overrides == STATUS_COLOURS
    assert len(coloured) == 2


@pytest.mark.parametrize("query", ASKED, ids=lambda query: query.name)
def test_a_query_is_promql_with_names_of_the_catalogue(query: Asked) -> None:
    labels = _known()

    parsed = promql_parser.parse(expanded(query.expr))

    for selector in _selectors(parsed):
        assert selector.name in labels or FOREIGN.match(selector.name), selector.name
        if selector.name in labels:
            allowed = labels[selector.name] | {"job", "instance", "le"}
            assert {matcher.name for matcher in selector.matchers.matchers} <= allowed


@pytest.mark.parametrize("query", ASKED, ids=lambda query: query.name)
def test_a_query_asks_for_what_is_chosen_above(query: Asked) -> None:
    for name, matchers in re.findall(r"\b(memoserve_\w+)\{([^}]*)\}", query.expr):
        has_model = "model" in _known()[name]
        if not query.is_variable:
            assert 'job=~"$job", instance=~"$instance"' in matchers
            assert ('model=~"$model"' in matchers) == has_model
    assert not re.search(r"\bmemoserve_\w+(?![\w{])(?!\))", query.expr) or query.is_variable


@pytest.mark.parametrize("query", ASKED, ids=lambda query: query.name)
def test_a_rate_is_over_a_window_that_holds_scrapes(query: Asked) -> None:
    windows = re.findall(r"\[([^\]]*)\]", query.expr)

    assert set(windows) <= {"$__rate_interval", "$__range"}


def _known() -> dict[str, set[str]]:
    """Every sample's name, and its labels."""
    return {
        name: {prometheus_label(key) for key in instrument.attributes}
        for instrument in INSTRUMENTS
        for name in prometheus_names(instrument)
    }


def _metrics(expr: str) -> set[str]:
    return {selector.name for selector in _selectors(promql_parser.parse(expanded(expr)))}


def _selectors(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    for attribute in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (child := getattr(node, attribute, None)) is not None:
            yield from _selectors(child)
    for child in getattr(node, "args", []):
        yield from _selectors(child)


def test_links_keep_the_time_and_choose_a_model() -> None:
    links = [link for panel in PANELS for link in panel["fieldConfig"]["defaults"].get("links", [])]

    assert links
    assert all("${__url_time_range}" in link["url"] for link in links)
    assert all(f"/d/{DASHBOARD['uid']}?" in link["url"] for link in links)
    assert DASHBOARD["links"][0]["tags"] == DASHBOARD["tags"]


def test_provisioning_fits_the_dashboard_and_the_scrapes() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/memoserve.yml").read_text())
    scraping = yaml.safe_load((GRAFANA.parent / "prometheus/prometheus.yml").read_text())

    (datasource,) = source["datasources"]
    variable = next(v for v in DASHBOARD["templating"]["list"] if v["name"] == "datasource")
    assert datasource["uid"] == variable["current"]["value"]
    assert datasource["jsonData"]["timeInterval"] == scraping["global"]["scrape_interval"]
    assert (source["apiVersion"], provider["apiVersion"]) == (1, 1)
    options = provider["providers"][0]["options"]
    assert options["path"] == "/var/lib/grafana/dashboards"
    assert not options["foldersFromFilesStructure"]
