"""What is left of an overloaded server's useful work under each policy? A simulation with the real gate.

    python tests/bench/overload.py [--seeds 5] [--quick] [--jobs 2]

The server batches continuously: a step takes 17 + 0.17 · decoding + 0.07 · prompt tokens read ms, with at
most 256 sequences, 2,048 prompt tokens a step and 190,000 tokens of memory (fitted to a published curve of a
70B model). Goodput counts the answers per second that keep the SLO – first token within 2 s of arrival, 50 ms
per token – among all that arrive in the scenario's window; those shed, failed or late count as nothing.
Callers give up on a first token after 20 s. `Limiter`, `Queue` and the limits are those of production, on a
clock that jumps. Every number is simulated; n is the number of seeds, ± a 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from guardrails.errors import Shed
from guardrails.flow.limiter import Limiter, Slot
from guardrails.flow.limits import Aimd, Fixed, Gradient2, Limit, Slo, TwoSignal, Unlimited
from guardrails.flow.queue import Rules, Waiting
from guardrails.testing import FakeClock
from guardrails.testing.engine import StepModel

SLO = Slo(ttft=2.0, tpot=0.05)
GIVE_UP, WHOLE = 20.0, 120.0  # seconds: how long callers wait for a first token, and in all
CAPACITY = 7.0  # requests/s that one server sustains within the SLO at 480 prompt and 300 output tokens
SWEEP = (16, 24, 32, 48, 64, 80, 96, 112, 128, 160)
MEMORY = 190_000


# --- the server --------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Asked:
    """One request and what became of it."""

    at: float
    prompt: int
    output: int
    tenant: str = ""
    attempt: int = 0
    sent: float = -1.0
    first: float | None = None
    last: float | None = None
    unread: int = 0
    first_step: int = 0
    place: str = ""  # waiting, reading, writing, gone
    server: Server | None = None
    slot: Slot | None = None

    @property
    def good(self) -> bool:
        """Whether it kept the SLO."""
        if self.first is None or self.last is None or self.first - self.at > SLO.ttft:
            return False
        return (self.last - self.first) / max(1, self.output - 1) <= SLO.tpot


class Server:
    """Continuous batching, a step at a time; a step costs time in proportion to what begins or ends in it."""

    def __init__(self, clock: FakeClock, model: StepModel, slow: Callable[[float], float]) -> None:
        self.clock, self.model, self.slow = clock, model, slow
        self.waiting: deque[Asked] = deque()
        self.reading: list[Asked] = []
        self.ends: dict[int, list[Asked]] = {}
        self.writing = self.used = self.steps = 0
        self.stepped = 0.0
        self.busy = False
        self.cooling_until = 0.0
        self.on_first: Callable[[Asked], None] = lambda asked: None
        self.on_end: Callable[[Asked], None] = lambda asked: None

    def send(self, asked: Asked) -> None:
        asked.place, asked.unread, asked.server = "waiting", asked.prompt, self
        self.waiting.append(asked)
        if not self.busy:
            self.busy = True
            self._step()

    def abort(self, asked: Asked) -> None:
        if asked.place == "reading":
            self.reading.remove(asked)
            self.used -= asked.prompt
        elif asked.place == "writing":
            self.ends[asked.first_step + asked.output - 1].remove(asked)
            self.writing -= 1
            self.used -= asked.prompt + self.steps - asked.first_step + 1
        asked.place = "gone"

    def progress(self, asked: Asked) -> tuple[int, float]:
        return self.steps - asked.first_step, self.stepped

    def _step(self) -> None:
        model = self.model
        while self.waiting and len(self.reading) + self.writing < model.max_batch:
            asked = self.waiting[0]
            if asked.place == "waiting":
                if self.used + asked.prompt + 32 > MEMORY:
                    break
                asked.place = "reading"
                self.used += asked.prompt
                self.reading.append(asked)
            self.waiting.popleft()
        if not self.reading and not self.writing:
            self.busy = False
            return
        budget, read = max(0, model.prefill_chunk - self.writing), 0
        for asked in self.reading:
            if budget <= 0:
                break
            taken = min(budget, asked.unread)
            asked.unread -= taken
            budget -= taken
            read += taken
        ms = model.base_ms + model.per_sequence_ms * self.writing + model.per_prefill_token_ms * read
        writing = self.writing
        self.clock.call_later(ms / 1000 * self.slow(self.clock.now()), lambda: self._stepped(writing))

    def _stepped(self, wrote: int) -> None:
        self.steps += 1
        self.stepped = self.clock.now()
        self.used += min(wrote, self.writing)
        begun = [asked for asked in self.reading if asked.unread == 0]
        if begun:
            self.reading = [asked for asked in self.reading if asked.unread]
            for asked in begun:
                asked.place, asked.first_step = "writing", self.steps
                self.ends.setdefault(self.steps + asked.output - 1, []).append(asked)
            self.writing += len(begun)
            self.used += len(begun)
        ended = self.ends.pop(self.steps, ())
        for asked in ended:
            asked.place = "gone"
            self.used -= asked.prompt + asked.output
        self.writing -= len(ended)
        for asked in begun:
            self.on_first(asked)
        for asked in ended:
            self.on_end(asked)
        self._step()


# --- the callers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """What stands between callers and servers. `limit` None: nothing."""

    name: str
    limit: Callable[[], Limit] | None = None
    good_queue: bool = True
    retries: int = 0
    cooldown: float = 0.0


def rules(good: bool) -> Rules:
    """Our queue, or first in, first out without end."""
    if good:
        return Rules(patience={"interactive": SLO.ttft, "standard": 10.0, "bulk": 120.0})
    endless = 1e9
    return Rules(
        length=10**9, patience={"interactive": endless, "standard": endless, "bulk": endless}, lifo=1.0
    )


@dataclass
class World:
    """One run: arrivals through a policy into servers."""

    policy: Policy
    arrivals: list[Asked]
    slows: Sequence[Callable[[float], float]]
    seed: int
    model: StepModel = field(default_factory=StepModel)
    clock: FakeClock = field(default_factory=FakeClock)
    limits: list[tuple[float, float]] = field(default_factory=list)

    def run(self, until: float) -> None:
        """Play it, and a minute more for what is still under way."""
        self.random = random.Random(self.seed)
        self.servers = [Server(self.clock, self.model, slow) for slow in self.slows]
        limit = self.policy.limit or Unlimited
        self.gates = [Limiter(limit(), rules(self.policy.good_queue), slo=SLO) for _ in self.servers]
        self.latest = list(self.arrivals)
        for server, gate in zip(self.servers, self.gates, strict=True):
            server.on_first = lambda asked, gate=gate: self._first(asked, gate)
            server.on_end = lambda asked, gate=gate: self._end(asked, gate)
        for number, asked in enumerate(self.arrivals):
            self.clock.call_later(asked.at, lambda asked=asked, number=number: self._ask(asked, number))
        for second in range(int(until)):
            self.clock.call_later(second, self._trace)
        self.clock.advance(until + 60)

    def _trace(self) -> None:
        self.limits.append((self.clock.now(), statistics.mean(gate.limit.limit for gate in self.gates)))

    def _ask(self, asked: Asked, number: int) -> None:
        now = self.clock.now()
        choices = [index for index, server in enumerate(self.servers) if server.cooling_until <= now]
        if not choices:
            self._failed(asked, number)
            return
        index = self.random.choice(choices)
        if self.policy.limit is not None:
            index = min(choices, key=lambda i: self._load(self.gates[i]))
        gate, server = self.gates[index], self.servers[index]

        def settle(shed: Shed | None) -> None:
            if shed is None:
                asked.sent = self.clock.now()
                asked.place = "sent"
                # The slot is known only once `ask` has returned: sending waits for the end of this moment.
                self.clock.call_later(0, lambda: server.send(asked))
                self.clock.call_later(GIVE_UP, lambda: self._give_up(asked, number, gate, False))
                self.clock.call_later(WHOLE, lambda: self._give_up(asked, number, gate, True))
            else:
                asked.place = "gone"

        waiting = Waiting(asked.at, "interactive", asked.tenant, 1.0 + asked.prompt / 2000)
        asked.slot = gate.ask(waiting, settle, self.clock)
        if not self.policy.good_queue and not asked.slot.granted:
            self.clock.call_later(GIVE_UP, lambda: self._leave(asked, gate))

    @staticmethod
    def _load(gate: Limiter) -> float:
        return (gate.in_flight + gate.queued) / gate.limit.limit

    def _first(self, asked: Asked, gate: Limiter) -> None:
        asked.first = self.clock.now()
        assert asked.slot is not None
        assert asked.server is not None
        server = asked.server
        gate.began(
            asked.slot,
            self.clock,
            ttft=asked.first - asked.sent,
            tokens_in=asked.prompt,
            progress=lambda: server.progress(asked),
        )

    def _end(self, asked: Asked, gate: Limiter) -> None:
        asked.last = self.clock.now()
        assert asked.slot is not None
        gate.release(asked.slot, self.clock)

    def _leave(self, asked: Asked, gate: Limiter) -> None:
        assert asked.slot is not None
        if not asked.slot.granted:
            gate.withdraw(asked.slot, self.clock)

    def _give_up(self, asked: Asked, number: int, gate: Limiter, whole: bool) -> None:
        if asked.place == "gone" or (asked.first is not None and not whole):
            return
        assert asked.slot is not None
        if asked.server is not None:
            asked.server.abort(asked)
            if self.policy.cooldown:
                asked.server.cooling_until = self.clock.now() + self.policy.cooldown
        asked.place = "gone"
        gate.release(asked.slot, self.clock, "dropped")
        self._failed(asked, number)

    def _failed(self, asked: Asked, number: int) -> None:
        asked.place = "gone"
        if asked.attempt >= self.policy.retries:
            return
        again = Asked(asked.at, asked.prompt, asked.output, asked.tenant, asked.attempt + 1)
        self.latest[number] = again
        pause = min(8.0, 0.5 * 2**asked.attempt) * (1 - 0.25 * self.random.random())
        self.clock.call_later(pause, lambda: self._ask(again, number))


# --- the scenarios -----------------------------------------------------------------------------------------

Lengths = tuple[float, float]
PROMPT: Lengths = (480, 240)
OUTPUT: Lengths = (300, 150)


def poisson(
    rng: random.Random,
    start: float,
    seconds: float,
    rate: float,
    shape: Callable[[], tuple[Lengths, Lengths]],
) -> Iterable[Asked]:
    """Arrivals at random, with normal lengths of at least 8 tokens."""
    at = start + rng.expovariate(rate)
    while at < start + seconds:
        prompt, output = shape()
        yield Asked(at, max(8, int(rng.gauss(*prompt))), max(8, int(rng.gauss(*output))))
        at += rng.expovariate(rate)


@dataclass(frozen=True)
class Scenario:
    """A load beyond what the server can do. Goodput counts arrivals from `window[0]` to `window[1]`."""

    name: str
    goal: float
    window: tuple[float, float]
    segments: tuple[tuple[float, float, Lengths, Lengths], ...]
    slows: tuple[Callable[[float], float], ...] = (lambda _: 1.0,)
    long_share: float = 0.0

    def arrivals(self, seed: int) -> list[Asked]:
        """What arrives, for a seed."""
        rng, start, found = random.Random(seed), 0.0, []
        for seconds, rate, prompt, output in self.segments:

            def shape(prompt: Lengths = prompt, output: Lengths = output) -> tuple[Lengths, Lengths]:
                if self.long_share and rng.random() < self.long_share:
                    return (4 * prompt[0], 4 * prompt[1]), (4 * output[0], 4 * output[1])
                return prompt, output

            found += poisson(rng, start, seconds, rate, shape)
            start += seconds
        return found

    @property
    def seconds(self) -> float:
        """How long the load lasts."""
        return sum(segment[0] for segment in self.segments)


CALM = (60.0, 0.7 * CAPACITY, PROMPT, OUTPUT)
SCENARIOS = (
    Scenario("10x burst", 0.92, (60, 120), (CALM, (60, 10 * CAPACITY, PROMPT, OUTPUT), CALM)),
    Scenario("outputs 2.5x longer", 0.92, (80, 180), (CALM, (120, 1.6 * CAPACITY / 2.5, PROMPT, (750, 300)))),
    Scenario("prompts 8x longer", 0.85, (80, 180), (CALM, (120, 4.8, (4000, 1500), OUTPUT))),
    Scenario(
        "server 2x slower, 3x load",
        0.85,
        (80, 180),
        (CALM, (120, 3 * CAPACITY, PROMPT, OUTPUT)),
        (lambda t: 2.0 if t > 60 else 1.0,),
    ),
    Scenario(
        "one of three replicas sick",
        0.85,
        (80, 180),
        ((60, 2.1 * CAPACITY, PROMPT, OUTPUT), (120, 4.5 * CAPACITY, PROMPT, OUTPUT)),
        (lambda _: 1.0, lambda _: 1.0, lambda t: 4.0 if t > 60 else 1.0),
    ),
    Scenario(
        "one in ten 4x as long",
        0.85,
        (80, 180),
        (CALM, (120, 2 * CAPACITY, (370, 185), (230, 115))),
        long_share=0.1,
    ),
)

POLICIES = (
    Policy("no limiter"),
    Policy("no limiter, 2 retries, 5 s cooldown", retries=2, cooldown=5.0),
    Policy("fixed 128, FIFO", lambda: Fixed(128), good_queue=False),
    Policy("Gradient2 on TTFT, our queue", Gradient2),
    Policy("AIMD on TTFT, our queue", lambda: Aimd(SLO)),
    Policy("two signals, FIFO", lambda: TwoSignal(SLO), good_queue=False),
    Policy("two signals, our queue", lambda: TwoSignal(SLO)),
)
OURS = POLICIES[-1].name


def fixed(limit: int) -> Policy:
    """A fixed limit with our queue."""
    return Policy(f"fixed {limit}, our queue", lambda: Fixed(limit))


@dataclass(frozen=True)
class Outcome:
    """One run, measured. `recovery`: seconds after the load's peak until all windows of 5 s are fine."""

    goodput: float
    limit: float
    recovery: float | None


