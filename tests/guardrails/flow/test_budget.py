"""Budgets: never overspent however calls interleave, refunds exact, refilled by the calendar."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from guardrails import BudgetExceeded, Call, ConfigError, Finish, Request, Transient, Usage, collect, stack
from guardrails.call import Delta, Event
from guardrails.flow.budget import Allowance, Budget
from guardrails.flow.ledger import Counter, Reserve, Reserved, Settle, bounds, in_usd, pico
from guardrails.flow.store import MemoryStore, Moment
from guardrails.handler import Handler, Stream
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

INPUT, OUTPUT = Decimal("0.15") / 10**6, Decimal("0.6") / 10**6


def price(model: str, usage: Usage) -> Decimal | None:
    return None if model == "unknown" else usage.input_tokens * INPUT + usage.output_tokens * OUTPUT


def spent(budget: Budget, key: str) -> int:
    store = budget.store
    assert isinstance(store, MemoryStore)
    held = store._cells.get(key)
    return 0 if held is None else int(held[1])


# --- periods and money -------------------------------------------------------------------------------------


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_periods_are_those_of_the_calendar(at: datetime) -> None:
    for period in ("hour", "day", "month"):
        first, last = (datetime.fromtimestamp(s, UTC) for s in bounds(period, at.timestamp()))
        assert first <= at < last
        assert (first.minute, first.second, first.microsecond) == (0, 0, 0)
        if period == "hour":
            assert last - first == timedelta(hours=1)
        elif period == "day":
            assert (first.hour, last - first) == (0, timedelta(days=1))
        else:
            assert (first.day, first.hour, last.day, last.hour) == (1, 0, 1, 0)
            assert (last.year * 12 + last.month) - (first.year * 12 + first.month) == 1


@given(st.decimals(0, 10**6, places=12, allow_nan=False))
def test_money_is_exact(amount: Decimal) -> None:
    assert in_usd(pico(amount)) == amount


def test_less_than_can_be_counted_is_rounded_up() -> None:
    assert pico(Decimal("1e-13")) == 1


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=50))
def test_refunds_are_exact(calls: list[tuple[int, int]]) -> None:
    store, at = MemoryStore(), Moment(0, 0)
    total = Decimal(0)
    for worst, actual in calls:
        before = price("m", Usage(worst, worst)) or Decimal(0)
        after = price("m", Usage(actual, actual)) or Decimal(0)
        got = store.at_once(Reserve((Counter("k", "day", 10**18, pico(before)),)), at)
        store.at_once(Settle((("k", got.starts[0], pico(after) - pico(before)),)), at)
        total += after
    assert in_usd((store._cells.get("k") or (0, 0))[1]) == total


def test_a_civil_clock_that_is_set_back_gives_no_second_allowance() -> None:
    store, counter = MemoryStore(), Counter("k", "hour", 100, 60)
    first = store.at_once(Reserve((counter,)), Moment(10.0, 3600.0))
    got = store.at_once(Reserve((counter,)), Moment(11.0, 3599.0))
    assert (got.refused, got.spent, got.until) == (0, 60, 3601.0)
    store.at_once(Settle((("k", first.starts[0], -60),)), Moment(12.0, 3599.0))
    assert store.at_once(Reserve((counter,)), Moment(13.0, 3599.5)).starts == first.starts


# --- any interleaving --------------------------------------------------------------------------------------


class Counters(RuleBasedStateMachine):
    """Reservations and settlements of two budgets in any order, across periods."""

    LIMITS = 100, 1000
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.wall = 0.0
        self.model: dict[tuple[str, int], int] = {}

    def starts(self) -> tuple[int, int]:
        return bounds("hour", self.wall)[0], bounds("day", self.wall)[0]

    @rule(target=running, amount=st.integers(0, 60))
    def reserve(self, amount: int) -> tuple[Reserved, int]:
        counters = (
            Counter("h", "hour", self.LIMITS[0], amount),
            Counter("d", "day", self.LIMITS[1], amount),
        )
        got = self.store.at_once(Reserve(counters), Moment(self.wall, self.wall))
        held = [self.model.get((key, start), 0) for key, start in zip("hd", self.starts(), strict=True)]
        fits = all(used + amount <= limit for used, limit in zip(held, self.LIMITS, strict=True))
        assert (got.refused is None) == fits
        if fits:
            assert got.starts == self.starts()
            for key, start in zip("hd", got.starts, strict=True):
                self.model[key, start] = self.model.get((key, start), 0) + amount
        else:
            assert got.until > 0
        return got, amount

    @rule(reserved=consumes(running), part=st.floats(0, 1))
    def settle(self, reserved: tuple[Reserved, int], part: float) -> None:
        got, amount = reserved
        if got.refused is None:
            change = int(amount * part) - amount
            changes = tuple((key, start, change) for key, start in zip("hd", got.starts, strict=True))
            self.store.at_once(Settle(changes), Moment(self.wall, self.wall))
            for key, start, _ in changes:
                self.model[key, start] += change

    @rule(seconds=st.integers(1, 5000))
    def pass_time(self, seconds: int) -> None:
        self.wall += seconds

    @invariant()
    def never_overspent(self) -> None:
        for (key, _), used in self.model.items():
            assert 0 <= used <= self.LIMITS["hd".index(key)]

    @invariant()
    def agrees(self) -> None:
        for key, start in zip("hd", self.starts(), strict=True):
            held = self.store._cells.get(key)
            if held is not None and held[0] == start:
                assert held[1] == self.model[key, start]


TestCounters = Counters.TestCase
TestCounters.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


# --- the layer ---------------------------------------------------------------------------------------------


def ask(clock: FakeClock, **fields: object) -> Call:
    request = Request.of("one two", max_tokens=100)
    return Call(request, clock=clock, **fields)  # type: ignore[arg-type]


def day(usd: str | None = None, tokens: int | None = None) -> tuple[Allowance, ...]:
    return (Allowance("day", None if usd is None else Decimal(usd), tokens),)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_the_layer_keeps_the_contract(case: str) -> None:
    await check_layer(Budget("b", day("1", 10**6), model="m", price=price), case)


@pytest.mark.asyncio
async def test_what_a_call_did_not_use_comes_back() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a b", usage=Usage(10, 2)), model="m")
    budget = Budget("b", day("1", 10**6), model="m", price=price)
    await clock.run(collect(stack(endpoint, budget), ask(clock, tenant="t")))
    assert in_usd(spent(budget, "guardrails:budget:{b}:=t:day:usd")) == 10 * INPUT + 2 * OUTPUT
    assert spent(budget, "guardrails:budget:{b}:=t:day:tokens") == 12


@pytest.mark.asyncio
async def test_no_caller_rounds_the_money_with_a_coarse_decimal_context() -> None:
    clock = FakeClock()
    usage = Usage(1, 1, cost=Decimal("0.123456789012"))
    endpoint = ScriptedEndpoint(Script("a", usage=usage), model="m")

    @asynccontextmanager
    async def twice(call: Call, inner: Handler) -> AsyncGenerator[Stream]:
        await collect(inner, call)
        async with inner(call) as stream:
            yield stream

    with localcontext(Context(prec=4)):
        budget = Budget("b", day("1"), model="m", price=lambda _model, usage: usage.cost or Decimal("0.5"))
        await clock.run(collect(stack(endpoint, budget, twice), ask(clock)))
    assert spent(budget, "guardrails:budget:{b}:=:day:usd") == 2 * 123456789012


def test_an_allowance_is_the_same_under_a_coarse_decimal_context() -> None:
    with localcontext(Context(prec=4)):
        assert Allowance("day", Decimal("1234.567891")).limits() == [("usd", 1234567891 * 10**6)]


@pytest.mark.asyncio
async def test_calls_at_once_cannot_spend_the_same_money() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a", ttft=1, usage=Usage(10, 100)), model="m")
    budget = Budget("b", day(tokens=1000), model="m", price=price)
    tasks = [asyncio.ensure_future(collect(stack(endpoint, budget), ask(clock))) for _ in range(50)]
    results = await clock.run(asyncio.gather(*tasks, return_exceptions=True))
    refused = [result for result in results if isinstance(result, BudgetExceeded)]
    assert len(endpoint.calls) == 9, "each may take 109 tokens"
    assert len(refused) == 41
    assert spent(budget, "guardrails:budget:{b}:=:day:tokens") == 9 * 110


@pytest.mark.asyncio
async def test_the_error_names_the_budget_and_when_it_fills_again() -> None:
    clock = FakeClock(start=datetime(2026, 1, 31, 23, tzinfo=UTC))
    endpoint = ScriptedEndpoint(Script("a", usage=Usage(10, 100)), model="m")
    budget = Budget("team", (Allowance("month", tokens=150),), price=price)
    handler = stack(endpoint, budget)
    await clock.run(collect(handler, ask(clock, tenant="t")))
    with pytest.raises(BudgetExceeded, match=r"'team' of tenant t allows 150 tokens per month") as exceeded:
        await clock.run(collect(handler, ask(clock, tenant="t")))
    assert exceeded.value.retry_after == 3600
    await clock.run(collect(handler, ask(clock, tenant="u")))
    clock.advance(3600)
    await clock.run(collect(handler, ask(clock, tenant="t")))


@pytest.mark.asyncio
async def test_waiting_does_not_help_a_call_that_is_larger_than_the_budget() -> None:
    clock = FakeClock()
    with pytest.raises(BudgetExceeded, match="max_tokens") as exceeded:
        await clock.run(collect(stack(ScriptedEndpoint("a"), Budget("b", day(tokens=50))), ask(clock)))
    assert exceeded.value.retry_after is None


@pytest.mark.asyncio
async def test_tenants_may_share_one_budget() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a", usage=Usage(10, 100)))
    handler = stack(endpoint, Budget("b", day(tokens=150), by="all"))
    await clock.run(collect(handler, ask(clock, tenant="t")))
    with pytest.raises(BudgetExceeded):
        await clock.run(collect(handler, ask(clock, tenant="u")))


@pytest.mark.asyncio
async def test_an_unknown_price_is_refused_unless_tokens_alone_are_to_count() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint("a", model="unknown")
    strict = Budget("b", day("1", 1000), model="unknown", price=price)
    with pytest.raises(BudgetExceeded) as exceeded:
        await clock.run(collect(stack(endpoint, strict), ask(clock)))
    assert exceeded.value.kind == "no_price"
    loose = Budget("b", day("1", 1000), model="unknown", price=price, unknown_price="count_tokens_only")
    await clock.run(collect(stack(endpoint, loose), ask(clock)))
    assert spent(loose, "guardrails:budget:{b}:=:day:tokens") > 0


@pytest.mark.asyncio
async def test_what_cannot_be_priced_in_the_end_stays_booked_at_its_worst() -> None:
    clock, asked = FakeClock(), [Decimal("0.5"), None, None]
    endpoint = ScriptedEndpoint(Script("a", usage=Usage(1, 1)), model="m")
    budget = Budget("b", day("1"), model="m", price=lambda _model, _usage: asked.pop(0))
    await clock.run(collect(stack(endpoint, budget), ask(clock)))
    assert in_usd(spent(budget, "guardrails:budget:{b}:=:day:usd")) == Decimal("0.5")


@pytest.mark.asyncio
async def test_a_cost_that_the_provider_reports_is_booked() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a", usage=Usage(1, 1, cost=Decimal("0.25"))), model="m")
    budget = Budget("b", day("1"), model="m", price=price)
    await clock.run(collect(stack(endpoint, budget), ask(clock)))
    assert in_usd(spent(budget, "guardrails:budget:{b}:=:day:usd")) == Decimal("0.25")


@pytest.mark.asyncio
async def test_a_failed_connection_costs_nothing_and_a_cancelled_answer_what_arrived() -> None:
    clock = FakeClock()
    budget = Budget("b", day(tokens=1000), model="m")
    key = "guardrails:budget:{b}:=:day:tokens"
    with pytest.raises(Transient):
        await clock.run(collect(stack(ScriptedEndpoint(Transient("x", kind="connect")), budget), ask(clock)))
    assert spent(budget, key) == 0
    hanging = ScriptedEndpoint(Script("a b c d", stall_after=2))
    task = asyncio.ensure_future(collect(stack(hanging, budget), ask(clock)))
    await clock.settle()
    assert spent(budget, key) == 109, "the worst case is reserved while it runs"
    task.cancel()
    await clock.settle()
    assert 9 < spent(budget, key) < 20
    assert hanging.active == clock.pending == 0


@pytest.mark.asyncio
async def test_every_billed_attempt_inside_is_booked() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a", usage=Usage(10, 5)))

    @asynccontextmanager
    async def twice(call: Call, inner: Handler) -> AsyncGenerator[Stream]:
        await collect(inner, call)
        async with inner(call) as stream:
            yield stream

    budget = Budget("b", day(tokens=1000))
    await clock.run(collect(stack(endpoint, budget, twice), ask(clock)))
    assert spent(budget, "guardrails:budget:{b}:=:day:tokens") == 30


@pytest.mark.parametrize(
    "make",
    [
        lambda: Allowance("day"),
        lambda: Allowance("week", tokens=1),  # type: ignore[arg-type]
        lambda: Allowance("day", tokens=-1),
        lambda: Allowance("day", usd=Decimal("nan")),
    ],
)
def test_allowances_that_cannot_be_are_refused(make: object) -> None:
    with pytest.raises(ConfigError, match="budget"):
        make()  # type: ignore[operator]


# --- ten thousand schedules --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(20))
def test_no_schedule_overspends(part: int) -> None:
    for seed in range(500 * part, 500 * part + 500):
        rng = random.Random(seed)
        store, limit, at = MemoryStore(), rng.randint(1, 300), 0.0
        running: list[tuple[Reserved, int]] = []
        real: dict[int, int] = {}
        for _ in range(rng.randint(5, 40)):
            at += rng.choice([0, 0, 1, 600, 3600])
            if running and rng.random() < 0.5:
                got, amount = running.pop(rng.randrange(len(running)))
                actual = rng.choice([0, rng.randint(0, amount), amount])  # cancelled, short, long
                store.at_once(Settle((("k", got.starts[0], actual - amount),)), Moment(at, at))
                real[got.starts[0]] = real.get(got.starts[0], 0) + actual
            else:
                amount = rng.randint(0, 100)
                got = store.at_once(Reserve((Counter("k", "hour", limit, amount),)), Moment(at, at))
                if got.refused is None:
                    running.append((got, amount))
            start = bounds("hour", at)[0]
            held = sum(amount for got, amount in running if got.starts[0] == start)
            assert real.get(start, 0) + held <= limit
            cell = store._cells.get("k")
            if cell is not None and cell[0] == start:
                assert cell[1] == real.get(start, 0) + held


@pytest.mark.asyncio
@pytest.mark.parametrize("part", range(5))
async def test_through_the_layer_too(part: int) -> None:
    for seed in range(60 * part, 60 * part + 60):
        await _schedule(random.Random(seed))


async def _schedule(rng: random.Random) -> None:
    clock = FakeClock(rounds=12)

    def answer(_: Call) -> Script:
        n = rng.randint(1, 100)
        events: list[Event] = [Delta("x"), Finish("stop", Usage(9, n))]
        connect = Transient("x", kind="connect")
        return Script(events, rng.random(), 0.5, None, fail_after=rng.choice([None, None, 0]), error=connect)

    endpoint = ScriptedEndpoint(lambda call: _mended(answer(call)), name="e")
    budget = Budget("b", day(tokens=rng.randint(100, 600)))
    limit = budget.allowances[0].tokens or 0
    tasks = []
    for _ in range(rng.randint(2, 12)):
        tasks.append(asyncio.ensure_future(collect(stack(endpoint, budget), ask(clock))))
        if rng.random() < 0.5:
            await clock.run_for(rng.random())
        if rng.random() < 0.3:
            rng.choice(tasks).cancel()
        assert spent(budget, "guardrails:budget:{b}:=:day:tokens") <= limit
    await clock.run(asyncio.gather(*tasks, return_exceptions=True))
    assert spent(budget, "guardrails:budget:{b}:=:day:tokens") <= limit
    assert endpoint.active == clock.pending == 0


def _mended(script: Script) -> Script:
    """`error` without `fail_after` would come at the end."""
    if script.fail_after is None:
        return Script(script.pieces, script.ttft, script.tpot, None)
    return script
