"""Where the app's own log lines go.

Rule: one line for one event, on standard error, with the request's id and, where the caller sent
one, its trace id; a host that has configured logging is left alone.
"""

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec

from reference_app.request_id import current_request
from reference_app.settings import Settings

__all__ = ["JSONFormatter", "configure_logging"]


def configure_logging(settings: Settings) -> None:
    """Log at the level and in the format that the operator chose."""
    if settings.log_format == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(JSONFormatter())
        logging.basicConfig(handlers=[handler])
    else:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("memoserve", "reference_app"):
        logging.getLogger(name).setLevel(settings.log_level.upper())


class JSONFormatter(logging.Formatter):
    """Writes a record as one JSON object; names as in OpenTelemetry's log data model."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        request = current_request()
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request is not None:
            fields["request_id"] = request.request_id
            if request.trace_id:
                fields["trace_id"], fields["span_id"] = request.trace_id, request.span_id
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()
