"""How do I stay under the provider's requests and tokens per minute, without finding out by 429?

Each limit is a bucket that fills steadily. A call books its worst case before it is sent (a request, the
prompt's tokens, `max_tokens`) and gives back at its end what it did not use. What the provider says in its
`x-ratelimit-*` headers counts too, where it is less than we thought: other programs use the same key.

A bucket is one number, the time at which it will be full again (GCRA's "theoretical arrival time"), so a
decision is a few sums on two floats::

    used = max(0, full_at − now) · rate          may come at once: burst
    wait = (used + min(amount, burst) − burst) / rate, at least 0
    full_at ← max(full_at, now) + amount / rate

A call that has to wait books its place at once, so calls go in the order in which they came, and one that
could not go before its deadline is told so at once (`Shed`, kind `rate_limited`) instead of waiting for
nothing. An amount larger than the bucket goes when the bucket is full, and the next ones wait for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar
from urllib.parse import quote

from guardrails.call import Attempt, Call, Note, Usage
from guardrails.endpoints.ratelimits import KINDS, Reported
from guardrails.errors import ConfigError, Shed, Transient
from guardrails.flow.spent import attempts_since, used, worst_case
from guardrails.flow.store import Cells, MemoryStore, Moment, Store, reserve, see_through
from guardrails.handler import Handler, Stream

PRESSURE = 0.2
"""What the provider tells is taken over when it is less than this part of the limit."""


# --- the algorithm: numbers in, numbers out ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket: `per_second` fill it, `burst` fit in."""

    per_second: float
    burst: float


def take(full_at: float, now: float, rate: Rate, amount: float) -> tuple[float, float]:
    """Book `amount`: when the bucket will be full then, and the seconds to wait before using it."""
    ahead = max(0.0, full_at - now)
    wait = max(0.0, ahead + (min(amount, rate.burst) - rate.burst) / rate.per_second)
    return now + ahead + amount / rate.per_second, wait


def correct(full_at: float, now: float, rate: Rate, change: float, floor: float = 0.0) -> float:
    """Book `change` more (below 0: give back). The bucket then needs at least `floor` seconds to be full."""
    return now + max(0.0, floor, max(0.0, full_at - now) + change / rate.per_second)


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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Taken:
    """The wait for each bucket in seconds; whether the longest was within patience, and so was booked."""

    waits: tuple[float, ...]
    booked: bool


@dataclass(frozen=True, slots=True)
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
        booked = [take(cells.get(part.key) or 0.0, at.now, part.rate, part.amount) for part in self.parts]
        waits = tuple(wait for _, wait in booked)
        if fits := max(waits, default=0.0) <= self.patience:
            for part, (full_at, _) in zip(self.parts, booked, strict=True):
                cells.put(part.key, full_at, full_at, at.now)
        return Taken(waits, fits)

    def read(self, reply: Any) -> Taken:
        """From the script's strings."""
        return Taken(tuple(float(wait) for wait in reply[1:]), int(reply[0]) == 1)

    def share(self, replicas: int) -> Take:
        """One replica's part."""
        return replace(self, parts=tuple(part.share(replicas) for part in self.parts))


@dataclass(frozen=True, slots=True)
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


