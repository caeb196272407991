"""The pool: verdicts, limits, cancellation, what is left behind, and which sandbox is chosen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from guardrails.errors import ConfigError
from judges.sandbox import (
    Chosen,
    Limits,
    NoSandbox,
    Outcome,
    Pool,
    Program,
    Result,
    Script,
    Unavailable,
    choose,
)
from judges.sandbox.choose import SANDBOXES, tried
from judges.sandbox.tiers import Bubblewrap, Interpreter, Launched, Role

ROOT = Path(__file__).parents[2]
QUICK = Limits(cpu=1, wall=120.0)  # what does not wait ends by its processor time, however busy the machine


def square(body: str, **options: Any) -> Program:
    return Program(body, ("assert solve(3) == 9",), names=("solve",), **options)


RIGHT = square("def solve(n): return n * n")
SLEEPING = square("import time\ndef solve(n): time.sleep(1000)")


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    try:
        chosen = await choose()
    except NoSandbox as error:
        pytest.skip(str(error))
    async with Pool(chosen.sandbox, workers=1) as made:
        yield made


# --- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("def solve(n): return n * n", "passed"),
        ("def solve(n): return n", "wrong"),
        ("def solve(n): return n / 0", "exception"),
        ("def solve(n: return n", "syntax"),
        ("solve = None", "exception"),
        ("def other(n): return n", "undefined"),
        ("raise ValueError", "exception"),
        ("raise SystemExit", "exit"),
        ("import os\nos._exit(0)", "exit"),
        ("def solve(n): return bytearray(1 << 40)", "memory"),
        ("import ctypes\ndef solve(n): ctypes.string_at(0)", "crash"),
        ("def solve(n):\n    while True: pass", "timeout"),
        ("def solve(n): return 'x' * 20_000_000", "protocol"),
        ("import no_such_module\ndef solve(n): return n * n", "exception"),
        ("import numpy\ndef solve(n): return n * n", "exception"),  # installed, but not declared
    ],
)
async def test_a_program_ends_as_it_deserves(pool: Pool, source: str, kind: str) -> None:
    result = await pool.run(square(source), QUICK)
    assert (result.kind, result.passed) == (kind, kind == "passed")
    assert (await pool.run(RIGHT)).passed


@pytest.mark.asyncio
async def test_each_test_has_an_outcome_and_later_ones_run_after_a_failure(pool: Pool) -> None:
    program = Program(
        "def f(x): return x", ("assert f(1) == 1", "assert f(1) == 2", "assert f(3) == 3"), names=("f",)
    )
    result = await pool.run(program)
    assert [each.kind for each in result.outcomes] == ["passed", "wrong", "passed"]
    assert result.message == "assert f(1) == 2"
    assert not result.passed


@pytest.mark.asyncio
async def test_tests_that_do_not_run_say_nothing_of_the_program(pool: Pool) -> None:
    for tests, setup in ((("def",), ""), (("assert True",), "1 / 0")):
        result = await pool.run(Program("def f(): pass", tests, setup, names=("f",)))
        assert (result.status, result.kind) == ("broken", "faulty")


@pytest.mark.asyncio
async def test_tests_that_ask_nothing_pass_nobody(pool: Pool) -> None:
    result = await pool.run(Program("def f(): return 1", ("assert 1 == 1",), names=("f",)))
    assert result.kind == "uncalled"


PLAIN = """
for v in (1, -1.5, True, None, 'é', b'\\x00', (1, (2,)), {1: {2}}, [], 2**300, 1j, frozenset({1}), range(3)):
    assert f(v) == v and type(f(v)) is type(v)
