"""What is spent of a budget, and how do many calls at once take from it without taking twice?

Money is counted in whole picodollars (10⁻¹² USD: one token at 0.000001 USD a million), rounded up, so sums
and refunds are exact. Periods are hours, days and months of the calendar in UTC. A call is booked to the
period in which it was reserved, also when it ends in the next.

In a shared store a reservation bears the name of its call. So one that is sent twice (the answer got lost on
its way) is booked once, and a refund given once. And it bears the time until which it may be held: what a
process that died left behind is free again after that, as soon as somebody needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from typing import Any, ClassVar, Literal

from guardrails.flow.store import Cells, Moment

Period = Literal["hour", "day", "month"]
Unit = Literal["usd", "tokens"]
PICO = Decimal(10) ** 12
_EXACT = Context(prec=60, rounding=ROUND_CEILING)
# Lua's numbers are exact up to 2⁵³: 9,007 USD, beyond which a comparison there is off by 10⁻¹² USD.


def bounds(period: Period, wall: float) -> tuple[int, int]:
    """The first second of the calendar's period (UTC) that `wall` is in, and of the next one."""
    if period == "month":
        return _month(int(wall // 86400))
    length = 3600 if period == "hour" else 86400
    first = int(wall // length) * length
    return first, first + length


@lru_cache(maxsize=4)
def _month(day: int) -> tuple[int, int]:
    """The same for the month that has this day, counted from 1970."""
    first = datetime.fromtimestamp(day * 86400, UTC).replace(day=1)
    return int(first.timestamp()), int((first + timedelta(days=31)).replace(day=1).timestamp())


def pico(usd: Decimal) -> int:
    """USD in whole picodollars, rounded up."""
    return math.ceil(_EXACT.multiply(usd, PICO))


def in_usd(amount: int) -> Decimal:
    """Picodollars in USD."""
    return _EXACT.divide(Decimal(amount), PICO)


# --- as decisions of a store -------------------------------------------------------------------------------

_BOUNDS = """
local now = tonumber(redis.call('TIME')[1])
local function bounds(period)
  if period ~= 'month' then
    local long = period == 'hour' and 3600 or 86400
    return now - now % long, now - now % long + long
  end
  local day, year = math.floor(now / 86400), 1970
  local function leap() return (year % 4 == 0 and year % 100 ~= 0) or year % 400 == 0 end
  local start = 0
  while true do
    for month = 1, 12 do
      local days = 31
      if month == 4 or month == 6 or month == 9 or month == 11 then days = 30 end
      if month == 2 then days = leap() and 29 or 28 end
      if day < start + days then return start * 86400, (start + days) * 86400 end
      start = start + days
    end
    year = year + 1
  end
end
"""

# Held reservations are fields `r:NAME` = "AMOUNT UNTIL"; one that was given up on says "AMOUNT gone", so that
# its call, should it come back after all, still books what it used. `look` is when the next one may be over.
_SWEEP = """
local function sweep(key, lease)
  if now < tonumber(redis.call('HGET', key, 'look') or '0') then return end
  local held, first = redis.call('HGETALL', key), now + lease
  for i = 1, #held, 2 do
    local amount, until_ = string.match(held[i + 1], '^(%d+) (%d+)$')
    if amount and string.sub(held[i], 1, 2) == 'r:' then
      if tonumber(until_) <= now then
        redis.call('HINCRBY', key, 'spent', '-' .. amount)
        redis.call('HSET', key, held[i], amount .. ' gone')
      else
        first = math.min(first, tonumber(until_))
      end
    end
  end
  redis.call('HSET', key, 'look', first)
end
"""


@dataclass(slots=True)
class Counter:
    """What of one allowance is to be reserved; `limit` and `amount` in tokens or in picodollars."""

    key: str
    period: Period
    limit: int
    amount: int
    unit: Unit = "tokens"


@dataclass(slots=True)
class Reserved:
    """`refused` is the index of the counter that had no room, None when all did; `spent` is what it had.

    `until` is when its period ends, in seconds from now; `starts` says to which period each was booked.
    """

    starts: tuple[int, ...] = ()
    refused: int | None = None
    spent: int = 0
    until: float = 0.0


@dataclass(slots=True)
class Reserve:
    """Reserve on all counters, or on none if one of them has no room.

    `name` is the reservation's own, `lease` the seconds for which it may be held. Without a name it stays
    until it is settled or its period is over. In this process no reservation is left behind, so there a
    name means nothing.
    """

    counters: tuple[Counter, ...]
    name: str = ""
    lease: int = 900

    script: ClassVar[str] = (
        _BOUNDS
        + _SWEEP
        + """
        local field, lease = 'r:' .. ARGV[1], tonumber(ARGV[2])
        local starts, ends, new = {-1}, {}, {}
        for i, key in ipairs(KEYS) do
          local first, last = bounds(ARGV[3 * i])
          local start = tonumber(redis.call('HGET', key, 'start') or '-1')
          if start > first then first, last = start, last + start - first end
          starts[i + 1], ends[i] = first, last
          new[i] = start ~= first
          if new[i] or ARGV[1] == '' or redis.call('HEXISTS', key, field) == 0 then
            local limit, amount = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
            local function spent() return not new[i] and redis.call('HGET', key, 'spent') or '0' end
            if not new[i] and tonumber(spent()) + amount > limit then sweep(key, lease) end
            if tonumber(spent()) + amount > limit then return {i - 1, spent(), last - now} end
          end
        end
        for i, key in ipairs(KEYS) do
          local amount = ARGV[3 * i + 2]
          if new[i] then
            redis.call('DEL', key)
            redis.call('HSET', key, 'start', starts[i + 1], 'spent', '0')
          end
          local first = ARGV[1] == ''
          if not first then first = redis.call('HSETNX', key, field, amount .. ' ' .. (now + lease)) == 1 end
          if first then redis.call('HINCRBY', key, 'spent', amount) end
          redis.call('EXPIREAT', key, ends[i] + 3600)
        end
        return starts
        """
    )

    @property
    def keys(self) -> Sequence[str]:
        """The counters."""
        return [counter.key for counter in self.counters]

    @property
    def args(self) -> Sequence[str | int | float]:
        """Name and lease, then period, limit and amount of each."""
        each = (value for c in self.counters for value in (c.period, c.limit, c.amount))
        return [self.name, self.lease, *each]

    def here(self, cells: Cells, at: Moment) -> Reserved:
        """In this process."""
        booked, wall = [], at.wall
        for index, counter in enumerate(self.counters):
            first, last = bounds(counter.period, wall)
            start, spent = cells.get(counter.key) or (first, 0)
            if start > first:  # the civil clock was set back: the period goes on
                first, last = start, last + start - first
            spent = spent if start == first else 0
            if spent + counter.amount > counter.limit:
                return Reserved(refused=index, spent=spent, until=last - wall)
            booked.append((counter.key, first, spent + counter.amount, last - wall))
        for key, first, spent, lasts in booked:
            cells.put(key, (first, spent), at.now + lasts + 3600, at.now)
        return Reserved(tuple([first for _, first, _, _ in booked]))

    def read(self, reply: Any) -> Reserved:
        """From the script's list."""
        if int(reply[0]) < 0:
            return Reserved(tuple(int(start) for start in reply[1:]))
        return Reserved(refused=int(reply[0]), spent=int(reply[1]), until=float(reply[2]))

    def share(self, replicas: int) -> Reserve:
        """One replica's part."""
        counters = tuple(replace(c, limit=c.limit // replicas) for c in self.counters)
        return Reserve(counters, self.name, self.lease)


@dataclass(slots=True)
class Settle:
    """Change what was reserved in the periods that began at `starts`; of a period that is over, nothing.

    With the reservation's `name` it does so once, however often it is sent.
    """

    changes: tuple[tuple[str, int, int], ...]
    """Key, start and change of each."""
    name: str = ""

    script: ClassVar[str] = """
        local field = 'r:' .. ARGV[1]
        for i, key in ipairs(KEYS) do
          if redis.call('HGET', key, 'start') == ARGV[2 * i] then
            local change = ARGV[2 * i + 1]
            if ARGV[1] ~= '' then
              local held = redis.call('HGET', key, field)
              local gone = held and string.match(held, '^(%d+) gone$')
              if not held then change = '0' end
              if gone then change = string.format('%.0f', tonumber(change) + tonumber(gone)) end
              redis.call('HDEL', key, field)
            end
            redis.call('HINCRBY', key, 'spent', change)
          end
        end
        return 1
        """

    @property
    def keys(self) -> Sequence[str]:
        """The counters."""
        return [key for key, _, _ in self.changes]

    @property
    def args(self) -> Sequence[str | int | float]:
        """The name, then start and change of each."""
        return [self.name, *(number for _, start, change in self.changes for number in (start, change))]

    def here(self, cells: Cells, at: Moment) -> None:
        """In this process."""
        for key, start, change in self.changes:
            held = cells.get(key)
            if held is not None and held[0] == start:
                # It is forgotten a month later at the latest; the next reservation says when exactly.
                cells.put(key, (start, held[1] + change), at.now + 31 * 86400, at.now)

    def read(self, reply: Any) -> None:
        """Nothing to tell."""

    def share(self, replicas: int) -> Settle:
        """What was used is used."""
        return self
