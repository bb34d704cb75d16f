"""From a target to an exit code: what the commands that send do with a server.

Rule: what goes wrong is one line and an exit code, never a traceback; what was measured before
Ctrl-C is reported, and nothing is left running.
"""

import asyncio
import signal
import sys
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from rich.console import Console

from loadgen.catalogue import BUNDLED, Catalogue
from loadgen.crosscheck import Counts, MetricsError, disagreement, quiet_counts, settled_counts
from loadgen.document import cache_model, run_document, sealed
from loadgen.expressions import Expression
from loadgen.live import watching
from loadgen.outputs import Outputs, Result, worst
from loadgen.plan import Plan
from loadgen.popularity import Zipf
from loadgen.proof_report import judge_proof, print_proof, proof_document
from loadgen.prove import Profile, TargetError, check_target, prove
from loadgen.records import Batch, Records
from loadgen.report import print_findings, print_run
from loadgen.runner import Run, unless
from loadgen.target import Target
from loadgen.telemetry import Metrics, exporting
from loadgen.theory import CacheModel, forecast, predict, warnings
from loadgen.transport import Client, open_client
from loadgen.verdict import Exit, Finding, Thresholds, judge, thresholds_beside
from loadgen.workers import Workers, WorkersError

__all__ = ["Job", "ProofJob", "RunJob", "Setting", "make_console", "measure"]

_LOG_WIDTH = 110  # Columns off a terminal: the tables fit, and logs can be read.


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How to send, and where results go."""

    target: Target
    workers: int = 1
    max_inflight: int = 512
    drain: float = 30.0
    live: bool | None = None  # None: on a terminal.
    outputs: Outputs = field(default_factory=Outputs)
    prometheus_port: int | None = None
    otlp: str | None = None


@dataclass(slots=True)
class _Stage:
    """What a job works with."""

    client: Client
    workers: Workers
    setting: Setting
    stop: asyncio.Event
    console: Console
    metrics: Metrics | None

    async def drive(self, plan: Plan, watch: "_Watch", predicted: float | None = None) -> Run:
        """Send a plan from the workers."""
        metrics = self.metrics

        def begin(records: Records) -> None:
            watch(records)
            if metrics is not None:
                metrics.begin(plan, records, predicted)

        def observe(batch: Batch) -> None:
            if metrics is not None:
                metrics.take(batch)

        return await self.workers.drive(
            plan,
            max_inflight=self.setting.max_inflight,
            drain=self.setting.drain,
            stop=self.stop,
            watch=begin,
            observe=observe,
        )


class _Watch(Protocol):
    def __call__(self, records: Records, /) -> None: ...


class Job(Protocol):
    """What a command does with a target that answers."""

    @property
    def models(self) -> Collection[str]:
        """The models that will be asked."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """What they can be asked."""
        ...

    @property
    def expressions(self) -> Collection[Expression]:
        """What must not be."""
        ...

    async def __call__(self, stage: _Stage, /) -> Result:
        """Measure and print."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RunJob:
    """One stretch of traffic."""

    plan: Plan
    ttl: float | None = None
    capacity: int | None = None
    coalesce: bool = True
    cold: bool = True  # Nobody can have asked for these items before.
    expressions: tuple[Expression, ...] = ()
    metrics_url: str | None = None

    @property
    def models(self) -> Collection[str]:
        """The models that will be asked."""
        return {self.plan.models[number] for number in set(self.plan.rows.models)}

    @property
    def catalogue(self) -> Catalogue:
        """What they can be asked."""
        return self.plan.catalogue

    async def __call__(self, stage: _Stage) -> Result:
        """Send the plan, print the run."""
        plan, console = self.plan, stage.console
        given = CacheModel(float("inf") if self.ttl is None else self.ttl, self.capacity)
        foreseen, predicted = forecast(plan, given), predict(plan)
        if foreseen and self.capacity is not None:
            predicted = foreseen[-1].expected
        before = await quiet_counts(self.metrics_url) if self.metrics_url else Counts()
        async with watching(console, "run", foreseen) as watch:
            run = await stage.drive(plan, watch, predicted)
        explanation = run.explain(self.ttl, capacity=self.capacity, coalesce=self.coalesce)
        cache = cache_model(explanation)
        if self.ttl is None and cache.ttl < plan.duration:  # It matters, and was learnt.
            foreseen = forecast(plan, cache)
        if foreseen and cache.ttl < plan.duration:
            predicted = foreseen[-1].expected
        if plan.is_closed:
            predicted = predict(plan, sent=run.records.started)
        print_run(console, run, explanation, predicted)
        cautions = warnings(plan, cache)
        for caution in cautions:
            console.print(f"warning: this scenario {caution}", style="yellow", soft_wrap=True)
        findings = judge(
            run,
            explanation,
            thresholds_beside(self.expressions),
            cold=self.cold,
            expressions=self.expressions,
        )
        document = run_document(run, explanation, predicted, foreseen, cautions)
        if self.metrics_url and not run.interrupted:
            counted = await settled_counts(self.metrics_url, before, run.records.counts)
            document["server_counts"] = {str(name): count for name, count in counted.items()}
            findings += _counted(console, run, counted)
        return Result(findings, document, run, explanation)


