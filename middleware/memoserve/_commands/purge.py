"""`memoserve purge`: make stored answers unusable, on all hosts."""

import asyncio
from typing import Any

import click

from memoserve._commands._configured import config_option, configured
from memoserve._commands._terminal import Problem, json_option, make_console, print_json
from memoserve._errors import StoreError
from memoserve._tags import Purger
from memoserve.stores import SharedStore, Store, open_store

__all__ = ["purge"]


@click.command()
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="May be given several times.")
@click.option("--rule", metavar="PATH", help="What a rule stored, by its path.")
@click.option("--model", metavar="NAME", help="What a model's rules stored, by its label.")
@click.option("--key", metavar="MD5", help="One question, by what `memoserve key` prints.")
@click.option("--all", "everything", is_flag=True, help="All that the namespace has.")
@click.option("--store", metavar="URL", help="redis://…; else what the configuration says.")
@click.option("--namespace", help="Else what the configuration says, or memoserve.")
@click.option("--secret", help="The cache's; else what the configuration says.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the store.")
@config_option
@json_option
def purge(
    *,
    store: str | None,
    namespace: str | None,
    secret: str | None,
    timeout: float,
    config: str | None,
    as_json: bool,
    **named: Any,
) -> None:
    """Purge stored answers: they are gone on all hosts within a second.

    Answers that are being made at this moment are purged, too. What is in the memory of a process
    (memory://) can only be purged there, with memoserve.Purger.
    """
    given = {name: value for name, value in named.items() if value}
    if not given:
        raise click.UsageError("say what: --tag, --rule, --model, --key or --all")
    cache = configured(config).cache
    url = store or cache.get("store", "")
    name = namespace or cache.get("namespace", "memoserve")
    if not url:
        raise click.UsageError("say where: --store, or store in memoserve.toml, or MEMOSERVE_STORE")
    opened = _opened(url, name, secret or cache.get("secret"))
    asyncio.run(_purge(opened, name, given, seconds=timeout))
    if as_json:
        print_json({"namespace": name, "purged": given})
    else:
        said = ", ".join(_words(key, value) for key, value in given.items())
        make_console().print(f"purged in namespace {name}: {said}", soft_wrap=True)


def _words(name: str, value: Any) -> str:
    if name == "everything":
        return name
    return f"{name} {', '.join(value) if name == 'tags' else value}"


def _opened(url: str, namespace: str, secret: str | bytes | None) -> Store:
    try:
        store = open_store(url)
        if not isinstance(store, SharedStore):
            raise Problem("memory:// is the memory of one process: purge it there, with Purger")
        store.join(namespace, secret.encode() if isinstance(secret, str) else secret)
    except ModuleNotFoundError as error:
        raise Problem(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return store


async def _purge(store: Store, namespace: str, named: dict[str, Any], *, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await Purger(store, namespace).purge(**named)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except TimeoutError as error:
        raise Problem(
            f"the store did not answer in {seconds:g} s: not all may be purged"
        ) from error
    except (StoreError, OSError) as error:
        raise Problem(f"the store cannot be asked, not all may be purged: {error}") from error
    finally:
        await store.aclose()
