from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.call import (
    Call,
    Delta,
    Event,
    Finish,
    Message,
    Note,
    Request,
    Text,
    ToolResult,
    ToolUse,
    Usage,
)
from guardrails.errors import ConfigError, DeadlineExceeded, Interrupted, Refused, Shed, Transient
from guardrails.flow.admit import Admit, prompt_size
from guardrails.flow.limiter import Limiter, Slot, whole
from guardrails.flow.limits import Aimd, Fixed, Gradient2, Limit, Sample, Slo, TwoSignal, Unlimited
from guardrails.flow.queue import PRIORITIES, Rules, Waiting
from guardrails.handler import Stream, collect, stack
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer


class Watching:
    """A limit that never moves and keeps its samples."""

    def __init__(self, limit: float = 100.0) -> None:
        self.limit = limit
        self.samples: list[Sample] = []

    def after(self, sample: Sample, /) -> Watching:
        self.samples.append(sample)
        return self


def call(clock: FakeClock, prompt: str = "hello", **fields: object) -> Call:
    return Call(Request.of(prompt), clock=clock, **fields)  # type: ignore[arg-type]


def notes(made: Call) -> list[Note]:
    return [entry for _, entry in made.journal.log if isinstance(entry, Note)]


def warm(limiter: Limiter) -> Admit:
    """An `Admit` whose first call is not cold."""
    limiter._idle_since = 0.0
    return Admit(limiter)


# --- the layer ---------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
@pytest.mark.parametrize("limit", ["two_signal", 1, "none"])
async def test_it_keeps_the_layers_contract_and_gives_its_slot_back(case: str, limit: str | int) -> None:
    layer = Admit.of(limit)
    await check_layer(layer, case)
    assert layer.limiter.in_flight == 0
    assert layer.limiter.queued == 0


@pytest.mark.asyncio
async def test_the_slot_is_held_until_the_stream_is_closed() -> None:
    clock, layer = FakeClock(), Admit.of(1)
    endpoint = ScriptedEndpoint(Script("one two three", ttft=0.1, tpot=0.1))
    handler = stack(endpoint, layer)
    async with asyncio.timeout(5):
        first, second = call(clock), call(clock)
        opening = handler(first)
        stream = await clock.run(opening.__aenter__())
        waiting = asyncio.create_task(collect(handler, second))
        await clock.settle()
        await clock.run(anext(stream))
        assert (layer.limiter.in_flight, layer.limiter.queued) == (1, 1)
        assert endpoint.opened == 1
        await opening.__aexit__(None, None, None)
        assert (await clock.run(waiting)).text == "one two three"
    assert (layer.limiter.in_flight, layer.limiter.queued) == (0, 0)
    assert notes(first) == [Note("cold"), Note("admitted", (1, 1))]
    assert notes(second)[:1] == [Note("queued", 1)]
    assert notes(second)[-1] == Note("admitted", (1, 1))
    assert clock.pending == 0


@pytest.mark.asyncio
async def test_who_would_be_late_is_shed_in_time_with_a_reason_and_a_time_to_come_back() -> None:
    clock, layer = FakeClock(), Admit.of(1, slo=Slo(ttft=2.0))
    handler = stack(ScriptedEndpoint(Script("slow", ttft=0.5, stall_after=1)), layer)
    holder = asyncio.create_task(collect(handler, call(clock)))
    await clock.run_for(1.0)
    late = call(clock)
    task = asyncio.create_task(collect(handler, late))
    await clock.run_for(
        1.69
    )  # patience of 2 s less a usual TTFT of 0.3 s: nothing was learned from a cold call
    assert not task.done()
    await clock.run_for(0.02)
    with pytest.raises(Shed) as shed:
        await task
    assert shed.value.kind == "too_late", "`deadline` is what a call gets whose own time is up"
    assert shed.value.retry_after == 1.0
    assert "1 of 1 slots are in use, 0 wait" in shed.value.message
    assert "come back after 1 s, raise admit.patience" in shed.value.hint
    assert notes(late) == [Note("queued", 1), Note("shed", "too_late"), Note("flow", "shed:admit:too_late")]
    assert layer.limiter.snapshot().shed == {"too_late": 1}
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)
    assert layer.limiter.in_flight == 0
    assert clock.pending == 0


