"""What the flow layers add to a call and to an event, in CPU, beside the bare endpoint in one run.

    python tests/bench/stack_overhead.py [--calls 2000]

The endpoint is a function in this process, so that nothing but the layers is measured. Goals for all of them
together: 0.15 ms a call and 2 µs an event.

CPU time moves with whatever else the machine does, instructions hardly: `--run NAME` only makes calls
(`bare`, `all`, or all but the layer of that name), so those of 200 calls can be counted::

    PYTHONHASHSEED=0 valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null \\
        python tests/bench/stack_overhead.py --run all --calls 250    # and again with --calls 50
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Mapping
from decimal import Decimal

from guardrails import Call, Delta, Event, Finish, Handler, Layer, Message, Request, Usage, stack
from guardrails.call import Attempt
from guardrails.endpoints.opening import Batches, open_events
from guardrails.flow.admit import Admit
from guardrails.flow.breaker import Breaker
from guardrails.flow.budget import Allowance, Budget
from guardrails.flow.cold import ColdStart
from guardrails.flow.deadline import Deadline
from guardrails.flow.fallback import FirstOf
from guardrails.flow.hedge import Hedge
from guardrails.flow.rates import RateLimit, Rates
from guardrails.flow.retry import Retry
from guardrails.flow.route import Route
from guardrails.recorder import Record

ROUNDS = 10
PROMPT = "Say token a hundred times, please. " * 4


def endpoint(events: int) -> Handler:
    said: list[Event] = [Delta(" token") for _ in range(events)]
    said.append(Finish("stop", Usage(40, events)))

    async def source(_: Attempt) -> Batches:
        for at in range(0, len(said), 20):  # as a network read would bring them
            yield said[at : at + 20]

    return lambda call: open_events(call, endpoint="e", model="gpt-4o-mini", source=source)


def layers() -> dict[str, Layer]:
    rates = Rates(requests=1e9, input_tokens=1e12, output_tokens=1e12)
    allowance = Allowance("day", usd=Decimal(10**6))
    return {
        "record": Record(sinks=(lambda _: None,)),
        "deadline": Deadline(60),
        "retry": Retry(),
        "hedge": Hedge(delay=30.0),
        "cold start": ColdStart("e"),
        "breaker": Breaker("e"),
        "admit": Admit.of("two_signal"),
        "budget": Budget("b", (allowance,), "gpt-4o-mini"),
        "rates": RateLimit("e", rates),
    }


def full(events: int, left_out: str = "") -> Handler:
    """All layers in the order in which a policy has them, and a route; one of them left out."""
    made = {name: layer for name, layer in layers().items() if name != left_out}
    outer = [made.pop(name) for name in ("record", "deadline", "admit") if name in made]
    return stack(FirstOf([Route(stack(endpoint(events), *made.values()), "e")]), *outer)


async def one(handler: Handler) -> None:
    """One call, read to its end."""
    request = Request((Message.of("user", PROMPT),), model="gpt-4o-mini")
    async with handler(Call(request)) as stream:
        async for _ in stream:
            pass


async def run(name: str, calls: int) -> None:
    """Nothing but calls."""
    handler = endpoint(1) if name == "bare" else full(1, name)
    for _ in range(calls):
        await one(handler)


async def cpu(handlers: Mapping[str, Handler], calls: int) -> dict[str, list[float]]:
    """Microseconds of CPU per call, of several handlers in turn: ten rounds of each."""

    taken: dict[str, list[float]] = {name: [] for name in handlers}
    for _ in range(ROUNDS):
        for name, handler in handlers.items():
            started = time.process_time()
            for _ in range(max(1, calls // ROUNDS)):
                await one(handler)
            taken[name].append((time.process_time() - started) / max(1, calls // ROUNDS) * 1e6)
    return taken


async def measure(calls: int) -> None:
    handlers = {"bare": endpoint(1), "all": full(1)}
    handlers |= {name: full(1, name) for name in layers()}
    await cpu(handlers, calls // 5)  # warm
    taken = await cpu(handlers, calls)
    least = {name: min(each) for name, each in taken.items()}
    middle = {name: statistics.median(each) for name, each in taken.items()}
    print(f"bare endpoint of one event: {least['bare']:.0f} µs a call (n = {calls}, best of {ROUNDS} rounds)")
    for name in layers():
        print(f"  {name:12s} {least['all'] - least[name]:6.1f} µs: by how much less it is without")
    print(
        f"all of them, and a route: {least['all'] - least['bare']:.0f} µs a call on top of the endpoint "
        f"(median of the rounds {middle['all'] - middle['bare']:.0f}; goal 150)"
    )
    without = least["record"] - least["bare"]
    print(f"  without the record {without:.0f}, which every `Llm` leaves with or without flow control")
    added = []
    for events in (1, 100, 1000):
        taken = await cpu({"bare": endpoint(events), "all": full(events)}, max(ROUNDS, calls // 4))
        added.append((events, min(taken["all"]) - min(taken["bare"])))
    slope = statistics.linear_regression([e for e, _ in added], [t for _, t in added])
    print(f"  {slope.slope:.2f} µs an event (goal 2)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--run", metavar="NAME", choices=["bare", "all", *layers()])
    given = parser.parse_args()
    asyncio.run(run(given.run, given.calls) if given.run else measure(given.calls))