"""
EXACT = """
import decimal, fractions, datetime
assert f(decimal.Decimal('1.10')) == decimal.Decimal('1.1')
assert f(fractions.Fraction(1, 3)) * 3 == 1
noon = datetime.datetime(2020, 1, 2, 12, tzinfo=datetime.timezone.utc)
assert f(noon) == noon and f(noon.date()) == noon.date()
assert f(datetime.timedelta(days=1)).days == 1
"""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("source", "test"),
    [
        (
            "def f(x): return x",
            PLAIN,
        ),
        ("def f(x): return x", "import math; assert math.isnan(f(math.nan)) and f(math.inf) == math.inf"),
        (
            "def f(x): return x",
            EXACT,
        ),
        (
            "import collections\ndef f(x): return collections.Counter(x)",
            "assert f('aab') == {'a': 2, 'b': 1}",
        ),
        ("def f(x):\n    yield from range(x)", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(x): return map(str, x)", "assert f([1]) != ['1'] and list(f([1])) == ['1']"),
        ("def f(x): return lambda y: x + y", "assert f(1)(2) == 3"),
        ("def f(g, x): return g(x) + 1", "assert f(lambda x: x * 2, 4) == 9"),
        ("def f(g, xs): return sorted(xs, key=g)", "assert f(len, ['aaa', 'b']) == ['b', 'aaa']"),
        ("def f(kind, x): return isinstance(x, kind)", "assert f(int, 3) is True"),
        ("def f(xs): return sum(xs)", "assert f(iter([1, 2, 3])) == 6"),
        ("def f(xs): xs.append(1); xs.sort()", "given = [3, 2]; f(given); assert given == [1, 2, 3]"),
        ("def f(d): d['k'] = 1", "given = {}; f(given); assert given == {'k': 1}"),
        (
            "def f(x): raise KeyError('a', 1)",
            "try: f(1)\nexcept KeyError as error: assert error.args == ('a', 1)\nelse: raise AssertionError",
        ),
        (
            "class Odd(ValueError): pass\ndef f(x): raise Odd('no')",
            "try: f(1)\nexcept Odd as error: assert str(error) == 'no'\nelse: raise AssertionError",
        ),
        ("async def f(x): return x", "import inspect\nassert f is not None and f.__name__ == 'f'\nf(1)"),
        ("LIMIT = 5\ndef f(x): return x", "assert LIMIT == 5 and f(1) == 1"),
        ("def f(a, *b, c=1, **d): return [a, b, c, d]", "assert f(1, 2, c=3, e=4) == [1, (2,), 3, {'e': 4}]"),
        ("def f(x): return f'{x!r}'", "assert f([1.0, 'a']) == \"[1.0, 'a']\""),
    ],
)
async def test_values_of_every_plain_kind_cross_both_ways(pool: Pool, source: str, test: str) -> None:
    result = await pool.run(Program(source, (test,), names=("f",)))
    assert result.passed, result.message


BAG = """
bag = Bag(1)
bag.add(2).add(3)
assert len(bag) == 3 and 2 in bag and bag.items == [1, 2, 3] and bag and list(bag) == [1, 2, 3]
assert Bag(1) == Bag(1) and isinstance(bag, Bag)
"""
CLASS = """
class Bag:
    def __init__(self, *items): self.items = list(items)
    def add(self, item): self.items.append(item); return self
    def __len__(self): return len(self.items)
    def __contains__(self, item): return item in self.items
    def __eq__(self, other): return self.items == other.items
    def __iter__(self): return iter(self.items)
