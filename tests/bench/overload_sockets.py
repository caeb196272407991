"""Does the gate keep over real sockets what the simulation promises, at five times the server's capacity?

    python tests/bench/overload_sockets.py [--seconds 45] [--factor 5] [--without]

`guardrails simulate` plays the batching server of `overload.py` in a process of its own; we send it the same
arrivals in real time, through `Admit` and the HTTP endpoint, and read TTFT and TPOT off the call records. The
same arrivals also go through the simulation. Printed: goodput (answers within 2 s and 50 ms a token) as a
share of what was offered during the overload, both ways, and their quotient. n is the number of calls in the
overload; one run, so the interval is that of a share (Wilson, 95 %). `--without` plays it without `Admit`
too.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from pathlib import Path

from guardrails import Call, Request, endpoint
from guardrails.clock import SYSTEM
from guardrails.errors import GuardrailsError
from guardrails.flow.admit import Admit
from guardrails.record import CallRecord
from guardrails.testing import Profile, StepModel, simulate_process

sys.path.insert(0, str(Path(__file__).parent))

from overload import CAPACITY, OUTPUT, POLICIES, PROMPT, SLO, Asked, Scenario, World

CALM_SECONDS = 15.0


def request(asked: Asked) -> Request:
    """A prompt that the simulator counts as so many tokens: it takes four characters for one."""
    return Request.of("wor " * asked.prompt, max_tokens=asked.output)


def good(record: CallRecord) -> bool:
    """Whether a call kept the SLO."""
    if record.outcome != "complete" or record.ttft_ms is None or record.ttft_ms > 1e3 * SLO.ttft:
        return False
    return record.tpot_ms is None or record.tpot_ms <= 1e3 * SLO.tpot


async def lags(found: list[float]) -> None:
    """How late this process runs, every 20 ms: above some ms, the machine is the bottleneck."""
    while True:
        before = SYSTEM.now()
        await SYSTEM.sleep(0.02)
        found.append(SYSTEM.now() - before - 0.02)


async def send(url: str, arrivals: list[Asked], gate: Admit | None, late: list[float]) -> list[CallRecord]:
    """Play the arrivals in real time; the records in their order. `late` gets the event loop's lags."""
    layers = () if gate is None else (gate,)
    calls: list[Call] = []
    async with endpoint(f"{url}/v1", *layers, model="sim", key="none") as llm:
        # One call beforehand opens the code's own paths; it is cold for the gate as well.
        await llm.ask("warm up", max_tokens=2)
        began = SYSTEM.now() + 0.2

        async def one(call: Call) -> None:
            try:
                async with llm(call) as stream:
                    async for _ in stream:
                        pass
            except GuardrailsError:
                pass  # its record says what happened

        tasks = []
        watching = asyncio.create_task(lags(late))
        for asked in arrivals:
            await SYSTEM.sleep(began + asked.at - SYSTEM.now())
            call = Call(request(asked), arrived=began + asked.at)
            calls.append(call)
            tasks.append(asyncio.create_task(one(call)))
        done, left = await asyncio.wait(tasks, timeout=60)
        for task in (watching, *left):
            task.cancel()
        await asyncio.gather(watching, *done, *left, return_exceptions=True)
    records = [call.journal.record for call in calls]
    assert all(record is not None for record in records), "a record for every call"
    return [record for record in records if record is not None]


def share(hits: int, n: int) -> tuple[float, str]:
    """A share with its Wilson interval."""
    p, z = hits / n, 1.96
    centre, margin = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * margin) / (1 + z * z / n) for sign in (-1, 1))
    return p, f"{p:.3f} [{low:.3f}, {high:.3f}]"


def main() -> int:
    """Print the comparison; 1 when the quotient is not within 15 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--factor", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", action="store_true", help="without Admit as well")
    options = parser.parse_args()
    end = CALM_SECONDS + options.seconds
    calm = (CALM_SECONDS, 0.7 * CAPACITY, PROMPT, OUTPUT)
    over = (options.seconds, options.factor * CAPACITY, PROMPT, OUTPUT)
    scenario = Scenario("sockets", 0.85, (CALM_SECONDS, end), (calm, over))
    arrivals = scenario.arrivals(options.seed)
    counted = [index for index, asked in enumerate(arrivals) if asked.at >= CALM_SECONDS]
    world = World(POLICIES[-1], scenario.arrivals(options.seed), (lambda _: 1.0,), options.seed)
    world.run(end)
    expected, shown = share(sum(world.latest[index].good for index in counted), len(counted))
    print(f"{options.factor:g}x the capacity for {options.seconds:g} s, n = {len(counted)} calls in it")
    print(f"  simulated, two signals     {shown} of the offered within the SLO")
    quotient = 0.0
    for gate in (Admit.of(slo=SLO), *((None,) if options.without else ())):
        # The engine is made anew for each, so that nothing is left over from the one before.
        with simulate_process(Profile(engine=StepModel(), answers="lorem:2000")) as server:
            cpu = time.process_time()
            late: list[float] = []
            records = asyncio.run(send(server.url, arrivals, gate, late))
            cpu = time.process_time() - cpu
        late.sort()
        p50, p99 = (1e3 * late[int(q * (len(late) - 1))] for q in (0.5, 0.99))
        print(f"  (this process ran late by {p50:.1f} ms at the median, {p99:.0f} ms at p99)")
        kept = [records[index] for index in counted]
        reached, shown = share(sum(map(good, kept)), len(counted))
        print(
            f"  sockets, {'two signals' if gate else 'no limiter ':11}       {shown}   client CPU {cpu:.1f} s"
        )
        if gate is not None:
            quotient = reached / expected
            ends: dict[str, int] = {}
            for record in kept:
                name = record.error or record.outcome
                ends[name] = ends.get(name, 0) + 1
            print(f"    {ends}, {gate.limiter.snapshot()}")
    fine = abs(quotient - 1) <= 0.15
    print(f"  sockets / simulated = {quotient:.3f} – {'within' if fine else 'NOT within'} 15 %")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
