"""`memoserve dashboard`: what Grafana and Prometheus load."""

import click

from memoserve._commands._terminal import Problem
from memoserve._dashboard import DASHBOARD, RULES, observability_file

__all__ = ["dashboard"]


@click.command()
@click.option("--rules", "kind", flag_value="rules", help="Print the recording rules instead.")
@click.option("--alerts", "kind", flag_value="alerts", help="Print the alerts instead.")
def dashboard(*, kind: str | None) -> None:
    """Print the dashboard for Grafana: memoserve dashboard > memoserve.json.

    It needs the recording rules: memoserve dashboard --rules > memoserve-rules.yml, to be named
    under rule_files in prometheus.yml; so are the alerts.
    """
    try:
        text = observability_file(RULES[kind] if kind else DASHBOARD)
    except OSError as error:
        raise Problem(f"this installation came without it: {error}") from error
    click.echo(text, nl=False)
