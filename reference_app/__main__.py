"""Run the reference app: `python -m reference_app [--host HOST] [--port PORT]`.

Rule: the address is printed once the server answers there. A signal to stop is obeyed, and no
failure: status 0. A start that cannot succeed says why: status 2 for a wrong setting, 1 where the
models could not be loaded, since a server that can never answer is better replaced than kept;
uvicorn's 3 where the port is taken.
"""

import signal
import socket

import click
import uvicorn

from reference_app.factory import create_app
from reference_app.logs import configure_logging
from reference_app.settings import Settings

__all__ = ["main", "serve"]

_GRACE = 8  # Seconds for open requests at shutdown; `docker stop` kills after ten.


class _Server(uvicorn.Server):
    """Says where it answers: port 0 is known only then."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            host, port = listening.getsockname()[:2]
            click.echo(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535))
def main(host: str, port: int) -> None:
    """Serve three small language models behind memoserve.

    Port 0 takes a free one. Settings come from the environment: see reference_app/README.md.
    """
    try:
        serve(Settings.from_environment(), host, port)
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

    config = uvicorn.Config(
        create_app(settings, on_load_failure=give_up),
        host=host,
        port=port,
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",  # A line for each request costs more than a hit.
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config)
    listening = config.bind_socket()
    for stop in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again once it has shut down; by then it has been obeyed.
        signal.signal(stop, lambda _signal, _frame: None)
    server.run(sockets=[listening])
    if failures:
        raise click.ClickException(f"the models could not be loaded: {failures[0]}")


if __name__ == "__main__":
    main()
