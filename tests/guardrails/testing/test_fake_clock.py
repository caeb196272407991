from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.clock import Clock
from guardrails.testing import FakeClock

delays = st.lists(st.integers(0, 50).map(float), max_size=20)


def test_is_a_clock() -> None:
    clock: Clock = FakeClock()
    assert clock.now() == clock.now() == 0.0


def test_wall_moves_with_now() -> None:
    start = datetime(2030, 5, 1, tzinfo=UTC)
    clock = FakeClock(now=100.0, start=start)
    assert clock.wall() == start
    clock.advance(90)
    assert clock.wall() == start + timedelta(seconds=90)
    assert clock.now() == 190


@given(delays, st.integers(0, 60))
def test_advance_fires_exactly_what_is_due_in_order_at_its_time(due: list[float], end: int) -> None:
    clock, fired = FakeClock(), []
    for number, delay in enumerate(due):
        clock.call_later(delay, lambda n=number: fired.append((clock.now(), n)))
    clock.advance(end)
    assert fired == sorted((delay, n) for n, delay in enumerate(due) if delay <= end)
    assert clock.now() == end
    assert clock.pending == len(due) - len(fired)


@given(delays, st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_how_time_is_cut_into_advances_does_not_matter(due: list[float], steps: list[int]) -> None:
    def fired(cuts: list[int]) -> list[tuple[float, int]]:
        clock, seen = FakeClock(), []
        for number, delay in enumerate(due):
            clock.call_later(delay, lambda n=number: seen.append((clock.now(), n)))
        for cut in cuts:
            clock.advance(cut)
        return seen

    assert fired(steps) == fired([sum(steps)])


@given(delays)
def test_run_for_wakes_sleepers_at_their_own_time(due: list[float]) -> None:
    async def main() -> None:
        clock, woke = FakeClock(), []

        async def sleeper(delay: float) -> None:
            await clock.sleep(delay)
            woke.append((delay, clock.now()))

        tasks = [asyncio.create_task(sleeper(delay)) for delay in due]
        await clock.run_for(50)
        await asyncio.gather(*tasks)
        assert woke == [(delay, delay) for delay in sorted(due)]

    asyncio.run(main())


def test_a_callback_may_set_a_timer_that_fires_in_the_same_advance() -> None:
    clock, fired = FakeClock(), []

    def tick() -> None:
        fired.append(clock.now())
        clock.call_later(1.0, tick)

    clock.call_later(1.0, tick)
    clock.advance(3.5)
    assert fired == [1.0, 2.0, 3.0]
    assert clock.next_due == 4.0


def test_a_cancelled_timer_is_forgotten_and_may_be_cancelled_again() -> None:
    clock, fired = FakeClock(), []
    timer = clock.call_later(1.0, lambda: fired.append(1))
    timer.cancel()
    timer.cancel()
    clock.advance(2)
    assert fired == []
    assert clock.pending == 0


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_time_never_goes_backwards_nor_to_infinity(seconds: float) -> None:
    with pytest.raises(ValueError, match="cannot advance"):
        FakeClock().advance(seconds)


@pytest.mark.asyncio
async def test_run_jumps_through_a_chain_of_sleeps() -> None:
    clock = FakeClock()

    async def work() -> str:
        for _ in range(3):
            await clock.sleep(1000)
        return "done"

    assert await clock.run(work()) == "done"
    assert clock.now() == 3000


@pytest.mark.asyncio
async def test_run_passes_errors_on() -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await FakeClock().run(work())


@pytest.mark.asyncio
@pytest.mark.parametrize("forever", [math.inf, None])
async def test_run_fails_instead_of_hanging(forever: float | None) -> None:
    clock, cleaned = FakeClock(), []

    async def work() -> None:
        try:
            await (clock.sleep(forever) if forever else asyncio.Event().wait())
        finally:
            cleaned.append(True)

    with pytest.raises(AssertionError, match="no timer"):
        await clock.run(work())
    assert cleaned == [True]
    assert clock.pending == 0


@pytest.mark.asyncio
async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(5))
    await clock.settle()
    assert clock.pending == 1
    task.cancel()
    await clock.settle()
    assert task.cancelled()
    assert clock.pending == 0


@pytest.mark.asyncio
async def test_a_sleep_cancelled_in_the_moment_it_is_due_is_cancelled() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(5))
    await clock.settle()
    task.cancel()
    clock.advance(5)
    await clock.settle()
    assert task.cancelled()
