"""The endpoint failed before its first token: when is it worth asking again, and how often in all?

Trying again helps against bad luck and hurts against overload: three attempts a call turn a server that can
do 100 calls a second and gets 110 into one that gets 330. Hence a budget and not only a number of attempts.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field

from guardrails.call import Call
from guardrails.errors import ASK_AGAIN, Transient
from guardrails.flow.entering import Kept
from guardrails.flow.recent import RecentCount
from guardrails.handler import Handler, Opening, Stream
from guardrails.telling import Spell

log = logging.getLogger("guardrails")

SDK_RETRIES = "x-stainless-retry-count"
"""The label (a header of the official SDKs) that says how often somebody outside of us has tried before."""


class RetryBudget:
    """Why not simply three attempts a call? Because when everything fails, that is three times the load.

    Of all attempts beyond the first of a call – retries, fallbacks and hedges, whoever shares this budget –
    at most `share` of the calls of the last `window` seconds plus `floor` are allowed. The floor is what lets
    a quiet service try again at all. `now` is on the caller's clock.
    """

    __slots__ = ("_calls", "_extra", "floor", "share")

    def __init__(self, share: float = 0.2, floor: int = 10, window: float = 30.0) -> None:
        if not (share >= 0 and floor >= 0):
            raise ValueError(f"a retry budget of {share} and {floor} is none")
        self.share = share
        self.floor = floor
        self._calls = RecentCount(window)
        self._extra = RecentCount(window)

    def count(self, call: Call) -> None:
        """Count a call once, however many layers that share the budget see it."""
        memo = call.journal.memo
        if self not in memo:
            memo[self] = True
            self._calls.add(call.clock.now())

    def left(self, now: float) -> int:
        """How many more attempts may be made now."""
        allowed = self.floor + int(self.share * self._calls.total(now))
        return max(0, allowed - self._extra.total(now))

    def take(self, now: float) -> bool:
        """Whether one more attempt may be made; if so it is counted."""
        if self.left(now) < 1:
            return False
        self._extra.add(now)
        return True

    def __repr__(self) -> str:
        return f"RetryBudget(share={self.share:g}, floor={self.floor})"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before attempt n + 1?

    Full jitter: anything from 0 to `base` · 2ⁿ⁻¹ seconds, at most `cap`, so that those who failed together do
    not come back together. An endpoint's own `retry_after` is the least that is waited; one of more than
    `patience` seconds is not waited for at all.
    """

    base: float = 0.25
    cap: float = 8.0
    patience: float = 30.0

    def wait(self, attempt: int, retry_after: float | None, rng: random.Random) -> float | None:
        """Seconds after the failure of attempt number `attempt` (from 1 on); None: do not try again."""
        jitter = rng.uniform(0.0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 60)))
        if retry_after is None:
            return jitter
        return None if retry_after > self.patience else retry_after + jitter


def _explain(error: Transient, attempts: int) -> None:
    """Say how often the endpoint was tried, and no more that a retry would help."""
    error.hint = error.hint.replace(ASK_AGAIN, "")
    if attempts > 1:
        error.add(f"tried {attempts} times")


@dataclass(frozen=True, slots=True)
class Retry:
    """The endpoint failed before its first token: shall I ask it again?

    Up to `attempts` times in all, for `Transient` errors only, after a wait that `backoff` chooses, and while
    `budget` has something left. The call's deadline covers all attempts: a wait that would outlast it is not
    begun, and the caller gets the endpoint's error at once. After the first token nothing is tried again
    (`Holdback` moves that line). An open circuit is not waited for: that is what the next route is for. Nor
    is an endpoint asked again that asks not to be (`x-should-retry: false`).

    Share one `budget` among all retries, fallbacks and hedges in front of the same servers. A call that says
    that a retrying SDK outside of us has sent it before gets a single attempt, a `nested_retries` note in its
    record, and the operator one warning: attempts multiply. The log also hears, once a minute at most, that
    the endpoint fails in spite of all tries, and that it answers again.
    """

    attempts: int = 3
    backoff: Backoff = Backoff()
    budget: RetryBudget = field(default_factory=RetryBudget)
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)
    _told: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    _named: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    _spell: Spell = field(default_factory=Spell, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"{self.attempts} attempts are none")

    def __call__(self, call: Call, inner: Handler, /) -> Opening:
        """Open `inner`, several times if need be. Raises the last attempt's error."""
        return Kept(lambda opened: self._open(call, inner, opened))

    async def _open(self, call: Call, inner: Handler, opened: Kept) -> Stream:
        self.budget.count(call)
        attempts = 1 if self._nested(call) else self.attempts
        attempt = 1
        while True:
            try:
                stream = await opened.enter(inner(call))
                if self._spell.told:
                    self._well(call.clock.now())
                return stream
            except Transient as error:
                failure = error.again()
            wait = self._wait(call, failure, attempt) if attempt < attempts else None
            if wait is None:
                _explain(failure, attempt)
                self._ill(failure, attempt, call.clock.now())
                raise failure
            await call.clock.sleep(wait)
            attempt += 1

    def _wait(self, call: Call, error: Transient, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None when there will be none."""
        if error.kind == "circuit_open":
            return None
        now = call.clock.now()
        wait = self.backoff.wait(attempt, error.retry_after, self.rng)
        if not error.retry_here:
            why, said = "not_wanted", "it asked for that"
        elif wait is None:
            why, said = "not_in_time", f"it asks for more than retry.patience ({self.backoff.patience:g} s)"
        elif call.deadline is not None and now + wait >= call.deadline:
            why, said = "not_in_time", f"the deadline is in {max(0.0, call.deadline - now):.1f} s"
        elif not self.budget.take(now):
            why, said = "budget_spent", "the retry budget is spent"
        else:
            call.journal.note(now, "flow", f"retry:{error.kind}")
            return wait
        call.journal.note(now, "flow", f"no_retry:{why}")
        error.add(f"not tried again: {said}")
        return None

    def _ill(self, error: Transient, attempts: int, now: float) -> None:
        # An open circuit is told of by its breaker, with the cause.
        if error.kind != "circuit_open" and self._spell.goes_on(error.short, now):
            self._named[:] = [error.endpoint or "an endpoint"]
            tries = "one try" if attempts == 1 else f"{attempts} tries"
            log.warning("%s fails: %s after %s", self._named[0], error.short, tries)

    def _well(self, now: float) -> None:
        if self._spell.over():
            log.info("%s answers again after %.0f s", self._named[0], now - self._spell.since)

    def _nested(self, call: Call) -> bool:
        before = call.labels.get(SDK_RETRIES, "0")
        if not before.isdecimal() or int(before) == 0:
            return False
        call.journal.note(call.clock.now(), "flow", "nested_retries:sdk")
        if not self._told:
            self._told.append(before)
            log.warning(
                "a client in front of this retries by itself (%s: %s), so attempts multiply: set its "
                "max_retries to 0, the retries here have a budget",
                SDK_RETRIES,
                before[:8],
            )
        return True
