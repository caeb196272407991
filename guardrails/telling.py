"""How does an operator hear of trouble once, and not once a call?

Under load the same thing goes wrong thousands of times a minute. `Spell` tells that it began and that it is
over, `Tally` tells how often it happened. Both are told the time, by the clock of the calls, and decide only
when something is said; what is said, and where, is the caller's.
"""

from __future__ import annotations

import math
from pathlib import PurePath

QUIET = 60.0
"""Seconds for which nothing more is said of the same trouble."""


class Spell:
    """Trouble that lasts: say that it began, once, and that it is over if its beginning was said.

    Trouble that comes and goes, or whose cause changes, is told of once in `quiet` seconds at most.
    """

    __slots__ = ("_quiet", "_quiet_until", "since", "told")

    def __init__(self, quiet: float = QUIET) -> None:
        self._quiet = quiet
        self._quiet_until = -math.inf
        self.told = ""
        """What the log knows of it: the cause that was said, empty when there is no trouble."""
        self.since = 0.0

    def goes_on(self, cause: str, now: float) -> bool:
        """Trouble at `now`. Whether to say so."""
        if self.told == cause or now < self._quiet_until:
            return False
        if not self.told:
            self.since = now
        self.told = cause
        self._quiet_until = now + self._quiet
        return True

    def over(self) -> bool:
        """All is well. Whether to say so; ask only while something is `told`."""
        was, self.told = self.told, ""
        return bool(was)


class Tally:
    """Trouble that happens: how often it did since it was last told of, at most once in `quiet` seconds."""

    __slots__ = ("_count", "_quiet", "_quiet_until")

    def __init__(self, quiet: float = QUIET) -> None:
        self._quiet = quiet
        self._quiet_until = -math.inf
        self._count = 0

    def add(self, now: float) -> int:
        """It happened once more. How often in all, when that is to be said now; else 0."""
        self._count += 1
        if now < self._quiet_until:
            return 0
        count, self._count = self._count, 0
        self._quiet_until = now + self._quiet
        return count


def whence(error: BaseException) -> str:
    """An exception's type and place: enough to find it, and neither quotes anybody."""
    where = place(error)
    return f"{type(error).__name__} at {where}" if where else type(error).__name__


def place(error: BaseException) -> str:
    """Where an exception was raised, as `file:line`; empty for one that was not."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{PurePath(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
