"""How do I make sure that nobody spends more than I allowed, however many calls run at once?

A call reserves the most that it can cost before it is sent (its prompt and `max_tokens`, at the price of the
model) and gets the rest back when its usage is known. A reservation that does not fit is refused at once
(`BudgetExceeded` names the budget and when it fills again). So what is spent stays below the limit however
calls interleave, up to what a prompt's estimate was wrong by, or an answer without `max_tokens` went beyond
the assumed length: that much, of the calls that were under way at the time, is booked afterwards.

Put the layer around an endpoint, inside of retries and fallbacks: then each attempt has its reservation. A
layer outside of them reserves for one attempt and books what all of them cost in the end.

How that is counted, and in which periods, says `guardrails.flow.ledger`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Literal
from urllib.parse import quote

from guardrails.call import Attempt, Call, Note, Usage
from guardrails.errors import BudgetExceeded, ConfigError, Shed
from guardrails.flow.ledger import PICO, Counter, Period, Reserve, Reserved, Settle, Unit, in_usd, pico
from guardrails.flow.spent import attempts_since, used, worst_case
from guardrails.flow.store import MemoryStore, Store, reserve, see_through
from guardrails.handler import Handler, Stream, opening
from guardrails.record import EXACT, NO_MONEY, PriceOf, charged


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
        counted: list[tuple[Unit, int]] = []
        if self.usd is not None:
            counted.append(("usd", int(EXACT.multiply(self.usd, PICO))))
        if self.tokens is not None:
            counted.append(("tokens", self.tokens))
        return counted


@dataclass(slots=True)
class Budget:
    """Refuse calls that could spend more than the allowances. Each tenant has its own, or all share one.

    `model` is priced when a request names none. `unknown_price`: what to do about a model without a price
    when an allowance is in USD – `block` (`BudgetExceeded`, kind `no_price`), or `count_tokens_only`.
    `assumed_output`: tokens reserved for a request without `max_tokens`. `price` is by default the packaged
    price list; a cost that the provider reports is what is booked. With `endpoint`, only the attempts of
    that name are booked (as needed under hedging), otherwise all that are made inside. `lease`: how many
    seconds a call may take; in a shared store the reservation of one that is never heard of again (its
    process died) is given up after that.
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
    lease: int = 900
    _limits: tuple[tuple[Period, Unit, int], ...] = field(init=False, repr=False)
    _prefix: str = field(init=False, repr=False)
    _priced: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._prefix = f"guardrails:budget:{{{quote(self.name, safe='')}}}:"
        each = ((allowance.per, allowance.limits()) for allowance in self.allowances)
        self._limits = tuple((per, unit, limit) for per, limits in each for unit, limit in limits)
        self._priced = "usd" in [unit for _, unit, _ in self._limits]

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Reserve the worst case, open the inner stream, book what it cost."""
        worst = worst_case(call, self.model, assumed_output=self.assumed_output)
        counters = self._counters(call, worst)
        if not counters:
            async with inner(call) as stream:
                yield stream
            return
        name = f"{call.id}.{next(_numbers)}"
        starts, where = await self._reserve(call, counters, name)
        before = len(call.journal.attempts)
        try:
            async with inner(call) as stream:
                yield stream
        finally:
            made = attempts_since(call, before, self.endpoint)
            settle = Settle(self._changes(counters, starts, made, worst.input_tokens), name)
            await see_through(self.store, self._settle(call, settle, where))

    def _counters(self, call: Call, worst: Usage) -> tuple[Counter, ...]:
        prefix = self._prefix
        if self.by == "tenant":
            prefix += "=" + quote(call.tenant, safe="") if call.tenant else "="
        tokens = worst.input_tokens + worst.output_tokens
        money = self._money(call, worst)
        counters = []
        for per, unit, limit in self._limits:
            amount = money if unit == "usd" else tokens
            if amount is not None:
                counters.append(Counter(f"{prefix}:{per}:{unit}", per, limit, amount, unit))
        return tuple(counters)

    def _money(self, call: Call, worst: Usage) -> int | None:
        """What the call may cost, in picodollars; None where only tokens are to be counted."""
        if not self._priced:
            return None
        model = call.request.model or self.model
        cost = self._price(model, worst)
        if cost is None and self.unknown_price == "block":
            raise self._no_price(model)
        return None if cost is None else pico(cost)

    def _price(self, model: str, usage: Usage) -> Decimal | None:
        if usage.cost is not None:
            return usage.cost
        if self.price is None:
            from guardrails.prices import PriceBook

            self.price = PriceBook.default().cost
        return self.price(model, usage)

    async def _reserve(
        self, call: Call, counters: tuple[Counter, ...], name: str
    ) -> tuple[tuple[int, ...], str]:
        """To which periods the call was booked, and where. Raises `BudgetExceeded`."""

        async def undo(got: Reserved, where: str) -> None:
            if got.refused is None:
                changes = self._changes(counters, got.starts, (), 0)
                await self._settle(call, Settle(changes, name), where)

        got, where = await reserve(self.store, Reserve(counters, name, self.lease), call, undo)
        if got.refused is None:
            return got.starts, where
        raise self._exceeded(call, counters[got.refused], got)

    def _changes(
        self, counters: Sequence[Counter], starts: Sequence[int], made: Sequence[Attempt], prompt: int
    ) -> tuple[tuple[str, int, int], ...]:
        """Key, period and correction of each counter, now that it is known what was used."""
        tokens, money, known = 0, NO_MONEY, True
        for attempt in made:
            usage = used(attempt, prompt)
            if usage is None:
                continue
            tokens += usage.input_tokens + usage.output_tokens
            if self._priced:
                names = _reported(attempt) or attempt.model, attempt.model or self.model
                cost = charged(usage, self._price, *names)
                if cost is None:
                    known = False
                else:
                    money = EXACT.add(money, cost)
        spent = pico(money)
        changes = []
        for counter, start in zip(counters, starts, strict=True):
            if counter.unit == "tokens":
                change = tokens - counter.amount
            else:
                change = spent - counter.amount if known else 0  # else the worst case stays booked
            changes.append((counter.key, start, change))
        return tuple(changes)

    async def _settle(self, call: Call, settle: Settle, where: str) -> None:
        try:
            await self.store.decide(settle, call, where)
        except Shed:
            self.store.later(settle)

    # --- saying no

    def _whose(self, call: Call) -> str:
        whose = f" of tenant {call.tenant}" if self.by == "tenant" and call.tenant else ""
        return f"the budget {self.name!r}{whose}"

    def _exceeded(self, call: Call, counter: Counter, got: Reserved) -> BudgetExceeded:
        never = counter.amount > counter.limit
        error = BudgetExceeded(
            f"{self._whose(call)} allows {_said(counter.limit, counter.unit)} per {counter.period}; "
            f"{_said(got.spent, counter.unit)} of it is spent or reserved, and this call may take "
            f"{_said(counter.amount, counter.unit)}",
            hint="lower max_tokens or raise the budget" if never else f"it fills again in {got.until:.0f} s",
            retry_after=None if never else float(math.ceil(got.until)),
        )
        error.only_theirs = never or (self.by == "tenant" and bool(call.tenant))
        return error

    def _no_price(self, model: str) -> BudgetExceeded:
        named = model or "a model without a name"
        return BudgetExceeded(
            f"the budget {self.name!r} is in USD, and the price of {named} is unknown",
            kind="no_price",
            hint="add it to your prices file, or set unknown_price: count_tokens_only",
        )


_numbers = count()


def _said(amount: int, unit: Unit) -> str:
    return f"{in_usd(amount):.6f} USD" if unit == "usd" else f"{amount:,} tokens"


def _reported(attempt: Attempt) -> str:
    """The model that the server says it was."""
    for _, entry in attempt.log[:8]:
        if isinstance(entry, Note) and entry.what == "reported":
            return str(entry.detail[0] or "")
    return ""