"""


@pytest.mark.asyncio
async def test_a_class_answers_for_itself_only_where_the_problem_asks_for_one(pool: Pool) -> None:
    test = BAG
    asked = await pool.run(Program(CLASS, (test,), names=("Bag",), classes=("Bag",)))
    assert asked.passed, asked.message
    unasked = await pool.run(Program(CLASS, ("assert 2 in Bag(2)",), names=("Bag",)))
    assert not unasked.passed


@pytest.mark.asyncio
async def test_each_program_starts_from_scratch_though_the_tests_process_is_kept(pool: Pool) -> None:
    tests = ("try: count\nexcept NameError: count = 0\ncount += 1\nassert count == 1 and solve(2) == 4",)
    for _ in range(5):
        assert (
            await pool.run(Program("def solve(n): return n * n", tests, "import math", names=("solve",)))
        ).passed
    assert (
        await pool.run(Program("def solve(n): return 5", tests, "import math", names=("solve",)))
    ).kind == "wrong"
    assert pool.started == 1


@pytest.mark.asyncio
async def test_an_answer_that_takes_forever_to_check_ends_the_tests_process_only(pool: Pool) -> None:
    tests = ("for _ in range(solve(1)): pass",)
    answer = Program("def solve(n): return 10**15", tests, names=("solve",))
    assert (await pool.run(answer, QUICK)).kind == "checker"
    assert (await pool.run(Program("def solve(n): return 3", tests, names=("solve",)), QUICK)).passed
    endless = Program("def solve(g):\n    while True: g(1)", ("solve(lambda x: x)",), names=("solve",))
    assert (await pool.run(endless, QUICK)).kind in ("checker", "timeout")
    assert (await pool.run(RIGHT)).passed


@pytest.mark.asyncio
async def test_what_was_left_in_the_scratch_folder_costs_the_worker(pool: Pool) -> None:
    if pool.sandbox.name != "bubblewrap":
        pytest.skip("only there can anything be written")
    writes = square("def solve(n):\n    open('left', 'w').write('x')\n    return n * n")
    assert (await pool.run(writes)).passed
    assert (
        await pool.run(square("import os\ndef solve(n): return 9 if os.listdir('.') == [] else 0"))
    ).passed
    assert pool.started == 2


@pytest.mark.asyncio
async def test_a_declared_package_can_be_imported_by_the_program_itself(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "declared.py").write_text("NINE = 9\n")
    if pool.sandbox.name != "bubblewrap":
        pytest.skip("pytest closes its folders to the user that programs run as there")
    interpreter = Interpreter.here(packages=[("declared.py", str(tmp_path / "declared.py"))])
    async with Pool(pool.sandbox, interpreter=interpreter, workers=1) as declaring:
        program = square("def solve(n):\n    from declared import NINE\n    return NINE")
        assert (await declaring.run(program)).passed
    assert (await pool.run(program)).kind == "exception"


# --- cancellation, and what is left behind -----------------------------------------------------------------


def group(pid: int) -> list[str]:
    """The processes of a group, apart from zombies that somebody is about to wait for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after[2]) == pid and after[0] != "Z":
            found.append(stat.parent.name)
    return found


async def until_gone(pids: list[int]) -> None:
    async with asyncio.timeout(20):
        while any(group(pid) for pid in pids):  # noqa: ASYNC110 (nobody tells us of a stranger's end)
            await asyncio.sleep(0)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
async def test_cancelling_a_run_kills_what_it_ran(name: str) -> None:
    finding = await tried(SANDBOXES[name])
    if not finding.works:
        pytest.skip(f"{name} does not work here: {finding.reason}")
    async with Pool(SANDBOXES[name], workers=1) as pool:
        assert (await pool.run(RIGHT)).passed
        (worker,) = pool._idle
        pids = [*worker.pids]
        assert all(group(pid) for pid in pids)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await pool.run(SLEEPING)
        await until_gone(pids)
        assert (await pool.run(RIGHT)).passed
        assert pool.started == 2


@pytest.mark.asyncio
async def test_a_run_that_waits_lets_the_event_loop_turn(pool: Pool) -> None:
    running = asyncio.ensure_future(pool.run(SLEEPING))
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert not running.done()
    running.cancel()
    assert (await pool.run(SLEEPING, Limits(wall=0.5))).kind == "timeout"


@pytest.mark.asyncio
async def test_closing_the_pool_ends_every_process() -> None:
    try:
        chosen = await choose()
    except NoSandbox as error:
        pytest.skip(str(error))
    async with Pool(chosen.sandbox, workers=2) as pool:
        await asyncio.gather(*(pool.run(RIGHT) for _ in range(6)))
        pids = [pid for worker in pool._idle for pid in worker.pids]
        assert pids
    await until_gone(pids)
    with pytest.raises(RuntimeError, match="closed"):
        await pool.run(RIGHT)


@pytest.mark.asyncio
async def test_a_worker_that_dies_is_replaced_and_the_program_tried_again(pool: Pool) -> None:
    assert (await pool.run(RIGHT)).passed
    for pid in pool._idle[0].pids:
        os.killpg(pid, signal.SIGKILL)
    assert (await pool.run(RIGHT)).passed
    assert pool.started == 2


CALLER = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from judges.sandbox import Pool, Program, choose
async def main():
    pool = Pool((await choose()).sandbox, workers=1)
    await pool.run(Program("def f(): return 1", ("assert f() == 1",), names=("f",)))
    print(*pool._idle[0].pids, flush=True)
    await pool.run(Program("import time\\ndef f(): time.sleep(1000)", ("f()",), names=("f",)))