@pytest.mark.asyncio
async def test_a_full_queue_sheds_the_newcomer_and_no_queue_sheds_whoever_finds_no_slot() -> None:
    for length in (0, 2):
        clock, layer = FakeClock(), Admit.of(1, length=length)
        handler = stack(ScriptedEndpoint(Script("x", stall_after=0)), layer)
        tasks = [asyncio.create_task(collect(handler, call(clock))) for _ in range(1 + length)]
        await clock.settle()
        with pytest.raises(Shed) as shed:
            await collect(handler, call(clock))
        assert shed.value.kind == "queue_full"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (layer.limiter.in_flight, layer.limiter.queued, clock.pending) == (0, 0, 0)


@pytest.mark.asyncio
async def test_an_urgent_call_takes_the_place_of_an_experiment_in_a_full_queue() -> None:
    clock, layer = FakeClock(), Admit.of(1, length=1)
    handler = stack(ScriptedEndpoint(Script("x", ttft=0.1)), layer)
    tasks = []
    for priority in ("interactive", "bulk", "interactive"):
        tasks.append(asyncio.create_task(collect(handler, call(clock, priority=priority))))
        await clock.settle()
    with pytest.raises(Shed) as shed:
        await tasks[1]
    assert shed.value.kind == "overload"
    await clock.run(tasks[2])
    assert layer.limiter.in_flight == 0


@pytest.mark.asyncio
async def test_a_free_slot_is_refused_to_nobody_however_late() -> None:
    clock, layer = FakeClock(100.0), Admit.of(1)
    handler = stack(ScriptedEndpoint("fine"), layer)
    answer = await clock.run(collect(handler, call(clock, arrived=1.0)))
    assert answer.text == "fine"


@pytest.mark.asyncio
async def test_bulk_leaves_a_tenth_of_the_slots_to_others() -> None:
    clock, layer = FakeClock(), Admit.of(10)
    endpoint = ScriptedEndpoint(Script("x", stall_after=0))
    handler = stack(endpoint, layer)
    tasks = [asyncio.create_task(collect(handler, call(clock, priority="bulk"))) for _ in range(12)]
    await clock.settle()
    assert (layer.limiter.in_flight, layer.limiter.queued) == (9, 3)
    tasks.append(asyncio.create_task(collect(handler, call(clock))))
    await clock.settle()
    assert layer.limiter.in_flight == 10
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (layer.limiter.in_flight, layer.limiter.queued, clock.pending) == (0, 0, 0)


@pytest.mark.asyncio
async def test_a_slot_granted_to_a_task_that_is_cancelled_at_that_moment_is_not_lost() -> None:
    clock, layer = FakeClock(), Admit.of(1)
    handler = stack(ScriptedEndpoint(Script("x", ttft=0.1)), layer)
    holder = asyncio.create_task(collect(handler, call(clock)))
    await clock.settle()
    waiter = asyncio.create_task(collect(handler, call(clock)))
    await clock.settle()
    (slot,) = layer.limiter._held
    layer.limiter.release(slot, clock)  # the waiter's future is set, its task has not run yet
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert layer.limiter.in_flight == 0
    await clock.run(holder)
    assert layer.limiter.in_flight == 0


@pytest.mark.asyncio
async def test_a_call_that_is_closed_while_it_waits_leaves_the_queue() -> None:
    clock, layer = FakeClock(), Admit.of(1)
    handler = stack(ScriptedEndpoint("x"), layer)
    async with handler(call(clock)):
        waiting = handler(call(clock)).__aenter__()
        waiting.send(None)  # type: ignore[attr-defined] # a coroutine, as `await` drives it
        assert layer.limiter.queued == 1
        waiting.close()  # type: ignore[attr-defined]
        del waiting  # what it had begun is closed by the loop
        await clock.settle()
        assert layer.limiter.queued == 0
    assert layer.limiter.in_flight == 0


# --- what is learned ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_sample_holds_the_endpoints_own_ttft_and_the_prompts_size() -> None:
    clock, limit = FakeClock(), Watching()
    layer = warm(Limiter(limit))
    await clock.run(collect(stack(ScriptedEndpoint(Script("a b", ttft=0.4)), layer), call(clock, "x" * 400)))
    (sample,) = limit.samples
    assert sample.ttft == pytest.approx(0.4)
    assert (sample.tokens_in, sample.in_flight, sample.outcome) == (100, 1, "success")
    assert layer.limiter.snapshot().ttft == pytest.approx(0.4)


