"""The proof: what a cache is worth to this app, each number beside the one that theory gives.

Rule: nobody has to believe the cache. First it is asked to stay out of the way and the app alone is
measured; then the same traffic meets it cold, warm, without favourites and in other spellings, at
one rate that the app can sustain without it. Every arm is cold by its salt, not by somebody's care.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from loadgen.arrivals import Poisson
from loadgen.catalogue import BUNDLED, Catalogue
from loadgen.explain import Explanation
from loadgen.outcome import Outcome
from loadgen.plan import Plan
from loadgen.popularity import Law, Uniform, Zipf
from loadgen.records import Records
from loadgen.runner import Probe, Run, drive, probe
from loadgen.theory import predict
from loadgen.transport import Client, build_request, exchange
from loadgen.verdict import Exit, lag_findings

__all__ = [
    "FULL",
    "SHORT",
    "Arm",
    "Driver",
    "Profile",
    "Proof",
    "TargetError",
    "check_target",
    "prove",
]

Watching = Callable[[str], AbstractAsyncContextManager[Callable[[Records], None]]]


class Driver(Protocol):
    """Sends a plan: `loadgen.drive` with a client, or the worker processes."""

    async def __call__(
        self, plan: Plan, *, stop: asyncio.Event, watch: Callable[[Records], None]
    ) -> Run:
        """Send it."""
        ...


@dataclass(frozen=True, slots=True)
class Profile:
    """How long the parts of a proof last, in seconds."""

    probe: float
    baseline: float
    arm: float  # Each of four.


SHORT = Profile(probe=4.0, baseline=8.0, arm=12.0)
FULL = Profile(probe=10.0, baseline=30.0, arm=60.0)

_PROBE_CONNECTIONS = 4
_PROBE_BODIES = 500
_SUSTAINED = 0.55  # Of what the closed loop reached: Poisson bursts need room above the mean.
_RATES = (1.0, 200.0)  # Requests per second: under the first there is nothing to see in a minute.


class TargetError(Exception):
    """The target cannot be measured; the message says why in one line."""

    def __init__(self, exit_code: Exit, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Arm:
    """One kind of traffic: what was measured and what theory expects."""

    name: str
    run: Run
    explanation: Explanation
    predicted: float
    void: tuple[str, ...]  # Why its latencies cannot be trusted; empty: they can.
    is_cold: bool = True  # The cache was asked, and held nothing before.


@dataclass(slots=True)
class Proof:
    """What the arms showed, as far as they came."""

    capacity: float = 0.0  # Requests per second that the app answers without its cache.
    rate: float = 0.0
    arms: dict[str, Arm] = field(default_factory=dict[str, Arm])
    interrupted: bool = False


async def check_target(
    client: Client, models: Collection[str], catalogue: Catalogue = BUNDLED
) -> None:
    """Ask each of some models once, past the cache, for what no plan asks.

    Raises:
        TargetError: There is no usable answer.
    """
    for model in models:
        question = catalogue.question(model, 0, seed=0, salt="check")
        request = build_request(client, question, accept=catalogue.accept, bypass=True)
        reply = await exchange(client, request)
        if not reply.is_usable:
            why = reply.failure or f"status {reply.status}"
            raise TargetError(Exit.UNREACHABLE, f"{client.base_url} cannot be used: {model}: {why}")


async def prove(
    client: Client,
    *,
    profile: Profile,
    zipf: Zipf,
    seed: int,
    salt: str,
    stop: asyncio.Event,
    watching: Watching,
    catalogue: Catalogue = BUNDLED,
    driver: Driver | None = None,
) -> Proof:
    """Run all arms against a target that `check_target` has accepted.

    Args:
        client: for measuring what the app can do, and for sending where there is no `driver`.
        profile: how long the parts last.
        zipf: the law of the traffic with favourites.
        seed: of every draw.
        salt: what makes the items of this proof its own.
        stop: set it to end early.
        watching: shows an arm while it lasts.
        catalogue: what the models can be asked.
        driver: sends the arms.

    Raises:
        TargetError: The cache cannot be told to stay out of the way.
    """
    bench = _Bench(
        client, driver or partial(drive, client=client), catalogue, seed, salt, stop, watching
    )
    await bench.measure_capacity(zipf, profile.probe)
    await bench.arm("no cache", zipf, profile.baseline, bypass=True)
    cold = await bench.arm("cold Zipf", zipf, profile.arm)
    await bench.arm("warm Zipf", zipf, profile.arm, after=cold)
    await bench.arm("uniform", Uniform(zipf.items), profile.arm)
    await bench.arm("respelled Zipf", zipf, profile.arm, spelling=1.0)
    bench.proof.interrupted = stop.is_set()
    return bench.proof


class _Bench:
    """The state of one proof."""

    def __init__(
        self,
        client: Client,
        driver: Driver,
        catalogue: Catalogue,
        seed: int,
        salt: str,
        stop: asyncio.Event,
        watching: Watching,
    ) -> None:
        self.proof = Proof()
        self._client = client
        self._drive = driver
        self._catalogue = catalogue
        self._seed = seed
        self._salt = salt
        self._stop = stop
        self._watching = watching
        self._salts = 0
        self._retried = False

    async def measure_capacity(self, law: Law, duration: float) -> None:
        """Find out what the app can do without its cache, and the rate to ask for."""
        plan = self._plan(
            law, duration=_PROBE_BODIES, rate=1.0, salt=self._fresh_salt(), bypass=True
        )
        found = await probe(
            self._client,
            plan,
            connections=_PROBE_CONNECTIONS,
            duration=duration,
            stop=self._stop,
        )
        if self._stop.is_set():
            return
        _check_bypass(found)
        self.proof.capacity = found.rate
        self.proof.rate = min(max(_SUSTAINED * found.rate, _RATES[0]), _RATES[1])

    async def arm(
        self,
        name: str,
        law: Law,
        duration: float,
        *,
        spelling: float = 0.0,
        bypass: bool = False,
        after: Arm | None = None,
    ) -> Arm | None:
        """Run one arm; if the generator lags, once in a proof, again at half the rate."""
        title = name
        while not self._stop.is_set():
            plan = self._plan(
                law,
                duration,
                rate=self.proof.rate,
                salt=after.run.plan.salt if after else self._fresh_salt(),
                spelling=spelling,
                bypass=bypass,
            )
            async with self._watching(title) as watch:
                run = await self._drive(plan, stop=self._stop, watch=watch)
            arm = _arm(name, run, after)
            if arm.void and not self._retried and not run.interrupted:
                self._retried, title = True, f"{name}, again"
                self.proof.rate /= 2
                continue
            self.proof.arms[name] = arm
            return arm
        return None

    def _plan(
        self,
        law: Law,
        duration: float,
        *,
        rate: float,
        salt: str,
        spelling: float = 0.0,
        bypass: bool = False,
    ) -> Plan:
        return Plan(
            law=law,
            arrivals=Poisson(rate),
            duration=duration,
            spelling=spelling,
            seed=self._seed,
            salt=salt,
            bypass=bypass,
            catalogue=self._catalogue,
        )

    def _fresh_salt(self) -> str:
        self._salts += 1
        return f"{self._salt}{self._salts}"


def _arm(name: str, run: Run, after: Arm | None) -> Arm:
    if after is None:
        explanation, predicted = run.explain(), predict(run.plan)
    else:
        before = after.explanation  # It saw entries when they were new: it knows the lifetime best.
        explanation = run.explain(ttl=before.ttl, warm=before.fills)
        predicted = predict(run.plan, before.fills.keys())
    is_cold = after is None and not run.plan.bypass
    return Arm(name, run, explanation, predicted, tuple(lag_findings(run)), is_cold)


def _check_bypass(found: Probe) -> None:
    unusable = [reply for reply in found.replies if not reply.is_usable]
    if len(unusable) > len(found.replies) / 2:
        why = unusable[0].failure or f"status {unusable[0].status}"
        raise TargetError(
            Exit.UNREACHABLE, f"{len(unusable)} of {len(found.replies)} answers: {why}"
        )
    outcomes = Counter(reply.cache.outcome for reply in found.replies if reply.is_usable)
    if outcomes.total() == outcomes[Outcome.BYPASS]:
        return
    if outcomes.total() == outcomes[Outcome.UNKNOWN]:
        message = "the server sends no Cache-Status or X-Cache: there is nothing to prove"
    else:
        said = ", ".join(f"{outcome} ({count})" for outcome, count in outcomes.most_common())
        message = (
            "the cache does not stay out of the way when asked (Cache-Control: no-store): it says "
            f'{said}; mount memoserve with client_control="obey"'
        )
    raise TargetError(Exit.FAILED, message)
