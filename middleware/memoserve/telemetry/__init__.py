"""The catalogue: every instrument of memoserve, and how Prometheus spells it.

Rule: code, dashboards, alerts and docs use only what is listed here. Attribute values come from
closed sets, never from a path, a body or a credential. Of several processes, counters, histograms
and `updown` values add up, while of a `gauge` the largest value stands for all.

The names follow OpenTelemetry's conventions (general/naming): a counter has no `_total`, it is a
plural where its unit is a thing, `*.duration` is a histogram, `*.time` an accumulated time.
`http.server.request.duration` and its attributes are not ours, but those of the conventions.
"""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "AGE_BUCKETS",
    "BATCH_DURATION",
    "BATCH_SIZE",
    "BREAKER",
    "BREAKER_OPEN",
    "BREAKER_TRANSITIONS",
    "BUILD_INFO",
    "BYPASSES",
    "CACHE_STATUS",
    "DURATION_BUCKETS",
    "ENTRY_AGE",
    "ERROR_TYPE",
    "EVENT_LOOP_LAG",
    "FLIGHT_WAITERS",
    "HTTP_BUCKETS",
    "HTTP_METHOD",
    "HTTP_ROUTE",
    "HTTP_SERVER_DURATION",
    "HTTP_STATUS",
    "INSTRUMENTS",
    "KEY_COLLISIONS",
    "KEY_REFUSALS",
    "LABEL",
    "LABEL_OVERFLOWS",
    "MODEL",
    "MODEL_DURATION",
    "MODEL_TIME_SAVED",
    "OPERATION",
    "OUTCOME",
    "PROTOCOL_VERSION",
    "QUEUE_DURATION",
    "QUEUE_LENGTH",
    "QUEUE_SHED",
    "REASON",
    "REQUEST_ACTIVE",
    "REQUEST_DURATION",
    "RESULT",
    "SCHEME",
    "SHADOW_COMPARISONS",
    "SIZE_BUCKETS",
    "STATE",
    "STORE",
    "STORE_DURATION",
    "STORE_ENTRIES",
    "STORE_ERRORS",
    "STORE_EVICTIONS",
    "STORE_LIMIT",
    "STORE_USAGE",
    "STORE_WRITES",
    "VARIANT",
    "VERSION",
    "WORKERS",
    "Instrument",
    "Kind",
    "prometheus_family",
    "prometheus_label",
    "prometheus_names",
]

# Attribute keys.
MODEL: Final = "model"
VARIANT: Final = "variant"
CACHE_STATUS: Final = "cache.status"
OUTCOME: Final = "outcome"
REASON: Final = "reason"
RESULT: Final = "result"
OPERATION: Final = "operation"
ERROR_TYPE: Final = "error.type"
BREAKER: Final = "breaker"
STATE: Final = "state"
STORE: Final = "store"
VERSION: Final = "version"
LABEL: Final = "label"
HTTP_METHOD: Final = "http.request.method"
HTTP_STATUS: Final = "http.response.status_code"  # A number; all others are strings.
HTTP_ROUTE: Final = "http.route"
SCHEME: Final = "url.scheme"
PROTOCOL_VERSION: Final = "network.protocol.version"

# The conventional HTTP ladder starts at 5 ms, where every cache hit would fall into one bucket.
DURATION_BUCKETS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# That ladder, for the one instrument whose readers expect it.
HTTP_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
AGE_BUCKETS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
SIZE_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

