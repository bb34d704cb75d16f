"""The metrics on a port of their own.

Rule: whoever reaches the application does not reach this. Every worker of a server listens on the
one port, and whichever is asked answers for all.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from memoserve.telemetry.otel import OTelObserver
from memoserve.telemetry.scrape import MetricsApp

__all__ = ["MetricsServer"]


class MetricsServer:
    """Answer with the metrics on a port, under any path, in threads of its own.

    Args:
        observer: Whose metrics are shown; it has been started.
        host: An address of this machine.
        port: Of workers that belong together, the same; 0 takes any.

    Attributes:
        port: The port it listens on.

    Raises:
        OSError: The port is taken, or the address is not this machine's.
    """

    def __init__(self, observer: OTelObserver, host: str, port: int) -> None:
        page = MetricsApp(observer)

        class Handler(_Handler):
            metrics = page

        self._server = _Server((host, port), Handler, bind_and_activate=False)
        # Only workers of one server share a port; anybody else is told that it is taken.
        self._server.allow_reuse_port = observer.workers is not None
        try:
            self._server.server_bind()
            self._server.server_activate()
        except OSError:
            self._server.server_close()
            raise
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="memoserve-metrics-port", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    metrics: MetricsApp
    protocol_version = "HTTP/1.1"
    timeout = 60  # Seconds that a connection may be idle; each takes a thread.

    def do_GET(self) -> None:
        page = self.metrics.answer(
            self.command,
            self.client_address[0],
            accept=self.headers.get("accept", "").encode("latin-1"),
        )
        self.send_response(page.status)
        for name, value in page.headers:
            self.send_header(name.decode(), value.decode())
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above.
        """Say nothing of each scrape."""
