"""The frame of the command line: what it needs, and how it ends."""

import importlib.metadata
import subprocess
import sys

import click
import pytest

from memoserve import _commands, cli
from tests.middleware.commands.running import Runner


def printed_by(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python of its own."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_help_names_the_exit_codes(memoserve: Runner) -> None:
    ran = memoserve("--help")

    assert ran.code == 0
    assert "Exit codes: 0" in ran.out


def test_the_version_is_that_of_the_distribution(memoserve: Runner) -> None:
    ran = memoserve("--version")

    assert (ran.code, ran.out.split()[-1]) == (0, importlib.metadata.version("memoserve"))


def test_an_unknown_command_is_wrong_usage(memoserve: Runner) -> None:
    ran = memoserve("frobnicate")

    assert ran.code == 2
    assert "frobnicate" in ran.err


def test_the_console_script_is_this_command_line() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="memoserve")

    assert script.load() is cli.main


@pytest.mark.parametrize("module", ["memoserve", "memoserve.cli"])
def test_python_runs_it_as_a_module(module: str) -> None:
    done = printed_by("-m", module, "--version")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("memoserve")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_sentence_names_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from memoserve.cli import main; main()"

    done = printed_by("-c", code)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "memoserve: the command line needs an extra: pip install 'memoserve[cli]'\n"
    )


def test_a_module_that_is_missing_otherwise_is_not_taken_for_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "memoserve._commands", None)

    with pytest.raises(ModuleNotFoundError):
        cli.main()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(KeyboardInterrupt(), 130, id="interrupted"),
        pytest.param(click.Abort(), 130, id="aborted"),
        pytest.param(click.UsageError("no"), 2, id="usage"),
        pytest.param(click.ClickException("no"), 1, id="problem"),
    ],
)
def test_whatever_ends_a_command_has_an_exit_code(
    memoserve: Runner, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(_commands.group, "main", fail)

    assert memoserve("--help").code == code


def test_a_reader_that_has_seen_enough_is_no_problem() -> None:
    code = (
        "import sys; sys.argv = ['memoserve', '--help']; from memoserve import _commands\n"
        "def fail(**_): raise BrokenPipeError\n"
        "_commands.group.main = fail; from memoserve.cli import main; main()"
    )

    done = printed_by("-c", code)

    assert (done.returncode, done.stderr) == (0, "")
