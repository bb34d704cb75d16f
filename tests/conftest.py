"""Rules of the whole suite."""

import contextlib
import os
import sys
from pathlib import Path

import pytest

with contextlib.suppress(ImportError):  # The environment of `make hosts` is without it.
    from hypothesis import HealthCheck, settings

    # How long an example takes says nothing where others use the machine, too.
    settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("suite")

# Django reads it at the first use of a setting, in the documentation's examples, too.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integrations.django_settings")


def pytest_sessionstart() -> None:
    """Fail a run that means to test the wheel and would test the checkout."""
    if os.environ.get("MEMOSERVE_FROM_WHEEL"):
        import memoserve
        import memoserve_integrations

        for package in (memoserve, memoserve_integrations):
            place = Path(str(package.__file__))
            assert place.is_relative_to(sys.prefix), f"{place} is not in {sys.prefix}"
            assert "site-packages" in place.parts, place


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped something where that is forbidden."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    skipped = len(reporter.stats.get("skipped", ()))
    if skipped and os.environ.get("FORBID_SKIPS"):
        reporter.write_line(f"{skipped} skipped, which FORBID_SKIPS does not allow", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
