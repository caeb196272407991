"""Nothing of one program is another's: neither its text, nor its limits, nor what its tests left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from judges.code import scored
from judges.sandbox import Limits, Pool, Program, Result, choose

RIGHT = "def solve(n): return n * n"
TESTS = ("assert solve(3) == 9",)


def run(*programs: tuple[Program, Limits | None]) -> list[Result]:
    async def one_by_one() -> list[Result]:
        chosen = await choose(None)
        async with Pool(chosen.sandbox, workers=1) as pool:
            return [await pool.run(program, limits) for program, limits in programs]

    return asyncio.run(one_by_one())


def program(source: str, tests: Sequence[str] = TESTS, setup: str = "") -> tuple[Program, None]:
    return Program(source, tuple(tests), setup=setup, names=("solve",)), None


def test_an_empty_program_is_not_the_one_before() -> None:
    first, empty, again, last = run(program(""), program(RIGHT), program(""), program(RIGHT))
    assert [each.passed for each in (first, empty, again, last)] == [False, True, False, True]
    assert (first.kind, again.kind) == ("undefined", "undefined")


def test_a_program_cannot_choose_the_word_for_its_outcome() -> None:
    forged = (
        'import os,json\nd=json.dumps(["broken",{word},""]).encode()\nos.write(3,len(d).to_bytes(4,"big")+d)'
    )
    for word in ('"passed"', '"secret words"', "[1]"):
        (result,) = run(program(forged.replace("{word}", word)))
        score = scored(result, "sandbox")
        assert (result.kind, score.passed, score.value) == ("protocol", False, 0.0)
        assert "secret" not in score.reason


def test_tests_that_never_call_a_program_are_no_mark_for_it() -> None:
    (result,) = run(program(RIGHT, ["assert True"]))
    assert scored(result, "sandbox").value == 0.0


def test_an_alarm_of_the_tests_does_not_end_the_next_program_s() -> None:
    tests = ["import signal\nsignal.alarm(1)\nassert solve(3) == 9\nsignal.alarm(0)"]
    wrong = program("def solve(n): return 0", tests)
    slow = program("import time\ndef solve(n):\n    time.sleep(1.5)\n    return 9", ["assert solve(3) == 9"])
    results = run(wrong, slow, wrong, program(RIGHT, tests))
    assert [each.passed for each in results] == [False, True, False, True]


def test_what_earlier_programs_gave_does_not_fill_the_next_ones_memory() -> None:
    tests = ["r = solve(3)\nassert len(r) == 2000000"]
    large = program("def solve(n): return chr(0x1F600) + 'x' * 7000000", tests, "def helper(): pass")
    honest = program("def solve(n): return 'x' * 2000000", tests, "def helper(): pass")
    results = run(*([large] * 45), honest)
    assert {each.kind for each in results[:-1]} == {"wrong"}
    assert results[-1].passed


@pytest.mark.parametrize("first_small", [True, False])
def test_limits_are_those_of_the_program_that_runs(first_small: bool) -> None:
    long = Program("def solve(n): return 'x' * 100000", ("assert len(solve(3)) == 100000",), names=("solve",))
    small = Limits(output=1 << 16)
    order = (small, None) if first_small else (None, small)
    results = run(*((long, limits) for limits in order))
    assert [each.passed for each in results] == [limits is None for limits in order]


def test_a_pool_that_is_left_while_its_workers_start_leaves_nobody() -> None:
    before = children()  # such as a server that other tests of this process use

    async def left(seconds: float) -> set[int]:
        chosen = await choose(None)
        pool = Pool(chosen.sandbox, workers=1)
        async with pool:
            running = asyncio.ensure_future(pool.run(program(RIGHT)[0]))
            await asyncio.wait([running], timeout=seconds)
            running.cancel()
            await asyncio.wait([running])
        return children() - before

    for step in range(12):
        assert asyncio.run(left(0.06 + 0.01 * step)) == set()


def children() -> set[int]:
    from pathlib import Path

    path = Path("/proc/self/task")
    return {int(pid) for task in path.iterdir() for pid in (task / "children").read_text().split()}
