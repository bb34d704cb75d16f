"""The page of numbers that `install` adds, and who may read it.

Rule: where somebody has named a token or networks, in the code or in the environment, the page is
not open; and it never takes the place of a page that the app has, as far as the app can be asked.
"""

from collections.abc import Iterable
from typing import NamedTuple

from memoserve._config_load import metrics_readers
from memoserve.telemetry.scrape import MetricsApp

__all__ = ["Readers", "check_path", "metrics_page", "readers", "taken"]


class Readers(NamedTuple):
    """Who may read the page; everybody, if nobody is named."""

    token: str | None
    allow: tuple[str, ...] | None


def readers(token: str | None, allow: Iterable[str] | None) -> Readers:
    """Return who may read the page; what is not given here, the environment may give.

    Raises:
        ValueError: The token is empty, or a network is none, or nobody is named by naming none.
    """
    of_environment = metrics_readers()
    if isinstance(allow, str):
        raise ValueError(f"metrics_allow must be several networks, not {allow!r}")
    found = Readers(
        of_environment[0] if token is None else token,
        of_environment[1] if allow is None else tuple(allow),
    )
    if found.allow == () and found.token is None:
        raise ValueError("metrics_allow must name somebody, since there is no metrics_token")
    try:
        MetricsApp(token=found.token, allow=found.allow or ())
    except ValueError as error:
        raise ValueError(f"metrics_token or metrics_allow is wrong: {error}") from error
    return found


def metrics_page(token: str | None, allow: Iterable[str] | None) -> MetricsApp:
    """Return the page, for those who may read it.

    Raises:
        ValueError: As `readers` does.
    """
    found = readers(token, allow)
    return MetricsApp(token=found.token, allow=found.allow or ())


def check_path(path: str) -> None:
    """Fail if the page cannot be there.

    Raises:
        ValueError: It is no path.
    """
    if not path.startswith("/"):
        raise ValueError(f"metrics_path must start with a slash, not be {path!r}")


def taken(path: str) -> ValueError:
    """Return the complaint that the app has something of its own where the page is to be."""
    return ValueError(
        f"the app has {path} already: name another metrics_path, or leave out the app's if it is "
        "a MetricsApp, since metrics_token and metrics_allow protect the page that is added here"
    )
