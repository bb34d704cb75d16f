"""The plots of a report, as plotly.js takes them.

Rule: a plot is made of a document and of nothing else. Colours are named by what they mean
(``--hit``); the page gives each name a light and a dark value.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["comparison_plots", "proof_plots", "run_plots"]

Document = Mapping[str, Any]
Plot = dict[str, Any]

_MISSES = ("compulsory", "expired", "capacity", "in-flight", "unexplained")
_NINES = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]


def run_plots(document: Document) -> list[Plot]:
    """Return everything that one run can show."""
    return [
        _ratio_plot(document),
        _percentile_plot({"hit": document, "miss": document}),
        _latency_plot(document),
        _rate_plot(document),
        _lag_plot(document),
        _rank_plot(document),
        _cause_plot(document),
    ]


def proof_plots(document: Document) -> list[Plot]:
    """Return what the arms of a proof show beside each other."""
    arms: Mapping[str, Document] = document["arms"]
    if not arms:
        return []
    plots = [_arms_plot(arms), _arm_percentiles(arms)]
    plots += [
        _ratio_plot(arms[name], f"Hit ratio over time: {name}")
        for name in ("cold Zipf", "uniform")
        if name in arms
    ]
    if "cold Zipf" in arms:
        plots += [_rank_plot(arms["cold Zipf"]), _cause_plot(arms["cold Zipf"])]
    return plots


def comparison_plots(first: Document, second: Document) -> list[Plot]:
    """Return two runs over each other."""
    both = {"a": first, "b": second}
    latency = [
        _line(doc["series"]["time"], _ms(doc["series"]["p99"]), f"p99 {name}", f"--{name}")
        for name, doc in both.items()
    ]
    ratio = [
        _line(doc["series"]["time"], doc["series"]["observed"], f"observed {name}", f"--{name}")
        for name, doc in both.items()
    ]
    curves = [
        _curve(doc["series"]["percentiles"]["all"], name, f"--{name}") for name, doc in both.items()
    ]
    return [
        _plot("Hit ratio so far", "", ratio, _TIME, _PERCENT),
        _plot("Response by percentile", "", curves, _SHARES, _LOG_MS),
        _plot("p99 over time", "", latency, _TIME, _MS),
    ]


_TIME = {"title": {"text": "seconds"}}
_MS = {"title": {"text": "ms"}, "rangemode": "tozero"}
_LOG_MS = {"title": {"text": "ms"}, "type": "log", "dtick": "D2"}
_PERCENT = {"tickformat": ".0%", "range": [0, 1.02]}
_SHARES = {
    "type": "log",
    "tickvals": [1 / (1 - share) for share in _NINES],
    "ticktext": [f"{share * 100:g} %" for share in _NINES],
    "title": {"text": "percentile"},
}


def _plot(
    title: str,
    note: str,
    traces: Sequence[Mapping[str, Any]],
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    **layout: Any,
) -> Plot:
    return {
        "title": title,
        "note": note,
        "data": list(traces),
        "layout": {"xaxis": dict(x), "yaxis": dict(y), **layout},
    }


def _line(
    x: Sequence[Any], y: Sequence[Any], name: str, colour: str, **line: Any
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": {"color": colour, "width": 2, **line},
    }


def _ms(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value * 1e3, 3) for value in values]


def _curve(points: Sequence[Sequence[float]], name: str, colour: str) -> dict[str, Any]:
    x = [1 / (1 - share) for share, _ in points]
    trace = _line(x, [round(value * 1e3, 3) for _, value in points], name, colour)
    shares = [f"{share * 100:.4g} %" for share, _ in points]
    return trace | {"customdata": shares, "hovertemplate": "%{customdata}: %{y} ms"}


def _ratio_plot(document: Document, title: str = "Hit ratio over time") -> Plot:
    series, expected = document["series"], document["series"]["predicted"]
    band = {
        "type": "scatter",
        "mode": "lines",
        "x": [*expected["time"], *reversed(expected["time"])],
        "y": [*expected["high"], *reversed(expected["low"])],
        "fill": "toself",
        "fillcolor": "--band",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "name": "± 2 standard deviations",
    }
    traces = [
        band,
        _line(expected["time"], expected["ratio"], "predicted", "--predicted", dash="dot"),
        _line(series["time"], series["achievable"], "achievable", "--achievable", dash="dash"),
        _line(series["time"], series["observed"], "observed", "--hit"),
    ]
    note = (
        "Of all requests so far. Achievable is what the best cache could have done with exactly "
        "these requests; predicted is theory, before any was sent."
    )
    return _plot(title, note, traces, _TIME, _PERCENT)


def _percentile_plot(documents: Mapping[str, Document]) -> Plot:
    traces = [
        _curve(document["series"]["percentiles"][kind], kind, f"--{kind}")
        for kind, document in documents.items()
    ]
    note = "Response time: from when a request was due. Each step to the right is one more nine."
    return _plot("Response by percentile: hit against miss", note, traces, _SHARES, _LOG_MS)


def _latency_plot(document: Document) -> Plot:
    series = document["series"]
    traces = [
        _line(series["time"], _ms(series[part]), part, f"--{part}")
        for part in ("p50", "p95", "p99")
    ]
    return _plot("Response over time", "By when requests were due.", traces, _TIME, _LOG_MS)


def _rate_plot(document: Document) -> Plot:
    series = document["series"]
    traces = [
        _line(series["time"], series["offered"], "offered", "--predicted", dash="dot"),
        _line(series["time"], series["sent"], "sent", "--achievable"),
        _line(series["time"], series["done"], "done", "--hit"),
        _line(series["time"], series["in_flight"], "in flight (right)", "--miss") | {"yaxis": "y2"},
    ]
    second = {
        "overlaying": "y",
        "side": "right",
        "rangemode": "tozero",
        "showgrid": False,
        "tickmode": "auto",
    }
    rate = {"title": {"text": "requests/s"}, "rangemode": "tozero"}
    note = "Where sent falls behind offered, the generator was the limit; where done does, the app."
    return _plot("Offered, sent and done", note, traces, _TIME, rate, yaxis2=second)


def _lag_plot(document: Document) -> Plot:
    series = document["series"]
    traces = [
        _line(series["time"], _ms(series["lag_p50"]), "median", "--p50"),
        _line(series["time"], _ms(series["lag_max"]), "largest", "--p99"),
    ]
    note = "How late the generator itself was. It is part of every response time above."
    return _plot("Lag", note, traces, _TIME, _MS)


def _rank_plot(document: Document) -> Plot:
    ranks = document["series"]["ranks"]
    asked = {
        "type": "scatter",
        "mode": "markers",
        "x": ranks["rank"],
        "y": [value or None for value in ranks["observed"]],
        "name": "asked",
        "marker": {"color": "--hit", "size": 7},
    }
    law = document["plan"]["law"]
    traces = [_line(ranks["rank"], ranks["expected"], law, "--predicted", dash="dot"), asked]
    log = {"type": "log"}
    note = "How often an item of each rank was asked, against the law that it was drawn from."
    return _plot(
        "Popularity by rank",
        note,
        traces,
        {**log, "title": {"text": "rank"}},
        {**log, "title": {"text": "requests per item"}},
    )


def _cause_plot(document: Document) -> Plot:
    series = document["series"]
    traces = [
        {
            "type": "bar",
            "x": series["time"],
            "y": series["causes"][cause],
            "name": cause,
            "marker": {"color": f"--{cause}"},
        }
        for cause in _MISSES
        if cause in series["causes"]
    ]
    note = "Compulsory: nobody had asked before. Unexplained: it should have been a hit."
    y = {"title": {"text": "misses"}}
    return _plot("Why misses were misses", note, traces, _TIME, y, barmode="stack", bargap=0)


def _arms_plot(arms: Mapping[str, Document]) -> Plot:
    shown = {name: arm for name, arm in arms.items() if not arm["plan"]["bypass"]}
    colours = {"observed": "--hit", "achievable": "--achievable", "predicted": "--predicted"}
    traces = [
        {
            "type": "bar",
            "x": list(shown),
            "y": [arm["hit_ratio"][part] for arm in shown.values()],
            "name": part,
            "marker": {"color": colour},
            "texttemplate": "%{y:.1%}",
            "textposition": "outside",
        }
        for part, colour in colours.items()
    ]
    note = "The ratio is the traffic's; observed by achievable is the cache's."
    return _plot("Hit ratio by kind of traffic", note, traces, {}, _PERCENT)


def _arm_percentiles(arms: Mapping[str, Document]) -> Plot:
    palette = ("--miss", "--hit", "--achievable", "--p95", "--predicted")
    traces = [
        _curve(arm["series"]["percentiles"]["all"], name, colour)
        for (name, arm), colour in zip(arms.items(), palette, strict=False)
    ]
    note = "Response time: from when a request was due."
    return _plot("Response by percentile and kind of traffic", note, traces, _SHARES, _LOG_MS)
