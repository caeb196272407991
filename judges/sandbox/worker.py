"""One worker: a zygote for candidates and one for tests, each in a sandbox of its own.

Per execution both fork once. The pool gives each fork one end of a fresh socket, and the job as a file in
memory; the verdict comes from the tests' side alone. A worker that did anything unexpected is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import weakref
from collections.abc import Sequence
from typing import Any

from judges.sandbox.inside.packets import Order, Report
from judges.sandbox.program import Limits, Outcome, Program, Result
from judges.sandbox.tiers import Interpreter, Launched, Role, Sandbox, Unavailable

START = 30.0
"""Seconds for a zygote to import what is declared and to report."""
GRACE = 5.0
"""Seconds beyond its own wall limit that a zygote has for its report, before it is taken for dead."""


PROMPT = 0.02
"""Seconds that a candidate has to end by itself before it is killed."""


class WorkerLost(Exception):
    """The worker is gone or does not answer: nothing was learnt about the program."""


class Zygote:
    """The pool's end of one zygote."""

    def __init__(self, launched: Launched, *, keeps: bool) -> None:
        self.keeps = keeps
        self._launched = launched
        self._control = launched.control
        self._loop = asyncio.get_running_loop()
        self._packets: asyncio.Queue[bytes] = asyncio.Queue()
        self._loop.add_reader(self._control.fileno(), self._readable)
        self._given: tuple[bytes, Order] | None = None
        # A pool that is dropped without being closed: what it started ends with it, and quietly.
        self._dropped = weakref.finalize(self, _abandon, launched)
        self.about: dict[str, Any] = {}

    def _readable(self) -> None:
        try:
            data = self._control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control.fileno())
        self._packets.put_nowait(data)

    @classmethod
    async def start(cls, sandbox: Sandbox, role: Role, interpreter: Interpreter) -> Zygote:
        """Start one and wait until it is ready. Raises `Unavailable`."""
        starting = asyncio.ensure_future(asyncio.to_thread(sandbox.launch, role, interpreter))
        try:
            zygote = cls(await asyncio.shield(starting), keeps=role == "grader")
        except asyncio.CancelledError:
            starting.add_done_callback(_unwanted)
            raise
        try:
            ready = json.loads(await zygote._packet(START))
        except WorkerLost:
            said = zygote._launched.complaints().splitlines()
            await zygote.close()
            raise Unavailable(said[-1] if said else "it ended before it was ready") from None
        except BaseException:
            zygote.kill()
            raise
        if "failed" in ready:
            await zygote.close()
            raise Unavailable(str(ready["failed"]))
        zygote.about = ready["ready"]
        return zygote

    @property
    def pid(self) -> int:
        """The process that was started; also the id of its group."""
        return self._launched.process.pid

    def run(self, order: Order, job: bytes, descriptor: int) -> None:
        """Start an execution. The job goes as a file in memory.

        One that keeps its fork need not be given the last job again, as long as the limits are the same: they
        were put on the fork.
        """
        given = (job, order._replace(seq=0))
        if self.keeps and given == self._given:
            self.send(order, [descriptor])
            return
        self._given = given
        held = os.memfd_create("job")
        try:
            left = memoryview(job)
            while left:
                left = left[os.write(held, left) :]
            self.send(order, [descriptor, held])
        finally:
            os.close(held)

    def send(self, order: Order, descriptors: Sequence[int] = ()) -> None:
        """Send an order. Never waits: at most two small ones are ever on their way."""
        try:
            socket.send_fds(self._control, [order.packed()], descriptors)
        except OSError:
            raise WorkerLost("it takes no more work") from None

    async def report(self, timeout: float) -> Report:
        """Its next report of an execution. Raises `WorkerLost`."""
        return Report.of(await self._packet(timeout))

    async def _packet(self, timeout: float) -> bytes:
        if self._packets.empty():
            try:
                async with asyncio.timeout(timeout):
                    data = await self._packets.get()
            except TimeoutError:
                raise WorkerLost("it did not report in time") from None
        else:
            data = self._packets.get_nowait()
        if not data:
            raise WorkerLost("it ended")
        return data

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def close(self) -> None:
        """End it, and wait until it has ended."""
        self._dropped.detach()
        self.kill()
        await asyncio.to_thread(_reaped, self._launched)


def order(seq: int, limits: Limits) -> Order:
    """Start an execution within these limits."""
    processes = limits.threads + 1
    return Order(True, seq, limits.wall, limits.cpu, limits.memory, limits.file, processes, limits.output)


def _reaped(launched: Launched) -> None:
    try:
        launched.process.wait(10)
    except subprocess.TimeoutExpired:
        launched.process.kill()
        launched.process.wait()
    launched.end()


