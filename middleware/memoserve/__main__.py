"""`python -m memoserve` is `memoserve`."""

from memoserve.cli import main

main()
