"""Programs in any language: a fresh sandbox for each run, judged from outside by what was printed."""

from __future__ import annotations

import json
import os

from judges.sandbox.inside.packets import Report
from judges.sandbox.program import Limits, Outcome, Result, Script
from judges.sandbox.tiers import Interpreter, Sandbox
from judges.sandbox.worker import GRACE, WorkerLost, Zygote, order, out_of_time


async def run_script(sandbox: Sandbox, interpreter: Interpreter, script: Script, limits: Limits) -> Result:
    """Run every case until one fails. Raises `Unavailable` where the sandbox cannot run commands."""
    outcomes: list[Outcome] = []
    cpu = 0.0
    for given, expected in script.cases:
        if outcomes and not outcomes[-1].passed:
            outcomes.append(Outcome("not run"))
            continue
        outcome, used = await _case(sandbox, interpreter, script, given, expected, limits)
        outcomes.append(outcome)
        cpu += used
    failed = next((each for each in outcomes if not each.passed), None)
    if failed is not None:
        return Result("failed", failed.kind, failed.message, tuple(outcomes), cpu)
    if not outcomes:
        return Result("broken", "faulty", "there are no cases", (), cpu)
    return Result("passed", "passed", "", tuple(outcomes), cpu)


async def _case(
    sandbox: Sandbox, interpreter: Interpreter, script: Script, given: str, expected: str, limits: Limits
) -> tuple[Outcome, float]:
    zygote = await Zygote.start(sandbox, "command", interpreter)
    printed = os.memfd_create("printed")
    try:
        job = json.dumps({"files": dict(script.files), "argv": script.argv, "stdin": given}).encode()
        zygote.run(order(1, limits)._replace(file=limits.output), job, printed)
        ended = await zygote.report(limits.wall + GRACE)
        output = os.pread(printed, limits.output + 1, 0).decode("utf-8", "replace")
    except WorkerLost:
        return Outcome("sandbox", "its sandbox was lost"), 0.0
    finally:
        os.close(printed)
        await zygote.close()
    return _outcome(ended, output, expected, limits), float(ended.cpu)


def _outcome(ended: Report, output: str, expected: str, limits: Limits) -> Outcome:
    status = ended.status
    if len(output) >= limits.output:
        return Outcome("output", "it printed too much")
    if out_of_time(ended, limits):
        return Outcome("timeout", "timed out")
    if os.WIFSIGNALED(status):
        return Outcome("crash", f"killed by signal {os.WTERMSIG(status)}")
    if os.WEXITSTATUS(status) != 0:
        return Outcome("exit", f"it ended with exit code {os.WEXITSTATUS(status)}")
    if _tidy(output) != _tidy(expected):
        return Outcome("wrong", "it printed something else")
    return Outcome("passed")


def _tidy(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
