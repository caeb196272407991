"""What the flow layers add to a call and to an event, in CPU, beside the bare endpoint in one run.

    python tests/bench/stack_overhead.py [--calls 2000]

The endpoint is a function in this process, so that nothing but the layers is measured. Goals for all of them
together: 0.15 ms a call and 2 µs an event.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
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
from guardrails.flow.rates import Limit, Rates
from guardrails.flow.retry import Retry
from guardrails.flow.route import Route

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
        "deadline": Deadline(60),
        "retry": Retry(),
        "hedge": Hedge(delay=30.0),
        "cold start": ColdStart("e"),
        "breaker": Breaker("e"),
        "admit": Admit.of("two_signal"),
        "budget": Budget("b", (allowance,), "gpt-4o-mini"),
        "rates": Limit("e", rates),
    }


async def cpu(handler: Handler, calls: int) -> float:
    """Microseconds of CPU per call, the best of five."""

    async def one() -> None:
        request = Request((Message.of("user", PROMPT),), model="gpt-4o-mini")
        async with handler(Call(request)) as stream:
            async for _ in stream:
                pass

    best = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(calls // 5):
            await one()
        best.append((time.process_time() - started) / (calls // 5) * 1e6)
    return min(best)


async def measure(calls: int) -> None:
    bare = await cpu(endpoint(100), calls)
    print(f"bare endpoint of 100 events: {bare:.0f} µs a call (n = {calls})")
    for name, layer in layers().items():
        print(f"  + {name:12s} {await cpu(stack(endpoint(100), layer), calls) - bare:7.1f} µs a call")

    def full(events: int) -> Handler:
        made = layers()
        outer = [made.pop("deadline"), made.pop("admit")]
        return stack(FirstOf([Route(stack(endpoint(events), *made.values()), "e")]), *outer)

    async def added_by(events: int) -> float:
        return await cpu(full(events), calls) - await cpu(endpoint(events), calls)

    added = [(events, await added_by(events)) for events in (1, 100, 1000)]
    slope = statistics.linear_regression([e for e, _ in added], [t for _, t in added])
    print(f"all of them, and a route: {added[0][1]:.0f} µs a call with one event, {added[1][1]:.0f} with 100")
    print(f"                          {slope.slope:.2f} µs an event (goals: 150 a call, 2 an event)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    asyncio.run(measure(parser.parse_args().calls))
