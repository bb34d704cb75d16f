"""Run the stack of docker-compose.yml without Docker: `python -m reference_app.stack`.

Rule: the same topology and the same configuration files: nginx before two replicas with two
workers each, which share a Redis that has a password and a limit, and a Prometheus that scrapes
them. Only addresses differ. Whatever way this ends, every process that it started ends with it.
"""

import signal
import sys
import threading

import click

from reference_app.stack.processes import Stack

__all__ = ["main"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--replicas", default=2, show_default=True, type=click.IntRange(1, 16))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16))
def main(port: int, replicas: int, workers: int) -> None:
    """Serve the reference app as docker-compose.yml does; Ctrl-C ends it."""
    stop = threading.Event()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, lambda _signal, _frame: stop.set())
    try:
        with Stack(port=port, replicas=replicas, workers=workers) as stack:
            click.echo(f"serving on {stack.url}; Prometheus on {stack.prometheus_url}")
            while not stop.wait(1.0):
                stack.check()
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
