"""HTTP, and the only module that imports httpx.

Rule: the generator must not be what is measured. Everything about a request that can be made before
the run is made before the run, and the connection for it is the one used last: a stack, O(1). The
pool of httpx searches all its connections twice for each request and collapses at the loads of
interest (encode/httpx issue 3215: asked for 1,000 requests a second it sent 387). What httpx offers
otherwise, any client with any transport, is kept: an app in memory can be driven as well as a
server.
"""

import contextlib
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpcore
import httpx

from loadgen.catalogue import Question
from loadgen.plan import Key, Plan
from loadgen.reply import Reply, cache_status, is_accepted, is_stream, no_reply
from loadgen.spelling import spelled
from loadgen.target import Target

__all__ = [
    "Client",
    "FetchError",
    "LifoTransport",
    "Prepared",
    "Request",
    "build_request",
    "check_url",
    "exchange",
    "fetch_text",
    "open_client",
    "warm_up",
]

Client = httpx.AsyncClient
Request = httpx.Request

_KEEPALIVE = 4.0  # Seconds, under the 5 of uvicorn and Node, so that this side closes first.
_NO_STORE = {"Cache-Control": "no-store"}
_HEADERS = {
    "Accept-Encoding": "identity",  # Inflating is no part of what is measured.
    "User-Agent": "memoserve-loadgen",
}
_PAGE_TIMEOUT = 10.0
_FIRST_BYTE = "first_byte"  # Extension of a response that was read whole.
_PREPARED = 20_000  # Requests that are kept, of 3 kB each.

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

    def __init__(self, url: str, *, ssl_context: ssl.SSLContext | None = None) -> None:
        parsed = httpx.URL(url)
        self._origin = _httpcore_url(parsed).origin
        if parsed.scheme == "https" and ssl_context is None:
            ssl_context = httpx.create_ssl_context(trust_env=False)
        self._ssl_context = ssl_context
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
            answer = await self._send(outgoing)
        except tuple(error for error, _ in _AS_HTTPX) as error:
            kind = next(ours for theirs, ours in _AS_HTTPX if isinstance(error, theirs))
            raise kind(str(error) or type(error).__name__, request=request) from error
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            content=answer.body,
            extensions={"retried": answer.retried, _FIRST_BYTE: answer.first_byte},
        )

    async def _send(self, request: httpcore.Request) -> "_Answer":
        kept = await self._newest_idle()
        if kept is not None:
            with contextlib.suppress(*_CLOSED):
                return await self._send_over(kept, request)
        answer = await self._send_over(self._connect(), request)
        answer.retried = kept is not None
        return answer

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
    ) -> "_Answer":
        try:
            response = await connection.handle_async_request(request)
            answer = _Answer(response.status, response.headers)
            async for chunk in response.aiter_stream():
                if answer.first_byte is None:
                    answer.first_byte = time.monotonic()
                answer.body += chunk
            await response.aclose()
        except BaseException:  # Cancelled, too: half an exchange makes a connection useless.
            await connection.aclose()
            raise
        if connection.is_idle():
            self._idle.append(connection)
        return answer

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


@dataclass(slots=True)
class _Answer:
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes = b""
    first_byte: float | None = None
    retried: bool = False


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


def open_client(target: Target) -> Client:
    """Make the client that the command line uses: no proxies, no redirects, no limit of its own.

    Raises:
        ValueError: it is no URL of a server, or the certificates cannot be read.
        ImportError: the transport is not installed.
    """
    check_url(target.url)
    headers = httpx.Headers(_HEADERS)
    headers.update(target.headers)
    return _DirectClient(
        base_url=target.url,
        timeout=httpx.Timeout(target.timeout, pool=None),
        headers=headers,
        trust_env=False,
        transport=_transport(target),
    )


