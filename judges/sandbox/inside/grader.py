"""The tests' process: run the tests against stubs, and say what came of each. The verdict is made here.

The candidate's program never runs in this process, nor do the tests ever reach the candidate's.
"""

from __future__ import annotations

import builtins
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any

from .line import Line, Lost
from .remote import Asker
from .wire import Uncrossable

_TESTS = "<test {}>"


class Job:
    """Tests, prepared once and run on any number of programs, each time from scratch.

    `given` has `setup` (the problem's own code, trusted), `tests` (a list of sources), `names` (what the
    program must define) and `classes` (which of them the problem wants as classes).
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._faulty = ""
        try:
            self._setup = _compiled(given["setup"])
            self._codes = [
                compile(source, _TESTS.format(number), "exec", dont_inherit=True)
                for number, source in enumerate(given["tests"], start=1)
            ]
        except Exception as error:
            self._faulty = f"{type(error).__name__} in the problem's code"

    def grade(self, line: Line) -> dict[str, Any]:
        """The verdict on the program at the other end.

        `outcomes` is a list of [kind, message] with kind `passed` or a word for the failure; `calls` is how
        often the tests asked the candidate; `lost` is how its process was lost, if it was; `faulty` is what
        is wrong with the tests themselves, if anything is.
        """
        if self._faulty:
            return _faulty(self._faulty)
        module = ModuleType("tests")
        sys.modules["tests"] = module
        try:
            return self._graded(line, module)
        finally:
            # Functions in it hold it, so what a candidate gave would stay until the collector came by.
            module.__dict__.clear()

    def _graded(self, line: Line, module: ModuleType) -> dict[str, Any]:
        try:
            exec(self._setup, module.__dict__)  # noqa: S102
        except Exception as error:
            return _faulty(f"{type(error).__name__} in the problem's code")
        asker = Asker(line, self._given["classes"])
        outcomes: list[list[str]] = []
        try:
            outcomes = _run(self._given, self._codes, module.__dict__, asker)
        except Lost as lost:
            outcomes = [["lost", lost.why]]
        outcomes += [["not run", ""]] * (len(self._codes) - len(outcomes))
        return {"outcomes": outcomes, "calls": asker.calls, "lost": line.broken, "faulty": ""}


def _compiled(setup: str) -> CodeType:
    """The problem's code; a prompt that ends at a bare `def` gets a body."""
    try:
        return compile(setup, "<setup>", "exec", dont_inherit=True)
    except SyntaxError:
        return compile(f"{setup}\n    pass\n", "<setup>", "exec", dont_inherit=True)


def _faulty(why: str) -> dict[str, Any]:
    return {"outcomes": [], "calls": 0, "lost": "", "faulty": why}


def _run(
    job: Mapping[str, Any], codes: list[CodeType], space: dict[str, Any], asker: Asker
) -> list[list[str]]:
    wanted = dict.fromkeys([*job["names"], *_free(codes, space)])
    stubs = asker.names(list(wanted))
    if isinstance(stubs, tuple):
        return [list(stubs)]
    if missing := [name for name in job["names"] if name not in stubs]:
        return [["undefined", f"the program does not define {missing[0]}"]]
    space.update(stubs)
    outcomes = []
    for code, source in zip(codes, job["tests"], strict=True):
        outcomes.append(_outcome(code, source, space))
    return outcomes


def _outcome(code: CodeType, source: str, space: dict[str, Any]) -> list[str]:
    try:
        exec(code, space)  # noqa: S102
    except AssertionError as error:
        return ["wrong", _place(error, code, source) or "AssertionError"]
    except Uncrossable as error:
        return ["uncrossable", str(error)[:300]]
    except MemoryError:
        return ["memory", "MemoryError"]
    except Lost:
        raise
    except BaseException as error:
        text = f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")
        return ["exception", text]
    return ["passed", ""]


def _place(error: BaseException, code: CodeType, source: str) -> str:
    """The line of the tests that failed, as far as it is in their text."""
    lines = [
        number
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == code.co_filename
    ]
    text = source.splitlines()
    return text[lines[-1] - 1].strip()[:200] if lines and 0 < lines[-1] <= len(text) else ""


def _free(codes: list[CodeType], space: dict[str, Any]) -> Iterator[str]:
    """Names that the tests use and neither the problem's code nor Python defines.

    Never a built-in's: a program that defines `sorted` or `len` must not define it for the tests.
    """
    for code in codes:
        inner = [each for each in code.co_consts if isinstance(each, CodeType)]
        for name in code.co_names:
            if name not in space and not hasattr(builtins, name) and not name.startswith("__"):
                yield name
        yield from _free(inner, space)
