"""The parts of a Grafana dashboard, as the classic JSON (v1) that Grafana 11 to 13 load from files.

Rule: every panel has a title, a description and a unit; a series that has nothing to say says
`No traffic`. A status has one colour wherever it is drawn.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "DATASOURCE",
    "STATUS_COLOURS",
    "Panel",
    "Query",
    "laid_out",
    "named",
    "variable",
]

JSON = dict[str, Any]

DATASOURCE: JSON = {"type": "prometheus", "uid": "${datasource}"}

# Named colours of Grafana's, so that they fit its dark theme and its light one.
STATUS_COLOURS = {
    "hit": "green",
    "stale": "yellow",
    "coalesced": "blue",
    "miss": "orange",
    "bypass": "text",
    "error": "red",
}

Kind = Literal["timeseries", "heatmap", "stat", "table"]


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and the name of its series."""

    expr: str
    legend: str = ""
    format: Literal["time_series", "heatmap", "table"] = "time_series"
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `defaults`, `custom` and `options` are Grafana's, and win over what is usual."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    defaults: JSON = field(default_factory=dict[str, Any])
    custom: JSON = field(default_factory=dict[str, Any])
    options: JSON = field(default_factory=dict[str, Any])
    overrides: tuple[JSON, ...] = ()
    transformations: tuple[JSON, ...] = ()
    width: int = 8
    height: int = 7


def named(name: str, /, **properties: Any) -> JSON:
    """Override properties of the series of one name; a dot in a property is spelled `__`."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [
            {"id": key.replace("__", "."), "value": value} for key, value in properties.items()
        ],
    }


def _panel_json(panel: Panel, number: int, x: int, y: int) -> JSON:
    """Return a panel at its place."""
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "format": query.format,
            "range": not query.instant,
            "instant": query.instant,
            "editorMode": "code",
        }
        for place, query in enumerate(panel.queries)
    ]
    result = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {
            "defaults": _defaults(panel),
            "overrides": [*panel.overrides],
        },
        "options": {**_OPTIONS[panel.kind], **panel.options},
        "targets": targets,
    }
    if panel.transformations:
        result["transformations"] = [*panel.transformations]
    return result


def _defaults(panel: Panel) -> JSON:
    custom = {**(_LINES if panel.kind == "timeseries" else {}), **panel.custom}
    nothing = {"type": "special", "options": {"match": "nan", "result": {"text": "No traffic"}}}
    return {
        "unit": panel.unit,
        "noValue": "No traffic",
        "mappings": [nothing],
        "color": {"mode": "palette-classic"},
        "custom": custom,
        **panel.defaults,
    }


_LINES: JSON = {
    "drawStyle": "line",
    "lineWidth": 1,
    "fillOpacity": 10,
    "showPoints": "never",
    "spanNulls": False,
}

_LEGEND: JSON = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}

_OPTIONS: dict[Kind, JSON] = {
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "exponent": 0.5,
                  "scale": "exponential", "fill": "dark-orange", "reverse": False},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": False},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": False},
        "yAxis": {"axisPlacement": "left", "unit": "s", "reverse": False},
    },
    "stat": {
        "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto",
        "orientation": "auto", "wideLayout": True, "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}  # fmt: skip


def laid_out(first: Iterable[Panel], rows: Iterable[tuple[str, tuple[Panel, ...]]]) -> list[JSON]:
    """Place the panels of the first screen, and rows that are folded up beneath it."""
    panels, y, number = _placed(first, 0, 1)
    for title, folded in rows:
        inside, below, after = _placed(folded, y + 1, number + 1)
        panels.append(
            {
                "id": number,
                "type": "row",
                "title": title,
                "collapsed": True,
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
                "panels": inside,
            }
        )
        y, number = below, after
    return panels


def _placed(panels: Iterable[Panel], y: int, number: int) -> tuple[list[JSON], int, int]:
    """Place panels from left to right; return them, what is below, and the next number."""
    placed: list[JSON] = []
    x = height = 0
    for panel in panels:
        if x + panel.width > 24:
            x, y, height = 0, y + height, 0
        placed.append(_panel_json(panel, number, x, y))
        x, height, number = x + panel.width, max(height, panel.height), number + 1
    return placed, y + height, number


def variable(name: str, label: str, query: str, *, multi: bool = True) -> JSON:
    """Return a variable whose values are those of a label."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}", "qryType": 1},
        "refresh": 2,  # When the time range changes.
        "sort": 1,
        "multi": multi,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