@pytest.mark.asyncio
async def test_the_pace_of_streams_in_flight_is_seen_before_they_end() -> None:
    clock, limit = FakeClock(), Watching()
    layer = warm(Limiter(limit))
    handler = stack(ScriptedEndpoint(Script("w " * 400, ttft=0.1, tpot=0.08)), layer)
    long = [asyncio.create_task(collect(handler, call(clock))) for _ in range(3)]
    await clock.run_for(5.0)
    probe = asyncio.create_task(collect(handler, call(clock)))
    await clock.run_for(0.2)
    assert limit.samples[-1].tpot == pytest.approx(0.08, rel=0.05)
    assert limit.samples[-1].tokens_out == pytest.approx(3 * 61, rel=0.05)
    for task in (*long, probe):
        task.cancel()
    await asyncio.gather(*long, probe, return_exceptions=True)
    assert layer.limiter.in_flight == 0


@pytest.mark.asyncio
async def test_several_tokens_an_event_are_learned_from_usage() -> None:
    clock, limit = FakeClock(), Watching()
    layer = warm(Limiter(limit))
    events: list[Event] = [Delta("four tokens in each ") for _ in range(100)]
    script = Script(events, ttft=0.1, tpot=0.16, usage=Usage(10, 412, cached_tokens=10))
    handler = stack(ScriptedEndpoint(script), layer)
    for _ in range(60):
        await clock.run(collect(handler, call(clock)))
    assert layer.limiter.snapshot().tpot == pytest.approx(0.04, rel=0.1)
    assert limit.samples[-1].tokens_in == 0  # the cache held nearly all of every prompt


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Transient("no", kind="rate_limited", status=429), "dropped"),
        (Transient("no", kind="server_error", status=503), "dropped"),
        (Transient("no", kind="overloaded"), "dropped"),
        (Transient("no", kind="timeout_first_event"), "dropped"),
        (Transient("no", kind="connect"), None),
        (Refused("no", kind="quota", status=429), None),
        (Transient("no", kind="server_error", status=500), None),
    ],
)
async def test_refusals_for_load_count_as_drops_and_other_failures_do_not(
    error: Exception, outcome: str | None
) -> None:
    clock, limit = FakeClock(), Watching()
    layer = warm(Limiter(limit))
    with pytest.raises(type(error)):
        await clock.run(collect(stack(ScriptedEndpoint(error), layer), call(clock)))
    assert [sample.outcome for sample in limit.samples] == ([outcome] if outcome else [])
    assert layer.limiter.in_flight == 0


@pytest.mark.asyncio
async def test_an_overload_told_in_mid_stream_counts_too_but_not_the_consumers_own_error() -> None:
    clock, limit = FakeClock(), Watching()
    layer = warm(Limiter(limit))
    cut = Script("a b c", fail_after=2, error=Interrupted("busy", kind="overloaded"))
    with pytest.raises(Interrupted):
        await clock.run(collect(stack(ScriptedEndpoint(cut), layer), call(clock)))
    assert [sample.outcome for sample in limit.samples] == ["success", "dropped"]

    async def judge_elsewhere() -> None:
        async with stack(ScriptedEndpoint("fine"), layer)(call(clock)):
            raise Transient("another endpoint is busy", status=429)

    with pytest.raises(Transient):
        await clock.run(judge_elsewhere())
    assert [sample.outcome for sample in limit.samples] == ["success", "dropped", "success"]


@pytest.mark.asyncio
async def test_a_caller_who_gives_up_after_a_long_wait_for_a_first_token_counts_as_a_drop() -> None:
    for patience, outcomes in ((1.0, []), (3.0, ["dropped"])):
        clock, limit = FakeClock(), Watching()
        layer = warm(Limiter(limit, slo=Slo(ttft=2.0)))
        handler = stack(ScriptedEndpoint(Script("x", stall_after=0)), layer)
        with pytest.raises(DeadlineExceeded):
            await clock.run(collect(handler, call(clock, deadline=patience)))
        assert [sample.outcome for sample in limit.samples] == outcomes


