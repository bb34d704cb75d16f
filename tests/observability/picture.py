"""Draw the first screen: `python -m tests.observability.picture docs/images/dashboard.png`.

Rule: every line in it is an answer of Prometheus to a query of the dashboard. It is not a
screenshot of Grafana, and says so: matplotlib draws it, from the stack that the tests run.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from observability.grafana.builders import STATUS_COLOURS
from observability.grafana.dashboard import dashboard
from tests.observability.queries import expanded
from tests.observability.stack import Stack, running

SECONDS = 100.0
COLOURS = {"green": "#56A64B", "yellow": "#E0B400", "blue": "#3274D9", "orange": "#FF780A",
           "text": "#8e8e8e", "red": "#E02F44"}  # fmt: skip
CAPTION = (
    "The dashboard's first screen, its queries answered by Prometheus while the reference app was "
    "under load and Redis hung for some seconds.\nDrawn by matplotlib from those answers: not a "
    "screenshot of Grafana."
)

Series = list[tuple[str, dict[str, Any]]]


async def watch(folder: Path) -> list[tuple[dict[str, Any], list[Series]]]:
    """Run the stack, and return the panels with what their queries were answered."""
    async with running(folder) as stack:
        await stack.load(SECONDS * 0.6)
        with stack.redis_hanging():
            await stack.load(SECONDS * 0.1)
        await stack.load(SECONDS * 0.3)
        first = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
        return [(panel, [await answers(stack, t) for t in panel["targets"]]) for panel in first]


async def answers(stack: Stack, target: dict[str, Any]) -> Series:
    """Return the series of a query under the names that Grafana would give them."""
    found = await stack.query(expanded(target["expr"], window="10s", span="100s"))

    def legend(labels: dict[str, str]) -> str:
        return re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m[1], ""), target["legendFormat"])

    return sorted((legend(each["metric"]), each) for each in found)


def points(series: dict[str, Any], started: float) -> tuple[list[float], list[float]]:
    """Return seconds since the start, and values."""
    pairs = [(float(at) - started, float(value)) for at, value in series["values"]]
    return [at for at, _ in pairs], [value for _, value in pairs]


def draw_lines(axes: Axes, panel: dict[str, Any], answered: list[Series], started: float) -> None:
    """Draw a time series panel; what Grafana would put on another axis gets a twin."""
    custom = panel["fieldConfig"]["defaults"]["custom"]
    if custom.get("stacking") and panel["title"] == "Requests by cache status":
        draw_stack(axes, answered[0], started)
        return
    places: dict[str, Axes] = {"left": axes}
    fresh = iter(f"C{number}" for number in range(10))  # Twins would begin with the same colours.
    for place, series in enumerate(answered):
        for name, each in series:
            side, unit, colour = look(panel, place, name)
            colour = colour or next(fresh)
            if side not in places:
                places[side] = axes.twinx()
                places[side].set_yticks([]) if side == "hidden" else None
            x, y = points(each, started)
            places[side].plot(x, y, label=name, linewidth=1.2, color=colour)
            set_unit(places[side], unit, is_hidden=side == "hidden")
    if custom.get("scaleDistribution"):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
        set_unit(axes, panel["fieldConfig"]["defaults"]["unit"])
    elif panel["fieldConfig"]["defaults"].get("min") == 0:
        for drawn in places.values():
            drawn.set_ylim(bottom=0)
    handles = [line for each in places.values() for line in each.get_lines()]
    axes.legend(handles=handles, loc="best", ncols=2)


def look(panel: dict[str, Any], place: int, name: str) -> tuple[str, str, str | None]:
    """Return the axis, the unit and the colour of a series, as the overrides say."""
    found: dict[str, Any] = {"unit": panel["fieldConfig"]["defaults"]["unit"]}
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] in {name, chr(ord("A") + place)}:
            found |= {each["id"]: each["value"] for each in override["properties"]}
    colour = found.get("color", {}).get("fixedColor")
    return found.get("custom.axisPlacement", "left"), found["unit"], COLOURS.get(colour)


def draw_stack(axes: Axes, series: Series, started: float) -> None:
    """Draw what the cache did, one above the other."""
    named = dict(series)
    order = [status for status in STATUS_COLOURS if status in named]
    values = [dict(zip(*points(named[status], started), strict=True)) for status in order]
    times = sorted({at for each in values for at in each})
    heights = [[each.get(at, 0.0) for at in times] for each in values]
    colours = [COLOURS[STATUS_COLOURS[status]] for status in order]
    axes.stackplot(times, heights, labels=order, colors=colours, alpha=0.75)
    axes.legend(loc="upper left", ncols=3)
    set_unit(axes, "reqps")


def draw_heatmap(axes: Axes, series: Series, started: float) -> None:
    """Draw how many requests fell into each bucket; those above the last bound are left out."""
    rows = sorted((float(each["metric"]["le"]), each) for _, each in series)
    bounds = [bound for bound, _ in rows if bound != float("inf")]
    columns = [dict(zip(*points(each, started), strict=True)) for _, each in rows]
    times = sorted(columns[-1])
    cumulative = np.array([[column.get(at, 0.0) for at in times] for column in columns])
    counts = np.diff(cumulative, axis=0, prepend=0)[: len(bounds)]
    edges = [bounds[0] / 2, *bounds]
    masked = np.ma.masked_less_equal(counts[:, :-1], 0.05)
    axes.pcolormesh(times, edges, masked, cmap="turbo", norm="log")
    axes.set_yscale("log")
    axes.set_ylim(edges[0], 1)
    axes.yaxis.set_minor_formatter(NullFormatter())
    set_unit(axes, "s")


def set_unit(axes: Axes, unit: str, *, is_hidden: bool = False) -> None:
    """Spell the numbers of an axis as Grafana does."""
    spell = {
        "s": lambda v, _: f"{v * 1000:g} ms" if v < 1 else f"{v:g} s",
        "percentunit": lambda v, _: f"{v * 100:.3g} %",
        "reqps": lambda v, _: f"{v:g} req/s",
        "currencyUSD": lambda v, _: f"${v:.2g}",
    }.get(unit, lambda v, _: f"{v:g}")
    axes.yaxis.set_major_formatter(FuncFormatter(spell))
    if is_hidden:
        axes.set_yticks([])


def main() -> None:
    """Run the stack and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        panels = asyncio.run(watch(Path(folder)))
    mpl.rcParams.update({"font.size": 7.5, "axes.grid": True, "grid.alpha": 0.25,
                         "axes.titlesize": 9, "axes.titleweight": "bold", "legend.fontsize": 6.5,
                         "legend.framealpha": 0.7})  # fmt: skip
    figure, grid = plt.subplots(3, 3, figsize=(16, 9), layout="constrained")
    started = min(float(each["values"][0][0]) for _, a in panels for s in a for _, each in s)
    for axes, (panel, answered) in zip(grid.flat, panels, strict=True):
        axes.set_title(panel["title"], loc="left")
        if panel["type"] == "heatmap":
            draw_heatmap(axes, answered[0], started)
        else:
            draw_lines(axes, panel, answered, started)
        axes.set_xlim(0, SECONDS)
    for axes in grid[-1]:
        axes.set_xlabel("seconds since the start")
    figure.supxlabel(CAPTION, fontsize=8.5)
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main()
