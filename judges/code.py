"""The judge `code`: runs the answer's program against the sample's tests, shut in.

The sample's `metadata` holds the tests: `tests` with an `entry_point`, or a HumanEval or MBPP problem as its
benchmark writes it (see `judges.sandbox.problems`). The verdict is made outside of the process in which the
answer runs. Where no sandbox works, nothing is run: every row says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score, unfit
from judges.sandbox import Chosen, Interpreter, Limits, Pool, Result, Script, Unavailable, choose
from judges.sandbox.packages import places
from judges.sandbox.problems import Malformed, Problem, extracted

TOOLS = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")
"""Where compilers and interpreters of other languages are, mostly."""


@dataclass(frozen=True, slots=True)
class Code:
    """Passes when every test passes; the value is the share of tests that do.

    `sandbox` is a sandbox's name, None for the strongest that works here. `cpu` (seconds), `wall` (seconds)
    and `memory` (MiB) bound each program. `packages` are distributions that programs may import, `imports`
    the modules to import before the first program.

    Another language is a `command` that runs the program from the file `file`, such as `["node", "main.js"]`;
    `tools` are the folders that it may read and execute. The sample's tests are then a list of `stdin` and
    `stdout`, and the program is judged by what it prints.
    """

    sandbox: str | None = None
    cpu: int = 3
    wall: float = 30.0
    memory: int = 1024
    packages: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    workers: int | None = None
    command: tuple[str, ...] = ()
    file: str = "main"
    language: str = ""
    tools: tuple[str, ...] = TOOLS
    name: str = "code"
    _ready: _Ready = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.cpu < 1 or self.wall <= 0 or self.memory < 64:
            raise ConfigError("cpu and wall are positive, and memory is at least 64 (MiB)")
        interpreter = replace(Interpreter.here(self.imports, places(self.packages)), tools=self.tools)
        limits = Limits(cpu=self.cpu, wall=self.wall, memory=self.memory << 20)
        object.__setattr__(self, "_ready", _Ready(self.sandbox, interpreter, limits, self.workers))

    def check(self, question: Question, /) -> str | None:
        """Complains about samples without tests, and about all when nothing can shut programs in."""
        try:
            Problem.cases(question.metadata) if self.command else problem(question)
        except Malformed as error:
            return f"its metadata is no problem with tests: {error}"
        return self._ready.complaint()

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Run the answer's program and the tests."""
        await self._ready.decided()
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        try:
            pool = await self._ready.pool()
            if self.command:
                result = await pool.run_script(self._script(question, answer))
            else:
                result = await pool.run(problem(question).answered(answer.text))
        except Unavailable:
            return Score.unjudged("sandbox", "the sandbox could not be started")
        return scored(result, pool.sandbox.title)

    def _script(self, question: Question, answer: Answer) -> Script:
        source = extracted(answer.text, languages=frozenset({"", self.language.lower()}))
        return Script(((self.file, source),), self.command, Problem.cases(question.metadata))

    async def aclose(self) -> None:
        """End the processes that programs ran in. They end with this process, too."""
        await self._ready.aclose()


def problem(question: Question) -> Problem:
    """The problem that a sample's metadata holds. Raises `Malformed`."""
    metadata: Mapping[str, Any] = question.metadata
    return Problem.of(metadata, question.references)


def scored(result: Result, title: str) -> Score:
    """A result as a score. The reason quotes neither the answer nor the tests."""
    if result.status == "broken":
        word = "reference" if result.kind == "faulty" else "sandbox"
        said = "the sample's own tests do not run" if result.kind == "faulty" else "the sandbox failed"
        return Score.unjudged(word, said)
    total = len(result.outcomes)
    good = sum(each.passed for each in result.outcomes)
    if result.passed:
        return Score(1.0, True, f"{good} of {total} tests pass ({title})")
    if result.kind == "uncalled":  # tests that pass without the program say nothing for it
        return Score(0.0, False, f"{WORDS['uncalled']} ({title})")
    first = next((at for at, each in enumerate(result.outcomes, start=1) if not each.passed), 0)
    where = f"test {first}: " if total > 1 and good else ""
    reason = f"{good} of {total} tests pass; {where}{WORDS.get(result.kind, result.kind)} ({title})"
    return Score(good / total if total else 0.0, False, reason)


WORDS = {
    "wrong": "a wrong result",
    "exception": "an exception",
    "syntax": "the program has a syntax error",
    "undefined": "the program does not define what is asked for",
    "timeout": "out of time",
    "memory": "out of memory",
    "exit": "the program ended itself",
    "crash": "the program crashed",
    "protocol": "the program did not keep to the protocol",
    "uncrossable": "a result that is no plain value",
    "output": "it printed too much",
    "checker": "checking its results took too long",
    "uncalled": "the tests never called it",
    "sandbox": "its sandbox was lost, twice",
}


class _Ready:
    """The sandbox, chosen once, and a pool for each event loop that asks."""

    def __init__(
        self, name: str | None, interpreter: Interpreter, limits: Limits, workers: int | None
    ) -> None:
        self._made_of = name, interpreter, limits, workers
        self._name = name
        self._interpreter = interpreter
        self._limits = limits
        self._workers = workers
        self._lock = threading.Lock()
        self._chosen: Chosen | None = None
        self._failed: ConfigError | None = None
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Ready, self._made_of  # processes and locks stay where they are

    def complaint(self) -> str | None:
        """Why nothing can be run; None when it can. Tries the sandboxes once, in a thread of its own."""
        with self._lock:
            if self._chosen is None and self._failed is None:
                thread = threading.Thread(target=self._try)
                thread.start()
                thread.join()
        return None if self._failed is None else str(self._failed)

    def _try(self) -> None:
        try:
            self._chosen = asyncio.run(choose(self._name, self._interpreter))
        except ConfigError as error:
            self._failed = error

    async def decided(self) -> None:
        """Wait until it is known what can be run in, while the event loop goes on."""
        if self._chosen is None and self._failed is None:
            await asyncio.to_thread(self.complaint)

    async def pool(self) -> Pool:
        """This loop's pool."""
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            await self.decided()
            if self._chosen is None:
                raise Unavailable("no sandbox works here")
            self._pools.setdefault(
                loop,
                Pool(
                    self._chosen.sandbox,
                    interpreter=self._interpreter,
                    limits=self._limits,
                    workers=self._workers,
                ),
            )
        return self._pools[loop]

    async def aclose(self) -> None:
        """End this loop's pool."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()
