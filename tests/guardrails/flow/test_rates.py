"""Requests and tokens per minute: the bucket's law, and what the layer books, waits for and gives back."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guardrails import Call, ConfigError, Finish, Request, Shed, Transient, Usage, collect, stack
from guardrails.call import Delta, Event
from guardrails.endpoints.http import HttpConfig, HttpEndpoint
from guardrails.endpoints.ratelimits import Reported, reported
from guardrails.flow.buckets import Correct, Part, Rate, Take, correct, floor_of, left, take
from guardrails.flow.rates import RateLimit, Rates
from guardrails.flow.store import MemoryStore, Moment
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

AMOUNT = st.floats(0.01, 50)


# --- the bucket --------------------------------------------------------------------------------------------


@given(
    st.floats(0.1, 20),
    st.floats(1, 30),
    st.lists(st.tuples(st.floats(0, 5), AMOUNT), min_size=1, max_size=60),
)
def test_no_window_sees_more_than_the_burst_and_what_flowed_in(
    per_second: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    rate, full_at, now = Rate(per_second, burst), 0.0, 0.0
    granted: list[tuple[float, float]] = []
    for pause, amount in steps:
        now += pause
        full_at, wait = take(full_at, now, rate, min(amount, burst))
        granted.append((now + wait, min(amount, burst)))
    assert [at for at, _ in granted] == sorted(at for at, _ in granted), "nobody overtakes"
    for first, (start, _) in enumerate(granted):
        total = 0.0
        for at, amount in granted[first:]:
            total += amount
            assert total <= burst + per_second * (at - start) + 1e-6


@given(st.floats(0.1, 20), st.floats(1, 30), AMOUNT, st.floats(0, 100))
def test_what_is_given_back_was_never_taken(
    per_second: float, burst: float, amount: float, ahead: float
) -> None:
    rate = Rate(per_second, burst)
    full_at, _ = take(ahead, 0.0, rate, amount)
    assert correct(full_at, 0.0, rate, -amount) == pytest.approx(ahead, abs=1e-6)
    assert correct(full_at, 0.0, rate, -math.inf) == 0, "a bucket holds no more than it can"


def test_an_amount_above_the_bucket_goes_when_it_is_full() -> None:
    rate = Rate(1.0, 10.0)
    full_at, wait = take(0.0, 0.0, rate, 25.0)
    assert wait == 0
    assert take(full_at, 0.0, rate, 1.0)[1] == pytest.approx(16), "the next one waits for the debt"


@pytest.mark.parametrize(
    ("told", "ahead"),
    [
        (Reported("requests", 60, 40, None), 20),
        (Reported("requests", 60, 40, 5), 5),  # a fixed window that is over soon
        (Reported("requests", 60, 0, 3600), 3600),  # counted by the day: nothing before tomorrow
        (Reported("requests", 60, 100, 1), 0),
    ],
)
def test_the_floor_follows_what_the_provider_told(told: Reported, ahead: float) -> None:
    assert floor_of(told, Rate(1.0, 60.0), 0.0) == ahead
    assert floor_of(told, Rate(1.0, 60.0), 3.0) == max(0, ahead - 3)


class Buckets(RuleBasedStateMachine):
    """Two buckets in one store, taken together: all or nothing, and never more than there is."""

    RATES = Rate(2.0, 10.0), Rate(1.0, 30.0)

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.now = 0.0
        self.held: list[tuple[Part, ...]] = []
        self.model = [0.0, 0.0]

    def parts(self, a: float, b: float) -> tuple[Part, ...]:
        return Part("a", self.RATES[0], a), Part("b", self.RATES[1], b)

    @rule(a=st.floats(0, 10), b=st.floats(0, 30))
    def take(self, a: float, b: float) -> None:
        taken = self.store.at_once(Take(self.parts(a, b), 0.0), Moment(self.now, self.now))
        fits = all(
            used + amount <= rate.burst + 1e-9
            for used, amount, rate in zip(self.model, (a, b), self.RATES, strict=True)
        )
        assert taken.booked == (max(taken.waits) <= 0)
        assert fits or not taken.booked
        if taken.booked:
            self.model = [self.model[0] + a, self.model[1] + b]
            self.held.append(self.parts(a, b))

    @rule()
    def refund(self) -> None:
        if self.held:
            parts = self.held.pop()
            self.store.at_once(
                Correct(tuple(replace(part, amount=-part.amount) for part in parts)),
                Moment(self.now, self.now),
            )
            pairs = zip(self.model, parts, strict=True)
            self.model = [max(0.0, used - part.amount) for used, part in pairs]

    @rule(seconds=st.floats(0, 10))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        pairs = zip(self.model, self.RATES, strict=True)
        self.model = [max(0.0, used - seconds * rate.per_second) for used, rate in pairs]

    @invariant()
    def agrees(self) -> None:
        for key, used, rate in zip("ab", self.model, self.RATES, strict=True):
            full_at = self.store._cells.get(key) or 0.0
            assert left(full_at, self.now, rate) == pytest.approx(rate.burst - used, abs=1e-6)


TestBuckets = Buckets.TestCase
TestBuckets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# --- the layer ---------------------------------------------------------------------------------------------


def ask(clock: FakeClock, **fields: object) -> Call:
    return Call(Request.of("one two", max_tokens=100), clock=clock, **fields)  # type: ignore[arg-type]


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_the_layer_keeps_the_contract(case: str) -> None:
    await check_layer(RateLimit("e", Rates(requests=600, tokens=100_000)), case)


@pytest.mark.asyncio
async def test_calls_go_at_the_rate_and_in_order() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint("ok", name="e")
    limit = RateLimit("e", Rates(requests=60, burst=2))
    handler = stack(endpoint, limit)
    calls = [ask(clock) for _ in range(5)]
    await clock.run(asyncio.gather(*(collect(handler, call) for call in calls)))
    sent = [call.journal.attempts[0].log[0][0] for call in calls]
    assert sent == pytest.approx([0, 0, 1, 2, 3])
    assert endpoint.active == clock.pending == 0


@pytest.mark.asyncio
async def test_who_could_not_go_before_the_deadline_is_told_at_once() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint("ok", name="e")
    handler = stack(endpoint, RateLimit("e", Rates(requests=6, burst=10)))
    await clock.run(collect(handler, ask(clock)))
    with pytest.raises(Shed) as shed:
        await clock.run(collect(handler, ask(clock, deadline=9.0)))
    assert (shed.value.kind, clock.now()) == ("rate_limited", 0)
    assert shed.value.retry_after == pytest.approx(10)
    await clock.run(collect(handler, ask(clock, deadline=11.0)))
    assert clock.now() == pytest.approx(10), "the one that was turned away booked nothing"


@pytest.mark.asyncio
async def test_tokens_are_booked_at_their_worst_and_settled_by_usage() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a b", ttft=1, usage=Usage(10, 2)), name="e")
    limit = RateLimit("e", Rates(output_tokens=150))
    handler = stack(endpoint, limit)
    first = asyncio.ensure_future(collect(handler, ask(clock)))
    await clock.settle()
    second = asyncio.ensure_future(collect(handler, ask(clock)))
    await clock.run(asyncio.gather(first, second))
    assert clock.now() == pytest.approx(2), (
        "50 tokens were missing, 98 came back after a second, not after 20"
    )
    (cell,) = limit._store._cells._held.values()  # type: ignore[attr-defined]
    assert left(cell[0], clock.now(), Rate(2.5, 150)) == pytest.approx(150), "4 were used, 5 flowed in"


@pytest.mark.asyncio
async def test_a_cancelled_wait_gives_its_place_back_to_those_behind() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint("ok", name="e")
    limit = RateLimit("e", Rates(requests=6, burst=10))
    handler = stack(endpoint, limit)
    calls = [ask(clock) for _ in range(4)]
    tasks = [asyncio.ensure_future(collect(handler, call)) for call in calls]
    await clock.settle()
    tasks[2].cancel()
    await clock.run(asyncio.gather(*tasks, return_exceptions=True))
    sent = [attempt.log[0][0] for call in calls for attempt in call.journal.attempts]
    assert sent == pytest.approx([0, 10, 20]), "the one ahead goes no earlier, the one behind does"
    assert tasks[2].cancelled()
    assert "waiting=0" in repr(limit)
    assert clock.pending == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "left_over"),
    [
        (Transient("x", kind="connect"), 60),  # nobody was asked
        (Transient("x", kind="reset"), 59),
    ],
)
async def test_an_attempt_that_never_arrived_counts_for_nothing(error: Transient, left_over: float) -> None:
    clock = FakeClock()
    limit = RateLimit("e", Rates(requests=60))
    with pytest.raises(Transient):
        await clock.run(collect(stack(ScriptedEndpoint(error, name="e"), limit), ask(clock)))
    (cell,) = limit._store._cells._held.values()  # type: ignore[attr-defined]
    assert left(cell[0], clock.now(), Rate(1, 60)) == pytest.approx(left_over)


@pytest.mark.asyncio
async def test_a_429_holds_everybody_back_until_the_provider_wants_us() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Transient("x", kind="rate_limited", retry_after=20.0), "ok", name="e")
    handler = stack(endpoint, RateLimit("e", Rates(requests=600)))
    with pytest.raises(Transient):
        await clock.run(collect(handler, ask(clock)))
    await clock.run(collect(handler, ask(clock)))
    assert clock.now() == pytest.approx(20, abs=0.2)


@pytest.mark.asyncio
async def test_tenants_have_buckets_of_their_own_when_asked() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint("ok", name="e")
    handler = stack(endpoint, RateLimit("e", Rates(requests=1), by_tenant=True, patience=0))
    await clock.run(collect(handler, ask(clock, tenant="a")))
    await clock.run(collect(handler, ask(clock, tenant="b")))
    with pytest.raises(Shed):
        await clock.run(collect(handler, ask(clock, tenant="a")))


@pytest.mark.parametrize("field", ["requests", "tokens", "burst"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_limits_that_cannot_be_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        Rates(**{field: value})


# --- what providers tell -----------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("12ms", 0.012),
        ("1h2m3.5s", 3723.5),
        ("17", 17),
        ("2026-01-01T00:01:00Z", 60),
    ],
)
def test_resets_are_read_in_every_spelling(value: str, seconds: float) -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": value}
    (told,) = reported(headers, NOW)
    assert (told.kind, told.limit, told.remaining) == ("requests", None, 3.0)
    assert told.reset == pytest.approx(seconds)


def test_both_vendors_headers_are_read() -> None:
    headers = {
        "anthropic-ratelimit-input-tokens-limit": "50000",
        "anthropic-ratelimit-input-tokens-remaining": "49000",
        "anthropic-ratelimit-input-tokens-reset": "2026-01-01T00:00:30+00:00",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "0",
    }
    assert reported(headers, NOW) == (
        Reported("input_tokens", 50000, 49000, 30),
        Reported("tokens", 1000, 0, None),
    )


@given(st.dictionaries(st.sampled_from(["remaining", "limit", "reset"]), st.text(max_size=60)))
def test_no_header_breaks_the_reading(parts: dict[str, str]) -> None:
    headers = {f"x-ratelimit-{name}-requests": value for name, value in parts.items()}
    for told in reported(headers, NOW):
        assert told.remaining >= 0
        assert told.limit is None or 0 < told.limit < math.inf
        assert told.reset is None or 0 <= told.reset < math.inf


@pytest.mark.asyncio
async def test_headers_go_from_the_wire_into_the_journal_and_hold_the_next_call_back() -> None:
    body = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]
    }
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body, headers=headers))
    endpoint = HttpEndpoint(HttpConfig("http://e/v1", "m", "e"), transport=transport)
    handler = stack(endpoint, RateLimit("e", Rates(), patience=0))
    clock = FakeClock()
    request = replace(Request.of("hi"), stream=False)
    await collect(handler, Call(request, clock))
    with pytest.raises(Shed) as shed:
        await collect(handler, Call(request, clock))
    assert shed.value.retry_after == pytest.approx(1), "60 a minute, and none left: the next in a second"


# --- any schedule ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("part", range(10))
async def test_after_any_schedule_the_buckets_hold_what_was_really_used(part: int) -> None:
    for seed in range(100 * part, 100 * part + 100):
        await _schedule(random.Random(seed))


async def _schedule(rng: random.Random) -> None:
    clock = FakeClock(rounds=12)

    def answer(call: Call) -> Script:
        n = rng.randint(1, 20)
        events: list[Event] = [Delta("x") for _ in range(n)]
        broken = rng.choice([None, None, 0, n])
        error = Transient("x", kind=rng.choice(["connect", "reset"])) if broken == 0 else None
        return Script(
            [*events, Finish("stop", Usage(5, n))],
            ttft=rng.random(),
            finish=None,
            fail_after=broken,
            error=error,
        )

    endpoint = ScriptedEndpoint(answer, name="e")
    rates = Rates(requests=600, output_tokens=1200, burst=5)
    limit = RateLimit("e", rates, patience=rng.choice([0.5, 3.0, 60.0]))
    tasks = []
    for _ in range(rng.randint(2, 12)):
        tasks.append(asyncio.ensure_future(collect(stack(endpoint, limit), ask(clock))))
        if rng.random() < 0.5:
            await clock.run_for(rng.random())
        if rng.random() < 0.3:
            rng.choice(tasks).cancel()
    with contextlib.suppress(BaseException):
        await clock.run(asyncio.gather(*tasks, return_exceptions=True))
    sent = [attempt.log[0][0] for call in endpoint.calls for attempt in call.journal.attempts]
    for at in sent:
        inside = sum(at <= other < at + 1.0 for other in sent)
        assert inside <= 50 + 10, "requests: the burst of 5 s and one more second"
    await clock.run_for(200)
    store = limit._store
    assert isinstance(store, MemoryStore)
    for kind in ("requests", "output_tokens"):
        rate = rates.rate(kind)
        assert rate is not None
        full_at = store._cells.get(f"guardrails:rate:{{e}}::{kind}") or 0.0
        assert left(full_at, clock.now(), rate) == pytest.approx(rate.burst), "nothing stays booked"
    assert "waiting=0" in repr(limit)
    assert endpoint.active == clock.pending == 0
