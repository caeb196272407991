"""How do I make sure that nobody spends more than I allowed, however many calls run at once?

A call reserves the most that it can cost before it is sent (its prompt and `max_tokens`, at the price of the
model) and gets the rest back when its usage is known. A reservation that does not fit is refused at once
(`BudgetExceeded` names the budget and when it fills again). So what is spent stays below the limit however
calls interleave, up to what a prompt's estimate was wrong by, or an answer without `max_tokens` went beyond
the assumed length: that much, of the calls that were under way at the time, is booked afterwards.

Put the layer around an endpoint, inside of retries and fallbacks: then each attempt has its reservation. A
layer outside of them reserves for one attempt and books what all of them cost in the end.

Money is counted in whole picodollars (10⁻¹² USD: one token at 0.000001 USD a million), rounded up, so sums
and refunds are exact. Periods are hours, days and months of the calendar in UTC. A call is booked to the
period in which it was reserved, also when it ends in the next.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from guardrails.call import Attempt, Call, Note, Usage
from guardrails.errors import BudgetExceeded, ConfigError, Shed
from guardrails.flow.spent import attempts_since, used, worst_case
from guardrails.flow.store import Cells, MemoryStore, Moment, Store, reserve, see_through
from guardrails.handler import Handler, Stream
from guardrails.record import PriceOf

Period = Literal["hour", "day", "month"]
Unit = Literal["usd", "tokens"]
_PICO = Decimal(10) ** 12
_EXACT = Context(prec=60, rounding=ROUND_CEILING)
_MOST = 2**53  # Lua's numbers are exact up to here; 9,007 USD, beyond which a comparison is off by 10⁻¹² USD


# --- the algorithm -----------------------------------------------------------------------------------------


def bounds(period: Period, wall: float) -> tuple[int, int]:
    """The first second of the calendar's period (UTC) that `wall` is in, and of the next one."""
    at = datetime.fromtimestamp(wall, UTC).replace(minute=0, second=0, microsecond=0)
    if period == "hour":
        return int(at.timestamp()), int((at + timedelta(hours=1)).timestamp())
    at = at.replace(hour=0)
    if period == "day":
        return int(at.timestamp()), int((at + timedelta(days=1)).timestamp())
    first = at.replace(day=1)
    return int(first.timestamp()), int((first + timedelta(days=31)).replace(day=1).timestamp())


def pico(usd: Decimal) -> int:
    """USD in whole picodollars, rounded up."""
    return int(_EXACT.multiply(usd, _PICO).to_integral_value(ROUND_CEILING))


def in_usd(amount: int) -> Decimal:
    """Picodollars in USD."""
    return _EXACT.divide(Decimal(amount), _PICO)


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


