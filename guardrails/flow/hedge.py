"""The first token is late: shall I ask a second time, in parallel?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from guardrails.call import Call
from guardrails.errors import GuardrailsError
from guardrails.flow.cold import is_cold
from guardrails.flow.entering import Entering, Kept
from guardrails.flow.recent import RecentValues
from guardrails.flow.retry import RetryBudget
from guardrails.handler import Handler, Opening, Stream, close_all


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
    is slow because it is full it only adds load: so none is sent while `saturated()` says so (give it the
    `saturated` of the `Admit` in front of the same server) or `budget` is spent (share it with the retries),
    nor by a call of priority `bulk`.

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

    def __call__(self, call: Call, inner: Handler, /) -> Opening:
        """Open `inner`, or `other` beside it when that takes long."""
        return Kept(lambda opened: self._open(call, inner, opened))

    async def _open(self, call: Call, inner: Handler, opened: Kept) -> Stream:
        self.budget.count(call)
        after = self.after()
        if after is not None and call.priority != "bulk":
            return await _Race(self, call, self.other or inner, after).run(inner, opened)
        started = call.clock.now()
        stream = await opened.enter(inner(call))
        self.learn(call, call.clock.now() - started)
        return stream

    def after(self) -> float | None:
        """After how many seconds a second attempt is sent; None while that is not known."""
        if self.delay is not None:
            return self.delay
        return self.times.quantile(self.quantile) if len(self.times) >= self.minimum else None

    async def aclose(self) -> None:
        """Close `other`."""
        await close_all(self.other)

    def learn(self, call: Call, seconds: float) -> None:
        """Take in how long a first attempt took to its first token."""
        if not is_cold(call):
            self.times.add(seconds)

    def may(self, call: Call) -> bool:
        """Whether a second attempt may be sent; if so it is booked."""
        now = call.clock.now()
        if self.saturated():
            why = "saturated"
        elif not self.budget.take(now):
            why = "budget_spent"
        else:
            return True
        call.journal.note(now, "flow", f"no_hedge:{why}")
        return False


class _Race:
    """A first attempt in the caller's own task and, when it is late, a second one in a task of its own.

    The usual call has but one attempt, and pays for a timer only. When the second opens first, the caller's
    waiting is cancelled: that cancellation is ours, and is taken back; one of somebody else's stays theirs.
    """

    __slots__ = (
        "_after",
        "_call",
        "_caller",
        "_cancelling",
        "_entering",
        "_hedge",
        "_other",
        "_overtaken",
        "_second",
    )

    def __init__(self, hedge: Hedge, call: Call, other: Handler, after: float) -> None:
        caller = asyncio.current_task()
        assert caller is not None, "a coroutine runs in a task"
        self._caller = caller
        self._cancelling = caller.cancelling()
        self._hedge = hedge
        self._call = call
        self._other = other
        self._after = after
        self._entering = True
        self._overtaken = False
        self._second: Entering | None = None

    async def run(self, first: Handler, opened: Kept) -> Stream:
        """The stream of whichever opens first; `opened` closes it. Nothing is left of the other."""
        clock, started = self._call.clock, self._call.clock.now()
        timer = clock.call_later(self._after, self._start)
        stream: Stream | None = None
        failure: BaseException | None = None
        try:
            try:
                stream = await opened.enter(first(self._call))
            except (GuardrailsError, asyncio.CancelledError) as error:
                failure = error
            finally:
                self._entering = False
                timer.cancel()
            if failure is None or self._overtaken:
                # A first attempt that is given up has taken at least this long.
                self._hedge.learn(self._call, clock.now() - started)
            if not self._overtaken and stream is not None:
                return stream
            return await self._instead(failure, opened)
        finally:
            failure = None  # it holds this frame
            if self._second is not None:
                await self._second.drop()

    def _start(self) -> None:
        """The first is late."""
        if self._hedge.may(self._call):
            self._call.journal.note(self._call.clock.now(), "flow", f"hedge:{self._after * 1e3:.0f}ms")
            self._second = Entering(self._other, self._call)
            self._second.task.add_done_callback(self._done)

    def _done(self, second: asyncio.Task[Stream]) -> None:
        """The second is there; or it broke in a way that is nobody's endpoint's fault."""
        if self._entering and not second.cancelled() and not isinstance(second.exception(), GuardrailsError):
            self._overtaken = True
            self._caller.cancel()

    async def _instead(self, failure: BaseException | None, opened: Kept) -> Stream:
        """The second's stream, in place of a first that is late, has failed, or opened in spite of all."""
        if self._overtaken:
            if self._caller.uncancel() > self._cancelling:
                raise asyncio.CancelledError
            await opened.leave()
        elif isinstance(failure, asyncio.CancelledError):
            raise failure
        if self._second is None:
            assert failure is not None, "without a second the first has opened or failed"
            raise failure
        if not self._second.task.done():
            await asyncio.wait([self._second.task])
        if isinstance(self._second.task.exception(), GuardrailsError) and failure is not None:
            raise failure
        stream = self._second.keep(opened)
        self._second = None
        self._call.journal.note(self._call.clock.now(), "flow", "hedge_won")
        return stream
