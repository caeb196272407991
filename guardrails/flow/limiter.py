"""Who holds a slot, who waits for one, and what is learned from those who had one?

`Limiter` is the gate between a `Limit` (how many slots there are) and a `Queue` (who gets the next one). It
is synchronous and told the time, so a simulation can drive the very code that runs in production;
`guardrails.flow.admit` puts it around calls.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from guardrails.call import Priority
from guardrails.clock import Clock, Timer
from guardrails.errors import Shed
from guardrails.flow.limits import Limit, Outcome, Sample, Slo, TwoSignal
from guardrails.flow.queue import Queue, Rules, Waiting, Why

LOOK_SECONDS = 1.0  # how often the pace of the streams in flight is looked at, at most
LOOK_TOKENS = 4  # a pace over fewer tokens says little
USUAL = 0.1  # weight of a new value in a running mean
BULK_SHARE = 0.9  # of the limit: what is left over lets an urgent call in at once
RETRY_SECONDS = (1.0, 60.0)

Progress = Callable[[], tuple[int, float]]
"""Tokens that a stream has given so far, and when the last of them came."""


class Slot:
    """One call at the gate: waiting, holding a slot, or done with it."""

    __slots__ = ("at", "cold", "granted", "progress", "sent", "settle", "tokens", "waiting")

    def __init__(self, waiting: Waiting | None, settle: Callable[[Shed | None], None]) -> None:
        self.waiting = waiting
        self.settle = settle
        self.granted = False
        self.cold = False
        self.sent = 0.0
        self.progress: Progress | None = None
        self.tokens = 0
        self.at = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A limiter at one moment, for metrics. `ttft` and `tpot`: running means in seconds, as the endpoint
    gives them (None: not seen yet). The last three count since the start.
    """

    limit: float
    in_flight: int
    queued: Mapping[Priority, int]
    ttft: float | None
    tpot: float | None
    admitted: int
    shed: Mapping[str, int]
    dropped: int


