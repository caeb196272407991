"""A warm pool: what it costs to be shut in is paid once a worker, not once a program."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Self

from judges.sandbox.program import Limits, Program, Result, Script
from judges.sandbox.script import run_script
from judges.sandbox.tiers import Interpreter, Sandbox
from judges.sandbox.turns import Turns
from judges.sandbox.worker import Worker, WorkerLost

RUNS = 1_000
"""Programs that a worker runs before it is replaced, so that nothing can pile up."""


class Pool:
    """Runs programs, at most `workers` at a time, for as long as its `async with` block lasts.

    Of the programs that wait, those with the same tests follow each other: give them all at once.

    Workers start when they are first needed. Cancelling a `run` kills what it was running. A worker that left
    any doubt is replaced: files or processes left behind, a report that did not come, a cancelled run.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        interpreter: Interpreter | None = None,
        limits: Limits | None = None,
        workers: int | None = None,
    ) -> None:
        self.sandbox = sandbox
        self.limits = limits or Limits()
        self._interpreter = interpreter or Interpreter.here()
        # As many as processors: one more took a tenth more of both CPU and wall time.
        self._turns = Turns(workers or os.cpu_count() or 1)
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self.started = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every worker, and wait until all have ended."""
        self._closed = True
        for worker in (*self._idle, *self._busy):
            self._retire(worker)
        self._idle.clear()
        self._busy.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    async def run(self, program: Program, limits: Limits | None = None) -> Result:
        """Run a program and its tests.

        Raises `Unavailable` when no worker can be started. A program under which its sandbox is lost is tried
        once more in a fresh one; lost again, it has failed.
        """
        await self._turns.take(program.tests)
        try:
            return await self._run(program, limits or self.limits)
        finally:
            self._turns.end(program.tests)

    async def _run(self, program: Program, limits: Limits) -> Result:
        for _ in range(2):
            worker = await self._take(program.tests)
            try:
                result = await worker.execute(program, limits)
            except WorkerLost:
                self._retire(worker)
                continue
            except BaseException:  # cancelled, most likely: the execution must not outlive this
                self._retire(worker)
                raise
            self._give_back(worker)
            return result
        return Result("failed", "sandbox", "its sandbox was lost, twice")

    async def run_script(self, script: Script, limits: Limits | None = None) -> Result:
        """Run a program in another language on its cases, each in a sandbox of its own."""
        await self._turns.take(script)
        try:
            return await run_script(self.sandbox, self._interpreter, script, limits or self.limits)
        finally:
            self._turns.end(script)

    async def _take(self, tests: tuple[str, ...]) -> Worker:
        if self._closed:
            raise RuntimeError("the pool is closed")
        worker = self._rested(tests) or await Worker.start(self.sandbox, self._interpreter)
        self.started += worker.runs == 0
        self._busy.add(worker)
        return worker

    def _rested(self, tests: tuple[str, ...]) -> Worker | None:
        """An idle worker, one that has these tests ready if there is one."""
        if not self._idle:
            return None
        ready = (at for at, worker in enumerate(self._idle) if worker.tests == tests)
        return self._idle.pop(next(ready, -1))

    def _give_back(self, worker: Worker) -> None:
        if worker.doubt or worker.runs >= RUNS or self._closed:
            self._retire(worker)
        else:
            self._busy.discard(worker)
            self._idle.append(worker)

    def _retire(self, worker: Worker) -> None:
        self._busy.discard(worker)
        worker.kill()  # now, not when the task below gets its turn
        task = asyncio.get_running_loop().create_task(worker.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
