"""Who may read the metrics of a stack that nobody has written code for.

Rule: without a token or a network that somebody has named, only clients on this machine may; who
comes through a proxy is none of them, whatever address the server sees.
"""

import logging
from ipaddress import ip_network

from memoserve._asgi import ASGIApp, Receive, Scope, Send, respond
from memoserve._config_file import MetricsTable

__all__ = ["metrics_page"]

_logger = logging.getLogger("memoserve")

_THIS_MACHINE = ("127.0.0.0/8", "::1/128")
_FORWARDED = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip"})


def metrics_page(table: MetricsTable) -> ASGIApp:
    """Return the app that answers scrapes.

    Raises:
        ValueError: Nobody may read them, or `allow` names no network.
    """
    allow = _networks(table)
    try:
        from memoserve.telemetry.scrape import MetricsApp  # noqa: PLC0415 - an extra.
    except ModuleNotFoundError as error:
        _logger.warning("there is nothing at %s: %s", table.path, error)
        return _missing(str(error))
    page = MetricsApp(token=table.token, allow=allow)
    return _for_this_machine(page) if allow is _THIS_MACHINE else page


def _networks(table: MetricsTable) -> tuple[str, ...]:
    if table.allow is None:
        return _THIS_MACHINE if table.token is None else ()
    if not table.allow and table.token is None:
        raise ValueError("allow must name somebody, since there is no token")
    for each in table.allow:
        try:
            ip_network(each)
        except ValueError as error:
            raise ValueError(f"allow must be networks or addresses; {error}") from error
    return table.allow


def _for_this_machine(page: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if any(name.lower() in _FORWARDED for name, _ in scope["headers"]):
            scope = {**scope, "client": None}  # The address is the proxy's, or made up.
        await page(scope, receive, send)

    return answer


def _missing(reason: str) -> ASGIApp:
    body = f"{reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await respond(send, 501, headers, [] if scope["method"] == "HEAD" else [body])

    return answer