def _unwanted(starting: asyncio.Future[Launched]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        _abandon(starting.result())


def _abandon(launched: Launched) -> None:
    launched.control.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(launched.process.pid, signal.SIGKILL)
    _reaped(launched)


class Worker:
    """Runs one program at a time. `doubt` says why it must not be used again; empty while it may."""

    def __init__(self, candidates: Zygote, graders: Zygote) -> None:
        self._candidates = candidates
        self._graders = graders
        self.runs = 0
        self.doubt = ""
        self.tests: tuple[str, ...] = ()

    @classmethod
    async def start(cls, sandbox: Sandbox, interpreter: Interpreter) -> Worker:
        """Start both zygotes. Raises `Unavailable`."""
        roles: tuple[Role, ...] = ("candidate", "grader")
        starting = [asyncio.ensure_future(Zygote.start(sandbox, role, interpreter)) for role in roles]
        try:
            await asyncio.wait(starting)
        except (
            asyncio.CancelledError
        ):  # one may be there already, and the other soon: nobody else would end them
            await asyncio.wait(starting)
            for task in starting:
                if task.exception() is None:
                    await task.result().close()
            raise
        candidates, graders = await asyncio.gather(*starting, return_exceptions=True)
        if isinstance(candidates, Zygote) and isinstance(graders, Zygote):
            return cls(candidates, graders)
        for each in (candidates, graders):
            if isinstance(each, Zygote):
                await each.close()
        raise next(each for each in (candidates, graders) if isinstance(each, BaseException))

    @property
    def pids(self) -> tuple[int, int]:
        """The two processes that were started."""
        return self._candidates.pid, self._graders.pid

    async def execute(self, program: Program, limits: Limits) -> Result:
        """Run a program and its tests. Raises `WorkerLost`; the worker is then of no more use."""
        self.runs += 1
        self.tests = program.tests
        theirs, ours = socket.socketpair()
        with theirs, ours:
            started = order(self.runs, limits)
            self._candidates.run(started, program.source.encode("utf-8", "surrogatepass"), theirs.fileno())
            self._graders.run(started._replace(wall=limits.wall + 2.0), _tests(program), ours.fileno())
        graded = await self._graders.report(limits.wall + GRACE)
        # It ends by itself when nobody asks any more; if it does not, it is killed.
        nudge = asyncio.get_running_loop().call_later(PROMPT, self._stop)
        try:
            ended = await self._candidates.report(GRACE)
        finally:
            nudge.cancel()
        self.doubt = ended.doubt or graded.doubt
        return _result(graded, ended, limits)

    def _stop(self) -> None:
        with contextlib.suppress(WorkerLost):  # whoever waits for its report sees that, too
            self._candidates.send(Order(False, self.runs))

    def kill(self) -> None:
        """End both zygotes and all that they started, at once."""
        self._candidates.kill()
        self._graders.kill()

    async def close(self) -> None:
        """End both zygotes, and wait until they have ended."""
        await asyncio.gather(self._candidates.close(), self._graders.close())


def _tests(program: Program) -> bytes:
    job = {
        "setup": program.setup,
        "tests": program.tests,
        "names": program.names,
        "classes": program.classes,
    }
    return json.dumps(job).encode()


# --- the verdict -------------------------------------------------------------------------------------------


def _result(graded: Report, ended: Report, limits: Limits) -> Result:
    """The verdict: what the tests' side says; the candidate's end only explains how it was lost."""
    cpu = float(ended.cpu)
    if graded.verdict is None:
        if out_of_time(ended, limits):
            return Result("failed", "timeout", "timed out", (), cpu)
        if graded.killed == "wall" or os.WIFSIGNALED(graded.status):
            return Result("failed", "checker", "checking its answers took too long or too much", (), cpu)
        return Result("broken", "sandbox", "the tests' process failed", (), cpu)
    verdict = json.loads(graded.verdict)
    if verdict["faulty"]:
        return Result("broken", "faulty", verdict["faulty"], (), cpu)
    outcomes = tuple(Outcome(kind, message) for kind, message in verdict["outcomes"])
    if verdict["lost"]:
        kind, message = _lost(verdict["lost"], ended, limits)
        outcomes = tuple(Outcome(kind, message) if each.kind == "lost" else each for each in outcomes)
        return Result("failed", kind, message, outcomes, cpu)
    failed = next((each for each in outcomes if not each.passed), None)
    if failed is not None:
        return Result("failed", failed.kind, failed.message, outcomes, cpu)
    if verdict["calls"] == 0:
        return Result("failed", "uncalled", "the tests never called the program", outcomes, cpu)
    return Result("passed", "passed", "", outcomes, cpu)


def _lost(why: str, ended: Report, limits: Limits) -> tuple[str, str]:
    status = ended.status
    if out_of_time(ended, limits):
        return "timeout", "timed out"
    if why != "it ended":
        return "protocol", why
    if os.WIFSIGNALED(status) and ended.killed != "stop":
        return "crash", f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return "exit", "the program ended itself"


def out_of_time(ended: Report, limits: Limits) -> bool:
    """Whether it was ended for its time, or by the kernel for its processor time, counted in coarse ticks."""
    status = ended.status
    if ended.killed in ("wall", "cpu"):
        return True
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXCPU)
    return killed and ended.cpu >= limits.cpu / 2
