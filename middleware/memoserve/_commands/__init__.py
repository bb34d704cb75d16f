"""The commands of `memoserve`.

Rule: a command reads its options, calls what works it out, prints that, and returns its exit code
(none is 0). Whatever ends it, the last thing that is seen is a sentence and not a traceback.
"""

import os
import sys

import click

from memoserve._commands.advise import advise
from memoserve._commands.check import check
from memoserve._commands.dashboard import dashboard
from memoserve._commands.explain import explain
from memoserve._commands.key import key
from memoserve._commands.purge import purge
from memoserve._commands.schema import schema
from memoserve._commands.stats import stats

__all__ = ["group", "run"]

_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it.


@click.group("memoserve", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="memoserve")
def group() -> None:
    """Look into a cache for model servers: keys, advice, purges, live numbers.

    Exit codes: 0 all is well, 1 a problem was found or a server was not reached, 2 the command
    was used wrongly, 130 it was interrupted.
    """


for _command in (advise, check, dashboard, explain, key, purge, schema, stats):
    group.add_command(_command)


def run() -> int:
    """Run the command line and return its exit code."""
    try:
        code = group.main(prog_name="memoserve", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:  # The reader of a pipe has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return int(code or 0)
