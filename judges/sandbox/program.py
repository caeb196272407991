"""What is run, within which bounds, and what came of it: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MiB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one execution.

    `cpu` is in seconds of processor time, so that a verdict does not depend on how fast or how busy the
    machine is; `wall`, in seconds, only ends what waits. `memory` is address space in bytes; `threads` are
    those of the candidate; `file` bounds each file, `output` each message and the output of a command.
    """

    cpu: int = 3
    wall: float = 30.0
    memory: int = 1024 * MiB
    threads: int = 32
    file: int = 16 * MiB
    output: int = 8 * MiB

    def __post_init__(self) -> None:
        if self.cpu < 1 or self.wall <= 0 or min(self.memory, self.threads, self.file, self.output) < 1:
            raise ValueError("limits are positive; cpu counts whole seconds")


@dataclass(frozen=True, slots=True)
class Program:
    """A candidate's source with the tests that judge it.

    `setup` is the problem's own code, run before the tests and never in the candidate's process; the tests
    are sources run in order in one namespace. `names` must be defined by the candidate; `classes` are those
    of them that the problem wants as classes.
    """

    source: str = field(repr=False)
    tests: tuple[str, ...] = field(repr=False)
    setup: str = field(default="", repr=False)
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """A program in any language, judged by what it prints.

    `files` are its sources by name, `argv` is what runs them in the folder that holds them, and `cases` are
    pairs of input and expected output. The expected output never enters the sandbox; white space at the ends
    of lines and of the whole does not count.
    """

    files: tuple[tuple[str, str], ...] = field(repr=False)
    argv: tuple[str, ...]
    cases: tuple[tuple[str, str], ...] = field(repr=False)

    def __post_init__(self) -> None:
        if any("/" in name or name in ("", ".", "..") for name, _ in self.files):
            raise ValueError("a script's files have plain names")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one test. `kind` is `passed`, `not run`, or a word for the failure as in `Result`."""

    kind: str
    message: str = field(default="", repr=False)

    @property
    def passed(self) -> bool:
        """Whether the test ran to its end."""
        return self.kind == "passed"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a program.

    `broken` means that nothing was learnt about the candidate: the sandbox failed, or the tests themselves.
    `kind` is one word: `passed`; `wrong` (an assertion failed), `exception`, `syntax`, `undefined`,
    `timeout`, `memory`, `exit` (it ended itself), `crash`, `protocol`, `uncrossable` (a value that cannot be
    compared from outside), `checker` (checking its answers took too long), `uncalled` (the tests never asked
    it anything); `faulty` and `sandbox` when broken. `message` may quote the tests or the candidate's errors.
    `cpu` is in seconds, of the candidate's process.
    """

    status: Literal["passed", "failed", "broken"]
    kind: str
    message: str = field(default="", repr=False)
    outcomes: tuple[Outcome, ...] = ()
    cpu: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.status == "passed"
