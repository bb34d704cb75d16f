"""The dashboard for Grafana, and the rules for Prometheus, as they come with the package.

Rule: they are made and tested in `observability/` of the project; the wheel holds copies.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

__all__ = ["DASHBOARD", "RULES", "observability_file"]

DASHBOARD = "grafana/dashboards/memoserve.json"
RULES = {"rules": "prometheus/rules.yml", "alerts": "prometheus/alerts.yml"}

_CHECKOUT = Path(__file__).parents[2]  # Where an editable install has them.


def observability_file(name: str) -> str:
    """Return the text of one of them.

    Raises:
        FileNotFoundError: The package was installed without it.
    """
    wheel: Traversable = files("memoserve") / "_observability"
    found = wheel if wheel.is_dir() else _CHECKOUT / "observability"
    return found.joinpath(*name.split("/")).read_text(encoding="utf-8")