@pytest.mark.asyncio
async def test_calls_after_idleness_are_cold_until_a_first_token_and_teach_nothing() -> None:
    clock, limit = FakeClock(), Watching()
    layer = Admit(Limiter(limit, idle=60.0))
    handler = stack(ScriptedEndpoint(lambda made: Script("x", ttft=9.0 if made.labels else 0.2)), layer)
    waking = [call(clock, labels={"slow": "yes"}) for _ in range(2)]
    await clock.run(asyncio.gather(*(collect(handler, each) for each in waking)))
    assert limit.samples == []
    assert all(Note("cold") in notes(each) for each in waking)
    awake = call(clock)
    await clock.run(collect(handler, awake))
    assert [sample.ttft for sample in limit.samples] == [pytest.approx(0.2)]
    assert Note("cold") not in notes(awake)
    await clock.run_for(61.0)
    asleep = call(clock)
    await clock.run(collect(handler, asleep))
    assert Note("cold") in notes(asleep)
    assert len(limit.samples) == 1


class Unlogged:
    """A user's own handler that opens an attempt and never writes into its log, or only what no log holds."""

    def __init__(self, end: str) -> None:
        self.end = end

    @asynccontextmanager
    async def __call__(self, call: Call) -> AsyncGenerator[Stream]:
        attempt = call.journal.attempt("own", "m")
        if self.end == "scribbles":
            attempt.log.append(None)  # type: ignore[arg-type]
        if self.end == "raises":
            raise OSError("before anything was written down")
        if self.end == "hangs":
            await asyncio.get_running_loop().create_future()
        yield self._events()

    async def _events(self) -> AsyncGenerator[Event]:
        yield Delta("a")
        if self.end == "stalls":
            await asyncio.get_running_loop().create_future()
        yield Finish("stop", Usage(1, 1))


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["raises", "yields", "hangs", "stalls", "scribbles"])
async def test_an_attempt_without_a_log_does_not_keep_its_slot(end: str) -> None:
    clock, layer = FakeClock(), Admit.of(1)
    task = asyncio.ensure_future(collect(stack(Unlogged(end), layer), call(clock)))
    await clock.settle()
    if end in ("hangs", "stalls"):
        assert layer.limiter.in_flight == 1
        task.cancel()
    ends = {
        "raises": OSError,
        "yields": None,
        "hangs": asyncio.CancelledError,
        "stalls": asyncio.CancelledError,
        "scribbles": TypeError,
    }
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, BaseException):
        assert type(outcome) is ends[end], repr(outcome)
    else:
        assert (outcome.text, ends[end]) == ("a", None)
    assert layer.limiter.in_flight == 0
    # The next one finds the slot free.
    assert (await clock.run(collect(stack(ScriptedEndpoint("b"), layer), call(clock)))).text == "b"


def test_a_limit_that_raises_does_not_keep_the_slot_nor_whoever_waits_for_it() -> None:
    class Broken(Watching):
        def after(self, sample: Sample, /) -> Watching:
            raise ZeroDivisionError

    clock, limiter, settled = FakeClock(), Limiter(Broken(1.0)), []
    slot = limiter.enter("interactive", clock)
    assert slot is not None
    waiter = limiter.ask(Waiting(0.0, "interactive", "", 1.0), settled.append, clock)
    with pytest.raises(ZeroDivisionError):
        limiter.release(slot, clock, "dropped")
    assert settled == [None]
    limiter.release(waiter, clock)
    assert limiter.in_flight == 0


@pytest.mark.asyncio
async def test_a_handler_that_writes_no_journal_is_timed_from_outside() -> None:
    clock, limit = FakeClock(), Watching()

    @asynccontextmanager
    async def plain(made: Call) -> AsyncGenerator[Stream]:
        await made.clock.sleep(0.7)

        async def events() -> AsyncGenerator[Event]:
            yield Finish("stop")

        yield events()

    await clock.run(collect(stack(plain, warm(Limiter(limit))), call(clock)))
    assert limit.samples[0].ttft == pytest.approx(0.7)


def test_saturation_and_snapshot_say_what_is_going_on() -> None:
    clock = FakeClock()
    limiter = Limiter(Fixed(1), slo=Slo())
    assert not limiter.saturated
    limiter.ask(Waiting(0.0), lambda shed: None, clock)
    assert limiter.saturated
    limiter.ask(Waiting(0.0, "bulk"), lambda shed: None, clock)
    seen = limiter.snapshot()
    assert (seen.limit, seen.in_flight, seen.admitted) == (1, 1, 1)
    assert seen.queued == {"interactive": 0, "standard": 0, "bulk": 1}
    assert repr(limiter) == "Limiter(1 of 1, queued=1)"


