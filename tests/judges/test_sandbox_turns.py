"""Who runs next: the same tests follow each other, nobody is left waiting, no turn is ever lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.sandbox.turns import LONGEST, Turns


async def order(turns: Turns, keys: str, holding: str = "z") -> str:
    """The order in which turns come to these keys, all asked for while `holding` have every turn."""
    for each in holding:
        await turns.take(each)
    came: list[str] = []

    async def one(key: str) -> None:
        await turns.take(key)
        came.append(key)
        await asyncio.sleep(0)
        turns.end(key)

    tasks = [asyncio.ensure_future(one(key)) for key in keys]
    await asyncio.sleep(0)
    for each in holding:
        turns.end(each)
    await asyncio.gather(*tasks)
    return "".join(came)


@pytest.mark.asyncio
async def test_the_same_tests_follow_each_other_and_two_workers_take_different_ones() -> None:
    assert await order(Turns(1), "abcabc") == "aabbcc"
    assert await order(Turns(1), "aba", holding="b") == "baa"
    assert await order(Turns(2), "aaabbb", holding="zz") == "ababab"


@pytest.mark.asyncio
async def test_who_came_first_is_not_passed_over_for_ever() -> None:
    turns = Turns(1)
    await turns.take("a")
    waiting = asyncio.ensure_future(turns.take("b"))
    for _ in range(2 * LONGEST):  # a stream of one problem that never ends
        following = asyncio.ensure_future(turns.take("a"))
        await asyncio.sleep(0)
        turns.end("a")
        await asyncio.sleep(0)
        if waiting.done():
            following.cancel()
            break
    assert waiting.done()


@given(st.text("abc", max_size=12), st.integers(1, 3), st.lists(st.integers(0, 11)), st.integers(0, 20))
def test_no_turn_is_lost_whoever_is_cancelled(keys: str, most: int, cancelled: list[int], when: int) -> None:
    async def run() -> None:
        turns, at_once = Turns(most), 0

        async def one(key: str) -> None:
            nonlocal at_once
            await turns.take(key)
            at_once += 1
            assert at_once <= most
            try:
                await asyncio.sleep(0)
            finally:
                at_once -= 1
                turns.end(key)

        tasks = [asyncio.ensure_future(one(key)) for key in keys]
        for _ in range(when):
            await asyncio.sleep(0)
        for number in cancelled:
            if number < len(tasks):
                tasks[number].cancel()
        for _ in range(50):
            await asyncio.sleep(0)
        assert all(task.done() for task in tasks)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        again = [asyncio.ensure_future(turns.take("z")) for _ in range(most)]
        await asyncio.sleep(0)
        assert all(task.done() for task in again)

    asyncio.run(run())
