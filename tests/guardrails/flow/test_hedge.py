"""Hedging: a second attempt when the first is late, one winner, and nothing left of the loser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import Call, Finish, Llm, Refused, Request, Transient, Usage, collect, stack
from guardrails.call import Event
from guardrails.flow.hedge import Hedge
from guardrails.flow.retry import RetryBudget
from guardrails.handler import Handler, Stream
from guardrails.record import Meter
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

ASK = Request.of("hi")


def flow(call: Call) -> list[str]:
    return [note.detail for _, note in call.journal.log if getattr(note, "what", "") == "flow"]  # type: ignore[union-attr]


def others() -> list[object]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def ask(clock: FakeClock, handler: Handler, **fields: object) -> tuple[str | BaseException, Call]:
    call = Call(ASK, clock=clock, **fields)  # type: ignore[arg-type]
    try:
        return (await clock.run(collect(handler, call))).text, call
    except (Exception, asyncio.CancelledError) as error:
        return error, call


def slow(text: str, ttft: float) -> Script:
    return Script(text, ttft=ttft, tpot=0.01)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
@pytest.mark.parametrize("delay", [None, 0.0, 30.0])
async def test_contract(case: str, delay: float | None) -> None:
    await check_layer(Hedge(delay), case)
    assert others() == []


@pytest.mark.asyncio
async def test_a_quick_first_attempt_is_alone() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(slow("quick", 0.4))
    text, call = await ask(clock, stack(endpoint, Hedge(0.5)))
    assert (text, endpoint.opened, flow(call)) == ("quick", 1, [])
    assert clock.pending == 0


@pytest.mark.asyncio
async def test_a_late_one_is_overtaken_and_cancelled() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(slow("late", 9.0), slow("second", 0.2))
    text, call = await ask(clock, stack(endpoint, Hedge(0.5)))
    assert text == "second"
    assert flow(call) == ["hedge:500ms", "hedge_won"]
    assert clock.now() == pytest.approx(0.71)
    assert (endpoint.opened, endpoint.active, endpoint.cancelled, clock.pending) == (2, 0, 1, 0)
    assert others() == []


@pytest.mark.asyncio
async def test_the_cancellation_that_ends_the_late_one_is_not_left_on_the_caller() -> None:
    clock, left = FakeClock(), []
    endpoint = ScriptedEndpoint(slow("late", 9.0), slow("second", 0.2))

    async def use() -> None:
        async with stack(endpoint, Hedge(0.5))(Call(ASK, clock=clock)) as stream:
            left.append(asyncio.current_task().cancelling())  # type: ignore[union-attr] # a task runs this
            async with asyncio.timeout(60):
                assert len([event async for event in stream]) > 1

    await clock.run(use())
    assert left == [0]


@pytest.mark.asyncio
async def test_the_first_may_still_win_and_the_second_is_cancelled() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(slow("first", 0.8), slow("second", 9.0))
    text, call = await ask(clock, stack(endpoint, Hedge(0.5)))
    assert text == "first"
    assert flow(call) == ["hedge:500ms"]
    assert (endpoint.active, endpoint.cancelled) == (0, 1)


@pytest.mark.asyncio
async def test_when_both_open_at_one_moment_one_is_kept_and_the_other_closed() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(slow("first", 1.0), slow("second", 0.5))
    text, _ = await ask(clock, stack(endpoint, Hedge(0.5)))
    assert text in ("first", "second")
    assert endpoint.active == 0


@pytest.mark.asyncio
async def test_another_handler_may_be_the_second() -> None:
    clock, other = FakeClock(), ScriptedEndpoint("other", name="other")
    text, _ = await ask(clock, stack(ScriptedEndpoint(slow("late", 9.0)), Hedge(0.5, other=other)))
    assert text == "other"


@pytest.mark.asyncio
async def test_the_loser_is_in_the_record_and_its_prompt_is_booked() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(
        slow("late", 9.0), Script(["second", Finish("stop", Usage(7, 2))], finish=None)
    )
    meter = Meter(
        count=lambda text, _: (len(text), "estimate"),
        count_prompt=lambda *_: (7, "estimate"),
        price=lambda _, usage: Decimal(usage.input_tokens + 10 * usage.output_tokens),
        price_version="test",
    )
    llm = Llm(endpoint, Hedge(0.5), clock=clock, meter=meter)
    record = (await clock.run(llm.ask("hi"))).record
    assert [attempt.end for attempt in record.attempts] == ["cancelled", None]
    assert [attempt.cost_usd for attempt in record.attempts] == [Decimal(7), Decimal(27)]
    assert (record.cost_usd, record.wasted_usd, record.outcome) == (Decimal(27), Decimal(7), "complete")
    assert record.ttft_ms == pytest.approx(500)
    assert record.flow == ("hedge:500ms", "hedge_won")


# --- errors


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [Transient("t"), Refused("no"), ValueError("bug")])
async def test_an_early_error_is_raised_at_once(error: Exception) -> None:
    endpoint = ScriptedEndpoint(Script("", ttft=0.1, fail_after=0, error=error))
    seen, _ = await ask(FakeClock(), stack(endpoint, Hedge(0.5)))
    assert type(seen) is type(error)
    assert endpoint.opened == 1


@pytest.mark.asyncio
async def test_when_one_fails_the_other_is_waited_for_and_when_both_do_the_first_error_counts() -> None:
    first = Script("", ttft=1.0, fail_after=0, error=Transient("first", kind="first"))
    second = Script("", ttft=0.1, fail_after=0, error=Transient("second", kind="second"))
    for scripts, expected in (
        ((first, slow("second", 3.0)), "second"),
        ((slow("first", 3.0), second), "first"),
        ((first, second), "first"),
    ):
        endpoint = ScriptedEndpoint(*scripts)
        seen, _ = await ask(FakeClock(), stack(endpoint, Hedge(0.5)))
        assert getattr(seen, "kind", seen) == expected
        assert (endpoint.opened, endpoint.active) == (2, 0)


@pytest.mark.asyncio
async def test_a_bug_in_the_second_attempt_is_not_hidden() -> None:
    endpoint = ScriptedEndpoint(slow("first", 3.0), ValueError("bug"))
    seen, _ = await ask(FakeClock(), stack(endpoint, Hedge(0.5)))
    assert isinstance(seen, ValueError)
    assert endpoint.active == 0


# --- when not


@pytest.mark.asyncio
async def test_it_is_off_when_saturated_or_spent_or_for_bulk() -> None:
    for layer, fields, note in (
        (Hedge(0.5, saturated=lambda: True), {}, ["no_hedge:saturated"]),
        (Hedge(0.5, budget=RetryBudget(0, 0)), {}, ["no_hedge:budget_spent"]),
        (Hedge(0.5), {"priority": "bulk"}, []),
    ):
        endpoint = ScriptedEndpoint(slow("late", 9.0), "second")
        text, call = await ask(FakeClock(), stack(endpoint, layer), **fields)
        assert (text, endpoint.opened, flow(call)) == ("late", 1, note)


@pytest.mark.asyncio
async def test_the_delay_is_the_quantile_of_first_attempts_and_hedging_does_not_lower_it() -> None:
    clock, layer = FakeClock(), Hedge(minimum=20, budget=RetryBudget(1.0, 1000))
    for n in range(20):
        assert layer.after() is None
        await ask(clock, stack(ScriptedEndpoint(slow("x", 0.1 + 0.01 * n)), layer))
    assert layer.after() == pytest.approx(0.1 + 0.01 * 18)
    for _ in range(20):
        await ask(clock, stack(ScriptedEndpoint(slow("late", 9.0), slow("second", 0.01)), layer))
    after = layer.after()
    assert after is not None
    assert after >= 0.28, "an attempt that was given up took at least as long"


# --- cancellation


@pytest.mark.asyncio
@pytest.mark.parametrize("at", [0.0, 0.2, 0.5, 0.6, 0.9, 0.95, 1.1])
async def test_cancelled_at_any_time_nothing_is_left(at: float) -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(slow("first", 1.0), slow("second", 0.4))
    task = asyncio.ensure_future(collect(stack(endpoint, Hedge(0.5)), Call(ASK, clock=clock)))
    await clock.run_for(at)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (endpoint.active, clock.pending, others()) == (0, 0, [])


class Stubborn:
    """Openings of which the first swallows cancellations, and opens a second after each one after all."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.opened = 0
        self.closed: list[int] = []

    @asynccontextmanager
    async def __call__(self, _: Call) -> AsyncGenerator[Stream]:
        number, self.opened = self.opened, self.opened + 1
        if number == 0:
            for wait in (9.0, 1.0, 1.0):
                with suppress(asyncio.CancelledError):
                    await self.clock.sleep(wait)
                    break
        try:
            yield self.events()
        finally:
            self.closed.append(number)

    async def events(self) -> AsyncGenerator[Event]:
        yield Finish("stop")


