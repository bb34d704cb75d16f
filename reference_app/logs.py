"""Where the app's own log lines go.

Rule: one line for one event, on standard error; a host that has configured logging is left alone.
"""

import logging

from reference_app.settings import Settings

__all__ = ["configure_logging"]


def configure_logging(settings: Settings) -> None:
    """Log at the level that the operator chose."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("memoserve", "reference_app"):
        logging.getLogger(name).setLevel(settings.log_level.upper())