def play(scenario: int, policy: str, seed: int) -> Outcome:
    """Run one cell of the table."""
    chosen = SCENARIOS[scenario]
    known = {each.name: each for each in (*POLICIES, *map(fixed, SWEEP))}
    world = World(known[policy], chosen.arrivals(seed), chosen.slows, seed)
    world.run(chosen.seconds)
    start, end = chosen.window
    good = sum(asked.good for asked in world.latest if start <= asked.at < end)
    half = [limit for at, limit in world.limits if (start + end) / 2 <= at < end]
    calm_again = _recovery(world.latest, end, chosen.seconds) if end < chosen.seconds else None
    return Outcome(good / (end - start), statistics.mean(half), calm_again)


def _recovery(latest: list[Asked], peak_end: float, seconds: float) -> float:
    """Seconds after `peak_end` until every window of 5 s of arrivals has 90 % within the SLO."""
    recovered = seconds - peak_end
    for step in range(int(seconds - peak_end) - 5, -1, -1):
        start = peak_end + step
        window = [asked.good for asked in latest if start <= asked.at < start + 5]
        if window and sum(window) < 0.9 * len(window):
            break
        recovered = float(step)
    return recovered


def quiet_tenant(seed: int) -> tuple[float, float, float]:
    """Goodput of a tenant at a quarter of the capacity: alone; beside a flood of 10x; that without a gate."""
    results = []
    for flood, policy in ((0.0, POLICIES[-1]), (10 * CAPACITY, POLICIES[-1]), (10 * CAPACITY, POLICIES[0])):
        rng = random.Random(seed)
        quiet = list(poisson(rng, 0, 120, CAPACITY / 4, lambda: (PROMPT, OUTPUT)))
        for asked in quiet:
            asked.tenant = "quiet"
        loud = list(poisson(rng, 30, 90, flood, lambda: (PROMPT, OUTPUT))) if flood else []
        for asked in loud:
            asked.tenant = "loud"
        world = World(policy, sorted((*quiet, *loud), key=lambda a: a.at), (lambda _: 1.0,), seed)
        world.run(120)
        counted = [asked for asked in world.latest if asked.tenant == "quiet" and 40 <= asked.at < 120]
        results.append(sum(asked.good for asked in counted) / 80)
    return results[0], results[1], results[2]