class Limiter:
    """Gives out slots, at most `limit` at a time. For one endpoint and one event loop.

    After `idle` seconds without a call the next ones are *cold* until a first token comes: their times say
    how long the endpoint needs to wake up, nothing about load, and are not learned from.
    """

    def __init__(
        self,
        limit: Limit | None = None,
        rules: Rules | None = None,
        *,
        slo: Slo | None = None,
        idle: float = 60.0,
    ) -> None:
        self.slo = slo or Slo()
        self.limit: Limit = TwoSignal(self.slo) if limit is None else limit
        self._queue = Queue(rules)
        self._held: set[Slot] = set()
        self._idle = idle
        self._idle_since = -math.inf
        self._warming = False
        self._ttft: float | None = None
        self._tpot: float | None = None
        self._looked = -math.inf
        self._ended: list[tuple[float, int]] = []
        self._granted_at = 0.0
        self._interval = 0.0
        self._timer: Timer | None = None
        self._timer_due = math.inf
        self._admitted = self._dropped = 0
        self._shed: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        """Slots held now."""
        return len(self._held)

    @property
    def queued(self) -> int:
        """Calls that wait now."""
        return len(self._queue)

    @property
    def saturated(self) -> bool:
        """Whether a new call would have to wait: no time for hedges and shadows."""
        return len(self._queue) > 0 or len(self._held) >= whole(self.limit)

    def snapshot(self) -> Snapshot:
        """The numbers of this moment."""
        return Snapshot(
            limit=self.limit.limit,
            in_flight=len(self._held),
            queued=self._queue.depths(),
            ttft=self._ttft,
            tpot=self._tpot,
            admitted=self._admitted,
            shed=dict(self._shed),
            dropped=self._dropped,
        )

    # --- the life of a slot

    def enter(self, priority: Priority, clock: Clock) -> Slot | None:
        """A slot at once, where one is free and nobody waits: nearly always. `ask` if there is none."""
        if self._queue or len(self._held) >= self._room(priority):
            return None
        slot = Slot(None, _known)
        self._grant(slot, clock.now())
        return slot

    def ask(self, waiting: Waiting, settle: Callable[[Shed | None], None], clock: Clock) -> Slot:
        """Ask for a slot. `settle` is called once, now or later: with None (granted), or with why not.

        Follow it up with `began` and `release` if granted, or with `withdraw` to give up before.
        """
        now = clock.now()
        slot = Slot(waiting, settle)
        if not self._queue and len(self._held) < self._room(waiting.priority):
            self._grant(slot, now)
            return slot
        waiting.item = slot
        self._queue.put(waiting)
        self._fill(now)  # first, for a free slot is refused to nobody, however late
        self._pump(now)
        leaving = self._queue.trim(now, waiting)
        if leaving is not None:
            self._turn_away(leaving, "queue_full" if leaving is waiting else "overload")
        self._arm(clock, now)
        return slot

    def withdraw(self, slot: Slot, clock: Clock) -> None:
        """Give up waiting. A slot that was granted meanwhile is given back."""
        if slot.granted:
            self.release(slot, clock, "ignored")
        elif slot.waiting is not None and self._queue.remove(slot.waiting):
            slot.waiting.item = None
            self._arm(clock, clock.now())

    def began(
        self, slot: Slot, clock: Clock, *, ttft: float, tokens_in: int, progress: Progress | None = None
    ) -> None:
        """The first token came, `ttft` seconds after sending. `progress` is asked now and then."""
        now = clock.now()
        slot.progress = progress
        if progress is not None:
            slot.tokens, slot.at = progress()
        if slot.cold:
            self._warming = False
            return
        self._ttft = ttft if self._ttft is None else self._ttft + USUAL * (ttft - self._ttft)
        tpot, tokens_out = self._pace(now)
        sample = Sample(now, len(self._held), "success", ttft, tokens_in, tpot, tokens_out)
        self.limit = self.limit.after(sample)
        self._go_on(clock, now)

    def release(self, slot: Slot, clock: Clock, outcome: Outcome = "success") -> None:
        """Give the slot back. Giving it back twice does nothing."""
        if slot not in self._held:
            return
        now = clock.now()
        try:
            if (pace := _advance(slot)) is not None:
                self._ended.append(pace)
            if outcome == "dropped":
                self._dropped += 1
                self.limit = self.limit.after(Sample(now, len(self._held), "dropped"))
        finally:  # a journal, or a limit, of somebody else's may raise
            self._held.discard(slot)
            slot.progress = None  # it holds the call's journal
            if not self._held and not self._warming:
                self._idle_since = now
            self._go_on(clock, now)

    # --- inside

    def _pump(self, now: float) -> None:
        """Shed who is late, then let in as many as there is room for."""
        if not self._queue:
            return
        usual = self._usual()
        for late in self._queue.late(now, usual):
            self._turn_away(late, "too_late")
        self._fill(now)

    def _fill(self, now: float) -> None:
        """Let in as many as there is room for."""
        limit, for_bulk = self._room("interactive"), self._room("bulk")
        while len(self._held) < limit:
            waiting = self._queue.take(now, "bulk" if len(self._held) < for_bulk else "standard")
            if waiting is None:
                return
            slot: Slot = waiting.item
            waiting.item = None  # no cycle: a finished call is freed at once
            self._grant(slot, now)

    def _room(self, priority: Priority) -> float:
        """How many slots there are for calls of this priority."""
        limit = whole(self.limit)
        return math.ceil(BULK_SHARE * limit) if priority == "bulk" and limit < math.inf else limit

    def _grant(self, slot: Slot, now: float) -> None:
        if not self._held and now - self._idle_since >= self._idle:
            self._warming = True
        slot.cold = self._warming
        slot.granted = True
        slot.sent = now
        self._held.add(slot)
        self._admitted += 1
        # Between two bursts nobody comes: that pause says nothing of how fast slots come free.
        self._interval += USUAL * (min(1.0, now - self._granted_at) - self._interval)
        self._granted_at = now
        slot.settle(None)

    def _turn_away(self, waiting: Waiting, why: Why) -> None:
        self._shed[why] += 1
        shortest, longest = RETRY_SECONDS
        ahead = (len(self._queue) + 1) * self._interval
        slot: Slot = waiting.item
        waiting.item = None
        wait = max(shortest, min(longest, ahead))
        message, hint = _MESSAGES[why]
        room = f"{len(self._held)} of {whole(self.limit)} slots are in use, {len(self._queue)} wait"
        hint = f"come back after {math.ceil(wait)} s, {hint}"
        slot.settle(Shed(f"{message} ({room})", kind=why, hint=hint, retry_after=wait))

    def _usual(self) -> float:
        return 0.15 * self.slo.ttft if self._ttft is None else self._ttft

    def _pace(self, now: float) -> tuple[float | None, int]:
        """The median pace of the streams in flight since the last look, and over how many tokens.

        The median, because a few consumers that read slowly, or one sick replica, are no reason to slow all.
        """
        if now - self._looked < LOOK_SECONDS:
            return None, 0
        self._looked = now
        paces, self._ended = self._ended, []
        paces += [pace for slot in self._held if (pace := _advance(slot)) is not None]
        if not paces:
            return None, 0
        tpot = median(pace for pace, _ in paces)
        self._tpot = tpot if self._tpot is None else self._tpot + USUAL * (tpot - self._tpot)
        return tpot, sum(tokens for _, tokens in paces)

    def _arm(self, clock: Clock, now: float) -> None:
        """Keep one timer, for the moment when the next one who waits is to be shed."""
        due = self._queue.next_due(self._usual())
        if due is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer, self._timer_due = None, math.inf
        elif self._timer is None or due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = clock.call_later(max(0.001, due - now), lambda: self._ring(clock))

    def _ring(self, clock: Clock) -> None:
        self._timer, self._timer_due = None, math.inf
        now = clock.now()
        self._pump(now)
        self._arm(clock, now)

    def _go_on(self, clock: Clock, now: float) -> None:
        """Something has changed: who goes in, and who has to go?"""
        if self._queue or self._timer is not None:
            self._pump(now)
            self._arm(clock, now)

    def __repr__(self) -> str:
        return f"Limiter({self.in_flight} of {self.limit.limit:g}, queued={self.queued})"


def _known(_: Shed | None) -> None:
    """Nobody waits to be told."""


_MESSAGES: Mapping[Why, tuple[str, str]] = {
    "queue_full": (
        "too busy: the queue is full",
        "raise admit.length, or add capacity or another of `routes`",
    ),
    "too_late": (
        "too busy: a first token would come too late",
        "raise admit.patience (or the call's deadline, if that is shorter), or add capacity",
    ),
    "overload": (
        "too busy: the place in the queue went to a call that comes first",
        "raise admit.length, the call's priority or its tenant's weight, or add capacity",
    ),
}


def whole(limit: Limit) -> float:
    """How many may be in flight: a whole number of at least 1, or infinity."""
    most = limit.limit
    return most if most == math.inf else max(1, int(most))


def _advance(slot: Slot) -> tuple[float, int] | None:
    """Seconds per token since the last look at this stream, and how many; None when there are too few."""
    if slot.progress is None:
        return None
    tokens, at = slot.progress()
    more = tokens - slot.tokens
    if more < LOOK_TOKENS:
        return None
    pace = (at - slot.at) / more
    slot.tokens, slot.at = tokens, at
    return pace, more
