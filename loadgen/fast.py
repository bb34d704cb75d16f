"""httpx over aiohttp (extra `httpx-aiohttp`): the same client at half the cost of a request."""

import ssl

import aiohttp
from httpx_aiohttp import AiohttpTransport

__all__ = ["aiohttp_transport"]


def aiohttp_transport(context: ssl.SSLContext | None, *, keepalive: float) -> AiohttpTransport:
    """Make a transport without a limit of connections: who sends decides how much is in flight."""

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive, ssl=context or True)
        # The answers are read raw, and cookies would tell users apart.
        return aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    return AiohttpTransport(verify=context or False, trust_env=False, client=session)
