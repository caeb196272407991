"""Hedges, shadows, breakers, restarts over real sockets: what the servers saw, and that nothing is left."""

from __future__ import annotations

import asyncio

import pytest

from guardrails import Call, Handler, Llm, Request, Reset, Timeouts, Transient, collect
from guardrails.endpoints.http import HttpConfig, HttpEndpoint
from guardrails.flow.breaker import Breaker, Circuit, Rules
from guardrails.flow.fallback import FirstOf
from guardrails.flow.hedge import Hedge
from guardrails.flow.retry import Backoff, Retry, RetryBudget
from guardrails.flow.route import Route
from guardrails.flow.shadow import Shadow
from guardrails.record import CallRecord
from guardrails.testing import Fault, Profile, simulate
from guardrails.testing.server import SimulatedServer

pytestmark = pytest.mark.e2e

ASK = Request.of("hi")
LIMITS = Timeouts(30, 30, 60)


def http(url: str, name: str = "main", model: str = "sim", dialect: str = "openai_chat") -> HttpEndpoint:
    return HttpEndpoint(HttpConfig(url, model, name, dialect, timeouts=LIMITS))


def held(endpoint: HttpEndpoint) -> int:
    return len(endpoint._transport._session.connector._acquired)  # type: ignore[union-attr]


async def idle(server: SimulatedServer) -> bool:
    for _ in range(5000):
        if not server.stats.active:
            return True
        await asyncio.sleep(0)
    return False


def others() -> list[object]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.mark.asyncio
async def test_a_hedge_overtakes_a_stalled_connection_and_closes_it() -> None:
    stalls = Profile(answers="fixed:one two three", faults=(Fault.parse("stall_headers@1"),))
    async with simulate(stalls) as server:
        endpoint = http(server.url)
        async with Llm(endpoint, Hedge(0.1)) as llm:
            answer = await llm.ask("hi")
            assert answer.text == "one two three"
            assert await idle(server)
            assert (server.stats.requests, server.stats.aborted, held(endpoint)) == (2, 1, 0)
            assert [attempt.end for attempt in answer.record.attempts] == ["cancelled", None]
            assert answer.record.flow == ("hedge:100ms", "hedge_won")
    assert others() == []


@pytest.mark.asyncio
async def test_a_breaker_keeps_a_dead_server_from_being_asked() -> None:
    async with simulate(Profile(faults=(Fault.parse("status=503"),))) as dead, simulate(Profile()) as alive:
        breaker = Breaker("dead", Circuit(Rules(consecutive=3, ejection=60.0)))
        budget = RetryBudget(0.0, floor=3)
        retry = Retry(2, Backoff(base=0.0), RetryBudget(0.0, floor=0))
        routes = FirstOf(
            [Route(http(dead.url), layers=[retry, breaker]), Route(http(alive.url, "b"))], budget=budget
        )
        async with Llm(routes) as llm:
            answers = [await llm.ask("hi") for _ in range(20)]
        assert (dead.stats.requests, alive.stats.requests) == (3, 20)
        assert answers[-1].record.flow == ("circuit_open:dead", "fallback:b:circuit_open")
        assert [attempt.endpoint for attempt in answers[-1].record.attempts] == ["b"]


@pytest.mark.asyncio
async def test_an_outage_reaches_a_server_with_no_more_than_the_budget_on_top() -> None:
    async with simulate(Profile(faults=(Fault.parse("reset"),))) as server:
        async with Llm(http(server.url), Retry(3, Backoff(base=0.0), RetryBudget(0.2, floor=2))) as llm:
            calls = [collect(llm, Call(ASK)) for _ in range(50)]
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, Transient) for result in results)
        assert server.stats.requests == 50 + 10 + 2


@pytest.mark.asyncio
async def test_a_restart_may_go_to_another_dialect() -> None:
    async with simulate(Profile(answers="fixed:one two three four")) as server:
        first = Route(http(server.url, "openai", "sim+reset_after=2"))
        second = Route(http(server.url, "anthropic", dialect="anthropic"), model="sim")
        async with Llm(FirstOf([first, second], restart=True)) as llm:
            call = Call(ASK)
            async with llm(call) as stream:
                events = [event async for event in stream]
            assert sum(isinstance(event, Reset) for event in events) == 1
            answer = await llm.ask("hi")
        assert answer.text == "one two three four"
        assert [attempt.end for attempt in answer.record.attempts] == ["reset", None]


@pytest.mark.asyncio
async def test_a_shadow_is_cancelled_with_its_client() -> None:
    records: list[CallRecord] = []
    slow = Profile(answers="lorem:400", ttft_ms=1, tpot_ms=50)
    async with simulate(slow) as copy, simulate(Profile(answers="fixed:real")) as real:
        shadow = Shadow(http(copy.url, "copy"), sinks=(records.append,), limit=2)
        async with Llm(http(real.url), shadow) as llm:
            texts = [(await llm.ask("hi")).text for _ in range(4)]
            for _ in range(5000):
                await asyncio.sleep(0)
                if copy.stats.requests == 2:
                    break
        assert texts == ["real"] * 4
        assert [record.outcome for record in records] == ["cancelled"] * 2
        assert await idle(copy)
        assert (copy.stats.requests, copy.stats.aborted) == (2, 2)
    assert others() == []


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", range(0, 60, 6))
async def test_cancelled_at_any_turn_nothing_stays_open(turns: int) -> None:
    async with simulate(Profile(answers="lorem:60", faults=(Fault.parse("reset_after=3@1"),))) as server:
        endpoint = http(server.url)
        route = Route(endpoint, "a", layers=[Retry(2), Breaker("a")])
        other = Route(endpoint, "b", layers=[Breaker("b")])
        handler: Handler = FirstOf([route, other], restart=True)
        async with Llm(handler, Hedge(0.0)) as llm:
            task = asyncio.ensure_future(collect(llm, Call(ASK)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await idle(server)
            assert endpoint._transport is None or held(endpoint) == 0
            assert (await llm.ask("hi")).text.startswith("lorem")
    assert others() == []
