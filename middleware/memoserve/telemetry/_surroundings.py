"""What this process finds around itself: providers, variables, a server that it is a worker of.

Rule: what is not certain is not assumed. Two processes that are not known to belong together are
never added up, and metrics are sent nowhere unless somebody has asked for it.
"""

import os
import sys
from pathlib import Path
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import MeterProvider

__all__ = ["global_provider", "is_push_wanted", "workers_directory"]


def global_provider() -> MeterProvider | None:
    """Return what the application has set, if that is the SDK's: the API alone measures nothing.

    If the SDK was never imported, nobody can have made such a provider.
    """
    provider = metrics.get_meter_provider()
    sdk_metrics: Any = sys.modules.get("opentelemetry.sdk.metrics")
    is_real = sdk_metrics is not None and isinstance(provider, sdk_metrics.MeterProvider)
    return provider if is_real else None


def is_push_wanted() -> bool:
    """Tell what the standard variables say; `none` and a disabled SDK win over an endpoint."""
    variables = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    is_off = (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or os.environ.get("OTEL_METRICS_EXPORTER", "otlp") != "otlp"
    )
    return not is_off and any(os.environ.get(name) for name in variables)


def workers_directory(chosen: str | os.PathLike[str] | None) -> Path | None:
    """Return where this process meets the other workers of its server, if it has any."""
    if chosen is None:
        chosen = os.environ.get("MEMOSERVE_METRICS_DIR")
    if chosen is not None:
        return Path(chosen) if chosen else None
    # Two programs that a shell has started have one parent, too: those must not be added up.
    is_worker = "gunicorn" in sys.modules or _has_multiprocessing_parent()
    if not is_worker or os.name != "posix":
        return None
    from memoserve.telemetry._workers import server_directory  # noqa: PLC0415 - POSIX only.

    return server_directory()


def _has_multiprocessing_parent() -> bool:
    """Tell whether another Python process has started this one to share its work."""
    multiprocessing: Any = sys.modules.get("multiprocessing")
    return multiprocessing is not None and multiprocessing.parent_process() is not None
