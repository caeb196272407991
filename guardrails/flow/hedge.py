"""The first token is late: shall I ask a second time, in parallel?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from guardrails.call import Call
from guardrails.clock import Clock
from guardrails.errors import GuardrailsError
from guardrails.flow.cold import is_cold
from guardrails.flow.entering import Entering
from guardrails.flow.recent import RecentValues
from guardrails.flow.retry import RetryBudget
from guardrails.handler import Handler, Stream, close_all


def never() -> bool:
    """Not saturated."""
    return False


@dataclass(frozen=True, slots=True)
class Hedge:
    """The first token is late: shall I ask a second time, in parallel?

    When the first attempt has no token after `delay` seconds (None: after the `quantile` of its own recent
    times to the first token, once there are `minimum` of them), a second one is sent, to `other` if given,
    else the same way. Whichever opens first is the answer; the other is cancelled before it costs more, and
    its attempt stays in the record with what it did cost.

    It helps against a server's rare hiccups, of which the second attempt knows nothing. Against a server that
    is slow because it is full it only adds load: so none is sent while `saturated()` says so or `budget` is
    spent (share it with the retries), nor by a call of priority `bulk`.

    An error of the first attempt before `delay` is raised as it is: that is what retries are for. When both
    fail, the first attempt's error is raised.
    """

    delay: float | None = None
    quantile: float = 0.95
    minimum: int = 20
    other: Handler | None = None
    budget: RetryBudget = field(default_factory=RetryBudget)
    saturated: Callable[[], bool] = never
    times: RecentValues = field(default_factory=RecentValues, repr=False, compare=False)

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner`, or `other` beside it when that takes long."""
        self.budget.count(call)
        clock, started = call.clock, call.clock.now()
        after = self.after()
        async with AsyncExitStack() as opened:
            if after is None or call.priority == "bulk":
                stream = await opened.enter_async_context(inner(call))
                self._learn(call, clock.now() - started)
            else:
                stream = await self._race(call, inner, after, opened)
            yield stream

    def after(self) -> float | None:
        """After how many seconds a second attempt is sent; None while that is not known."""
        if self.delay is not None:
            return self.delay
        return self.times.quantile(self.quantile) if len(self.times) >= self.minimum else None

    async def aclose(self) -> None:
        """Close `other`."""
        await close_all(self.other)

    async def _race(self, call: Call, inner: Handler, after: float, opened: AsyncExitStack) -> Stream:
        clock, started = call.clock, call.clock.now()
        first = Entering(inner, call)
        running = [first]
        try:
            await _until(clock, after, first.task)
            if not first.task.done() and self._may(call):
                call.journal.note(clock.now(), "flow", f"hedge:{after * 1e3:.0f}ms")
                running.append(Entering(self.other or inner, call))
            winner = await _first_open(running)
            if first.opened or not first.task.done():
                # A first attempt that is given up has taken at least this long.
                self._learn(call, clock.now() - started)
            stream = winner.keep(opened)
            running.remove(winner)
            if winner is not first:
                call.journal.note(clock.now(), "flow", "hedge_won")
            return stream
        finally:
            await _drop(running)

    def _learn(self, call: Call, seconds: float) -> None:
        if not is_cold(call):
            self.times.add(seconds)

    def _may(self, call: Call) -> bool:
        now = call.clock.now()
        if self.saturated():
            why = "saturated"
        elif not self.budget.take(now):
            why = "budget_spent"
        else:
            return True
        call.journal.note(now, "flow", f"no_hedge:{why}")
        return False


async def _first_open(running: list[Entering]) -> Entering:
    """The first that opens; the first one of all when none does."""
    while True:
        for each in running:
            if each.opened:
                return each
        left = [each.task for each in running if not each.task.done()]
        for each in running:
            # Only an endpoint's failure is worth waiting for the other attempt; a bug is not.
            if each.task.done() and not isinstance(each.task.exception(), GuardrailsError):
                return each
        if not left:
            return running[0]
        await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)


async def _drop(running: list[Entering]) -> None:
    """Drop them all, each one even when we are cancelled meanwhile."""
    for each in running:
        each.task.cancel()
    if not running:
        return
    try:
        await running[0].drop()
    finally:
        await _drop(running[1:])


async def _until(clock: Clock, seconds: float, task: asyncio.Task[Stream]) -> None:
    """Wait until the task is done, `seconds` at most."""
    rung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, lambda: None if rung.done() else rung.set_result(None))
    try:
        await asyncio.wait((task, rung), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
        rung.cancel()
