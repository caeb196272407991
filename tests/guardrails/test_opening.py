"""How every endpoint opens: entering at the first output, three timeouts, one log per attempt."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import (
    Call,
    DeadlineExceeded,
    Delta,
    Finish,
    Interrupted,
    Opaque,
    Request,
    Transient,
    Truncated,
    collect,
)
from guardrails.call import Attempt, Event, Note
from guardrails.clock import Expired, Watchdog
from guardrails.endpoints.opening import Batches, Timeouts, open_events
from guardrails.testing import FakeClock, Script, ScriptedEndpoint

ALL = Timeouts(first_event=10, between_events=5, whole=60)


def make_call(clock: FakeClock, **fields: object) -> Call:
    return Call(Request.of("hi"), clock=clock, **fields)  # type: ignore[arg-type]


def ending(call: Call) -> object:
    entry = call.journal.attempts[-1].log[-1][1]
    assert isinstance(entry, Note)
    assert entry.what == "ended"
    endings = [e for _, e in call.journal.attempts[-1].log if isinstance(e, Note) and e.what == "ended"]
    assert len(endings) == 1, "an attempt ends once"
    return entry.detail


def opened(
    call: Call, *batches: list[Event], error: BaseException | None = None, closed: list[str] | None = None
):
    async def source(_: Attempt) -> Batches:
        try:
            for batch in batches:
                yield batch
            if error is not None:
                raise error
        finally:
            if closed is not None:
                closed.append("closed")

    return open_events(call, endpoint="e", model="m", source=source, timeouts=ALL)


@pytest.mark.asyncio
async def test_entering_waits_for_output_and_replays_what_came_before() -> None:
    call = make_call(FakeClock())
    role, text, end = Opaque({"role": "assistant"}), Delta("hi"), Finish("stop")
    async with opened(call, [role], [Delta("")], [text], [end]) as stream:
        logged = [entry for _, entry in call.journal.attempts[0].log if not isinstance(entry, Note)]
        assert logged == [role, Delta(""), text], "entered exactly at the first output"
        assert [event async for event in stream] == [role, Delta(""), text, end]
    assert ending(call) is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("script", "kind", "error"),
    [
        (Script("a b", ttft=math.inf), "timeout_first_event", Transient),
        (Script("a b", tpot=math.inf), "timeout_between_events", Interrupted),
        (Script("a " * 40, ttft=1, tpot=4), "timeout_whole", Interrupted),
    ],
)
async def test_each_timeout_names_itself(script: Script, kind: str, error: type[Exception]) -> None:
    clock = FakeClock()
    call = make_call(clock)
    endpoint = ScriptedEndpoint(script, timeouts=ALL)
    with pytest.raises(error) as caught:
        await clock.run(collect(endpoint, call))
    assert caught.value.kind == kind  # type: ignore[attr-defined]
    assert ending(call) == kind
    assert endpoint.active == 0
    assert clock.pending == 0, "no timer is left behind"


@pytest.mark.asyncio
async def test_a_slow_consumer_is_not_silence() -> None:
    clock = FakeClock()
    call = make_call(clock)

    async def consume() -> int:
        count = 0
        async with ScriptedEndpoint("a b c", timeouts=ALL)(call) as stream:
            async for _ in stream:
                count += 1
                await clock.sleep(8)  # longer than between_events
        return count

    assert await clock.run(consume()) == 4


@pytest.mark.asyncio
@pytest.mark.parametrize("ttft", [0.5, 30.0])
async def test_the_callers_deadline_covers_the_whole_stream(ttft: float) -> None:
    clock = FakeClock()
    call = make_call(clock, deadline=3.0)
    with pytest.raises(DeadlineExceeded):
        await clock.run(collect(ScriptedEndpoint(Script("a b c d e f g", ttft=ttft, tpot=1.0)), call))
    assert clock.now() == pytest.approx(3.0)
    assert ending(call) == "deadline"


@pytest.mark.asyncio
async def test_the_whole_timeout_stops_a_stream_that_never_pauses() -> None:
    clock = FakeClock()
    call = make_call(clock)

    async def endless(_: Attempt) -> Batches:
        while True:
            yield [Delta("x")]

    async def consume() -> None:
        async with open_events(call, endpoint="e", model="m", source=endless, timeouts=ALL) as stream:
            async for _ in stream:
                clock.advance(1)

    with pytest.raises(Interrupted, match="did not finish"):
        await consume()
    assert clock.now() == pytest.approx(61, abs=1)


@pytest.mark.asyncio
async def test_what_breaks_before_the_first_event_may_be_tried_again() -> None:
    call = make_call(FakeClock())
    with pytest.raises(Transient) as caught:
        await collect(lambda c: opened(c, error=Truncated("cut")), call)
    assert caught.value.kind == "truncated"
    with pytest.raises(Truncated):
        await collect(lambda c: opened(c, [Delta("a")], error=Truncated("cut")), call)


@pytest.mark.asyncio
async def test_an_empty_stream_is_an_error() -> None:
    call = make_call(FakeClock())
    with pytest.raises(Transient, match="before it began"):
        await collect(opened, call)
    assert ending(call) == "empty"


@pytest.mark.asyncio
@pytest.mark.parametrize("take", [0, 1, 2, 3])
async def test_leaving_early_closes_the_source_once(take: int) -> None:
    call = make_call(FakeClock())
    closed: list[str] = []
    async with opened(call, [Delta("a")], [Delta("b")], [Finish("stop")], closed=closed) as stream:
        for _ in range(take):
            await anext(stream)
    assert closed == ["closed"]
    assert ending(call) == "abandoned"


@pytest.mark.asyncio
@pytest.mark.parametrize("script", [Script("a b", ttft=math.inf), Script("a b", tpot=math.inf)])
async def test_cancellation_stays_a_cancellation(script: Script) -> None:
    clock = FakeClock()
    call = make_call(clock)
    endpoint = ScriptedEndpoint(script, timeouts=ALL)
    task = asyncio.ensure_future(collect(endpoint, call))
    await clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ending(call) == "cancelled"
    assert endpoint.active == 0
    assert clock.pending == 0


@pytest.mark.asyncio
async def test_an_error_of_the_consumer_passes_through_and_closes() -> None:
    call = make_call(FakeClock())
    closed: list[str] = []
    with pytest.raises(KeyError):
        async with opened(call, [Delta("a")], [Finish("stop")], closed=closed):
            raise KeyError("mine")
    assert closed == ["closed"]
    assert ending(call) == "abandoned"


@pytest.mark.asyncio
async def test_a_cancellation_from_outside_wins_over_a_timeout_at_the_same_moment() -> None:
    clock = FakeClock()
    watchdog = Watchdog(clock)

    async def wait() -> None:
        with watchdog.limit("first_event", 1.0):
            await clock.sleep(math.inf)

    task = asyncio.ensure_future(wait())
    await clock.settle()
    task.cancel()
    clock.advance(1.0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not task.cancelling() or task.cancelled()


@given(waits=st.lists(st.floats(0.0, 3.0), max_size=12), limit=st.floats(0.5, 2.0))
def test_a_watchdog_expires_exactly_when_a_wait_outlasts_its_limit(waits: list[float], limit: float) -> None:
    async def work(clock: FakeClock) -> None:
        watchdog = Watchdog(clock)
        for wait in waits:
            before = clock.now()
            try:
                with watchdog.limit("x", limit):
                    await clock.sleep(wait)
            except Expired:
                assert wait >= limit
                assert clock.now() == pytest.approx(before + limit)
                break
            assert wait <= limit
        watchdog.close()
        assert clock.pending == 0

    async def main() -> None:
        clock = FakeClock()
        await clock.run(work(clock))

    asyncio.run(main())