@pytest.mark.asyncio
async def test_a_stubborn_loser_is_waited_for_and_closed() -> None:
    clock = FakeClock()
    stubborn = Stubborn(clock)
    await clock.run(collect(stack(stubborn, Hedge(0.5)), Call(ASK, clock=clock)))
    assert stubborn.closed == [0, 1]
    assert others() == []


@pytest.mark.asyncio
async def test_a_cancellation_while_the_loser_ends_waits_for_it_too() -> None:
    clock = FakeClock()
    stubborn = Stubborn(clock)
    task = asyncio.ensure_future(collect(stack(stubborn, Hedge(0.5)), Call(ASK, clock=clock)))
    closed: list[list[int]] = []
    task.add_done_callback(lambda _: closed.append(sorted(stubborn.closed)))
    await clock.run_for(0.6)
    task.cancel()
    await clock.run_for(2.0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == [[0, 1]], "both are closed when the call is over, not some time later"
    assert others() == []


outcomes = st.sampled_from(["quick", "slow", "late", "fails", "fails late", "hang", "cut"])


@given(
    st.lists(st.tuples(outcomes, outcomes, st.floats(0, 4), st.booleans()), max_size=10),
    st.integers(0, 4),
)
def test_under_any_schedule_no_loser_leaks(plans: list[tuple[str, str, float, bool]], floor: int) -> None:
    scripts = {
        "quick": slow("a b c", 0.1),
        "slow": slow("a b c", 0.5),
        "late": slow("a b c", 1.5),
        "fails": Script("", fail_after=0),
        "fails late": Script("", ttft=0.7, fail_after=0),
        "hang": Script("a", ttft=0.0, stall_after=0),
        "cut": Script("a b c", ttft=0.2, tpot=0.1, fail_after=2),
    }

    async def schedule() -> None:
        clock, budget = FakeClock(), RetryBudget(0.2, floor, window=1e9)
        ends, tasks = [], []

        async def use(handler: Handler, call: Call, early: bool) -> None:
            async with handler(call) as stream:
                async for _ in stream:
                    if early:
                        break

        for first, second, stop, early in plans:
            endpoint = ScriptedEndpoint(scripts[first], scripts[second])
            ends.append(endpoint)
            handler = stack(endpoint, Hedge(0.5, budget=budget))
            tasks.append(asyncio.ensure_future(use(handler, Call(ASK, clock=clock), early)))
            clock.call_later(stop + 0.01, tasks[-1].cancel)
        await clock.run_for(6.0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(endpoint.active == 0 for endpoint in ends)
        assert sum(endpoint.opened - 1 for endpoint in ends) <= floor + 0.2 * len(plans)
        assert (clock.pending, others()) == (0, [])

    asyncio.run(schedule())
