"""The command line: `memoserve --help`.

Rule: this module needs nothing but Python, so that who lacks the extra `cli` is told so in a
sentence. The commands are in `_commands`, one file each; what a command works out, and not only
parses and prints, is in a module of its own beside this one, such as `_explain`.
"""

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line, and exit with its code: 0, 1 for a problem, 2 for wrong usage."""
    try:
        from memoserve._commands import run  # noqa: PLC0415  (only who has the extra has click)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich"}:
            raise
        sys.exit("memoserve: the command line needs an extra: pip install 'memoserve[cli]'")
    sys.exit(run())


if __name__ == "__main__":
    main()