@dataclass(frozen=True, slots=True)
class Counter:
    """What of one allowance is to be reserved; `limit` and `amount` in tokens or in picodollars."""

    key: str
    period: Period
    limit: int
    amount: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """`refused` is the index of the counter that had no room, None when all did; `spent` is what it had.

    `until` is when its period ends, in seconds from now; `starts` says to which period each was booked.
    """

    starts: tuple[int, ...] = ()
    refused: int | None = None
    spent: int = 0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve on all counters, or on none if one of them has no room."""

    counters: tuple[Counter, ...]

    script: ClassVar[str] = (
        _BOUNDS
        + """
        local starts = {-1}
        local ends = {}
        for i, key in ipairs(KEYS) do
          local first, last = bounds(ARGV[3 * i - 2])
          local spent = '0'
          if tonumber(redis.call('HGET', key, 'start') or '-1') == first then
            spent = redis.call('HGET', key, 'spent')
          end
          if tonumber(spent) + tonumber(ARGV[3 * i]) > tonumber(ARGV[3 * i - 1]) then
            return {i - 1, spent, last - now}
          end
          starts[i + 1], ends[i] = first, last
        end
        for i, key in ipairs(KEYS) do
          if tonumber(redis.call('HGET', key, 'start') or '-1') ~= starts[i + 1] then
            redis.call('HSET', key, 'start', starts[i + 1], 'spent', '0')
          end
          redis.call('HINCRBY', key, 'spent', ARGV[3 * i])
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
        """Period, limit and amount of each."""
        return [value for c in self.counters for value in (c.period, c.limit, c.amount)]

    def here(self, cells: Cells, at: Moment) -> Reserved:
        """In this process."""
        booked = []
        for index, counter in enumerate(self.counters):
            first, last = bounds(counter.period, at.wall)
            start, spent = cells.get(counter.key) or (first, 0)
            spent = spent if start == first else 0
            if spent + counter.amount > counter.limit:
                return Reserved(refused=index, spent=spent, until=last - at.wall)
            booked.append((counter.key, first, spent + counter.amount, last - at.wall))
        for key, first, spent, lasts in booked:
            cells.put(key, (first, spent), at.now + lasts + 3600, at.now)
        return Reserved(tuple(first for _, first, _, _ in booked))

    def read(self, reply: Any) -> Reserved:
        """From the script's list."""
        if int(reply[0]) < 0:
            return Reserved(tuple(int(start) for start in reply[1:]))
        return Reserved(refused=int(reply[0]), spent=int(reply[1]), until=float(reply[2]))

    def share(self, replicas: int) -> Reserve:
        """One replica's part."""
        return Reserve(tuple(replace(c, limit=c.limit // replicas) for c in self.counters))


@dataclass(frozen=True, slots=True)
class Settle:
    """Change what was reserved in the periods that began at `starts`; of a period that is over, nothing."""

    changes: tuple[tuple[str, int, int], ...]
    """Key, start and change of each."""

    script: ClassVar[str] = """
        for i, key in ipairs(KEYS) do
          if tonumber(redis.call('HGET', key, 'start') or '-1') == tonumber(ARGV[2 * i - 1]) then
            redis.call('HINCRBY', key, 'spent', ARGV[2 * i])
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
        """Start and change of each."""
        return [number for _, start, change in self.changes for number in (start, change)]

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


# --- the layer ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allowance:
    """So much in each hour, day or month: USD, tokens (input and output), or both."""

    per: Period
    usd: Decimal | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.per not in ("hour", "day", "month"):
            raise ConfigError(f"budget: per is {self.per!r}", hint="use hour, day or month")
        if self.usd is None and self.tokens is None:
            raise ConfigError(
                f"budget: the allowance per {self.per} allows nothing", hint="set usd or tokens"
            )
        for name, value in (("usd", self.usd), ("tokens", self.tokens)):
            if value is not None and not (Decimal(value).is_finite() and value >= 0):
                raise ConfigError(
                    f"budget: {name} per {self.per} is {value}", hint="give a number, 0 or more"
                )

    def limits(self) -> Sequence[tuple[Unit, int]]:
        """What is counted, and the most of it."""
        money: list[tuple[Unit, int]] = [] if self.usd is None else [("usd", int(self.usd * _PICO))]
        return money if self.tokens is None else [*money, ("tokens", self.tokens)]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One counter, and how to speak of it."""

    counter: Counter
    allowance: Allowance
    unit: Unit


@dataclass(slots=True)
class Budget:
    """Refuse calls that could spend more than the allowances. Each tenant has its own, or all share one.

    `model` is priced when a request names none. `unknown_price`: what to do about a model without a price
    when an allowance is in USD – `block` (`BudgetExceeded`, kind `no_price`), or `count_tokens_only`.
    `assumed_output`: tokens reserved for a request without `max_tokens`. `price` is by default the packaged
    price list; a cost that the provider reports is what is booked. With `endpoint`, only the attempts of
    that name are booked (as needed under hedging), otherwise all that are made inside.
    """

    name: str
    allowances: tuple[Allowance, ...]
    model: str = ""
    by: Literal["tenant", "all"] = "tenant"
    unknown_price: Literal["block", "count_tokens_only"] = "block"
    assumed_output: int = 4096
    endpoint: str = ""
    store: Store = field(default_factory=MemoryStore)
    price: PriceOf | None = field(default=None, repr=False)

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Reserve the worst case, open the inner stream, book what it cost."""
        worst = worst_case(call, self.model, assumed_output=self.assumed_output)
        asked = self._asked(call, worst)
        reserved, where = await self._reserve(call, asked)
        before = len(call.journal.attempts)
        try:
            async with inner(call) as stream:
                yield stream
        finally:
            made = attempts_since(call, before, self.endpoint)
            changes = self._changes(asked, reserved.starts, made, worst)
            if changes:
                await see_through(self.store, self._settle(call, changes, where))

    def _asked(self, call: Call, worst: Usage) -> list[_Asked]:
        scope = "=" + quote(call.tenant, safe="") if self.by == "tenant" else ""
        model = call.request.model or self.model
        cost = self._price(model, worst)
        asked = []
        for allowance in self.allowances:
            for unit, limit in allowance.limits():
                if unit == "usd" and cost is None:
                    if self.unknown_price == "block":
                        raise self._no_price(model)
                    continue
                amount = (
                    pico(cost or Decimal(0)) if unit == "usd" else worst.input_tokens + worst.output_tokens
                )
                key = f"guardrails:budget:{{{quote(self.name, safe='')}}}:{scope}:{allowance.per}:{unit}"
                asked.append(_Asked(Counter(key, allowance.per, limit, amount), allowance, unit))
        return asked

    def _price(self, model: str, usage: Usage) -> Decimal | None:
        if usage.cost is not None:
            return usage.cost
        if self.price is None:
            from guardrails.prices import PriceBook

            self.price = PriceBook.default().cost
        return self.price(model, usage)

    async def _reserve(self, call: Call, asked: list[_Asked]) -> tuple[Reserved, str]:
        if not asked:
            return Reserved(), ""

        async def undo(got: Reserved, where: str) -> None:
            if got.refused is None:
                await self._settle(call, self._changes(asked, got.starts, (), Usage()), where)

        decision = Reserve(tuple(each.counter for each in asked))
        got, where = await reserve(self.store, decision, call, undo)
        if got.refused is None:
            return got, where
        raise self._exceeded(call, asked[got.refused], got)

    def _changes(
        self, asked: list[_Asked], starts: Sequence[int], made: Sequence[Attempt], worst: Usage
    ) -> tuple[tuple[str, int, int], ...]:
        tokens, money, known = 0, Decimal(0), True
        for attempt in made:
            usage = used(attempt, worst.input_tokens)
            if usage is None:
                continue
            tokens += usage.input_tokens + usage.output_tokens
            cost = self._price(_reported(attempt) or attempt.model, usage)
            if cost is None:
                cost = self._price(attempt.model or self.model, usage)
            known = known and cost is not None
            money += cost or Decimal(0)
        actual: dict[Unit, int] = {"tokens": tokens}
        if known:  # else the worst case stays booked
            actual["usd"] = pico(money)
        pairs = zip(asked, starts, strict=True)
        changes = (
            (one.counter.key, start, actual[one.unit] - one.counter.amount)
            for one, start in pairs
            if one.unit in actual
        )
        return tuple(change for change in changes if change[2])

    async def _settle(self, call: Call, changes: tuple[tuple[str, int, int], ...], where: str) -> None:
        with suppress(Shed):  # the store is away: what was reserved stays booked until the period ends
            await self.store.decide(Settle(changes), call, where)

    # --- saying no

    def _whose(self, call: Call) -> str:
        whose = f" of tenant {call.tenant}" if self.by == "tenant" and call.tenant else ""
        return f"the budget {self.name!r}{whose}"

    def _exceeded(self, call: Call, asked: _Asked, got: Reserved) -> BudgetExceeded:
        counter = asked.counter
        never = counter.amount > counter.limit
        return BudgetExceeded(
            f"{self._whose(call)} allows {_said(counter.limit, asked.unit)} per {counter.period}; "
            f"{_said(got.spent, asked.unit)} of it is spent or reserved, and this call may take "
            f"{_said(counter.amount, asked.unit)}",
            hint="lower max_tokens or raise the budget" if never else f"it fills again in {got.until:.0f} s",
            retry_after=None if never else float(math.ceil(got.until)),
        )

    def _no_price(self, model: str) -> BudgetExceeded:
        named = model or "a model without a name"
        return BudgetExceeded(
            f"the budget {self.name!r} is in USD, and the price of {named} is unknown",
            kind="no_price",
            hint="add it to your prices file, or set unknown_price: count_tokens_only",
        )


def _said(amount: int, unit: Unit) -> str:
    return f"{in_usd(amount):.6f} USD" if unit == "usd" else f"{amount:,} tokens"


def _reported(attempt: Attempt) -> str:
    """The model that the server says it was."""
    for _, entry in attempt.log[:8]:
        if isinstance(entry, Note) and entry.what == "reported":
            return str(entry.detail[0] or "")
    return ""
