"""What a change of a resource outdates (RFC 9111 §4.4, RFC 9875 §3).

Rule: a request that is not safe, and that the app did not refuse, outdates the stored answers of
the resource that it names, of those of the same origin that its response points to, and of the
cache groups that the response invalidates. A route that a rule covers is no change.
"""

from collections.abc import Iterable

from memoserve._asgi import Header, Message, Scope, Send, own_copy
from memoserve._directives import group_names
from memoserve._fields import host_of
from memoserve._shared import Shared
from memoserve._tags import group_tag, resource_tag

__all__ = ["invalidating", "is_safe"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "QUERY", "TRACE"})  # RFC 9110 §9.2.1.
_POINTERS = frozenset({b"location", b"content-location"})


def is_safe(method: str) -> bool:
    """Tell whether requests with this method change nothing."""
    return method in _SAFE_METHODS


def invalidating(shared: Shared, scope: Scope, send: Send) -> Send:
    """Make a `send` that outdates what the response says has changed, before it goes out."""

    async def invalidate_and_send(message: Message) -> None:
        if message["type"] == "http.response.start" and 200 <= message["status"] < 400:
            message = own_copy(message)  # Its fields may be an iterator.
            await shared.purge(_outdated(shared.options.namespace, scope, message))
        await send(message)

    return invalidate_and_send


def _outdated(namespace: str, scope: Scope, start: Message) -> list[str]:
    """Return the keys of the tags of all that the response outdates."""
    host = host_of(scope)
    resources = {(scope["path"], scope.get("query_string", b""))}
    headers = [(name.lower(), value) for name, value in start.get("headers", ())]
    resources.update(_pointed_at(scope, host, headers))
    tags = [resource_tag(namespace, host, path, query) for path, query in sorted(resources)]
    groups = [value for name, value in headers if name == b"cache-group-invalidation"]
    return tags + [group_tag(namespace, host, group) for group in sorted(group_names(groups))]


def _pointed_at(
    scope: Scope, host: bytes, headers: Iterable[Header]
) -> Iterable[tuple[str, bytes]]:
    """Return path and query of what Location and Content-Location name in the same origin."""
    # Imported here, as few requests need it.
    from urllib.parse import quote, unquote, urljoin, urlsplit  # noqa: PLC0415

    base = f"http://{host.decode('latin-1')}{quote(scope['path'], errors='surrogatepass')}"
    for name, value in headers:
        if name not in _POINTERS:
            continue
        try:
            target = urlsplit(urljoin(base, value.decode("latin-1")))
            authority, query = target.netloc.lower().encode(), target.query.encode("latin-1")
        except ValueError:
            continue
        if authority == host:
            yield unquote(target.path) or "/", query
