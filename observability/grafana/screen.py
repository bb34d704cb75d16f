"""The first screen: nine panels, three by three.

Rule: from the upper left, it answers: is it used, does it help, how fast is it, what is it worth,
what is wrong.
"""

from typing import Any

from memoserve import telemetry as catalogue
from observability.grafana.builders import STATUS_COLOURS, Panel, Query, named
from observability.grafana.queries import (
    ALL,
    ERROR_RATIO,
    HIT_RATIO,
    OF,
    OF_MODEL,
    RANGE_SAVED,
    REQUESTS,
    SAVED,
    WINDOW,
    name,
    now,
    quantile,
    rate,
)

__all__ = ["first_screen"]

JSON = dict[str, Any]

_RATIO: JSON = {"min": 0, "max": 1}
_LOG: JSON = {"scaleDistribution": {"type": "log", "log": 10}}
_STATUSES = tuple(
    named(status, color={"mode": "fixed", "fixedColor": colour})
    for status, colour in STATUS_COLOURS.items()
)
_TO_MODEL: JSON = {
    "links": [
        {
            "title": "Only ${__field.labels.model}",
            "url": "/d/memoserve?${__url_time_range}&${datasource:queryparam}"
            "&var-model=${__field.labels.model}",
        }
    ]
}


def first_screen() -> tuple[Panel, ...]:
    """Return the nine."""
    count, saved = name(REQUESTS, "_count"), name(catalogue.MODEL_TIME_SAVED)
    return (
        Panel(
            "Requests by model",
            f"Covered requests per second ({count}). Flat at nothing: no rule matches, or nobody"
            " asks.",
            "reqps",
            (Query(f"sum by (model) ({ALL})", "{{model}}"),),
            defaults=_TO_MODEL,
        ),
        Panel(
            "Hit ratio by model",
            "Of the requests that might have been answered from the cache, the part that was"
            f" ({count}; bypasses count neither way). A step down after a deploy: what is in the"
            " key has changed. Compare with what the load generator calls achievable.",
            "percentunit",
            (Query(HIT_RATIO, "{{model}}"),),
            defaults={**_RATIO, **_TO_MODEL, "thresholds": {
                "mode": "absolute",
                "steps": [{"color": "red", "value": None}, {"color": "yellow", "value": 0.2},
                          {"color": "green", "value": 0.5}],
            }},
            custom={"thresholdsStyle": {"mode": "dashed"}, "fillOpacity": 0},
        ),
        Panel(
            "Requests by cache status",
            f"What the cache did with them ({count}, stacked). After a start this is the warm-up:"
            " green grows into the orange. Grey that grows: see 'Bypasses by reason'.",
            "reqps",
            (Query(f"sum by (cache_status) ({ALL})", "{{cache_status}}"),),
            custom={"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 60,
                    "lineWidth": 0},
            overrides=_STATUSES,
        ),
        Panel(
            "Latency p50, p95, p99",
            f"From a request's arrival to its last byte ({name(REQUESTS, '_bucket')}), hits and"
            " misses together: two bands, of which the mean says nothing. See 'Latency heatmap'.",
            "s",
            tuple(
                Query(quantile(q, REQUESTS).replace(" and on () ", " and "), f"p{q * 100:g}")
                for q in (0.5, 0.95, 0.99)
            ),
            custom={**_LOG, "fillOpacity": 0},
        ),
        Panel(
            "p95 by cache status",
            f"The same, apart ({name(REQUESTS, '_bucket')}). Misses slow: the model is, or its"
            " queue. Hits slow: the event loop is, or Redis.",
            "s",
            (Query(quantile(0.95, REQUESTS, "cache_status"), "{{cache_status}}"),),
            custom={**_LOG, "fillOpacity": 0},
            overrides=_STATUSES,
        ),
        Panel(
            "Latency heatmap",
            f"How many requests took how long ({name(REQUESTS, '_bucket')}). The lower band are"
            " hits, the upper one is the model.",
            "s",
            (
                Query(
                    f"sum by (le) (increase({name(REQUESTS, '_bucket')}{{{OF_MODEL}}}{WINDOW}))",
                    "{{le}}",
                    format="heatmap",
                ),
            ),
            kind="heatmap",
            custom={"hideFrom": {"legend": False, "tooltip": False, "viz": False},
                    "scaleDistribution": {"type": "linear"}},
        ),
        Panel(
            "Model time saved",
            f"Seconds of the model per second that reused answers would have cost ({saved}): 1 is"
            " one model kept free all the time. On the right, what that is worth in the range"
            " shown, at $gpu_hour_cost $ an hour.",
            "none",
            (
                Query(f"sum by (model) ({SAVED})", "{{model}}"),
                Query(f"{RANGE_SAVED} / 3600 * $gpu_hour_cost", "cost avoided"),
            ),
            custom={"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30},
            overrides=(
                named(
                    "cost avoided",
                    unit="currencyUSD",
                    decimals=2,
                    custom__axisPlacement="right",
                    custom__stacking={"mode": "none", "group": "A"},
                    custom__fillOpacity=0,
                    custom__lineStyle={"fill": "dash", "dash": [10, 10]},
                    color={"mode": "fixed", "fixedColor": "text"},
                ),
            ),
        ),
        Panel(
            "Errors and breaker",
            f"The part of the requests that failed ({count}), which a broken cache does not add to;"
            " behind it, in red, whether a breaker is open"
            f" ({name(catalogue.BREAKER_OPEN)}): then every answer costs model time.",
            "percentunit",
            (
                Query(ERROR_RATIO, "{{model}}"),
                Query(f"max by (breaker) ({now(catalogue.BREAKER_OPEN, OF)})",
                      "{{breaker}} breaker open"),
            ),
            defaults={"min": 0},
            overrides=(
                {
                    "matcher": {"id": "byFrameRefID", "options": "B"},
                    "properties": [
                        {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
                        {"id": "unit", "value": "bool_yes_no"},
                        {"id": "max", "value": 1},
                        {"id": "custom.axisPlacement", "value": "hidden"},
                        {"id": "custom.lineInterpolation", "value": "stepAfter"},
                        {"id": "custom.lineWidth", "value": 0},
                        {"id": "custom.fillOpacity", "value": 30},
                    ],
                },
            ),
        ),
        Panel(
            "Redis",
            "How full it is (redis_memory_used_bytes of redis_memory_max_bytes; nothing where it"
            " has no limit), answers that it dropped for lack of room (redis_evicted_keys_total),"
            f" and how long it lets a lookup wait ({name(catalogue.STORE_DURATION, '_bucket')})."
            " Full and dropping is right for a cache as long as the hit ratio holds.",
            "percentunit",
            (
                Query("sum by (instance) (redis_memory_used_bytes)"
                      " / (sum by (instance) (redis_memory_max_bytes) > 0)", "memory"),
                Query(f"sum(rate(redis_evicted_keys_total{WINDOW}))", "evictions"),
                Query(
                    "histogram_quantile(0.99, sum by (le) ("
                    + rate(catalogue.STORE_DURATION, "_bucket", 'operation="get"', OF)
                    + "))",
                    "p99 of a lookup",
                ),
            ),
            defaults={"min": 0},
            overrides=(
                named("memory", max=1),
                named("evictions", unit="cps", custom__axisPlacement="hidden"),
                named("p99 of a lookup", unit="s", custom__axisPlacement="right",
                      custom__fillOpacity=0),
            ),
        ),
    )  # fmt: skip
