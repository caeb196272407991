"""How much may go now, and how long has the rest to wait?

A bucket is one number, the time at which it will be full again (GCRA's "theoretical arrival time"), so a
decision is a few sums on two floats::

    used = max(0, full_at − now) · rate          may come at once: burst
    wait = (used + min(amount, burst) − burst) / rate, at least 0
    full_at ← max(full_at, now) + amount / rate

An amount larger than the bucket goes when the bucket is full, and the next ones wait for it. First the sums,
as functions of numbers; then the same as decisions of a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardrails.endpoints.ratelimits import Reported
from guardrails.flow.store import Cells, Moment

# --- the algorithm: numbers in, numbers out ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket: `per_second` fill it, `burst` fit in."""

    per_second: float
    burst: float


def take(full_at: float, now: float, rate: Rate, amount: float) -> tuple[float, float]:
    """Book `amount`: when the bucket will be full then, and the seconds to wait before using it."""
    ahead = full_at - now if full_at > now else 0.0
    wait = ahead if amount >= rate.burst else ahead - (rate.burst - amount) / rate.per_second
    return now + ahead + amount / rate.per_second, wait if wait > 0 else 0.0


def correct(full_at: float, now: float, rate: Rate, change: float, floor: float = 0.0) -> float:
    """Book `change` more (below 0: give back). The bucket then needs at least `floor` seconds to be full."""
    ahead = full_at - now if full_at > now else 0.0
    return now + max(floor, ahead + change / rate.per_second, 0.0)


def left(full_at: float, now: float, rate: Rate) -> float:
    """What may be taken at once."""
    return rate.burst - max(0.0, full_at - now) * rate.per_second


def floor_of(told: Reported, rate: Rate, ago: float) -> float:
    """Seconds that the bucket needs to be full, by what the provider told `ago` seconds before.

    With nothing left its own `reset` counts if it is later (some count by the day); otherwise the earlier of
    the reset and of what our rate needs.
    """
    ahead = max(0.0, rate.burst - told.remaining) / rate.per_second
    if told.reset is not None:
        ahead = max(ahead, told.reset) if told.remaining <= 0 else min(ahead, told.reset)
    return max(0.0, ahead - ago)


# --- the same as decisions of a store ----------------------------------------------------------------------

_TIME = "local t = redis.call('TIME') local now = tonumber(t[1]) + tonumber(t[2]) / 1e6\n"


@dataclass(slots=True)
class Part:
    """One bucket of a decision, and how much of it. `floor` in seconds, as in `correct`."""

    key: str
    rate: Rate
    amount: float
    floor: float = 0.0

    def share(self, replicas: int) -> Part:
        """The part of one of several replicas."""
        rate = Rate(self.rate.per_second / replicas, max(1.0, self.rate.burst / replicas))
        return replace(self, rate=rate)


@dataclass(slots=True)
class Taken:
    """The wait for each bucket in seconds; whether the longest was within patience, and so was booked."""

    waits: tuple[float, ...]
    booked: bool


@dataclass(slots=True)
class Take:
    """Book all parts, or none if one of them would have to wait longer than `patience`."""

    parts: tuple[Part, ...]
    patience: float

    script: ClassVar[str] = (
        _TIME
        + """
        local patience, longest = tonumber(ARGV[1]), 0
        local full, waits = {}, {}
        for i, key in ipairs(KEYS) do
          local rate, burst = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
          local amount = tonumber(ARGV[3 * i + 1])
          local ahead = math.max(0, (tonumber(redis.call('GET', key) or '0') or 0) - now)
          local wait = math.max(0, ahead + (math.min(amount, burst) - burst) / rate)
          longest = math.max(longest, wait)
          full[i], waits[i + 1] = now + ahead + amount / rate, string.format('%.9f', wait)
        end
        waits[1] = '0'
        if longest <= patience then
          waits[1] = '1'
          for i, key in ipairs(KEYS) do
            local ms = math.ceil((full[i] - now) * 1000) + 1
            redis.call('SET', key, string.format('%.9f', full[i]), 'PX', ms)
          end
        end
        return waits
        """
    )

    @property
    def keys(self) -> Sequence[str]:
        """The buckets."""
        return [part.key for part in self.parts]

    @property
    def args(self) -> Sequence[str | int | float]:
        """Patience, then rate, burst and amount of each."""
        numbers = ((part.rate.per_second, part.rate.burst, part.amount) for part in self.parts)
        return [min(self.patience, 1e15), *(number for triple in numbers for number in triple)]

    def here(self, cells: Cells, at: Moment) -> Taken:
        """In this process."""
        now, booked, waits, fits = at.now, [], [], True
        for part in self.parts:
            full_at, wait = take(cells.get(part.key) or 0.0, now, part.rate, part.amount)
            booked.append((part.key, full_at))
            waits.append(wait)
            fits = fits and wait <= self.patience
        if fits:
            for key, full_at in booked:
                cells.put(key, full_at, full_at, now)
        return Taken(tuple(waits), fits)

    def read(self, reply: Any) -> Taken:
        """From the script's strings."""
        return Taken(tuple(float(wait) for wait in reply[1:]), int(reply[0]) == 1)

    def share(self, replicas: int) -> Take:
        """One replica's part."""
        return replace(self, parts=tuple(part.share(replicas) for part in self.parts))


@dataclass(slots=True)
class Correct:
    """Give back or add what the estimate was wrong by; take over what the provider told."""

    parts: tuple[Part, ...]

    script: ClassVar[str] = (
        _TIME
        + """
        for i, key in ipairs(KEYS) do
          local rate, change = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
          local floor = tonumber(ARGV[3 * i])
          local ahead = math.max(0, (tonumber(redis.call('GET', key) or '0') or 0) - now)
          ahead = math.max(0, floor, ahead + change / rate)
          redis.call('SET', key, string.format('%.9f', now + ahead), 'PX', math.ceil(ahead * 1000) + 1)
        end
        return 1
        """
    )

    @property
    def keys(self) -> Sequence[str]:
        """The buckets."""
        return [part.key for part in self.parts]

    @property
    def args(self) -> Sequence[str | int | float]:
        """Rate, change and floor of each."""
        return [n for part in self.parts for n in (part.rate.per_second, part.amount, part.floor)]

    def here(self, cells: Cells, at: Moment) -> None:
        """In this process."""
        for part in self.parts:
            full_at = correct(cells.get(part.key) or 0.0, at.now, part.rate, part.amount, part.floor)
            cells.put(part.key, full_at, full_at, at.now)

    def read(self, reply: Any) -> None:
        """Nothing to tell."""

    def share(self, replicas: int) -> Correct:
        """One replica's part."""
        return replace(self, parts=tuple(part.share(replicas) for part in self.parts))
