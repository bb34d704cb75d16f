"""`memoserve key`: the key of a request, and what it is made of."""

import asyncio
from typing import Any

import click

from memoserve._commands._requests import (
    cache_options,
    make_request,
    make_settings,
    read_request,
    request_options,
)
from memoserve._commands._terminal import (
    Problem,
    json_option,
    make_console,
    print_json,
    said,
)
from memoserve._keyed import Keyed, keyed, uncovered

__all__ = ["key"]


@click.command()
@click.argument("source", required=False)
@click.option("--curl", metavar="COMMAND", help="A curl command line, quoted as one argument.")
@request_options
@cache_options
@json_option
def key(*, source: str | None, curl: str | None, as_json: bool, **options: Any) -> None:
    """Show canonical form, key (MD5) and material of a request.

    SOURCE is a file, - for standard input, or a JSON text itself; it holds a body or a curl
    command line. The key is the one that a cache with the given rule uses.
    """
    if (source is None) == (curl is None):
        raise click.UsageError("give either SOURCE or --curl")
    if curl is not None:
        sent = make_request(curl.encode("utf-8", "surrogateescape"), options)
    else:
        sent = read_request(source or "", options)
    found = asyncio.run(keyed(sent, make_settings(sent, options)))
    if found.rule is None:
        raise Problem(uncovered(sent))
    if found.bypass:
        raise Problem(f"this request goes past the cache: {found.bypass}")
    if as_json:
        print_json(_document(found))
    else:
        _show(found)


def _document(found: Keyed) -> dict[str, Any]:
    return {
        "key": found.md5,
        "index": found.index,
        "verifier": found.verifier.hex(),
        "canonical": found.is_canonical,
        "refusal": found.refusal or None,
        "body": said(found.body),
        "material": {name: said(value) for name, value in found.material},
        "fields": {name: [said(line) for line in lines] for name, lines in found.fields},
    }


def _show(found: Keyed) -> None:
    console = make_console()
    console.print(f"key        {found.md5}", style="bold", soft_wrap=True)
    console.print(f"index      {found.index}", soft_wrap=True)
    console.print(f"verifier   {found.verifier.hex()}", soft_wrap=True)
    if found.is_canonical:
        console.print("body       by its canonical form", soft_wrap=True)
    else:
        line = f"body       by its bytes: {found.refusal}"
        console.print(line, style="yellow", soft_wrap=True)
    for line in said(found.body).splitlines():
        console.print(f"           {line}", soft_wrap=True)
    console.print("material", style="bold")
    for name, value in found.material:
        console.print(f"  {name:<18} {said(value)}".rstrip(), soft_wrap=True)
    for name, lines in found.fields:
        for each in lines:
            console.print(f"  {name:<18} {said(each)}".rstrip(), soft_wrap=True)
