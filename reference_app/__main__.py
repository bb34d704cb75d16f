"""Run the reference app: `python -m reference_app [--host HOST] [--port PORT] [--workers N]`.

Rule: the address is printed once the server answers there. A signal to stop is obeyed, and no
failure: status 0. A start that cannot succeed says why: status 2 for a wrong setting, 1 where the
models could not be loaded, since a server that can never answer is better replaced than kept;
uvicorn's 3 where the port is taken. Several workers load first and answer then, since they share
one port, and nobody could tell which of them is ready.
"""

import os
import signal
import socket
from typing import Any

import click
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from reference_app.factory import create_app
from reference_app.logs import configure_logging
from reference_app.settings import Settings

__all__ = ["main", "serve"]

_GRACE = 8  # Seconds for open requests at shutdown; `docker stop` kills after ten.
_PATIENCE = 15  # Seconds that a worker may be deaf, since imports and loading hold the GIL.


class _Server(uvicorn.Server):
    """Says where it answers: port 0 is known only then."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            click.echo(f"serving on {_address(listening)}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256))
def main(host: str, port: int, workers: int) -> None:
    """Serve three small language models behind memoserve.

    Port 0 takes a free one. Settings come from the environment: see reference_app/README.md.
    """
    try:
        settings = Settings.from_environment()
        if workers == 1:
            serve(settings, host, port)
        else:
            serve_with_workers(settings, host, port, workers)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal comes.

    Raises:
        ValueError: If a setting is wrong.
        click.ClickException: If the models could not be loaded.
    """
    configure_logging(settings)
    failures: list[Exception] = []

    def give_up(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, on_load_failure=give_up)
    config = uvicorn.Config(app, host=host, port=port, **_options(settings))
    server = _Server(config)
    listening = config.bind_socket()
    for stop in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again once it has shut down; by then it has been obeyed.
        signal.signal(stop, lambda _signal, _frame: None)
    server.run(sockets=[listening])
    if failures:
        raise click.ClickException(f"the models could not be loaded: {failures[0]}")


def serve_with_workers(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serve with several processes until a signal comes; one that dies is replaced.

    Raises:
        ValueError: If a setting is wrong.
        click.ClickException: If a worker could not start.
    """
    create_app(settings)  # What is wrong is said here, once, and not by every worker.
    configure_logging(settings)
    os.environ.setdefault("LOAD_FIRST", "true")
    config = uvicorn.Config(
        "reference_app.app:app",
        host=host,
        port=port,
        workers=workers,
        timeout_worker_healthcheck=_PATIENCE,
        **_options(settings),
    )
    listening = config.bind_socket()
    listening.listen(config.backlog)  # Who comes before the first worker is ready waits for it.
    click.echo(f"serving on {_address(listening)}")
    supervisor = Multiprocess(config, sockets=[listening])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise click.ClickException("a worker could not start; its log says why")


def _options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "log_level": settings.log_level,
        "access_log": settings.log_level == "debug",  # A line a request costs more than a hit.
        "timeout_graceful_shutdown": _GRACE,
    }
    if settings.log_format == "json":
        options["log_config"] = None  # uvicorn's lines go where all others go.
    return options


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


if __name__ == "__main__":
    main()
