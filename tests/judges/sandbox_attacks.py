"""Attacks on the sandbox, each a small program in `attacks/*.txt`, and how to see whether it was contained.

Four shapes. *refused*: the text is what `solve` attempts, and it answers "refused" when that raised an
OSError; contained means that the verdict, made from outside, is that it said so. *forged*: the program is
wrong and pretends to be right; contained means that it did not pass. *bounded*: the program takes what it
can; contained means that it ended as said, within its limits. *waiting*: it only waits; contained means that
its time was up.

After every attack the same pool has to find a right program right and a wrong one wrong. `@SECRET@` and the
like stand for what `battlefield` puts there to aim at.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from judges.sandbox import Limits, Pool, Program, Result

# Processor time and memory end what takes them, however busy the machine; only what waits ends by the clock.
LIMITS = Limits(cpu=1, wall=120.0, memory=256 << 20, file=4 << 20, output=1 << 20)
WAITING = replace(LIMITS, wall=1.0)
TESTS = ("assert solve(3) == 9", "assert solve(4) == 16", "assert solve(0) == 0")
FAILING = frozenset(
    (
        *("wrong", "exception", "syntax", "undefined", "timeout", "memory", "exit", "crash", "protocol"),
        *("uncrossable", "checker", "uncalled"),
    )
)


@dataclass(frozen=True)
class Attack:
    name: str
    group: str
    shape: str
    program: Program
    kinds: frozenset[str]
    limits: Limits = LIMITS

    def contained(self, result: Result) -> bool:
        return result.kind in self.kinds


HEAD = """
import ctypes, errno, os, platform, resource, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
HERE = 0 if platform.machine() == "x86_64" else 1
def call(name, *args):
    if getattr(libc, name)(*args) == -1:
        raise OSError(ctypes.get_errno(), name)
def syscall(numbers, *args):
    # Only EPERM counts: an attack must be refused, not miss.
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in args]
    failed = libc.syscall(ctypes.c_long(numbers[HERE]), *given) == -1
    if failed and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
        raise OSError(ctypes.get_errno(), "syscall")
"""

REFUSED = """
def solve(n):
    try:
{}
    except OSError:
        return 'refused'
    return 'done'
"""


def loaded() -> Iterator[Attack]:
    for path in sorted(Path(__file__).with_name("attacks").glob("*.txt")):
        for block in re.split(r"^=== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            yield _attack(path.stem, block)


def _attack(group: str, block: str) -> Attack:
    title, _, rest = block.partition("\n")
    shape, _, name = title.partition(": ")
    kinds = frozenset[str]()
    if ends := re.match(r"--- ends as: (.*)\n", rest):
        kinds, rest = frozenset(ends[1].split(", ")), rest[ends.end() :]
    parts = re.split(r"^--- (test|setup)\n", rest, flags=re.MULTILINE)
    code, named = parts[0].rstrip(), list(zip(parts[1::2], parts[2::2], strict=True))
    tests = tuple(text for what, text in named if what == "test") or TESTS
    setup = "".join(text for what, text in named if what == "setup")
    if shape == "refused":
        code = REFUSED.format(textwrap.indent(code, " " * 8))
        tests, kinds = ("assert solve(0) == 'refused'",), frozenset({"passed"})
    limits = LIMITS
    if shape == "waiting":
        kinds, limits = frozenset({"timeout"}), WAITING
    program = Program(HEAD + code, tests, setup, names=("solve",))
    return Attack(name, group, shape, program, kinds or FAILING, limits)


ATTACKS = tuple(loaded())

RIGHT = Program("def solve(n): return n * n", TESTS, names=("solve",))
WRONG = Program("def solve(n): return n", TESTS, names=("solve",))


@dataclass(frozen=True)
class Battlefield:
    """What the attacks aim at, on this side."""

    secret: Path
    content: str
    values: dict[str, str]

    def program(self, attack: Attack) -> Program:
        source = attack.program.source
        for name, value in self.values.items():
            source = source.replace(name, value)
        return Program(source, attack.program.tests, attack.program.setup, attack.program.names)

    def untouched(self) -> bool:
        return self.secret.read_text() == self.content and self.secret.stat().st_mode & 0o777 == 0o666


@contextmanager
def battlefield() -> Iterator[Battlefield]:
    """A secret file that anybody could open, sockets that anybody could reach, a key in the environment."""
    with (
        tempfile.TemporaryDirectory(prefix="evalkit-attacks-") as folder,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        Path(folder).chmod(0o777)
        secret = Path(folder, "secret")
        content = f"sk-test-{os.getpid()}"
        secret.write_text(content)
        secret.chmod(0o666)
        name = f"evalkit-attacks-{os.getpid()}"
        abstract.bind("\0" + name)
        abstract.listen()
        unix.bind(folder + "/socket")
        Path(folder, "socket").chmod(0o777)
        unix.listen()
        os.environ["EVALKIT_TEST_KEY"] = content
        try:
            yield Battlefield(
                secret,
                content,
                {
                    "@SECRET@": str(secret),
                    "@PORT@": str(tcp.getsockname()[1]),
                    "@ABSTRACT@": name,
                    "@UNIX@": folder + "/socket",
                    "@HOST@": str(os.getpid()),
                },
            )
        finally:
            del os.environ["EVALKIT_TEST_KEY"]


@dataclass(frozen=True)
class Attempt:
    attack: Attack
    result: Result
    contained: bool
    healthy: bool


async def attempt(pool: Pool, field: Battlefield, attack: Attack) -> Attempt:
    """Attack, then see whether the pool still knows right from wrong and nothing here was touched."""
    result = await pool.run(field.program(attack), attack.limits)
    after = await asyncio.gather(pool.run(RIGHT), pool.run(WRONG))
    healthy = [each.kind for each in after] == ["passed", "wrong"] and field.untouched()
    return Attempt(attack, result, attack.contained(result), healthy)