Kind = Literal["histogram", "counter", "updown", "gauge"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument; `unit` is UCUM, with things in braces."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # Upper bounds; of histograms only.
    is_opt_in: bool = False


def _duration(name: str, description: str, *attributes: str) -> Instrument:
    return Instrument(name, "histogram", "s", description, attributes, DURATION_BUCKETS)


REQUEST_DURATION: Final = _duration(
    "memoserve.request.duration",
    "Time from a covered request's arrival to its last byte, by what the cache did with it.",
    *(MODEL, VARIANT, CACHE_STATUS, OUTCOME),
)
MODEL_DURATION: Final = _duration(
    "memoserve.model.duration",
    "Time that the app took to answer what the cache could not.",
    *(MODEL, OUTCOME),
)
MODEL_TIME_SAVED: Final = Instrument(
    "memoserve.model.time.saved",
    "counter",
    "s",
    "Time that the app took for the answers that were reused, once for each reuse.",
    (MODEL,),
)
ENTRY_AGE: Final = Instrument(
    "memoserve.entry.age",
    "histogram",
    "s",
    "Age of the answers that were served from the cache.",
    (MODEL,),
    AGE_BUCKETS,
    is_opt_in=True,
)
BYPASSES: Final = Instrument(
    "memoserve.bypasses",
    "counter",
    "{request}",
    "Covered requests that went past the cache, by the reason.",
    (MODEL, REASON),
)
REQUEST_ACTIVE: Final = Instrument(
    "memoserve.request.active",
    "updown",
    "{request}",
    "Covered requests that are being answered.",
    (MODEL,),
)
FLIGHT_WAITERS: Final = Instrument(
    "memoserve.flight.waiters",
    "updown",
    "{request}",
    "Requests that wait for the answer to an identical one.",
    (MODEL,),
)
KEY_COLLISIONS: Final = Instrument(
    "memoserve.key.collisions",
    "counter",
    "{request}",
    "Lookups that found another request's entry under the same MD5, and left it alone.",
    (MODEL,),
)
KEY_REFUSALS: Final = Instrument(
    "memoserve.key.refusals",
    "counter",
    "{request}",
    "JSON bodies without a canonical form, keyed by their bytes instead.",
    (MODEL,),
)
STORE_WRITES: Final = Instrument(
    "memoserve.store.writes",
    "counter",
    "{answer}",
    "Answers by whether they were stored, or why they were not.",
    (MODEL, RESULT),
)
STORE_DURATION: Final = _duration(
    "memoserve.store.duration",
    "Time of one call of a store that does IO, failed ones included.",
    *(OPERATION, ERROR_TYPE),
)
STORE_ERRORS: Final = Instrument(
    "memoserve.store.errors",
    "counter",
    "{call}",
    "Calls of a store that failed; the requests took them for misses.",
    (OPERATION, ERROR_TYPE),
)
STORE_USAGE: Final = Instrument(
    "memoserve.store.usage", "updown", "By", "Bytes that a store holds.", (STORE,)
)
STORE_LIMIT: Final = Instrument(
    "memoserve.store.limit", "updown", "By", "Bytes that a store may hold.", (STORE,)
)
STORE_ENTRIES: Final = Instrument(
    "memoserve.store.entries",
    "updown",
    "{entry}",
    "Entries that a store holds: answers, and the tokens of the tags by which they are purged.",
    (STORE,),
)
STORE_EVICTIONS: Final = Instrument(
    "memoserve.store.evictions",
    "counter",
    "{entry}",
    "Entries that a store dropped before their time for lack of room.",
    (STORE,),
)
EVENT_LOOP_LAG: Final = Instrument(
    "memoserve.event_loop.lag",
    "gauge",
    "s",
    "Longest wait for the event loop within the last 15 to 30 seconds.",
)
WORKERS: Final = Instrument(
    "memoserve.workers", "updown", "{process}", "Processes that these numbers are the sum of."
)
BUILD_INFO: Final = Instrument(
    "memoserve.build_info", "gauge", "1", "Always 1; its label is the version.", (VERSION,)
)
LABEL_OVERFLOWS: Final = Instrument(
    "memoserve.label.overflows",
    "counter",
    "{event}",
    "Events counted under `other`, since their label had a hundred values already.",
    (LABEL,),
)
BREAKER_OPEN: Final = Instrument(
    "memoserve.breaker.open",
    "gauge",
    "1",
    "Whether a store is left alone because it fails: 1 if so.",
    (BREAKER,),
)
BREAKER_TRANSITIONS: Final = Instrument(
    "memoserve.breaker.transitions",
    "counter",
    "{transition}",
    "Changes of a breaker, by the state that it came to.",
    (BREAKER, STATE),
)
SHADOW_COMPARISONS: Final = Instrument(
    "memoserve.shadow.comparisons",
    "counter",
    "{answer}",
    "Answers of the app compared with what the cache would have said.",
    (MODEL, RESULT),
)
QUEUE_LENGTH: Final = Instrument(
    "memoserve.queue.length", "updown", "{request}", "Requests that wait for a turn.", (MODEL,)
)
QUEUE_DURATION: Final = _duration(
    "memoserve.queue.duration", "Time that requests waited for their turn.", MODEL
)
QUEUE_SHED: Final = Instrument(
    "memoserve.queue.shed",
    "counter",
    "{request}",
    "Requests turned away because the queue was full.",
    (MODEL,),
)
BATCH_SIZE: Final = Instrument(
    "memoserve.batch.size",
    "histogram",
    "{call}",
    "Calls of a model that ran as one batch.",
    (MODEL,),
    SIZE_BUCKETS,
)
BATCH_DURATION: Final = _duration("memoserve.batch.duration", "Time that one batch took.", MODEL)
HTTP_SERVER_DURATION: Final = Instrument(
    "http.server.request.duration",
    "histogram",
    "s",
    "Duration of HTTP server requests.",
    (HTTP_METHOD, HTTP_STATUS, HTTP_ROUTE, SCHEME, PROTOCOL_VERSION, ERROR_TYPE),
    HTTP_BUCKETS,
    is_opt_in=True,
)

INSTRUMENTS: Final = (
    REQUEST_DURATION,
    MODEL_DURATION,
    MODEL_TIME_SAVED,
    ENTRY_AGE,
    BYPASSES,
    REQUEST_ACTIVE,
    FLIGHT_WAITERS,
    KEY_COLLISIONS,
    KEY_REFUSALS,
    STORE_WRITES,
    STORE_DURATION,
    STORE_ERRORS,
    STORE_USAGE,
    STORE_LIMIT,
    STORE_ENTRIES,
    STORE_EVICTIONS,
    EVENT_LOOP_LAG,
    WORKERS,
    BUILD_INFO,
    LABEL_OVERFLOWS,
    BREAKER_OPEN,
    BREAKER_TRANSITIONS,
    SHADOW_COMPARISONS,
    QUEUE_LENGTH,
    QUEUE_DURATION,
    QUEUE_SHED,
    BATCH_SIZE,
    BATCH_DURATION,
    HTTP_SERVER_DURATION,
)

_UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes"}  # `1` and `{thing}` have none.

_SAMPLE_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "histogram": ("_bucket", "_count", "_sum"),
    "counter": ("_total",),
    "updown": ("",),
    "gauge": ("",),
}


def prometheus_names(instrument: Instrument) -> tuple[str, ...]:
    """Return the names of the samples that a query can ask for.

    As the OpenTelemetry Prometheus exporter derives them: dots become underscores, then come the
    unit and the suffix of the kind.
    """
    family = prometheus_family(instrument)
    return tuple(family + suffix for suffix in _SAMPLE_SUFFIXES[instrument.kind])


def prometheus_family(instrument: Instrument) -> str:
    """Return the name that an instrument's samples have in common."""
    return prometheus_label(instrument.name) + _UNIT_SUFFIXES.get(instrument.unit, "")


def prometheus_label(key: str) -> str:
    """Return an attribute key as the label that a query can match."""
    return key.replace(".", "_")
