"""What a dashboard asks, and how Grafana would put it to Prometheus."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Asked", "asked", "expanded", "panels"]


class Asked(NamedTuple):
    """One query of a panel, a variable or an annotation."""

    name: str
    expr: str
    is_instant: bool
    is_variable: bool = False


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return all panels, rows and what is folded up in them among them."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panels(panel) if "panels" in panel else ()


def asked(dashboard: dict[str, Any]) -> Iterator[Asked]:
    """Return everything that a dashboard asks Prometheus."""
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            name = f"{panel['title']} {target['refId']}"
            yield Asked(name, target["expr"], target["instant"])
    for annotation in dashboard["annotations"]["list"]:
        yield Asked(f"annotation {annotation['name']}", annotation["expr"], is_instant=False)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield Asked(f"variable {variable['name']}", _selector(variable), True, True)


def _selector(variable: dict[str, Any]) -> str:
    """Return the series whose labels a variable lists: `label_values(series, label)`."""
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
    assert found is not None
    return f"count by ({found[2]}) ({found[1]})"


def expanded(expr: str, *, window: str = "20s", span: str = "60s") -> str:
    """Put in what Grafana puts in, with everything chosen."""
    values = {
        "$__rate_interval": window,
        "$__range": span,
        "$gpu_hour_cost": "2.5",
        "$job": ".*",
        "$instance": ".*",
        "$model": ".*",
    }
    for name, value in values.items():
        expr = expr.replace(name, value)
    return expr
