"""The dashboard of memoserve: `python -m observability.grafana.dashboard [--check]`.

Rule: the file that Grafana loads is what this writes; whoever edits it there has to say it here.
"""

import json
import sys
from pathlib import Path
from typing import Any

from memoserve import telemetry as catalogue
from observability.grafana.builders import DATASOURCE, laid_out, variable
from observability.grafana.queries import OF, REQUESTS, WINDOW, name, now
from observability.grafana.rows import cache_row, queue_row, runtime_row, store_row, variant_row
from observability.grafana.screen import first_screen

__all__ = ["FILE", "dashboard", "main"]

FILE = Path(__file__).parent / "dashboards" / "memoserve.json"

JSON = dict[str, Any]


def _annotations() -> list[JSON]:
    build = f"sum by (version) ({now(catalogue.BUILD_INFO, OF)})"
    earlier = f"sum by (version) ({now(catalogue.BUILD_INFO, OF)} offset 1m)"
    opened = (
        f"sum by (breaker, state) (increase({name(catalogue.BREAKER_TRANSITIONS)}"
        f"{{{OF}}}{WINDOW})) > 0"
    )
    return [
        _annotation("Deploys", f"{build} unless {earlier}", "blue", "Version {{version}}"),
        _annotation("Breaker", opened, "red", "{{breaker}} breaker: {{state}}"),
    ]


def _annotation(name: str, expr: str, colour: str, title: str) -> JSON:
    return {
        "name": name,
        "enable": True,
        "iconColor": colour,
        "datasource": DATASOURCE,
        "expr": expr,
        "titleFormat": title,
        "step": "60s",
    }


def _variables() -> list[JSON]:
    count = name(REQUESTS, "_count")
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {"text": "Prometheus", "value": "prometheus"},
        },
        variable("job", "Job", f"label_values({name(catalogue.WORKERS)}, job)"),
        variable(
            "instance",
            "Replica",
            f'label_values({name(catalogue.WORKERS)}{{job=~"$job"}}, instance)',
        ),
        variable("model", "Model", f"label_values({count}{{{OF}}}, model)"),
        {
            "name": "gpu_hour_cost",
            "label": "$ per hour of the model's hardware",
            "type": "textbox",
            "query": "2.5",
            "current": {"text": "2.5", "value": "2.5"},
        },
    ]


def dashboard() -> JSON:
    """Return the whole dashboard."""
    rows = (
        ("Cache", cache_row()),
        ("Queue and batches", queue_row()),
        ("Variants", variant_row()),
        ("Store", store_row()),
        ("Runtime", runtime_row()),
    )
    return {
        "uid": "memoserve",
        "title": "memoserve",
        "description": "What the cache in front of the models does, and what it is worth.",
        "tags": ["memoserve"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # One crosshair on all panels.
        "refresh": "30s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
        "templating": {"list": _variables()},
        "annotations": {"list": _annotations()},
        "links": [
            {
                "title": "memoserve",
                "type": "dashboards",
                "tags": ["memoserve"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "Other dashboards with this tag",
                "url": "",
            }
        ],
        "panels": laid_out(first_screen(), rows),
    }


def main() -> int:
    """Write the file, or with `--check` say whether it is what this would write."""
    text = json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
    if sys.argv[1:] == ["--check"]:
        return 0 if FILE.read_text(encoding="utf-8") == text else 1
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
