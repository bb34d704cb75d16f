import pytest

from tests.middleware.commands.running import Runner


@pytest.fixture
def memoserve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Run a command, and return its exit code and what it printed."""
    return Runner(monkeypatch, capsys)
