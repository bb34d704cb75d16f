"""What is folded up beneath the first screen.

Rule: a row holds what one looks at for one question, and nothing that the first screen has.
"""

from memoserve import telemetry as catalogue
from observability.grafana.builders import Panel, Query, named
from observability.grafana.queries import (
    ALL,
    CACHEABLE,
    HIT_RATIO,
    OF,
    OF_MODEL,
    OFFLOAD,
    REQUESTS,
    REUSED,
    SAVED,
    SPENT,
    WINDOW,
    name,
    now,
    quantile,
    rate,
)

__all__ = ["cache_row", "queue_row", "runtime_row", "store_row", "variant_row"]

_BOUNDS = {"min": 0, "max": 1}


def _sum_by(label: str, series: str, legend: str = "") -> Query:
    """Ask for the sums of some series by one of their labels, which names them."""
    return Query(f"sum by ({label}) ({series})", legend or f"{{{{{label}}}}}")


def _model_table() -> Panel:
    queries = {
        "Requests/s": f"sum by (model) ({ALL})",
        "Hit ratio": HIT_RATIO,
        "p95": quantile(0.95, REQUESTS, "model"),
        "Model time/s": f"sum by (model) ({SPENT})",
        "Saved/s": f"sum by (model) ({SAVED})",
        "Offload": OFFLOAD,
    }
    columns = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(queries)}
    units = {"Requests/s": "reqps", "Hit ratio": "percentunit", "p95": "s",
             "Offload": "percentunit"}  # fmt: skip
    return Panel(
        "Models",
        "Who uses the hardware, and what the cache takes off it"
        f" ({name(catalogue.MODEL_DURATION, '_sum')}). Much model time and a low hit ratio: look"
        " there first.",
        "none",
        tuple(Query(expr, format="table", instant=True) for expr in queries.values()),
        kind="table",
        defaults={"decimals": 2},
        options={"sortBy": [{"displayName": "Model time/s", "desc": True}]},
        overrides=tuple(named(name, unit=unit) for name, unit in units.items()),
        transformations=(
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {},
                                           "renameByName": {"model": "Model", **columns}}},
        ),
        width=16,
    )  # fmt: skip


def cache_row() -> tuple[Panel, ...]:
    """Return what the cache does, and why not more."""
    writes, bypasses = catalogue.STORE_WRITES, catalogue.BYPASSES
    return (
        _model_table(),
        Panel(
            "Hit ratio of the range",
            "Of all requests in the range shown that might have been hits, the part that was"
            f" ({name(REQUESTS, '_count')}).",
            "percentunit",
            (
                Query(
                    f"sum({REUSED}) / sum({CACHEABLE})".replace(WINDOW, "[$__range]").replace(
                        "rate(", "increase("
                    ),
                    "hit ratio",
                    instant=True,
                ),
            ),
            kind="stat",
            defaults=_BOUNDS,
        ),
        Panel(
            "Bypasses by reason",
            f"Covered requests that went past the cache ({name(bypasses)}). `credentials`: decide"
            " with `private=`. `too_large`: raise max_request_bytes. `when`: as configured.",
            "reqps",
            (_sum_by("reason", rate(bypasses)),),
        ),
        Panel(
            "Answers by what became of them",
            f"Whether the app's answers were stored ({name(writes)}), or why not. `uncacheable`:"
            " the response forbids it. `refused`: `admit` or `min_cost` did. `error`: the store.",
            "cps",
            (_sum_by("result", rate(writes)),),
        ),
        Panel(
            "Model time avoided",
            "Of the model time that the answers are worth, the part that was not spent"
            f" ({name(catalogue.MODEL_TIME_SAVED)}). It weighs a long generation more than a quick"
            " classification.",
            "percentunit",
            (Query(OFFLOAD, "{{model}}"),),
            defaults=_BOUNDS,
        ),
        Panel(
            "Keys that are not what they seem",
            f"Bodies without a canonical form ({name(catalogue.KEY_REFUSALS)}): harmless, but they"
            " share answers only byte by byte. Entries under another request's MD5"
            f" ({name(catalogue.KEY_COLLISIONS)}): somebody makes them on purpose.",
            "reqps",
            (
                _sum_by("model", rate(catalogue.KEY_REFUSALS), "{{model}} refused"),
                _sum_by("model", rate(catalogue.KEY_COLLISIONS), "{{model}} collided"),
            ),
        ),
        Panel(
            "Shadow comparisons",
            "In shadow mode, whether the stored answer is what the model says now"
            f" ({name(catalogue.SHADOW_COMPARISONS)}). Any `different`: do not go live yet.",
            "cps",
            (_sum_by("result", rate(catalogue.SHADOW_COMPARISONS)),),
            overrides=(
                named("different", color={"mode": "fixed", "fixedColor": "red"}),
                named("equal", color={"mode": "fixed", "fixedColor": "green"}),
            ),
        ),
    )


