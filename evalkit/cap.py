"""A hard cap on what a run may cost.

A call sets aside the most that it can cost before it is sent, and gives the rest back when its record says
what it did cost. A call that does not fit waits for others to give back; when none is under way that could,
the cap is reached. So spending passes the cap by no more than a record may pass its reservation – that is,
an answer without `max_tokens` that is longer than assumed, retries and hedges inside the endpoint, or a
judging that costs more than each one before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from guardrails.errors import BudgetExceeded


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
            while self.spent + self.reserved + worst > self.limit:
                if self._open == 0 or self.reached:
                    self.reached = True
                    self._changed.notify_all()
                    raise BudgetExceeded("the run's cost cap is reached", kind="cost_cap")
                await self._changed.wait()
            self.reserved += worst
            self._open += 1
        held = Hold(worst)
        try:
            yield held
        finally:
            # No await before this: a cancellation must not keep the reservation.
            self.reserved -= worst
            self.spent += held.cost
            self._open -= 1
            await asyncio.shield(self._wake())

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@dataclass(slots=True)
class Dearest:
    """What to reserve for something whose price shows only afterwards: the most that it has cost so far.

    `most` is None as long as nothing is known. Until then one is made at a time, or many that begin together
    would pass the cap together.
    """

    most: Decimal | None = None
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @asynccontextmanager
    async def guess(self) -> AsyncGenerator[Decimal]:
        """USD to reserve for the body; whoever is the first to know calls `learn` in it."""
        if self.most is None:
            async with self._alone:
                if self.most is None:
                    yield Decimal(0)
                    return
        yield self.most

    def learn(self, cost: Decimal) -> None:
        """Take what one has cost into account."""
        self.most = cost if self.most is None else max(self.most, cost)
