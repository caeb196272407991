"""When more calls want in than may run: who goes next, and who is better told at once to come back later?

A queue cannot make a server faster. All it can do is to choose whose wait ends in time. So:

- **Urgent first.** Three lanes: `interactive`, `standard`, `bulk`. A lane is served only while those before
  it are empty: an experiment never holds up a customer.
- **Fair among tenants.** Within a lane, deficit round robin: each tenant in turn gets the same amount of
  work, whoever asks most. A request counts 1, and more when its prompt is long.
- **No lost causes.** Who waits and could not get a first token in time any more is shed now, not when it is
  too late: at `age > patience − usual TTFT`. Patience is the TTFT objective; `standard` and `bulk` have more.
- **Newest first under pressure.** Once a tenant's oldest waits for more than a quarter of that, its newest
  goes first: those at the head will be late whatever one does, those at the tail need not be.
- **Bounded.** When it is full, the last in turn of the longest line of the least urgent lane has to go.

Pure rules on plain data: no clock, no futures. Times are seconds of whatever clock the caller has.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from guardrails.call import Priority

PRIORITIES: tuple[Priority, ...] = ("interactive", "standard", "bulk")
Why = Literal["queue_full", "too_late", "overload"]
"""Why somebody had to leave: there was no room for the newcomer; the answer would be late; room was needed
for somebody more urgent, or from a tenant who has less waiting."""

MAX_COST = 16.0


@dataclass(frozen=True, slots=True)
class Rules:
    """How a queue is kept. Times in seconds.

    `length`: how many may wait in all. `patience`: how long after its arrival a call of each lane still has
    use for a first token. `lifo`: the share of it that the oldest may wait before the newest go first.
    `weights`: tenants that get more (or less) than the share of 1 that everybody has.
    """

    length: int = 1000
    patience: Mapping[Priority, float] = field(
        default_factory=lambda: {"interactive": 2.0, "standard": 10.0, "bulk": 120.0}
    )
    lifo: float = 0.25
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.length < 0:
            raise ValueError("queue.length must be 0 or more")
        if any(self.patience.get(priority, 0) <= 0 for priority in PRIORITIES):
            raise ValueError(f"queue.patience must be above 0 for each of {', '.join(PRIORITIES)}")
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError("queue.weights must be above 0")


@dataclass(slots=True, eq=False)
class Waiting:
    """One who waits. `deadline`: the caller's own, if earlier than patience. `item` is the caller's own."""

    arrived: float
    priority: Priority = "interactive"
    tenant: str = ""
    cost: float = 1.0
    deadline: float | None = None
    item: Any = field(default=None, repr=False)
    queued: bool = field(default=False, init=False)
    number: int = field(default=0, init=False)


@dataclass(slots=True, eq=False)
class _Line:
    """The waiting of one tenant in one lane, in the order of their coming."""

    tenant: str
    weight: float
    waiting: OrderedDict[int, Waiting] = field(default_factory=OrderedDict)
    deficit: float = 0.0

    def next(self, now: float, limit: float) -> Waiting:
        """Whose turn it is: the oldest, or under pressure (the oldest waits for `limit`) the newest."""
        oldest = next(iter(self.waiting.values()))
        return next(reversed(self.waiting.values())) if now - oldest.arrived > limit else oldest

    def last(self, now: float, limit: float) -> Waiting:
        """Whose turn comes last."""
        oldest = next(iter(self.waiting.values()))
        return oldest if now - oldest.arrived > limit else next(reversed(self.waiting.values()))


class _Lane:
    """All who wait with one priority."""

    __slots__ = ("_due", "lifo_after", "lines", "patience", "size", "turns")

    def __init__(self, patience: float, lifo: float) -> None:
        self.patience = patience
        self.lifo_after = lifo * patience
        self.size = 0
        self.lines: dict[str, _Line] = {}
        self.turns: deque[_Line] = deque()
        self._due: list[tuple[float, int, Waiting]] = []

    def put(self, waiting: Waiting, weight: float) -> None:
        line = self.lines.get(waiting.tenant)
        if line is None:
            line = self.lines[waiting.tenant] = _Line(waiting.tenant, weight)
            self.turns.append(line)
        line.waiting[waiting.number] = waiting
        self.size += 1
        due = waiting.arrived + self.patience
        if waiting.deadline is not None:
            due = min(due, waiting.deadline)
        if len(self._due) > 2 * self.size + 64:
            self._due = [entry for entry in self._due if entry[2].queued]
            heapq.heapify(self._due)
        heapq.heappush(self._due, (due, waiting.number, waiting))

    def remove(self, waiting: Waiting) -> None:
        line = self.lines[waiting.tenant]
        del line.waiting[waiting.number]
        self.size -= 1
        waiting.queued = False
        if not line.waiting:
            del self.lines[line.tenant]
            self.turns.remove(line)

    def take(self, now: float) -> Waiting:
        """Deficit round robin: the tenant in turn goes on while its deficit pays for its next."""
        while True:
            for _ in range(len(self.turns)):
                line = self.turns[0]
                waiting = line.next(now, self.lifo_after)
                if line.deficit >= waiting.cost:
                    line.deficit -= waiting.cost
                    self.remove(waiting)
                    return waiting
                self.turns.rotate(-1)
            # Nobody can pay: as many rounds at once as the first to be able to needs.
            rounds = min(
                -(-(line.next(now, self.lifo_after).cost - line.deficit) // line.weight)
                for line in self.turns
            )
            for line in self.turns:
                line.deficit += max(1.0, rounds) * line.weight

    def next_due(self, ttft: float) -> float | None:
        """When the first of them is lost if nobody takes it."""
        while self._due and not self._due[0][2].queued:
            heapq.heappop(self._due)
        if not self._due:
            return None
        due, _, waiting = self._due[0]
        # A slow endpoint must not make every wait hopeless: nobody could get in to find it fast again.
        return due - min(ttft, 0.6 * max(0.0, due - waiting.arrived))

    def first_due(self) -> Waiting:
        """Who that is."""
        return self._due[0][2]


class Queue:
    """Those who wait, by the module's rules. Every method that needs the time is told it."""

    __slots__ = ("_lanes", "_numbers", "_size", "rules")

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules = rules or Rules()
        self._lanes = {name: _Lane(rules.patience[name], rules.lifo) for name in PRIORITIES}
        self._numbers = itertools.count()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def depths(self) -> dict[Priority, int]:
        """How many wait in each lane."""
        return {name: lane.size for name, lane in self._lanes.items()}

    def put(self, waiting: Waiting) -> None:
        """Let somebody wait. Call `trim` once those who can go in have been taken."""
        waiting.number = next(self._numbers)
        waiting.queued = True
        self._size += 1
        waiting.cost = min(MAX_COST, max(0.0, waiting.cost))
        self._lanes[waiting.priority].put(waiting, self.rules.weights.get(waiting.tenant, 1.0))

    def trim(self, now: float, newcomer: Waiting) -> Waiting | None:
        """Who has to leave because there are too many: nobody, somebody else, or the newcomer."""
        if self._size <= self.rules.length:
            return None
        lane = next(self._lanes[name] for name in reversed(PRIORITIES) if self._lanes[name].size)
        longest = max(
            lane.lines.values(),
            key=lambda line: (len(line.waiting) / line.weight, line.tenant == newcomer.tenant),
        )
        leaving = longest.last(now, lane.lifo_after)
        lane.remove(leaving)
        self._size -= 1
        return leaving

    def take(self, now: float, least: Priority = "bulk") -> Waiting | None:
        """The next in turn whose lane is at least as urgent as `least`; None when nobody is."""
        for name in PRIORITIES:
            if self._lanes[name].size:
                self._size -= 1
                return self._lanes[name].take(now)
            if name == least:
                break
        return None

    def remove(self, waiting: Waiting) -> bool:
        """Somebody gave up. False: it was not waiting any more."""
        if not waiting.queued:
            return False
        self._lanes[waiting.priority].remove(waiting)
        self._size -= 1
        return True

    def late(self, now: float, ttft: float) -> list[Waiting]:
        """Take out all whose first token would come too late, with `ttft` seconds as its usual time."""
        found = []
        for lane in self._lanes.values():
            while (due := lane.next_due(ttft)) is not None and now >= due:
                waiting = lane.first_due()
                lane.remove(waiting)
                found.append(waiting)
        self._size -= len(found)
        return found

    def next_due(self, ttft: float) -> float | None:
        """When `late` has somebody to name next, None when nobody waits."""
        dues = [due for lane in self._lanes.values() if (due := lane.next_due(ttft)) is not None]
        return min(dues, default=None)
