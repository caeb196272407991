"""Thousands of programs on one pool, a third of them attacks: what is left behind, and does it grow?

    python tests/bench/sandbox_soak.py [--executions 10000] [--sandbox bubblewrap] [--workers 2]

Every honest program is checked for its verdict, right ones and wrong ones. At the end there must be no
process and no file that was not there at the start; memory (the resident set of all of the pool's processes,
summed, and that of this process) is shown for each tenth of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1] / "judges")]

from sandbox_attacks import ATTACKS, RIGHT, WRONG, battlefield  # noqa: E402

from judges.sandbox import Pool, choose  # noqa: E402

PLACES = ("/tmp", "/dev/shm", "/var/tmp")


@dataclass
class Soaked:
    """What a run came to. Memory is in MiB: (of the pool, of this process) at each tenth of the run."""

    done: int = 0
    escaped: list[str] = field(default_factory=list)
    misjudged: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)
    processes: int = 0
    files: list[str] = field(default_factory=list)
    workers: int = 0
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not (self.escaped or self.misjudged or self.processes or self.files)


async def soak(executions: int, sandbox: str | None = None, workers: int = 2, seed: int = 0) -> Soaked:
    """Run so many programs. Temporary files get a folder of their own: others make some at the same time."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        tempfile.tempdir = folder
        try:
            return await _soak(executions, sandbox, workers, seed)
        finally:
            tempfile.tempdir = before


async def _soak(executions: int, sandbox: str | None, workers: int, seed: int) -> Soaked:
    chosen = await choose(sandbox)
    rng = random.Random(seed)
    soaked, started = Soaked(), time.monotonic()
    before = set(_files())
    groups: set[int] = set()
    pending = iter(range(executions))

    async def work(pool: Pool) -> None:
        for number in pending:
            groups.update(pid for worker in (*pool._idle, *pool._busy) for pid in worker.pids)
            if number % 3 == 2:
                attack = rng.choice(ATTACKS)
                result = await pool.run(field_.program(attack), attack.limits)
                if not attack.contained(result):
                    soaked.escaped.append(f"{attack.name}: {result.kind}")
            else:
                program, kind = rng.choice([(RIGHT, "passed"), (WRONG, "wrong")])
                result = await pool.run(program)
                if result.kind != kind:
                    soaked.misjudged.append(f"{kind} came out as {result.kind}")
            soaked.kinds[result.kind] += 1
            soaked.done += 1
            if soaked.done % max(1, executions // 10) == 0:
                soaked.memory.append((_memory(groups), _own()))

    with battlefield() as field_:
        before |= set(_files())
        async with Pool(chosen.sandbox, workers=workers) as pool:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(workers):
                    tasks.create_task(work(pool))
            groups.update(pid for worker in pool._idle for pid in worker.pids)
            soaked.workers = pool.started
        deadline = time.monotonic() + 60  # what is killed has ended when a busy machine gets round to it
        while (left := len(_processes(groups))) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        soaked.processes = left
        soaked.files = sorted(set(_files()) - before)
    soaked.seconds = time.monotonic() - started
    return soaked


def _files() -> list[str]:
    ours = Path(tempfile.gettempdir())
    return [str(path) for path in ours.iterdir()] + [
        str(path) for place in PLACES for path in Path(place).glob("evil*")
    ]


def _processes(groups: set[int]) -> list[Path]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after[2]) in groups and after[0] != "Z":
            found.append(stat.parent)
    return found


def _memory(groups: set[int]) -> float:
    return sum(_resident(path) for path in _processes(groups))


def _own() -> float:
    return _resident(Path("/proc/self"))


def _resident(process: Path) -> float:
    try:
        return int((process / "statm").read_text().split()[1]) * 4096 / (1 << 20)
    except (OSError, IndexError):
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--sandbox")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    soaked = asyncio.run(soak(given.executions, given.sandbox, given.workers))
    print(f"{soaked.done:,} executions in {soaked.seconds:,.0f} s, {soaked.workers} workers started")
    print(", ".join(f"{count:,}×{kind}" for kind, count in soaked.kinds.most_common()))
    print("memory, pool / caller, MiB:", ", ".join(f"{pool:.0f}/{own:.0f}" for pool, own in soaked.memory))
    print(f"processes left: {soaked.processes}; files left: {soaked.files}")
    print(f"escaped: {soaked.escaped}; misjudged: {soaked.misjudged}")
    sys.exit(0 if soaked.sound else 1)


if __name__ == "__main__":
    main()
