"""Running a stranger's code, shut in, and judging it from outside.

from judges.sandbox import Pool, Program, choose

chosen = await choose()                     # the strongest way that works here, tried by doing
async with Pool(chosen.sandbox) as pool:
    result = await pool.run(Program("def inc(x): return x + 1", ("assert inc(1) == 2",), names=("inc",)))
"""

from judges.sandbox.choose import Chosen, NoSandbox, choose
from judges.sandbox.pool import Pool
from judges.sandbox.program import Limits, Outcome, Program, Result, Script
from judges.sandbox.tiers import Interpreter, Sandbox, Unavailable

__all__ = (
    "Chosen",
    "Interpreter",
    "Limits",
    "NoSandbox",
    "Outcome",
    "Pool",
    "Program",
    "Result",
    "Sandbox",
    "Script",
    "Unavailable",
    "choose",
)