asyncio.run(main())
"""


@pytest.mark.asyncio
@pytest.mark.e2e
async def test_a_caller_that_is_killed_leaves_no_process(pool: Pool) -> None:
    command = [sys.executable, "-c", CALLER, str(ROOT)]
    caller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert caller.stdout is not None
    pids = [int(word) for word in (await asyncio.to_thread(caller.stdout.readline)).split()]
    assert len(pids) == 2
    caller.kill()
    caller.wait()
    caller.stdout.close()
    await until_gone(pids)


# --- which sandbox -----------------------------------------------------------------------------------------


class Missing:
    name = title = "missing"

    def launch(self, role: Role, interpreter: Interpreter, /) -> Launched:
        raise Unavailable("it is not there")


@pytest.mark.asyncio
async def test_without_any_sandbox_nothing_is_run_and_the_reasons_are_given() -> None:
    with pytest.raises(NoSandbox, match=r"missing: it is not there.*install bubblewrap") as caught:
        await choose(among={"missing": Missing(), "unsafe_subprocess": SANDBOXES["unsafe_subprocess"]})
    assert isinstance(caught.value, ConfigError)


@pytest.mark.asyncio
async def test_the_unsafe_one_is_taken_by_name_only() -> None:
    assert (await choose("unsafe_subprocess")).sandbox.name == "unsafe_subprocess"
    with pytest.raises(NoSandbox, match="no sandbox 'none'"):
        await choose("none")


@pytest.mark.asyncio
async def test_a_sandbox_that_refuses_nothing_is_found_out() -> None:
    finding = await tried(SANDBOXES["unsafe_subprocess"])
    assert not finding.works
    assert "reading files" in finding.reason
    assert "processes" in finding.reason


@pytest.mark.asyncio
async def test_a_missing_bubblewrap_says_what_to_install() -> None:
    finding = await tried(Bubblewrap(program="no-such-bwrap"))
    assert (finding.works, finding.reason) == (
        False,
        "bubblewrap is not installed: apt-get install bubblewrap",
    )


@pytest.mark.asyncio
async def test_the_strongest_comes_first_with_what_was_found_of_each(pool: Pool) -> None:
    chosen = await choose(among={"missing": Missing(), pool.sandbox.name: pool.sandbox})
    assert isinstance(chosen, Chosen)
    assert [(each.name, each.works) for each in chosen.findings] == [
        ("missing", False),
        (pool.sandbox.name, True),
    ]


# --- other languages ---------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def shell() -> AsyncIterator[Pool]:
    sandbox = SANDBOXES["bubblewrap"]
    finding = await tried(sandbox)
    if not finding.works:
        pytest.skip(f"commands need bubblewrap, which does not work here: {finding.reason}")
    from dataclasses import replace

    interpreter = replace(Interpreter.here(), tools=("/usr", "/bin", "/lib", "/lib64"))
    async with Pool(sandbox, interpreter=interpreter, workers=1) as made:
        yield made


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("read name; echo hello $name", "passed"),
        ("read name; echo 'hello bob  '; echo", "passed"),
        ("echo hello", "wrong"),
        ("exit 3", "exit"),
        ("echo hello bob; exit 1", "exit"),
        ("while :; do :; done", "timeout"),
        ("sleep 1000", "timeout"),
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "output"),
        ("(sleep 1000 &); echo hello bob", "passed"),
        ("cat /etc/passwd && echo hello bob", "exit"),
        ("touch /usr/evil && echo hello bob", "exit"),
        ("kill -9 -1; echo hello bob", "passed"),  # it cannot signal anybody
    ],
)
async def test_a_command_is_judged_by_what_it_prints(shell: Pool, text: str, kind: str) -> None:
    script = Script((("main.sh", text),), ("sh", "main.sh"), (("bob\n", "hello bob\n"),))
    wall = 1.0 if text == "sleep 1000" else 120.0
    result = await shell.run_script(script, Limits(cpu=1, wall=wall, output=10_000))
    assert result.kind == kind, result.message


def test_results_and_programs_show_no_texts() -> None:
    shown = repr([RIGHT, Outcome("wrong", "assert secret"), Result("failed", "wrong", "assert secret")])
    assert "secret" not in shown
    assert "return" not in shown
    with pytest.raises(ValueError, match="positive"):
        Limits(cpu=0)
    with pytest.raises(ValueError, match="plain names"):
        Script((("../x", ""),), ("sh",), ())