def _counted(console: Console, run: Run, counted: Counts) -> list[Finding]:
    different = disagreement(counted, run.records.counts)
    if different is None:
        console.print("the server's metrics count the same requests")
        return []
    text = f"the server's metrics count other requests: {different}"
    return [Finding(Exit.INVALID, text, "metrics")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProofJob:
    """The proof."""

    profile: Profile
    zipf: Zipf
    seed: int
    salt: str
    catalogue: Catalogue = BUNDLED
    expressions: tuple[Expression, ...] = ()

    @property
    def models(self) -> Collection[str]:
        """The models that will be asked."""
        return self.catalogue.mix

    async def __call__(self, stage: _Stage) -> Result:
        """Run the arms, print the table."""
        stage.console.print("first the app without its cache, then five kinds of traffic")

        async def send(plan: Plan, *, stop: asyncio.Event, watch: _Watch) -> Run:  # noqa: ARG001  (the stage has it)
            return await stage.drive(plan, watch)

        proof = await prove(
            stage.client,
            profile=self.profile,
            zipf=self.zipf,
            seed=self.seed,
            salt=self.salt,
            stop=stage.stop,
            watching=partial(watching, stage.console),
            catalogue=self.catalogue,
            driver=send,
        )
        print_proof(stage.console, proof)
        return Result(judge_proof(proof, Thresholds()), proof_document(proof))


def make_console(*, live: bool | None = None) -> Console:
    """Make the console that everything is printed on."""
    width = None if sys.stdout.isatty() else _LOG_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width, force_terminal=live)


def measure(job: Job, setting: Setting) -> Exit:
    """Do a job with a server; print the verdict, write the files."""
    console = make_console(live=setting.live)
    try:
        with ExitStack() as stack:
            metrics = _exported(stack, setting)
            result = asyncio.run(_measured(job, setting, console, metrics))
    except TargetError as error:
        return _failed(str(error), error.exit_code)
    except WorkersError as error:
        return _failed(str(error), Exit.INVALID)
    except MetricsError as error:
        return _failed(str(error), Exit.UNREACHABLE)
    code = print_findings(console, result.findings)
    texts = [expression.text for expression in job.expressions]
    document = sealed(result.document, result.findings, code)
    return worst(code, written=setting.outputs.write(document, result, texts))


def _failed(message: str, code: Exit) -> Exit:
    print(f"Error: {message}", file=sys.stderr)
    return code


def _exported(stack: ExitStack, setting: Setting) -> Metrics | None:
    if setting.prometheus_port is None and setting.otlp is None:
        return None
    exporter = exporting(prometheus_port=setting.prometheus_port, otlp=setting.otlp)
    try:
        return stack.enter_context(exporter)
    except (OSError, ModuleNotFoundError) as error:
        raise TargetError(Exit.USAGE, f"the metrics cannot be exported: {error}") from error


def _opened(target: Target) -> Client:
    try:
        return open_client(target)
    except (ValueError, ImportError) as error:
        raise TargetError(Exit.USAGE, str(error)) from error


async def _measured(
    job: Job, setting: Setting, console: Console, metrics: Metrics | None
) -> Result:
    with _stopped_by_interrupt() as stop:
        async with (
            _opened(setting.target) as client,
            Workers(setting.target, setting.workers) as workers,
        ):
            await unless(stop, check_target(client, job.models, job.catalogue))
            return await job(_Stage(client, workers, setting, stop, console, metrics))


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
