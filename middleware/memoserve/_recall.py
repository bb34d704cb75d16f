"""The short way to a hit: a request that came in these very bytes before.

Rule: it finds nothing that the long way would not find, and goes by what the store holds now.
Behind a server most of a hit's time goes to code that the processor has not at hand: 2 microseconds
for each function, ten times as long as in a loop. Hence few functions, and long ones.
"""

import math
import time
from collections.abc import Hashable, Mapping, Sequence

from memoserve._asgi import Message, Scope, Send
from memoserve._cache_status import age_line, cache_status_hit
from memoserve._events import RequestRecord
from memoserve._fields import Lines
from memoserve._rules import Coverage
from memoserve._shared import HOT_BYTES, Known, Shared

__all__ = ["serve_recalled", "spelling"]


def spelling(
    coverage: Coverage,
    scope: Scope,
    keyed: Sequence[Lines],
    record: RequestRecord | None,
    message: Message,
) -> Hashable:
    """Return all that a key follows from, None if too much does, or not all is here.

    Args:
        coverage: A plain one: no callable and no secret is part of its keys.
        scope: The request.
        keyed: Its header fields that belong to the key, if no other matters.
        record: Of the request, if anybody asks for it.
        message: The first of its body.
    """
    if message["type"] != "http.request" or message.get("more_body", False):
        return None  # Not all of it is here.
    content = message.get("body", b"")
    if type(content) is not bytes or len(content) > HOT_BYTES or scope["method"] == "HEAD":
        return None
    return (
        coverage,
        content,
        scope["path"],
        scope.get("raw_path"),
        scope.get("query_string"),
        scope["method"],
        scope.get("scheme", "http"),
        "" if record is None else record.variant,
        *keyed,
    )


async def serve_recalled(
    shared: Shared, known: Known, record: RequestRecord | None, send: Send
) -> Mapping[str, bytes | None] | None:
    """Send a known answer if the store still holds it, and it is fresh.

    Returns:
        None if it was sent; else what the store holds now, and nothing if it was not asked.
    """
    entry, keys, options = known.entry, known.store_keys, shared.options
    if entry.ttl <= (in_store := options.clock() - entry.stored_at):
        return {}  # It is looked up by who knows what to do with what is stale.
    if shared.vary.get(known.key.index):
        return {}  # It is known by now that a field matters that is not in the spelling.
    in_store = max(in_store, 0.0)  # Clocks of several hosts differ.
    fresh_for, age = entry.ttl - in_store, entry.initial_age + in_store
    found = shared.look_up_now(keys) or await shared.look_up_far(keys, record)
    if found != known.found or (shared.unpurged and shared.is_unpurged(keys)):
        return dict(zip(keys, found, strict=True))  # It was evicted, replaced or purged.
    if record is not None:
        record.key, record.status, record.saved, record.age = keys[0], "hit", entry.cost, age
    headers = [*entry.headers]
    if options.cache_status:
        headers += cache_status_hit(math.floor(fresh_for)), age_line(int(age))
    await send({"type": "http.response.start", "status": entry.status, "headers": headers})
    *firsts, last = entry.chunks or (b"",)
    for chunk in firsts:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": last, "more_body": False})
    if record is not None:
        record.sent = time.perf_counter()
    return None
