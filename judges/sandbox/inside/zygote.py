"""A process that has imported everything, is shut in, and forks once for each program.

It speaks with the pool on one socket of packets. A packet in is an order: to start an execution, or to end
it. A packet out says that the zygote is ready, or reports how an execution ended. When the pool is gone the
socket ends, and so does this process with all that it has started.

What runs here between two forks is kept small: this process shares its memory with its forks, and each page
that it writes to while one of them lives has to be copied.

A candidate's fork runs one program. A fork for tests is kept while the next program has the same tests: what
it holds of an earlier candidate are plain values in the tests' namespace, which is emptied after each.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from . import candidate, grader, rehearsal, shut
from .landlock import Ruleset, abi
from .line import Line
from .packets import DOUBTS, LONGEST_ORDER, Order, Report
from .seccomp import Filter, long_list, short_list

_DESCRIPTORS = socket.CMSG_SPACE(2 * 4)
VERDICT = 60_000
"""Bytes of a verdict: it goes out as one packet."""
KEPT = 200
"""Programs that one fork for tests judges before it is replaced."""

# What short programs import most: paid for once, before the first fork. Not `random` and `threading`, which
# run code of their own after every fork.
_USUAL = (
    *("bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq"),
    *("itertools", "json", "math", "operator", "re", "string", "struct"),
    *("traceback", "types", "typing", "dataclasses", "enum", "abc", "contextlib"),
)


def main() -> None:
    """Set up as the first argument says, report, and serve."""
    os.environ.pop("LD_BIND_NOW", None)  # it has had its effect
    setup = json.loads(sys.argv[1])
    control = _control(setup)
    try:
        zygote = Zygote(setup, control)
    except BaseException as error:
        said = {"failed": f"{type(error).__name__}: {error}"}
        control.send(json.dumps(said).encode())
        raise SystemExit(1) from None
    control.send(json.dumps({"ready": zygote.about}).encode())
    zygote.serve()


def _control(setup: dict[str, Any]) -> socket.socket:
    if "connect" not in setup:
        return socket.socket(fileno=setup["control"])
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.connect(setup["connect"])
    return control


class Zygote:
    """One role: `candidate`, `grader` or `command`. `setup` is what the sandbox decided."""

    def __init__(self, setup: dict[str, Any], control: socket.socket) -> None:
        self._role: str = setup["role"]
        self._control = control
        self._scratch: str | None = setup.get("scratch") if self._role != "grader" else None
        sys.path[:] = [*(path for path in sys.path if path != setup["boot"]), *setup["packages"]]
        for name in (*_USUAL, *setup["imports"]):
            importlib.import_module(name)
        if self._scratch is not None:
            os.makedirs(self._scratch, exist_ok=True)  # noqa: PTH103
        self._become(setup)
        self._others = shut.tasks_of(os.getuid()) if setup.get("shared_uid") else 0
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        if self._scratch is not None:
            os.chdir(self._scratch)
        self._clean = self._changed()
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._fork = _Fork(self._poll, kept=self._role == "grader")
        if self._role != "command":
            rehearsal.rehearse(self._role)
        self._short = self._shut(setup)
        self.about = {"pid": os.getpid(), "uid": os.getuid()}
        gc.collect()
        gc.freeze()

    def _become(self, setup: dict[str, Any]) -> None:
        if setup.get("uid") is not None and os.getuid() == 0:
            if self._scratch is not None:
                os.chown(self._scratch, setup["uid"], setup["uid"])
            shut.become(setup["uid"], namespace=setup.get("namespace", False))

    def _shut(self, setup: dict[str, Any]) -> Filter | None:
        """Restrict this process and its forks; what comes back is what a fork puts on besides."""
        shut.limit(shut.FOR_ALL)
        if setup["shut"]:
            shut.powerless()
        commands = self._role == "command"
        if setup["landlock"] == "always" or (setup["landlock"] == "if there" and abi() > 0):
            write = [self._scratch] if self._scratch else []
            runs = [*setup.get("tools", ()), *write] if commands else ()
            Ruleset(read=setup["read"], write=write, execute=runs, devices=["/dev/null"]).apply()
        if not setup["seccomp"]:
            return None
        Filter(long_list(processes=commands)).apply()
        return Filter(short_list(processes=commands))

    def serve(self) -> NoReturn:
        """Run what comes, one at a time, until the pool hangs up."""
        while True:
            order, descriptors = self._receive()
            if order.go:  # a stop may come for what has ended by itself
                self._execute(order, descriptors)

    def _receive(self) -> tuple[Order, list[int]]:
        data, beside, _, _ = self._control.recvmsg(LONGEST_ORDER, _DESCRIPTORS)
        if not data:
            os._exit(0)
        return Order.of(data), [each for _, _, numbers in beside for each in memoryview(numbers).cast("i")]

    def _execute(self, order: Order, descriptors: list[int]) -> None:
        fork = self._fork
        if len(descriptors) > 1:
            fork.forget()
            fork.job = descriptors.pop()
        elif not fork.kept or fork.job < 0:
            raise RuntimeError("an order without its program")  # never the one before: it is another's
        if fork.pid and fork.runs < KEPT and not fork.ended():
            fork.next(descriptors[0])
        else:
            fork.end()
            self._start(order, descriptors[0])
        os.close(descriptors[0])  # or the fork's end would not be the line's
        fork.runs += 1
        killed, said = self._watch(order)
        status, cpu = 0, 0.0
        if said is None:
            status, cpu = fork.reaped()
            if self._role == "command" and os.getpid() == 1:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # all that it started: nobody else is in this namespace
        doubt = "" if fork.pid else self._doubt()
        self._control.send(Report(order.seq, killed, status, cpu, doubt, said).packed())

    def _start(self, limits: Order, connection: int) -> None:
        fork = self._fork
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if fork.kept else (None, None)
        fork.pid = os.fork()
        if fork.pid == 0:
            if ours is not None:
                os.close(ours.detach())  # or its end would never be the last
            _child(self, limits, connection, theirs)
        if theirs is not None:
            theirs.close()
        fork.begun(ours)

    def _watch(self, order: Order) -> tuple[str, bytes | None]:
        """Wait for the verdict or the fork's end; bring the end about when its time is up or the pool asks.

        Returns why it was killed, if it was, and the verdict, if there is one.
        """
        fork = self._fork
        deadline = time.monotonic() + order.wall
        spare = order.wall if fork.kept else order.cpu
        while True:
            left = max(0.0, min(spare, deadline - time.monotonic())) * 1000
            ready = [descriptor for descriptor, _ in self._poll.poll(left)]
            if fork.line is not None and fork.line.fileno() in ready:
                return "", fork.line.recv(VERDICT + 1) or None
            if fork.handle in ready:
                return "", None
            why = "wall"
            if ready:
                asked, _ = self._receive()
                if asked.go or asked.seq != order.seq:
                    continue
                why = "stop"
            elif not fork.kept and time.monotonic() < deadline:
                spare = order.cpu - shut.processor_time(fork.pid)
                if spare > 0:
                    continue
                why = "cpu"
            os.kill(fork.pid, signal.SIGKILL)
            return why, None

    def _doubt(self) -> str:
        """Why nothing more may be run here; empty when this is as it was at the start."""
        if self._changed() != self._clean:
            return DOUBTS[1]
        try:
            if os.waitpid(-1, os.WNOHANG):
                return DOUBTS[2]
        except ChildProcessError:
            pass
        return ""

    def _changed(self) -> int:
        return 0 if self._scratch is None else os.stat(self._scratch).st_ctime_ns  # noqa: PTH116

    # --- in the fork ---------------------------------------------------------------------------------------

    def work(self, limits: Order, connection: int, pool: socket.socket | None) -> None:
        """What a fork does, in its role."""
        os.close(self._control.detach())
        text = _content(self._fork.job)
        most = limits.message
        if self._role == "candidate":
            self._bound(limits)
            candidate.run(text.decode(), Line(connection, most))
        elif pool is not None:
            self._bound(limits._replace(cpu=1 << 30))
            self._judge(grader.Job(json.loads(text)), connection, pool, limits)
        else:
            self._become_command(json.loads(text), connection, limits)

    def _judge(self, job: grader.Job, connection: int, pool: socket.socket, limits: Order) -> None:
        """Run the tests, say the verdict, and again for as long as other programs come."""
        while True:
            signal.setitimer(signal.ITIMER_PROF, limits.cpu + 1)  # its signal ends this process
            line = Line(connection, limits.message)
            verdict = job.grade(line)
            line.close()
            signal.alarm(0)  # what the tests may have set must not end the next program's
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            pool.send(_short(verdict))
            data, descriptors, _, _ = socket.recv_fds(pool, 16, 1)
            if not data:
                return
            connection = descriptors[0]

    def _become_command(self, given: dict[str, Any], printed: int, limits: Order) -> NoReturn:
        """Write the files, take input and output from memory, and become the declared command."""
        for name, text in given["files"].items():
            Path(name).write_text(text, encoding="utf-8")
        typed = Path(".stdin")
        typed.write_text(given["stdin"], encoding="utf-8")
        os.dup2(os.open(typed, os.O_RDONLY), 0)
        typed.unlink()
        os.dup2(printed, 1)
        os.closerange(3, 64)
        self._bound(limits)
        environment = {**os.environ, "PATH": "/usr/local/bin:/usr/bin:/bin"}
        os.execvpe(given["argv"][0], given["argv"], environment)  # noqa: S606 (declared, and shut in)

    def _bound(self, limits: Order) -> None:
        shut.limit(
            (
                # It counts in ticks, too many or too few on a busy machine: whoever watches counts exactly.
                (resource.RLIMIT_CPU, limits.cpu + 1),
                (resource.RLIMIT_AS, limits.memory),
                (resource.RLIMIT_FSIZE, limits.file),
                (resource.RLIMIT_NPROC, limits.processes + self._others),
            )
        )
        if self._short is not None:
            self._short.apply()


class _Fork:
    """The fork that runs, or one for tests that is `kept` for the next program; without one, `pid` is 0."""

    def __init__(self, poll: select.poll, *, kept: bool) -> None:
        self._poll = poll
        self.kept = kept
        self.pid = 0
        self.handle = -1
        self.job = -1
        self.runs = 0
        self.line: socket.socket | None = None

    def begun(self, line: socket.socket | None) -> None:
        """It is there: watch for its end, and for what it says."""
        self.handle = os.pidfd_open(self.pid)
        self._poll.register(self.handle, select.POLLIN)
        self.line = line
        if line is not None:
            self._poll.register(line, select.POLLIN)

    def next(self, connection: int) -> None:
        """Give it another program to judge."""
        assert self.line is not None, "only a kept fork takes another program"
        with contextlib.suppress(OSError):  # it is seen to have ended soon enough
            socket.send_fds(self.line, [b"next"], [connection])

    def ended(self) -> bool:
        """Whether it is gone although nobody ended it."""
        return bool(select.select([self.handle], [], [], 0)[0])

    def forget(self) -> None:
        """End it and drop its job."""
        self.end()
        if self.job >= 0:
            os.close(self.job)

    def end(self) -> None:
        """Kill it, if it is there."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.reaped()

    def reaped(self) -> tuple[int, float]:
        """Wait for its end; its exit status and the seconds of processor time that it took."""
        _, status, used = os.wait4(self.pid, 0)
        self._poll.unregister(self.handle)
        os.close(self.handle)
        if self.line is not None:
            self._poll.unregister(self.line)
            self.line.close()
            self.line = None
        self.pid = self.runs = 0
        return status, used.ru_utime + used.ru_stime


def _child(zygote: Zygote, limits: Order, connection: int, pool: socket.socket | None) -> NoReturn:
    status = 70
    try:
        zygote.work(limits, connection, pool)
        status = 0
    finally:
        os._exit(status)


def _content(descriptor: int) -> bytes:
    """A file in memory, whole, wherever its other readers are."""
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, size, 0)
    os.close(descriptor)
    return text


def _short(verdict: dict[str, Any]) -> bytes:
    text = json.dumps(verdict).encode()
    if len(text) > VERDICT:  # thousands of tests: the words stay, the messages go
        verdict["outcomes"] = [[kind, ""] for kind, _ in verdict["outcomes"]]
        text = json.dumps(verdict).encode()
    return text
