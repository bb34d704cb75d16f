"""A real server on a free port, in a thread of its own."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn


@contextmanager
def serving(app: Any, *, keep_alive: int = 5) -> Generator[str]:
    """Serve `app` and yield its URL."""
    config = uvicorn.Config(
        app, log_level="warning", ws="none", lifespan="off", timeout_keep_alive=keep_alive
    )
    server = uvicorn.Server(config)
    # With the protocol named asyncio sets TCP_NODELAY: answers do not wait for acknowledgements.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)  # Before the thread starts: who connects early waits in the backlog.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def free_port() -> int:
    """Return a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