# --- the layer ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits per minute; None: none but what the provider's headers tell. `tokens` is input plus output.

    `burst` is how many seconds' worth may come at once: 60 lets a minute's requests go in its first moment,
    as most providers do; take less for one that spreads its minute.
    """

    requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    tokens: float | None = None
    burst: float = 60.0

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(
                    f"rates: {spec.name} is {value}",
                    hint="give a number above 0, or leave it out for no limit",
                )

    def rate(self, kind: str, told: float | None = None) -> Rate | None:
        """The bucket of this kind: the configured limit or the one that was told, whichever is less."""
        known = [limit for limit in (getattr(self, kind), told) if limit is not None]
        if not known:
            return None
        per_second = min(known) / 60
        return Rate(per_second, max(1.0, per_second * self.burst))


@dataclass(eq=False, slots=True)
class _Waiter:
    """A call that booked its place: when each of its buckets lets it go."""

    dues: dict[str, float]
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def due(self) -> float:
        return max(self.dues.values())


class Limit:
    """Keep calls under requests and tokens per minute; put it around one endpoint.

    `name` is that of the buckets: endpoints (or processes with one Redis) that spend the same API key share
    it. If the endpoint below bears this name, only its own attempts are looked at for usage and headers;
    otherwise all that are made inside. `by_tenant` gives each tenant buckets of its own.

    A call waits until its deadline at most, and never longer than `patience` seconds: else `Shed` with kind
    `rate_limited` and the wait as `retry_after`, at once. `assumed_output` tokens are booked for a request
    without `max_tokens`. With `adopt` the provider's headers and its 429s count.
    """

    def __init__(
        self,
        name: str,
        rates: Rates = Rates(),
        *,
        store: Store | None = None,
        patience: float = 60.0,
        by_tenant: bool = False,
        assumed_output: int = 1024,
        adopt: bool = True,
    ) -> None:
        self.name = name
        self.rates = rates
        self._store = store or MemoryStore()
        self._patience = patience
        self._by_tenant = by_tenant
        self._assumed = assumed_output
        self._adopts = adopt
        self._prefix = f"guardrails:rate:{{{quote(name, safe='')}}}"
        self._rates = {kind: rate for kind in KINDS if (rate := rates.rate(kind)) is not None}
        self._waiting: list[_Waiter] = []

    def __repr__(self) -> str:
        return f"Limit({self.name!r}, {self.rates!r}, waiting={len(self._waiting)})"

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Wait for room, open the inner stream, and book what it really used."""
        prompt, booked = self._estimate(call)
        where = await self._enter(call, booked) if booked else ""
        before = len(call.journal.attempts)
        try:
            try:
                async with inner(call) as stream:
                    await self._listen(call, before, where)
                    yield stream
            except Transient as error:
                await self._hold(call, error, where)
                raise
        finally:
            made = attempts_since(call, before, self.name)
            await see_through(self._store, self._settle(call, booked, made, prompt, where))

    # --- before

    def _estimate(self, call: Call) -> tuple[int, tuple[Part, ...]]:
        kinds = tuple(self._rates)
        if kinds in ((), ("requests",)):
            worst = Usage()
        else:
            worst = worst_case(call.request, "", assumed_output=self._assumed)
        amounts = _amounts(1, worst)
        return worst.input_tokens, tuple(self._part(call, kind, amounts[kind]) for kind in kinds)

    def _part(self, call: Call, kind: str, amount: float, floor: float = 0.0) -> Part:
        scope = quote(call.tenant, safe="") if self._by_tenant else ""
        return Part(f"{self._prefix}:{scope}:{kind}", self._rates[kind], amount, floor)

    async def _enter(self, call: Call, parts: tuple[Part, ...]) -> str:
        """Book the parts and wait for them; where they were booked."""
        now = call.clock.now()
        patience = self._patience if call.deadline is None else min(self._patience, call.deadline - now)

        async def undo(taken: Taken, where: str) -> None:
            if taken.booked:
                await self._give_back(call, parts, where, ())

        taken, where = await reserve(self._store, Take(parts, max(0.0, patience)), call, undo)
        wait = max(taken.waits)
        if not taken.booked:
            kind = parts[taken.waits.index(wait)].key.rpartition(":")[2]
            raise Shed(
                f"the limit of {kind.replace('_', ' ')} per minute of {self.name} leaves no room in time",
                kind="rate_limited",
                hint=f"try again in {math.ceil(wait)} s",
                retry_after=wait,
            )
        if wait > 0:
            call.journal.note(now, "flow", f"rate_wait:{self.name}")
            waiter = _Waiter({part.key: now + due for part, due in zip(parts, taken.waits, strict=True)})
            self._waiting.append(waiter)
            try:
                await self._wait(call, waiter)
            except BaseException:
                behind = self._waiting[self._waiting.index(waiter) + 1 :]
                await see_through(self._store, self._give_back(call, parts, where, behind))
                raise
            finally:
                self._waiting.remove(waiter)
        return where

    async def _wait(self, call: Call, waiter: _Waiter) -> None:
        while (seconds := waiter.due - call.clock.now()) > 0:
            waiter.woken.clear()
            timer = call.clock.call_later(seconds, waiter.woken.set)
            try:
                await waiter.woken.wait()
            finally:
                timer.cancel()

    async def _give_back(
        self, call: Call, parts: tuple[Part, ...], where: str, behind: Sequence[_Waiter]
    ) -> None:
        parts = tuple(replace(part, amount=-part.amount) for part in parts)
        await self._correct(call, parts, where, behind)

    async def _correct(
        self, call: Call, parts: tuple[Part, ...], where: str, waiting: Sequence[_Waiter]
    ) -> None:
        if not parts:
            return
        # Room that is given back lets those go earlier who booked later.
        with suppress(Shed):  # a store that is away fails no call that runs; buckets fill by themselves
            await self._store.decide(Correct(parts), call, where)
        for part in parts:
            for waiter in waiting:
                if part.amount < 0 and part.key in waiter.dues:
                    waiter.dues[part.key] += part.amount / part.rate.per_second
                    waiter.woken.set()

    # --- what the provider says

    async def _listen(self, call: Call, before: int, where: str) -> None:
        """Take over what the headers said, when it is little."""
        made = attempts_since(call, before, self.name) if self._adopts else ()
        parts = []
        for told, at in _told(made):
            rate = self.rates.rate(told.kind, told.limit) or self._rates.get(told.kind)
            if rate is not None:
                self._rates[told.kind] = rate
            if rate is not None and told.remaining < PRESSURE * rate.burst:
                floor = floor_of(told, rate, call.clock.now() - at)
                parts.append(self._part(call, told.kind, 0.0, floor))
        await self._correct(call, tuple(parts), where, ())

    async def _hold(self, call: Call, error: Transient, where: str) -> None:
        """After a 429 nobody goes before the provider wants us back."""
        rate = self._rates.get("requests")
        if self._adopts and error.kind == "rate_limited" and error.retry_after and rate is not None:
            floor = error.retry_after + (rate.burst - 1) / rate.per_second
            await self._correct(call, (self._part(call, "requests", 0.0, floor),), where, ())

    # --- after

    async def _settle(
        self, call: Call, booked: tuple[Part, ...], made: Sequence[Attempt], prompt: int, where: str
    ) -> None:
        spent = [(attempt, used(attempt, prompt)) for attempt in made]
        known = [usage for _, usage in spent if usage is not None]
        total = Usage(sum(u.input_tokens for u in known), sum(u.output_tokens for u in known))
        sent = sum(usage is not None or _answered(attempt) for attempt, usage in spent)
        amounts = _amounts(sent, total)
        changes = (
            replace(part, amount=amounts[part.key.rpartition(":")[2]] - part.amount) for part in booked
        )
        await self._correct(call, tuple(part for part in changes if part.amount), where, self._waiting)


def _amounts(requests: int, usage: Usage) -> dict[str, float]:
    whole = usage.input_tokens + usage.output_tokens
    return {
        "requests": requests,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "tokens": whole,
    }


def _answered(attempt: Attempt) -> bool:
    """Whether the server answered at all: a refused request counts as a request, a failed connection not."""
    return any(isinstance(entry, Note) and entry.what == "headers" for _, entry in attempt.log)


def _told(made: Sequence[Attempt]) -> list[tuple[Reported, float]]:
    """What each limit's newest header said, and when."""
    newest: dict[str, tuple[Reported, float]] = {}
    for attempt in made:
        for at, entry in attempt.log[:8]:  # headers come among the first notes
            if isinstance(entry, Note) and entry.what == "limits":
                newest.update((told.kind, (told, at)) for told in entry.detail)
    return list(newest.values())
