"""First calls after a pause are marked, and a warm endpoint stays warm."""

from __future__ import annotations

import asyncio
import logging

import pytest

from guardrails import Call, CallRecord, ConfigError, Llm, Request, Transient, collect, stack
from guardrails.flow.cold import ColdStart, KeepWarm, Warmth, is_cold
from guardrails.recorder import Record
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

HELLO = Request.of("hello", max_tokens=1)


def ask(clock: FakeClock) -> Call:
    return Call(HELLO, clock)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_the_layer_keeps_the_contract(case: str) -> None:
    await check_layer(ColdStart("e"), case)


@pytest.mark.asyncio
async def test_the_first_call_and_the_first_after_a_pause_are_cold() -> None:
    clock, records = FakeClock(), list[CallRecord]()
    llm = Llm(stack(ScriptedEndpoint("a"), ColdStart("e", after=300)), sinks=(records.append,))
    for pause in (0, 1, 300, 301, 1):
        clock.advance(pause)
        await clock.run(collect(llm, ask(clock)))
    assert [record.cold for record in records] == [True, False, False, True, False]


@pytest.mark.asyncio
async def test_all_that_wait_for_the_same_start_are_cold_and_a_long_stream_keeps_it_warm() -> None:
    clock = FakeClock()
    handler = stack(ScriptedEndpoint(Script("a b", ttft=10, tpot=1000)), ColdStart("e", after=300))
    calls = [ask(clock) for _ in range(3)]
    tasks = [asyncio.ensure_future(collect(handler, call)) for call in calls[:2]]
    await clock.run_for(900)
    tasks.append(asyncio.ensure_future(collect(handler, calls[2])))
    await clock.run(asyncio.gather(*tasks))
    assert [is_cold(call, "e") for call in calls] == [True, True, False]
    assert not is_cold(calls[0], "other")


@pytest.mark.asyncio
async def test_a_failure_warms_nothing() -> None:
    clock = FakeClock()
    handler = stack(ScriptedEndpoint(Transient("x"), "a"), ColdStart("e"))
    calls = ask(clock), ask(clock)
    for call in calls:
        await clock.run(asyncio.gather(collect(handler, call), return_exceptions=True))
    assert [is_cold(call) for call in calls] == [True, True]


@pytest.mark.asyncio
async def test_probes_keep_it_warm_only_when_nobody_else_does() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint("a")
    traffic = ColdStart("e", after=100)
    handler = stack(endpoint, traffic)
    async with KeepWarm(handler, every=60, request=HELLO, traffic=traffic, clock=clock) as warm:
        await clock.run_for(50)
        first = ask(clock)
        task = asyncio.ensure_future(collect(handler, first))
        await clock.run_for(59)
        assert task.done()
        assert warm.sent == 0, "somebody called 59 s ago"
        await clock.run_for(1000)
        assert warm.sent == 17
        last = ask(clock)
        task = asyncio.ensure_future(collect(handler, last))
        await clock.settle()
    assert (is_cold(first), is_cold(last)) == (True, False)
    probe = endpoint.calls[1]
    assert (probe.priority, probe.labels) == ("bulk", {"probe": "keep_warm"})
    assert clock.pending == endpoint.active == 0


@pytest.mark.asyncio
async def test_a_failing_probe_is_told_once_and_closing_cancels_one_under_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(
        Transient("x", kind="connect"), ValueError("boom"), Script("a", stall_after=0)
    )
    with caplog.at_level(logging.WARNING, "guardrails"):
        warm = KeepWarm(endpoint, every=60, request=HELLO, clock=clock)
        warm.start()
        warm.start()
        await clock.run_for(200)
        assert (warm.sent, warm.failed, endpoint.active) == (3, 2, 1)
        await warm.aclose()
        await warm.aclose()
    assert [record.getMessage() for record in caplog.records] == ["keep-warm probes fail: connect"]
    assert clock.pending == endpoint.active == 0


def test_a_pause_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="every"):
        KeepWarm(ScriptedEndpoint("a"), every=0, request=HELLO)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_the_layer_that_keeps_warm_keeps_the_contract(case: str) -> None:
    layer = Warmth(1e9, HELLO)
    await check_layer(layer, case)
    await layer.aclose()


@pytest.mark.asyncio
async def test_a_layer_keeps_warm_from_the_first_call_until_it_is_closed() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint("a")
    cold, probes = ColdStart("e", after=100), list[CallRecord]()
    async with Llm(endpoint, Warmth(60, HELLO, cold, (Record((probes.append,)),)), cold, clock=clock) as llm:
        await clock.run_for(500)
        assert endpoint.opened == 0, "nobody has asked yet"
        assert (await clock.run(llm.ask("hi"))).record.cold
        await clock.run_for(50)
        assert not (await clock.run(llm.ask("hi"))).record.cold
        await clock.run_for(59)
        assert probes == []
        await clock.run_for(500)
        assert len(probes) == 9
        assert not (await clock.run(llm.ask("hi"))).record.cold
    assert {(probe.priority, probe.labels["probe"], probe.cold) for probe in probes} == {
        ("bulk", "keep_warm", False)
    }
    assert (clock.pending, endpoint.active) == (0, 0)


@pytest.mark.asyncio
async def test_without_a_cold_start_layer_it_watches_by_itself() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint("a")
    async with Llm(endpoint, Warmth(60, HELLO), clock=clock) as llm:
        for _ in range(10):
            await clock.run(llm.ask("hi"))
            await clock.run_for(50)
        assert endpoint.opened == 10