# --- the table ---------------------------------------------------------------------------------------------

_T = {1: math.inf, 2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def interval(values: Sequence[float]) -> str:
    """Mean ± half the 95 % interval."""
    mean, n = statistics.mean(values), len(values)
    if n < 2:
        return f"{mean:5.2f}      "
    return f"{mean:5.2f} ±{_T.get(n, 2.0) * statistics.stdev(values) / math.sqrt(n):4.2f}"


def main() -> int:
    """Print the table; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2 seeds, a coarse sweep of fixed limits")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    seeds = range(1, (2 if options.quick else options.seeds) + 1)
    sweep = SWEEP[1:8:2] if options.quick else SWEEP
    names = [policy.name for policy in (*POLICIES, *map(fixed, sweep))]
    began = time.perf_counter()
    cells = [(index, name, seed) for index in range(len(SCENARIOS)) for name in names for seed in seeds]
    with ProcessPoolExecutor(options.jobs) as pool:
        tenants = [pool.submit(quiet_tenant, seed) for seed in seeds]
        done = dict(zip(cells, pool.map(play, *zip(*cells, strict=True), chunksize=4), strict=True))
        quiet = [future.result() for future in tenants]
    missed = 0
    print(f"goodput, requests/s within the SLO, mean ± 95 % interval; n = {len(seeds)} seeds; simulated\n")
    for index, scenario in enumerate(SCENARIOS):
        outcomes = {name: [done[index, name, seed] for seed in seeds] for name in names}
        goodput = {name: [each.goodput for each in outcomes[name]] for name in names}
        best = max(map(fixed, sweep), key=lambda policy: statistics.mean(goodput[policy.name])).name
        print(f"{scenario.name} (arrivals from {scenario.window[0]:g} to {scenario.window[1]:g} s)")
        for name in (*(policy.name for policy in POLICIES), best):
            ratio = [a / b for a, b in zip(goodput[name], goodput[best], strict=True)]
            limit = statistics.mean(each.limit for each in outcomes[name])
            calm = [each.recovery for each in outcomes[name] if each.recovery is not None]
            label = f"best: {name}" if name == best else name
            print(
                f"  {label:36} {interval(goodput[name])}   of best {interval(ratio)}   limit {limit:5.0f}"
                + (f"   recovered after {max(calm):3.0f} s at most" if calm else "")
            )
        reached = statistics.mean(a / b for a, b in zip(goodput[OURS], goodput[best], strict=True))
        slowest = max((each.recovery or 0.0 for each in outcomes[OURS]), default=0.0)
        fine = reached >= scenario.goal and slowest <= 10
        missed += not fine
        print(f"  goal: {scenario.goal:.2f} of best – {'reached' if fine else 'MISSED'} ({reached:.3f})\n")
    shares = [beside / alone for alone, beside, _ in quiet]
    fine = statistics.mean(shares) >= 0.9
    missed += not fine
    print("two tenants: one at a quarter of the capacity, the other floods with 10x")
    for label, column in (("alone", 0), ("beside the flood", 1), ("beside the flood, no limiter", 2)):
        print(f"  quiet tenant, {label:30} {interval([each[column] for each in quiet])}")
    print(f"  goal: 0.90 of alone – {'reached' if fine else 'MISSED'} ({interval(shares).strip()})")
    print(f"\n{len(cells) + 3 * len(seeds)} runs in {time.perf_counter() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