class _DirectClient(httpx.AsyncClient):
    """A client that hands a request to its transport and does nothing else: 70 µs less for each.

    No redirects, no authentication, no cookies: a load test wants to see what the server answers.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self._direct = transport

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **_options: Any
    ) -> httpx.Response:
        """Send a request as it is."""
        response = await self._direct.handle_async_request(request)
        response.request = request
        if not stream:
            await response.aread()
        return response


def _transport(target: Target) -> httpx.AsyncBaseTransport:
    context = _ssl_context(target) if target.url.startswith("https") else None
    match target.transport:
        case "lifo":
            return LifoTransport(target.url, ssl_context=context)
        case "aiohttp":
            from loadgen.fast import aiohttp_transport  # noqa: PLC0415  (an extra)

            return aiohttp_transport(context, keepalive=_KEEPALIVE)
        case "httpx":
            limits = httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE)
            return httpx.AsyncHTTPTransport(verify=context or False, trust_env=False, limits=limits)


def _ssl_context(target: Target) -> ssl.SSLContext:
    if not target.verify:
        return httpx.create_ssl_context(verify=False, trust_env=False)
    if target.ca is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=target.ca)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{target.ca} holds no certificates: {error}") from error


def build_request(
    client: Client,
    question: Question,
    body: bytes | None = None,
    *,
    accept: str = "application/json",
    bypass: bool = False,
) -> Request:
    """Build one request; without `body` the question is spelled the plain way."""
    headers = {"Accept": accept, **(_NO_STORE if bypass else {})}
    if question.value is not None:
        headers["Content-Type"] = "application/json"
        body = spelled(question.value) if body is None else body
    return client.build_request(question.method, question.path, content=body, headers=headers)


class Prepared:
    """The requests of a plan: equal ones are one object (their content can be replayed).

    As many as fit are made beforehand, the popular ones stay; the rest is made when it is sent.
    """

    def __init__(self, client: Client, plan: Plan, rows: Sequence[int]) -> None:
        self._client = client
        self._plan = plan
        self._kept: dict[Key | int, Request] = {}
        for row in rows:
            if len(self._kept) >= _PREPARED:
                break
            name = self._name(row)
            if name not in self._kept:
                self._kept[name] = self._build(row)

    def __getitem__(self, row: int) -> Request:
        return self._kept.get(self._name(row)) or self._build(row)

    def _name(self, row: int) -> Key | int:
        return row if self._plan.rows.respelled[row] else self._plan.key(row)

    def _build(self, row: int) -> Request:
        plan = self._plan
        question = plan.question(plan.key(row))
        return build_request(
            self._client,
            question,
            plan.body(row, question),
            accept=plan.catalogue.accept,
            bypass=plan.bypass,
        )


async def exchange(client: Client, request: Request) -> Reply:
    """Send a request and read the whole answer; what goes wrong on the way is a reply, too."""
    first: float | None = None
    try:
        response = await client.send(request, stream=True)
        if _FIRST_BYTE not in response.extensions:  # Ours have been read.
            async for _ in response.aiter_raw():
                first = first or time.monotonic()
            await response.aclose()
    except httpx.TimeoutException as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, TimeoutError):
            return no_reply(f"ConnectError: {cause}")  # As httpx-aiohttp 0.2 maps it.
        return no_reply("timed out")
    except httpx.HTTPError as error:
        return no_reply(f"{type(error).__name__}: {error}")
    return _reply(request, response, first)


async def warm_up(client: Client) -> None:
    """Do what only the first request of a process does (40 ms), with one that no cache keeps."""
    with contextlib.suppress(httpx.HTTPError):
        await client.options("/")


class FetchError(Exception):
    """There was no good answer; the message says why."""


async def fetch_text(url: str) -> str:
    """Return the text of any page.

    Raises:
        FetchError: There is no 2xx answer.
    """
    try:
        async with httpx.AsyncClient(timeout=_PAGE_TIMEOUT, trust_env=False) as client:
            response = await client.get(url)
            response.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise FetchError(f"status {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchError(f"{type(error).__name__}: {error}") from error
    return response.text


def _reply(request: Request, response: httpx.Response, first: float | None) -> Reply:
    cache = cache_status(response.headers)
    content_type = response.headers.get("content-type", "no content type")
    accept = request.headers["accept"]
    if response.is_success and not is_accepted(accept, content_type):
        wanted = accept.rpartition("/")[2].upper()
        return Reply(response.status_code, cache, f"answered {content_type}, not {wanted}")
    return Reply(
        response.status_code,
        cache,
        first_byte=response.extensions.get(_FIRST_BYTE, first),
        streamed=is_stream(content_type),
        retried=response.extensions.get("retried", False),
    )


def _httpcore_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
