"""What one replica's breaker found out holds for all; one probe decides for all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from guardrails import Call, Request, Transient, collect, stack
from guardrails.flow.breaker import Breaker, Circuit, Rules
from guardrails.flow.redis_store import RedisStore
from guardrails.flow.shared_breaker import Enter, Entered, Mend, SharedBreaker, Trip
from guardrails.flow.store import MemoryStore, Moment, Store
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

RULES = Rules(consecutive=2, ejection=10, longest=60)
DOWN = Transient("x", kind="connect")


def layer(store: Store, rules: Rules = RULES) -> SharedBreaker:
    return SharedBreaker(Breaker("e", Circuit(rules)), store)


async def kinds(handler: Any, clock: FakeClock, n: int = 1) -> list[str]:
    calls = (collect(handler, Call(Request.of("hi"), clock)) for _ in range(n))
    got = [await clock.run(asyncio.gather(call, return_exceptions=True)) for call in calls]
    return [getattr(result, "kind", "ok") for (result,) in got]


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_the_layer_keeps_the_contract(case: str) -> None:
    await check_layer(layer(MemoryStore()), case)


@pytest.mark.asyncio
async def test_what_one_replica_found_out_holds_for_the_other() -> None:
    clock, store, endpoint = FakeClock(), MemoryStore(), ScriptedEndpoint(DOWN, DOWN, DOWN, "ok")
    one, other = (stack(endpoint, layer(store)) for _ in range(2))
    assert await kinds(one, clock, 3) == ["connect", "connect", "circuit_open"]
    assert await kinds(other, clock) == ["circuit_open"]
    clock.advance(10)
    assert await kinds(other, clock, 2) == ["connect", "circuit_open"], "the probe failed"
    clock.advance(19)
    assert await kinds(other, clock) == ["circuit_open"], "twice as long"
    clock.advance(1)
    assert await kinds(other, clock, 2) == ["ok", "ok"]
    assert await kinds(one, clock, 2) == ["ok", "ok"]
    assert len(endpoint.calls) == 7


@pytest.mark.asyncio
async def test_one_probe_at_a_time_for_all() -> None:
    clock, store = FakeClock(), MemoryStore()
    endpoint = ScriptedEndpoint(DOWN, DOWN, Script("ok", ttft=3))
    one, other = (stack(endpoint, layer(store)) for _ in range(2))
    await kinds(one, clock, 2)
    clock.advance(10)
    probe = asyncio.ensure_future(collect(other, Call(Request.of("hi"), clock)))
    await clock.settle()
    assert await kinds(one, clock) == ["circuit_open"]
    assert (await clock.run(probe)).text == "ok"
    assert await kinds(one, clock) == ["ok"]


@pytest.mark.asyncio
async def test_many_that_fail_together_open_it_once() -> None:
    store, at = MemoryStore(), Moment(100, 100)
    for _ in range(5):
        store.at_once(Trip("k", 10, 60), at)
    assert store.at_once(Enter("k", 5), at) == Entered(10)
    later = Moment(100 + 10 + 60, 0)
    assert store.at_once(Enter("k", 5), later) == Entered(), "forgotten"


@pytest.mark.asyncio
async def test_the_scripts_do_the_same(redis_server: Any) -> None:
    store, call = RedisStore(redis_server.url, timeout=5.0), Call(Request.of("hi"))
    assert await store.decide(Enter("k", 5), call) == (Entered(), "shared")
    for _ in range(3):
        await store.decide(Trip("k", 1000, 3000), call)
    got, _ = await store.decide(Enter("k", 5), call)
    assert got.wait == pytest.approx(1000, abs=10)
    assert not got.probe
    redis_server.say("HSET k until 1")
    assert (await store.decide(Enter("k", 1000), call))[0] == Entered(probe=True)
    got, _ = await store.decide(Enter("k", 1000), call)
    assert got.wait == pytest.approx(1000, abs=10)
    assert not got.probe
    await store.decide(Trip("k", 1000, 3000), call)
    got, _ = await store.decide(Enter("k", 5), call)
    assert got.wait == pytest.approx(2000, abs=10)
    await store.decide(Mend("k"), call)
    assert (await store.decide(Enter("k", 5), call))[0] == Entered()
    await store.aclose()


@pytest.mark.asyncio
async def test_without_redis_each_goes_on_alone(redis_process: Any) -> None:
    store = RedisStore(redis_process.url, timeout=1.0)
    redis_process.stop()
    try:
        clock, endpoint = FakeClock(), ScriptedEndpoint("ok", DOWN)
        handler = stack(endpoint, layer(store))
        got = []
        for _ in range(4):
            done = await asyncio.gather(
                collect(handler, Call(Request.of("hi"), clock)), return_exceptions=True
            )
            got.append(getattr(done[0], "kind", "ok"))
        assert got == ["ok", "connect", "connect", "circuit_open"]
    finally:
        redis_process.start()
        await store.aclose()
