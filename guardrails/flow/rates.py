"""How do I stay under the provider's requests and tokens per minute, without finding out by 429?

Each limit is a bucket that fills steadily. A call books its worst case before it is sent (a request, the
prompt's tokens, `max_tokens`) and gives back at its end what it did not use. What the provider says in its
`x-ratelimit-*` headers counts too, where it is less than we thought: other programs use the same key.

A call that has to wait books its place at once, so calls go in the order in which they came, and one that
could not go before its deadline is told so at once (`Shed`, kind `rate_limited`) instead of waiting for
nothing. An amount larger than the bucket goes when the bucket is full, and the next ones wait for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from urllib.parse import quote

from guardrails.call import Attempt, Call, Note
from guardrails.endpoints.ratelimits import KINDS, Reported
from guardrails.errors import ConfigError, Shed, Transient
from guardrails.flow.buckets import Correct, Part, Rate, Take, Taken, floor_of
from guardrails.flow.spent import at_most, attempts_since, used
from guardrails.flow.store import MemoryStore, Store, reserve, see_through
from guardrails.handler import Handler, Stream, opening

PRESSURE = 0.2
"""What the provider tells is taken over when it is less than this part of the limit."""


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


class RateLimit:
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
        return f"RateLimit({self.name!r}, {self.rates!r}, waiting={len(self._waiting)})"

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Wait for room, open the inner stream, and book what it really used."""
        prompt, booked = self._estimate(call)
        where = await self._enter(call, tuple(booked.values())) if booked else ""
        before = len(call.journal.attempts)
        try:
            try:
                async with inner(call) as stream:
                    if self._adopts and (told := _told(attempts_since(call, before, self.name))):
                        await self._listen(call, told, where)
                    yield stream
            except Transient as error:
                await self._hold(call, error, where)
                raise
        finally:
            changes = _changes(booked, attempts_since(call, before, self.name), prompt)
            if changes:
                await see_through(self._store, self._correct(call, changes, where, self._waiting))

    # --- before

    def _estimate(self, call: Call) -> tuple[int, dict[str, Part]]:
        """The prompt's tokens, and what to book of each kind."""
        rates = self._rates
        counts_tokens = len(rates) > ("requests" in rates)
        tokens_in, tokens_out = at_most(call, "", self._assumed) if counts_tokens else (0, 0)
        prefix, amounts = self._bucket(call), _amounts(1, tokens_in, tokens_out)
        booked = {kind: Part(prefix + kind, rate, amounts[kind]) for kind, rate in rates.items()}
        return tokens_in, booked

    def _bucket(self, call: Call) -> str:
        return f"{self._prefix}:{quote(call.tenant, safe='')}:" if self._by_tenant else f"{self._prefix}::"

    def _part(self, call: Call, kind: str, floor: float) -> Part:
        return Part(self._bucket(call) + kind, self._rates[kind], 0.0, floor)

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
            call.journal.note(now, "flow", f"shed:{self.name}:{kind}")
            shed = Shed(
                f"the limit of {kind.replace('_', ' ')} per minute of {self.name} leaves no room in time",
                kind="rate_limited",
                hint=f"try again in {math.ceil(wait)} s, raise rate_limit.patience (or the deadline, if "
                "that is shorter), or add another of `routes`",
                retry_after=wait,
            )
            shed.only_theirs = self._by_tenant and bool(call.tenant)
            raise shed
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
        parts = tuple(Part(part.key, part.rate, -part.amount) for part in parts)
        await self._correct(call, parts, where, behind)

    async def _correct(
        self, call: Call, parts: tuple[Part, ...], where: str, waiting: Sequence[_Waiter]
    ) -> None:
        with suppress(Shed):  # a store that is away fails no call that runs; buckets fill by themselves
            await self._store.decide(Correct(parts), call, where)
        # Room that is given back lets those go earlier who booked later.
        for part in parts if waiting else ():
            for waiter in waiting:
                if part.amount < 0 and part.key in waiter.dues:
                    waiter.dues[part.key] += part.amount / part.rate.per_second
                    waiter.woken.set()

    # --- what the provider says

    async def _listen(self, call: Call, newest: Sequence[tuple[Reported, float]], where: str) -> None:
        """Take over what the headers said, when it is little."""
        parts = []
        for told, at in newest:
            rate = self.rates.rate(told.kind, told.limit) or self._rates.get(told.kind)
            if rate is not None:
                self._rates[told.kind] = rate
            if rate is not None and told.remaining < PRESSURE * rate.burst:
                floor = floor_of(told, rate, call.clock.now() - at)
                parts.append(self._part(call, told.kind, floor))
        if parts:
            await self._correct(call, tuple(parts), where, ())

    async def _hold(self, call: Call, error: Transient, where: str) -> None:
        """After a 429 nobody goes before the provider wants us back."""
        rate = self._rates.get("requests")
        if self._adopts and error.kind == "rate_limited" and error.retry_after and rate is not None:
            floor = error.retry_after + (rate.burst - 1) / rate.per_second
            await self._correct(call, (self._part(call, "requests", floor),), where, ())


def _changes(booked: Mapping[str, Part], made: Sequence[Attempt], prompt: int) -> tuple[Part, ...]:
    """How much more (below 0: less) than was booked the attempts used."""
    sent = tokens_in = tokens_out = 0
    for attempt in made:
        usage = used(attempt, prompt)
        if usage is not None:
            tokens_in, tokens_out = tokens_in + usage.input_tokens, tokens_out + usage.output_tokens
        sent += usage is not None or _answered(attempt)
    amounts = _amounts(sent, tokens_in, tokens_out)
    changes = [
        Part(part.key, part.rate, amounts[kind] - part.amount)
        for kind, part in booked.items()
        if amounts[kind] != part.amount
    ]
    return tuple(changes)


def _amounts(requests: int, tokens_in: int, tokens_out: int) -> dict[str, int]:
    """By kind."""
    return {
        "requests": requests,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "tokens": tokens_in + tokens_out,
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