def variant_row() -> tuple[Panel, ...]:
    """Return what compares the arms of an A/B test, or a canary with what it may replace."""
    arms = 'variant!=""'
    of_arms = f"{OF_MODEL}, {arms}"
    requests = f"sum by (model, variant) ({rate(REQUESTS, '_count', arms)})"
    misses = f'{of_arms}, cache_status="miss"'
    failed = rate(REQUESTS, "_count", f'outcome="error", {arms}')
    reused = rate(REQUESTS, "_count", f'cache_status=~"hit|stale|coalesced", {arms}')
    cacheable = rate(REQUESTS, "_count", f'cache_status!="bypass", {arms}')
    legend = "{{model}} {{variant}}"
    return (
        Panel(
            "Requests by variant",
            f"The shares that VariantMiddleware was given ({name(REQUESTS, '_count')} with a"
            " variant). Without variants this row is empty.",
            "reqps",
            (Query(requests, legend),),
        ),
        Panel(
            "p95 of a miss by variant",
            f"What an answer of each arm's model takes, its queue included"
            f" ({name(REQUESTS, '_bucket')}).",
            "s",
            (Query(quantile(0.95, REQUESTS, "model", "variant", of=misses), legend),),
        ),
        Panel(
            "Errors by variant",
            f"The part of each arm's requests that failed ({name(REQUESTS, '_count')}): a canary"
            " that stands out is taken back.",
            "percentunit",
            (
                Query(
                    f"(sum by (model, variant) ({failed}) or 0 * {requests}) / ({requests} > 0)",
                    legend,
                ),
            ),
            defaults=_BOUNDS,
        ),
        Panel(
            "Hit ratio by variant",
            f"Each arm has its own entries ({name(REQUESTS, '_count')}), so a small one starts cold"
            " and warms up slowly.",
            "percentunit",
            (
                Query(
                    f"(sum by (model, variant) ({reused})"
                    f" or 0 * sum by (model, variant) ({cacheable}))"
                    f" / (sum by (model, variant) ({cacheable}) > 0)",
                    legend,
                ),
            ),
            defaults=_BOUNDS,
        ),
    )


