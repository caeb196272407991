"""The cost cap: what is reserved and spent never passes it, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.cap import ALONE, MOST_UNKNOWN, Cap, Dearest
from evalkit.trial import Trial
from guardrails.errors import BudgetExceeded
from judges.judge import Score

CENTS = st.integers(1, 50).map(lambda cents: Decimal(cents) / 100)
CALLS = st.lists(st.tuples(CENTS, st.integers(0, 100), st.integers(0, 4)), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None)
@given(calls=CALLS, limit=CENTS.map(lambda usd: usd * 10))
def test_spending_never_passes_the_cap_and_everything_ends(
    calls: list[tuple[Decimal, int, int]], limit: Decimal
) -> None:
    async def run() -> Cap:
        cap = Cap(limit)

        async def one(worst: Decimal, share: int, steps: int) -> bool:
            try:
                async with cap.hold(worst) as held:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                        assert cap.spent + cap.reserved <= limit
                    held.cost = worst * share / 100
            except BudgetExceeded:
                return False
            return True

        done = await asyncio.wait_for(asyncio.gather(*(one(*call) for call in calls)), 30)
        assert cap.reached == (not all(done))
        return cap

    cap = asyncio.run(run())

    assert cap.reserved == 0
    assert cap.spent <= limit


@pytest.mark.asyncio
async def test_a_call_that_does_not_fit_waits_for_others_to_give_back() -> None:
    cap = Cap(Decimal(1))
    began, go = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with cap.hold(Decimal("0.8")) as held:
            began.set()
            await go.wait()
            held.cost = Decimal("0.1")

    async def second() -> None:
        await began.wait()
        async with cap.hold(Decimal("0.8")) as held:
            held.cost = Decimal("0.8")

    waiting = [asyncio.create_task(first()), asyncio.create_task(second())]
    await began.wait()
    await asyncio.sleep(0)
    assert not waiting[1].done()
    go.set()
    await asyncio.gather(*waiting)

    assert cap.spent == Decimal("0.9")
    assert not cap.reached


@pytest.mark.asyncio
async def test_what_is_not_known_is_booked_as_reserved_and_a_cancellation_gives_back_nothing_twice() -> None:
    cap = Cap(Decimal(2))
    inside = asyncio.Event()

    async def one() -> None:
        async with cap.hold(Decimal("0.5")):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(one())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (cap.reserved, cap.spent) == (0, Decimal("0.5"))


@pytest.mark.asyncio
async def test_once_reached_nobody_starts() -> None:
    cap = Cap(Decimal(1), spent=Decimal("0.9"))

    with pytest.raises(BudgetExceeded) as caught:
        async with cap.hold(Decimal("0.2")):
            raise AssertionError("it must not run")

    assert caught.value.kind == "cost_cap"
    assert cap.reached


@pytest.mark.parametrize(
    ("record", "paid"),
    [
        ({"cost_usd": "0.1", "wasted_usd": "0.02"}, "0.13"),
        ({"cost_usd": "0.1", "wasted_usd": "0", "user_cost_usd": "0.3"}, "0.41"),
        ({"cost_usd": "0.1", "wasted_usd": "0", "cached": True}, "0.01"),
        ({"cost_usd": None}, None),
        (None, None),
    ],
)
def test_a_row_pays_for_its_attempts_its_user_and_its_judges_and_for_no_earlier_call(
    made: Callable[..., Trial], record: dict[str, Any] | None, paid: str | None
) -> None:
    row = made(1, record=record, scores={"rubric": Score(1.0, True, "fine", cost_usd=0.01)})
    assert row.paid_usd == (None if paid is None else Decimal(paid))


BROKEN = [{"cost_usd": None}, {"cost_usd": "0.1"}]


@pytest.mark.parametrize(
    ("record", "calls", "known"),
    [
        ({"cost_usd": "0.1", "wasted_usd": "0"}, 1, "0.1"),
        ({"cost_usd": "0.1", "wasted_usd": "0.02", "attempts": BROKEN}, 0, "0.12"),
        ({"cost_usd": "0.1", "wasted_usd": "0", "user_cost_usd": None}, 0, "0.1"),
        ({"cost_usd": None, "wasted_usd": "0.02"}, 0, "0.02"),
        ({"cost_usd": "0.1", "wasted_usd": "0", "outcome": "failed", "token_source": "estimate"}, 0, "0.1"),
    ],
    ids=["judge", "attempt", "user", "call", "cut off"],
)
def test_a_part_of_unknown_cost_makes_the_whole_unknown(
    made: Callable[..., Trial], record: dict[str, Any], calls: int, known: str
) -> None:
    row = made(1, record=record, scores={"rubric": Score(1.0, True, "fine", calls=calls)})

    assert (row.paid_usd, row.known_usd) == (None, Decimal(known))
    assert row.unknown_judgings == calls


def test_a_row_is_paid_exactly_whatever_context_the_caller_has_set(made: Callable[..., Trial]) -> None:
    record = {"cost_usd": "1000.001", "wasted_usd": "0.0001"}
    row = made(1, record=record, scores={"rubric": Score(1.0, True, "fine", cost_usd=0.25)})
    with localcontext(prec=2):
        assert row.paid_usd == Decimal("1000.2511")


@pytest.mark.asyncio
async def test_a_cap_is_exact_whatever_context_the_caller_has_set() -> None:
    with localcontext(prec=2):
        cap = Cap(Decimal("1000.03"))
        for _ in range(3):
            async with cap.hold(Decimal("333.34")) as held:
                held.cost = Decimal("333.34")
        assert cap.spent == Decimal("1000.02")
        with pytest.raises(BudgetExceeded):
            async with cap.hold(Decimal("0.02")):
                raise AssertionError("it must not run")


# --- what judging costs


def test_an_unknown_cost_is_booked_as_the_dearest() -> None:
    judging = Dearest()

    assert judging.learn(Decimal("0.3")) == Decimal("0.3")
    assert judging.learn(Decimal("0.1"), whole=False) == Decimal("0.3")
    assert judging.learn(Decimal("0.5"), whole=False) == Decimal("0.5"), "so much of it is known"
    assert judging.most == Decimal("0.5")


def test_the_first_known_cost_is_booked_for_those_before_it_too() -> None:
    judging = Dearest()

    assert [judging.learn(Decimal(0), whole=False) for _ in range(2)] == [0, 0]
    assert judging.most is None
    assert judging.learn(Decimal("0.3")) == Decimal("0.9")
    assert judging.learn(Decimal("0.2")) == Decimal("0.2")


@pytest.mark.asyncio
async def test_no_cap_holds_over_judges_whose_cost_nobody_knows() -> None:
    judging = Dearest()
    for _ in range(MOST_UNKNOWN):
        async with judging.guess() as guessed:
            assert guessed == 0
            judging.learn(Decimal(0), whole=False)

    with pytest.raises(BudgetExceeded):
        async with judging.guess():
            raise AssertionError("it must not run")


async def _under_way(judging: Dearest, rows: int, *, end: Callable[[], object]) -> int:
    """How many of so many rows begin together; each then calls `end`."""
    begun, go = 0, asyncio.Event()

    async def one() -> None:
        nonlocal begun
        async with judging.guess():
            begun += 1
            await go.wait()
            end()

    tasks = [asyncio.create_task(one()) for _ in range(rows)]
    for _ in range(10):
        await asyncio.sleep(0)
    together = begun
    go.set()
    await asyncio.gather(*tasks)
    return together


@pytest.mark.asyncio
async def test_rows_without_a_judging_do_not_keep_others_waiting_for_ever() -> None:
    judging = Dearest()

    together = []
    for _ in range(ALONE + 3):
        begun = await _under_way(judging, 99, end=lambda: None)
        together.append(begun)
        judging.skipped += begun

    assert together == [*[1] * ALONE, 2, 4, 8], "no more than had none before"


@pytest.mark.asyncio
async def test_a_judging_of_unknown_cost_is_followed_by_one_at_a_time_again() -> None:
    judging = Dearest()
    for _ in range(9):
        judging.skip()
    judging.learn(Decimal(0), whole=False)

    assert await _under_way(judging, 8, end=lambda: None) == 1


@pytest.mark.asyncio
async def test_whoever_is_cancelled_leaves_its_place_to_the_next() -> None:
    judging, inside = Dearest(), asyncio.Event()

    async def one() -> None:
        async with judging.guess():
            inside.set()
            await asyncio.Event().wait()

    first, second = asyncio.create_task(one()), asyncio.create_task(one())
    await inside.wait()
    inside.clear()
    first.cancel()
    await asyncio.wait_for(inside.wait(), 30)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert await _under_way(judging, 2, end=lambda: None) == 1


@pytest.mark.asyncio
async def test_all_begin_once_a_cost_is_known() -> None:
    judging = Dearest()
    first = await _under_way(judging, 5, end=lambda: judging.learn(Decimal("0.3")))

    assert (first, await _under_way(judging, 5, end=lambda: None)) == (1, 5)
