"""From a target to an exit code: what both commands do with a server.

Rule: what goes wrong is one line and an exit code, never a traceback; what was measured before
Ctrl-C is reported, and nothing is left running.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console

from loadgen.catalogue import MODELS, Model
from loadgen.live import watching
from loadgen.plan import Plan
from loadgen.popularity import Zipf
from loadgen.proof_report import judge_proof, print_proof, proof_document
from loadgen.prove import Profile, TargetError, check_target, prove
from loadgen.report import environment, print_findings, print_run, run_document
from loadgen.runner import drive, unless
from loadgen.theory import predict
from loadgen.transport import Client, open_client
from loadgen.verdict import Exit, Finding, Thresholds, judge

__all__ = ["ProofJob", "RunJob", "measure"]

_SCHEMA = "memoserve.loadgen/1"  # Bump the number when a field changes its meaning.
_LOG_WIDTH = 110  # Columns off a terminal: the tables fit, and logs can be read.


class _Result(NamedTuple):
    findings: list[Finding]
    document: dict[str, Any]


class _Job(Protocol):
    """What a command does with a target that answers."""

    @property
    def patience(self) -> float:
        """Seconds to wait for one answer."""
        ...

    @property
    def models(self) -> Collection[Model]:
        """The models that will be asked."""
        ...

    async def __call__(self, client: Client, stop: asyncio.Event, console: Console) -> _Result:
        """Measure and print."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RunJob:
    """One stretch of traffic."""

    plan: Plan
    ttl: float | None
    coalesce: bool
    cold: bool  # Nobody can have asked for these items before.
    max_inflight: int
    patience: float

    @property
    def models(self) -> Collection[Model]:
        """The models that will be asked."""
        return dict.fromkeys(self.plan.rows.models)

    async def __call__(self, client: Client, stop: asyncio.Event, console: Console) -> _Result:
        """Send the plan, print the run."""
        async with watching(console, "run") as watch:
            run = await drive(
                self.plan,
                client,
                max_inflight=self.max_inflight,
                drain=self.patience,
                stop=stop,
                watch=watch,
            )
        explanation = run.explain(self.ttl, coalesce=self.coalesce)
        predicted = predict(self.plan)
        print_run(console, run, explanation, predicted)
        findings = judge(run, explanation, Thresholds(), cold=self.cold)
        return _Result(findings, run_document(run, explanation, predicted))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProofJob:
    """The proof."""

    profile: Profile
    zipf: Zipf
    seed: int
    salt: str
    patience: float = 30.0
    models: Collection[Model] = MODELS

    async def __call__(self, client: Client, stop: asyncio.Event, console: Console) -> _Result:
        """Run the arms, print the table."""
        console.print("first the app without its cache, then five kinds of traffic")
        proof = await prove(
            client,
            profile=self.profile,
            zipf=self.zipf,
            seed=self.seed,
            salt=self.salt,
            stop=stop,
            watching=partial(watching, console),
        )
        print_proof(console, proof)
        return _Result(judge_proof(proof, Thresholds()), proof_document(proof))


def measure(url: str, job: _Job, *, json_path: Path | None) -> Exit:
    """Do a job with the server at `url`; print the verdict, write the document."""
    width = None if sys.stdout.isatty() else _LOG_WIDTH
    console = Console(markup=False, highlight=False, emoji=False, width=width)
    try:
        result = asyncio.run(_measured(open_client(url, timeout=job.patience), job, console))
    except TargetError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    code = print_findings(console, result.findings)
    return code if json_path is None else _write(json_path, code, result)


def _write(path: Path, code: Exit, result: _Result) -> Exit:
    document = {
        "schema": _SCHEMA,
        "environment": environment(),
        "verdict": {"exit": code, "findings": [finding.text for finding in result.findings]},
        **result.document,
    }
    try:
        path.write_text(json.dumps(document, indent=1) + "\n")
    except OSError as error:
        print(f"Error: cannot write the result: {error}", file=sys.stderr)
        return max(code, Exit.USAGE)
    return code


async def _measured(client: Client, job: _Job, console: Console) -> _Result:
    with _stopped_by_interrupt() as stop:
        async with client:
            await unless(stop, check_target(client, job.models))
            return await job(client, stop, console)


@contextmanager
def _stopped_by_interrupt() -> Generator[asyncio.Event]:
    """Set the event on the first Ctrl-C; the second one ends the program as ever."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)
