"""A hard cap on what a run may cost.

A call sets aside the most that it can cost before it is sent, and gives the rest back when its record says
what it did cost. A call that does not fit waits for others to give back; when none is under way that could,
the cap is reached. So spending passes the cap by no more than a record may pass its reservation – that is,
an answer without `max_tokens` that is longer than assumed, retries and hedges inside the endpoint, or a
judging that costs more than each one before it.

A judging whose cost nobody knows (its call broke off, say) is booked as the dearest one, which was reserved
for it. No cap holds over judges of which not even one cost is known: after a few of those it is reached.

Before anything is known of judging, rows are made one at a time. An endpoint that fails from the start would
keep it so, so after a few rows without a judging more and more begin together. Should it recover then, their
judgings may pass the cap together: at most as many as there were rows without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from guardrails.errors import BudgetExceeded
from guardrails.record import EXACT, total

MOST_UNKNOWN = 3
"""So many judgings of unknown cost are made under a cap before one whose cost is known."""

ALONE = 3
"""So many rows without a judging are made one at a time; then 2 begin together, then 4, then 8 …"""


@dataclass(slots=True)
class Hold:
    """One call's reservation. Set `cost` to what it came to; left alone, all that was reserved is booked."""

    cost: Decimal


@dataclass(slots=True)
class Cap:
    """USD that a run may spend; `spent` may start at what an interrupted run has spent already."""

    limit: Decimal
    spent: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)
    reached: bool = False
    _open: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition, repr=False)

    @asynccontextmanager
    async def hold(self, worst: Decimal) -> AsyncGenerator[Hold]:
        """Reserve `worst` USD for the body. Raises `BudgetExceeded` when that can never fit any more."""
        async with self._changed:
            while total([self.spent, self.reserved, worst]) > self.limit:
                if self._open == 0 or self.reached:
                    self.reached = True
                    self._changed.notify_all()
                    raise BudgetExceeded("the run's cost cap is reached", kind="cost_cap")
                await self._changed.wait()
            self.reserved = EXACT.add(self.reserved, worst)
            self._open += 1
        held = Hold(worst)
        try:
            yield held
        finally:
            # No await before this: a cancellation must not keep the reservation.
            self.reserved = EXACT.subtract(self.reserved, worst)
            self.spent = EXACT.add(self.spent, held.cost)
            self._open -= 1
            await asyncio.shield(self._wake())

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@dataclass(slots=True)
class Dearest:
    """What to reserve for something whose price shows only afterwards: the most that it has cost so far.

    `most` is None as long as nothing is known. Until then one is made at a time, or many that begin together
    would pass the cap together; more only where none comes about at all, which `skip` says. `owed` are those
    that were made by then and whose own cost stays unknown.
    """

    most: Decimal | None = None
    owed: int = 0
    skipped: int = 0
    _open: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition, repr=False)

    @asynccontextmanager
    async def guess(self) -> AsyncGenerator[Decimal]:
        """USD to reserve for the body, which calls `learn` or `skip`.

        Raises `BudgetExceeded` if nothing gets known.
        """
        limited = not self._known
        if limited:
            async with self._changed:
                await self._changed.wait_for(lambda: self._known or self._open < self._together)
                self._open += 1
        try:
            if self.most is None and self.owed >= MOST_UNKNOWN:
                raise BudgetExceeded("nobody knows what judging costs", kind="cost_cap")
            yield self.most or Decimal(0)
        finally:
            if limited:  # no await before this: a cancellation must not keep the place
                self._open -= 1
                await asyncio.shield(self._wake())

    @property
    def _known(self) -> bool:
        return self.most is not None

    @property
    def _together(self) -> int:
        """How many may be under way while nothing is known: twice as many once all of them were skipped."""
        return max(1, self.skipped - ALONE + 2)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def skip(self) -> None:
        """Take into account that one was not made after all."""
        self.skipped += 1

    def learn(self, cost: Decimal, *, whole: bool = True) -> Decimal:
        """Take into account what one has cost, at least if that is not the `whole`; what to book for it.

        The first cost that is known is booked for those too of which none was.
        """
        if not whole and self.most is None:
            self.owed += 1
            self.skipped = 0  # they come about now, so one at a time again
            return cost
        self.most = cost if self.most is None else max(self.most, cost)
        owed, self.owed = self.owed, 0
        return total([cost if whole else self.most, EXACT.multiply(self.most, owed)])
