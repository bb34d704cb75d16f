"""HTTP, and the only module that imports httpx.

Rule: the generator must not be what is measured. Everything about a request that can be made before
the run is made before the run, and the connection for it is the one used last: a stack, O(1). The
pool of httpx searches all its connections twice for each request and collapses at the loads of
interest (encode/httpx issue 3215: asked for 1,000 requests a second it sent 387). What httpx offers
otherwise, any client with any transport, is kept: an app in memory can be driven as well as a
server.
"""

import contextlib
from dataclasses import dataclass
from types import TracebackType

import httpcore
import httpx

from loadgen.catalogue import PATHS, Model
from loadgen.outcome import CacheStatus, Outcome, parse_cache_status
from loadgen.plan import Plan

__all__ = [
    "Client",
    "LifoTransport",
    "Reply",
    "Request",
    "build_request",
    "check_url",
    "exchange",
    "open_client",
    "prepare",
]

Client = httpx.AsyncClient
Request = httpx.Request

_KEEPALIVE = 4.0  # Seconds, under the 5 of uvicorn and Node, so that this side closes first.
_NO_STORE = {"Cache-Control": "no-store"}
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # Inflating is no part of what is measured.
    "Content-Type": "application/json",
    "User-Agent": "memoserve-loadgen",
}

# What httpcore raises when the server closed a kept connection just as it was taken again.
_CLOSED = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)
_AS_HTTPX: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.TimeoutException, httpx.ReadTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.NetworkError, httpx.ReadError),
    (httpcore.ProtocolError, httpx.RemoteProtocolError),
)


class LifoTransport(httpx.AsyncBaseTransport):
    """Keep-alive connections to one origin on a stack: the newest idle one is used next.

    There is no limit and no waiting: who sends decides how much is in flight. A response is read
    whole before it is returned. A request that fails on a *kept* connection before any answer is
    tried once more on a new one (RFC 9110 9.2.2 lets a client do so where it knows that asking
    twice does no harm, as with inference) and its response has the extension ``retried``.
    """

    def __init__(self, url: str) -> None:
        parsed = httpx.URL(url)
        secure = parsed.scheme == "https"
        self._origin = _httpcore_url(parsed).origin
        self._ssl_context = httpx.create_ssl_context(trust_env=False) if secure else None
        self._idle: list[httpcore.AsyncHTTPConnection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request over the newest idle connection, or a new one."""
        outgoing = httpcore.Request(
            request.method,
            _httpcore_url(request.url),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            response, retried = await self._send(outgoing)
        except tuple(error for error, _ in _AS_HTTPX) as error:
            kind = next(ours for theirs, ours in _AS_HTTPX if isinstance(error, theirs))
            raise kind(str(error) or type(error).__name__, request=request) from error
        return httpx.Response(
            response.status,
            headers=response.headers,
            content=response.content,
            extensions={"retried": retried},
        )

    async def _send(self, request: httpcore.Request) -> tuple[httpcore.Response, bool]:
        kept = await self._newest_idle()
        if kept is not None:
            with contextlib.suppress(*_CLOSED):
                return await self._send_over(kept, request), False
        return await self._send_over(self._connect(), request), kept is not None

    async def _newest_idle(self) -> httpcore.AsyncHTTPConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _connect(self) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            self._origin, ssl_context=self._ssl_context, keepalive_expiry=_KEEPALIVE
        )

    async def _send_over(
        self, connection: httpcore.AsyncHTTPConnection, request: httpcore.Request
    ) -> httpcore.Response:
        try:
            response = await connection.handle_async_request(request)
            await response.aread()
            await response.aclose()
        except BaseException:  # Cancelled, too: half an exchange makes a connection useless.
            await connection.aclose()
            raise
        if connection.is_idle():
            self._idle.append(connection)
        return response

    async def aclose(self) -> None:
        """Close the idle connections; call it when nothing is in flight."""
        while self._idle:
            await self._idle.pop().aclose()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Close the idle connections."""
        await self.aclose()


@dataclass(frozen=True, slots=True)
class Reply:
    """How an exchange ended: with a status, or without a usable answer (`failure`, a few words)."""

    status: int
    cache: CacheStatus
    failure: str | None = None
    retried: bool = False  # A kept connection had died.

    @property
    def is_usable(self) -> bool:
        """Whether it is a 2xx answer in JSON."""
        return self.failure is None and 200 <= self.status < 300


def check_url(url: str) -> str:
    """Return `url` if it can be a target.

    Raises:
        ValueError: It is no http or https URL with a host.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"the target must be an http URL, not {url!r} ({error})") from error
    port = 80 if parsed.port is None else parsed.port
    if parsed.scheme not in {"http", "https"} or not parsed.host or not 0 < port < 65_536:
        raise ValueError(f"the target must be an http URL, http://HOST:PORT, not {url!r}")
    return url


def open_client(url: str, *, timeout: float) -> Client:
    """Make the client that the command line uses: LIFO connections, no proxies, no cookies kept."""
    return httpx.AsyncClient(
        base_url=url, timeout=timeout, trust_env=False, transport=LifoTransport(url)
    )


def build_request(client: Client, model: Model, body: bytes, *, bypass: bool = False) -> Request:
    """Build one request to the endpoint of a model."""
    headers = _HEADERS | _NO_STORE if bypass else _HEADERS
    return client.build_request("POST", PATHS[model], content=body, headers=headers)


def prepare(client: Client, plan: Plan) -> list[Request]:
    """Build every request of a plan; equal ones are one object (their content can be replayed)."""
    built: dict[tuple[Model, bytes], Request] = {}
    requests: list[Request] = []
    for model, body in zip(plan.rows.models, plan.bodies(), strict=True):
        request = built.get((model, body))
        if request is None:
            request = build_request(client, model, body, bypass=plan.bypass)
            built[model, body] = request
        requests.append(request)
    return requests


async def exchange(client: Client, request: Request) -> Reply:
    """Send a request and read the whole answer; what goes wrong on the way is a reply, too."""
    try:
        response = await client.send(request)
    except httpx.TimeoutException:
        return Reply(0, _FAILED, "timed out")
    except httpx.HTTPError as error:
        return Reply(0, _FAILED, f"{type(error).__name__}: {error}")
    cache = parse_cache_status(", ".join(response.headers.get_list("cache-status")))
    content_type = response.headers.get("content-type", "no content type")
    if response.is_success and "json" not in content_type:
        return Reply(response.status_code, cache, f"answered {content_type}, not JSON")
    return Reply(response.status_code, cache, retried=response.extensions.get("retried", False))


_FAILED = CacheStatus(Outcome.ERROR)


def _httpcore_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
