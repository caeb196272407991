"""Go through an execution once or twice before the first fork.

Python prepares code when it runs it, and writes into it when it has run it often. Done before a fork, this is
shared by all forks; done in a fork, each page of memory that is written to has to be copied first.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from . import candidate, grader
from .line import Line

_TIMES = 20
_PROGRAM = """
from typing import List
import math


def f(a: List[int], b, c):
    \"\"\"A docstring.\"\"\"
    total = 0
    for each in a:
        if isinstance(each, int) and each > 0 or len(a) > 2:
            total += 1
    return [each for each in sorted(a, key=str)]
"""
_TEST = """
def check(candidate):
    assert candidate([1, 2.5, "a"], (1,), {1: 2}) == [1, 2.5, "a"]
    assert candidate([], (1,), {1: 2}) == []


check(f)
"""
_JOB = {"setup": _PROGRAM, "tests": [_TEST], "names": ["f"], "classes": []}


def rehearse(role: str) -> None:
    """Run a program with nobody, or tests on nothing, some times."""
    job = grader.Job(_JOB)
    for _ in range(_TIMES):
        if role == "candidate":
            call = ["call", "call", 0, [[1, 2.5, "a"], {"t": [1]}, {"d": [[1, 2]]}], {}]
            _alone(lambda line: candidate.run(_PROGRAM, line), ["names", ["f"]], call, call)
        else:
            answers = ["return", [1, 2.5, "a"], []], ["return", [], []]
            _alone(lambda line: json.dumps(job.grade(line)), ["names", {"f": ["function", 0]}], *answers)


def _alone(act: Any, *messages: Any) -> None:
    """Do something on a line whose other end has said all that it will say."""
    here, there = socket.socketpair()
    prompter = Line(there.fileno(), 1 << 20)
    for message in messages:
        prompter.send(message)
    there.shutdown(socket.SHUT_WR)
    act(Line(here.fileno(), 1 << 20))
    here.close()
    there.close()