def test_the_size_of_a_prompt_counts_all_that_is_text() -> None:
    parts = (Text("x" * 40), ToolUse("1", "f", "y" * 40), ToolResult("1", (Text("z" * 40),)))
    assert prompt_size(Request((Message("user", parts),))) == 30


# --- from plain values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [("two_signal", TwoSignal), ("aimd", Aimd), ("gradient2", Gradient2), ("none", Unlimited), (5, Fixed)],
)
def test_limits_by_name(name: str | int, kind: type[Limit]) -> None:
    assert isinstance(Admit.of(name, slo=Slo(ttft=1.0)).limiter.limit, kind)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"limit": "best"}, "two_signal"),
        ({"limit": 0}, "1 or more"),
        ({"length": -1}, r"queue\.length"),
        ({"patience": {"urgent": 1}}, "interactive"),
        ({"patience": {"bulk": 0}}, r"queue\.patience"),
        ({"weights": {"a": 0}}, r"queue\.weights"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Admit.of(**options)  # type: ignore[arg-type]


# --- laws --------------------------------------------------------------------------------------------------

_SHORT = {"interactive": 2.0, "standard": 4.0, "bulk": 8.0}


class Schedule:
    """A random life of a limiter: arrivals, answers, faults, and callers who give up, on a fake clock."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.clock = FakeClock()
        limit: Limit = rng.choice(
            [Fixed(rng.randint(1, 6)), TwoSignal(start=4, floor=1, samples=2), Aimd(start=5, samples=2)]
        )
        rules = Rules(length=rng.choice((0, 2, 100)), patience=_SHORT)
        self.limiter = Limiter(limit, rules, idle=1.0)
        self.waiting: dict[Slot, Waiting] = {}
        self.held: set[Slot] = set()
        self.settled: dict[Slot, int] = {}
        self.counts = {"asked": 0, "granted": 0, "shed": 0, "withdrawn": 0}

    def play(self) -> None:
        for _ in range(self.rng.randint(1, 40)):
            self.clock.call_later(self.rng.expovariate(4.0) * self.rng.randint(1, 8), self.arrive)
        self.clock.advance(10_000.0)
        counts = self.counts
        assert self.limiter.in_flight == 0
        assert self.limiter.queued == 0
        assert self.clock.pending == 0
        assert not self.waiting
        assert not self.held
        assert counts["asked"] == counts["granted"] + counts["shed"] + counts["withdrawn"]
        seen = self.limiter.snapshot()
        assert (seen.admitted, sum(seen.shed.values())) == (counts["granted"], counts["shed"])

    def arrive(self) -> None:
        rng, now = self.rng, self.clock.now()
        waiting = Waiting(
            now - rng.choice((0.0, 0.0, 3.0)),
            rng.choice(PRIORITIES),
            rng.choice("ab"),
            rng.uniform(0.5, 3),
            rng.choice((None, None, now + rng.random())),
        )
        known: list[Slot] = []
        outcome: list[Shed | None] = []

        def settle(shed: Shed | None) -> None:
            outcome.append(shed)
            assert len(outcome) == 1, "settled twice"
            if known:
                self.settle(known[0], waiting, shed, now)

        self.counts["asked"] += 1
        at_once = self.limiter.enter(waiting.priority, self.clock) if rng.random() < 0.5 else None
        if at_once is not None:
            assert not self.waiting, "somebody was passed by"
            settle(None)
        slot = at_once or self.limiter.ask(waiting, settle, self.clock)
        known.append(slot)
        if outcome:
            self.settle(slot, waiting, outcome[0], now)
        else:
            self.waiting[slot] = waiting
            if rng.random() < 0.3:
                self.clock.call_later(rng.uniform(0, 3), lambda: self.give_up(slot))
        self.check()

    def settle(self, slot: Slot, asker: Waiting, shed: Shed | None, asked: float) -> None:
        rng, now = self.rng, self.clock.now()
        self.waiting.pop(slot, None)
        # No starvation: whoever waits is granted or told why not before its patience is over.
        assert now == asked or now <= asker.arrived + _SHORT[asker.priority]
        if shed is not None:
            self.counts["shed"] += 1
            assert shed.kind in ("queue_full", "too_late", "overload")
            assert shed.retry_after is not None
            assert shed.retry_after >= 1.0
            return
        self.counts["granted"] += 1
        self.held.add(slot)
        assert len(self.held) <= whole(self.limiter.limit)
        rank = PRIORITIES.index(asker.priority)
        if now != asked:  # granted from the queue: nobody more urgent is left in it
            assert all(PRIORITIES.index(other.priority) >= rank for other in self.waiting.values())
        ttft = rng.choice((0.05, 0.3, 2.5))
        fault = rng.random()
        if fault < 0.2:
            self.clock.call_later(ttft, lambda: self.end(slot, rng.choice(("dropped", "ignored"))))
            return
        self.clock.call_later(ttft, lambda: self.begin(slot, ttft))
        self.clock.call_later(ttft + rng.random() * 4, lambda: self.end(slot, "success"))

    def begin(self, slot: Slot, ttft: float) -> None:
        began, pace = self.clock.now(), self.rng.choice((0.01, 0.1))
        self.limiter.began(
            slot,
            self.clock,
            ttft=ttft,
            tokens_in=self.rng.randint(0, 5000),
            progress=lambda: (int((self.clock.now() - began) / pace), self.clock.now()),
        )
        self.check()

    def end(self, slot: Slot, outcome: str) -> None:
        self.held.discard(slot)
        for _ in range(self.rng.choice((1, 1, 2))):
            self.limiter.release(slot, self.clock, outcome)  # type: ignore[arg-type]
        self.check()

    def give_up(self, slot: Slot) -> None:
        if slot in self.waiting:
            del self.waiting[slot]
            self.counts["withdrawn"] += 1
            self.limiter.withdraw(slot, self.clock)
            self.check()

    def check(self) -> None:
        """Permits balance, and no slot is free while somebody waits who may have it."""
        limiter = self.limiter
        assert limiter.in_flight == len(self.held)
        assert limiter.queued == len(self.waiting)
        free = limiter.in_flight < whole(limiter.limit)
        assert not (free and any(waiting.priority != "bulk" for waiting in self.waiting.values()))


@pytest.mark.parametrize("part", range(10))
def test_a_thousand_random_schedules_each(part: int) -> None:
    for seed in range(part * 1000, part * 1000 + 1000):
        try:
            Schedule(seed).play()
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_random_calls_through_the_layer_leave_nothing_behind(seed: int) -> None:
    asyncio.run(_random_calls(seed))


async def _random_calls(seed: int) -> None:
    rng, clock = random.Random(seed), FakeClock(rounds=8)
    slots = rng.randint(1, 4)
    layer = Admit.of(slots, length=rng.choice((0, 3, 50)), patience=_SHORT)
    peak = 0

    def script(_: Call) -> Script | Exception:
        nonlocal peak
        peak = max(peak, endpoint.active)
        return rng.choice(
            [
                Script("a b c d e", ttft=rng.random(), tpot=rng.random() / 4),
                Script("a b c", ttft=0.1, fail_after=rng.randint(0, 3)),
                Script("a b c", ttft=0.1, stall_after=rng.randint(0, 3)),
                Transient("busy", kind="rate_limited", status=429),
            ]
        )

    endpoint = ScriptedEndpoint(script)
    handler = stack(endpoint, layer)

    async def one() -> None:
        await clock.sleep(rng.random() * 3)
        made = call(clock, priority=rng.choice(PRIORITIES), tenant=rng.choice("ab"))
        if rng.random() < 0.5:
            made = replace(made, deadline=clock.now() + rng.random() * 5)
        leave = rng.randint(0, 4) if rng.random() < 0.3 else 99
        async with handler(made) as stream:
            async for _ in stream:
                leave -= 1
                if leave < 0:
                    break

    tasks = [asyncio.create_task(one()) for _ in range(12)]
    for task in tasks:
        if rng.random() < 0.3:
            clock.call_later(rng.random() * 4, task.cancel)
    await clock.run_for(30.0)
    for task in tasks:
        task.cancel()  # those that stall for ever
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    expected = (Shed, Transient, Interrupted, DeadlineExceeded, asyncio.CancelledError)
    assert all(end is None or isinstance(end, expected) for end in ends), ends
    assert peak <= slots
    assert (layer.limiter.in_flight, layer.limiter.queued) == (0, 0)
    assert endpoint.active == 0
    assert clock.pending == 0