def queue_row() -> tuple[Panel, ...]:
    """Return what waits, for how long, and what runs together."""
    length, shed = catalogue.QUEUE_LENGTH, catalogue.QUEUE_SHED
    return (
        Panel(
            "Requests that wait for a turn",
            f"In the admission queue ({name(length)}), and for an identical request's answer"
            f" ({name(catalogue.FLIGHT_WAITERS)}).",
            "none",
            (
                _sum_by("model", now(length), "{{model}} queued"),
                _sum_by("model", now(catalogue.FLIGHT_WAITERS), "{{model}} coalesced"),
            ),
        ),
        Panel(
            "p95 of the wait for a turn",
            f"({name(catalogue.QUEUE_DURATION, '_bucket')}). It is part of the latency of a miss.",
            "s",
            (Query(quantile(0.95, catalogue.QUEUE_DURATION, "model"), "{{model}}"),),
        ),
        Panel(
            "Turned away",
            f"Answered with 503 and Retry-After ({name(shed)}): the queue was full, or the turn"
            " did not come in time. More replicas, or a higher limit.",
            "reqps",
            (_sum_by("model", rate(shed)),),
        ),
        Panel(
            "Calls in a batch",
            f"Mean size ({name(catalogue.BATCH_SIZE, '_sum')} of"
            f" {name(catalogue.BATCH_SIZE, '_count')}). One: there is nothing to batch, or the"
            " window is too short.",
            "none",
            (
                Query(
                    f"sum by (model) ({rate(catalogue.BATCH_SIZE, '_sum')})"
                    f" / (sum by (model) ({rate(catalogue.BATCH_SIZE, '_count')}) > 0)",
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "p95 of a batch",
            f"How long one batch takes ({name(catalogue.BATCH_DURATION, '_bucket')}).",
            "s",
            (Query(quantile(0.95, catalogue.BATCH_DURATION, "model"), "{{model}}"),),
        ),
        Panel(
            "p95 of the model",
            f"Time in the app, misses only ({name(catalogue.MODEL_DURATION, '_bucket')}).",
            "s",
            (Query(quantile(0.95, catalogue.MODEL_DURATION, "model"), "{{model}}"),),
        ),
    )


def store_row() -> tuple[Panel, ...]:
    """Return how the stores do, as seen from here and as Redis sees itself."""
    usage, limit, calls = catalogue.STORE_USAGE, catalogue.STORE_LIMIT, catalogue.STORE_DURATION
    return (
        Panel(
            "Calls of the store",
            f"Lookups and writes that do IO ({name(calls, '_count')}); none for a store in memory.",
            "cps",
            (_sum_by("operation", rate(calls, "_count", of=OF)),),
        ),
        Panel(
            "p99 of the store",
            f"({name(calls, '_bucket')}). At the deadline (50 ms unless set) a lookup is taken for"
            " a miss.",
            "s",
            (Query(quantile(0.99, calls, "operation", of=OF), "{{operation}}"),),
        ),
        Panel(
            "Failures of the store",
            f"By operation and exception ({name(catalogue.STORE_ERRORS)}). Each was taken for a"
            " miss; none reached a client.",
            "cps",
            (
                Query(
                    f"sum by (operation, error_type) ({rate(catalogue.STORE_ERRORS, of=OF)})",
                    "{{operation}} {{error_type}}",
                ),
            ),
        ),
        Panel(
            "Room in the store",
            f"Bytes that are held ({name(usage)}) of those that may be ({name(limit)}).",
            "bytes",
            (
                _sum_by("store", now(usage, OF), "{{store}} holds"),
                _sum_by("store", now(limit, OF), "{{store}} may hold"),
            ),
        ),
        Panel(
            "Entries in the store",
            f"({name(catalogue.STORE_ENTRIES)})",
            "none",
            (_sum_by("store", now(catalogue.STORE_ENTRIES, OF)),),
        ),
        Panel(
            "Dropped before their time",
            f"For lack of room ({name(catalogue.STORE_EVICTIONS)}). With a falling hit ratio: give"
            " the store more.",
            "cps",
            (_sum_by("store", rate(catalogue.STORE_EVICTIONS, of=OF)),),
        ),
        Panel(
            "Redis: commands and clients",
            "What the server does (redis_commands_processed_total, redis_connected_clients).",
            "cps",
            (
                Query(f"sum(rate(redis_commands_processed_total{WINDOW}))", "commands"),
                Query("sum(redis_connected_clients)", "clients"),
            ),
            overrides=(named("clients", unit="none", custom__axisPlacement="right"),),
        ),
        Panel(
            "Redis: lookups",
            "As the server counts them (redis_keyspace_hits_total, redis_keyspace_misses_total);"
            " a request may be more than one.",
            "cps",
            (
                Query(f"sum(rate(redis_keyspace_hits_total{WINDOW}))", "found"),
                Query(f"sum(rate(redis_keyspace_misses_total{WINDOW}))", "not found"),
            ),
        ),
        Panel(
            "Redis: memory",
            "What is used and what may be (redis_memory_used_bytes, redis_memory_max_bytes).",
            "bytes",
            (
                Query("sum(redis_memory_used_bytes)", "used"),
                Query("sum(redis_memory_max_bytes)", "limit"),
            ),
        ),
    )


def runtime_row() -> tuple[Panel, ...]:
    """Return how the processes do."""
    lag, workers = catalogue.EVENT_LOOP_LAG, catalogue.WORKERS
    return (
        Panel(
            "Event loop lag",
            f"The longest wait for the loop of any worker ({name(lag)}). Above 50 ms: something"
            " computes on it, and hits wait.",
            "s",
            (Query(f"max by (instance) ({now(lag, OF)})", "{{instance}}"),),
        ),
        Panel(
            "Requests under way",
            f"({name(catalogue.REQUEST_ACTIVE)})",
            "none",
            (_sum_by("model", now(catalogue.REQUEST_ACTIVE)),),
        ),
        Panel(
            "Workers",
            f"Processes that the numbers of a replica are the sum of ({name(workers)}).",
            "none",
            (_sum_by("instance", now(workers, OF)),),
        ),
        Panel(
            "Scrapes",
            "How long Prometheus waits for a page (scrape_duration_seconds).",
            "s",
            (Query(f"max by (instance) (scrape_duration_seconds{{{OF}}})", "{{instance}}"),),
        ),
        Panel(
            "Versions",
            f"Replicas by the version they run ({name(catalogue.BUILD_INFO)}).",
            "none",
            (_sum_by("version", now(catalogue.BUILD_INFO, OF)),),
        ),
        Panel(
            "Labels that overflowed",
            f"Counted under `other` ({name(catalogue.LABEL_OVERFLOWS)}): anything above nothing"
            " means that a label comes from outside.",
            "cps",
            (_sum_by("label", rate(catalogue.LABEL_OVERFLOWS, of=OF)),),
        ),
    )
