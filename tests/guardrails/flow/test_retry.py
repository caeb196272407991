"""Retries: as many as the budget allows, as long as the deadline allows, and none after the first token."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import Call, Interrupted, Llm, Refused, Request, Transient, collect, endpoint, stack
from guardrails.endpoints.function import FunctionEndpoint
from guardrails.errors import ASK_AGAIN
from guardrails.flow.fallback import FirstOf
from guardrails.flow.holdback import Holdback
from guardrails.flow.recent import Latency, RecentCount, RecentValues
from guardrails.flow.retry import SDK_RETRIES, Backoff, Retry, RetryBudget
from guardrails.flow.route import Route
from guardrails.handler import Handler, Opening, Stream
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

ASK = Request.of("hi")
BUSY = Transient("busy", kind="unavailable")


def retry(attempts: int = 3, budget: RetryBudget | None = None, seed: int = 0) -> Retry:
    return Retry(attempts, budget=budget or RetryBudget(), rng=random.Random(seed))


def flow(call: Call) -> list[str]:
    return [note.detail for _, note in call.journal.log if getattr(note, "what", "") == "flow"]  # type: ignore[union-attr]


async def ask(clock: FakeClock, handler: Handler, **fields: object) -> tuple[str | BaseException, Call]:
    call = Call(ASK, clock=clock, **fields)  # type: ignore[arg-type]
    try:
        return (await clock.run(collect(handler, call))).text, call
    except (Exception, asyncio.CancelledError) as error:
        return error, call


def no_text() -> Transient:
    given: Any = ValueError("a secret of the prompt")
    return Transient(given)


def no_hint() -> Transient:
    given: Any = None
    return Transient("busy", hint=given)


@pytest.mark.asyncio
@pytest.mark.parametrize("made", [no_text, no_hint])
async def test_an_error_made_carelessly_is_tried_again_too(made: Callable[[], Transient]) -> None:
    asked = 0

    async def function(_: Request) -> str:
        nonlocal asked
        asked += 1
        raise made()

    with pytest.raises(Transient, match="tried 3 times"):
        await endpoint(function, Retry(3, Backoff(base=0.0))).ask("hi")
    assert asked == 3


@pytest.mark.asyncio
async def test_one_error_for_all_calls_stays_as_it_was_made() -> None:
    busy = Transient("the endpoint is busy", kind="overloaded", hint=ASK_AGAIN)
    before = {**busy.__dict__}

    async def function(_: Request) -> str:
        raise busy from OSError("why")

    async def layer(call: Call) -> AsyncGenerator[Stream]:
        raise busy
        yield

    def own(call: Call) -> Opening:
        return asynccontextmanager(layer)(call)

    def ask(handler: Handler) -> Opening:
        return stack(handler, Retry(2, Backoff(base=0.0)))(Call(ASK))

    routes = FirstOf([Route(own, "one"), Route(own, "two", on=frozenset({"transient"}))])
    for handler, said in (
        (FunctionEndpoint(function, name="mine"), "mine is busy; tried 2 times"),
        (own, "the endpoint is busy; tried 2 times"),
        (routes, "no route answered (one: overloaded, two: overloaded); tried 2 times"),
    ):
        for _ in range(2):
            with pytest.raises(Transient, match=re.escape(said)) as caught:
                async with ask(handler):
                    pass
        assert isinstance(caught.value.__cause__, OSError)
        assert {**busy.__dict__} == before


# --- the pure parts


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 3)), max_size=60), st.floats(0, 30))
def test_a_recent_count_is_that_of_the_window_within_a_slice(
    steps: list[tuple[float, int]], later: float
) -> None:
    counted, now, seen = RecentCount(10.0, slots=10), 0.0, []
    for pause, n in steps:
        now += pause
        counted.add(now, n)
        seen.append((now, n))
    now += later
    total = counted.total(now)
    assert sum(n for at, n in seen if at > now - 9.0) <= total
    assert total <= sum(n for at, n in seen if at > now - 10.0 - 1e-9)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_recent_quantile_is_exact(values: list[float], q: float) -> None:
    recent = RecentValues(size=16)
    for value in values:
        recent.add(value)
    kept = sorted(values[-16:])
    found = recent.quantile(q)
    assert found is not None
    assert sum(v <= found for v in kept) >= q * len(kept) - 1e-9
    assert sum(v < found for v in kept) < q * len(kept) + 1e-9


def test_latency_follows_and_fades() -> None:
    latency = Latency(settle=10, fade=60)
    assert latency.estimate(5.0) == 0.0
    for second in range(100):
        latency.add(float(second), 2.0)
    assert 1.9 < latency.estimate(99.0) <= 2.0
    latency.add(99.0, 0.1, at_least=True)  # given up early: says nothing
    assert latency.estimate(99.0) > 1.9
    assert latency.estimate(400.0) < 0.1


def test_jitter_is_full_and_a_retry_after_is_the_least() -> None:
    backoff, rng = Backoff(base=1.0, cap=4.0, patience=30.0), random.Random(1)
    for attempt, top in ((1, 1.0), (2, 2.0), (3, 4.0), (9, 4.0), (5000, 4.0)):
        waits = [backoff.wait(attempt, None, rng) or 0.0 for _ in range(400)]
        assert min(waits) < 0.05 * top
        assert 0.95 * top < max(waits) <= top
    wait = backoff.wait(1, 7.0, rng)
    assert wait is not None
    assert 7.0 <= wait <= 8.0
    assert backoff.wait(1, 31.0, rng) is None


@given(
    st.lists(st.tuples(st.sampled_from(["call", "take"]), st.floats(0, 3)), max_size=200),
    st.integers(0, 5),
)
def test_a_budget_is_never_overspent(steps: list[tuple[str, float]], floor: int) -> None:
    clock, budget = FakeClock(), RetryBudget(0.2, floor, window=10.0)
    calls: list[float] = []
    taken: list[float] = []
    for what, pause in steps:
        clock.advance(pause)
        now = clock.now()
        if what == "call":
            call = Call(ASK, clock=clock)
            budget.count(call)
            budget.count(call)  # two layers that share it: still one call
            calls.append(now)
        elif budget.take(now):
            taken.append(now)
        # A slice of the window may be forgotten a little early, never a spent attempt late.
        spent = sum(at > now - 9.0 for at in taken)
        assert spent <= floor + 0.2 * len(calls)


# --- the layer


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_contract(case: str) -> None:
    await check_layer(retry(), case)
    await check_layer(Holdback(3) if case != "error in the stream" else Holdback(0), case)


@pytest.mark.asyncio
async def test_it_tries_again_and_says_so() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(BUSY, BUSY, "fine")
    text, call = await ask(clock, stack(endpoint, retry()))
    assert text == "fine"
    assert flow(call) == ["retry:unavailable", "retry:unavailable"]
    assert [attempt.endpoint for attempt in call.journal.attempts] == ["scripted"] * 3
    assert (endpoint.opened, endpoint.active, clock.pending) == (3, 0, 0)


@pytest.mark.asyncio
async def test_the_last_error_is_the_one_that_is_seen() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(BUSY, BUSY, Transient("still", kind="overloaded"))
    error, _ = await ask(clock, stack(endpoint, retry()))
    assert isinstance(error, Transient)
    assert error.kind == "overloaded"
    assert endpoint.opened == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "error", [Refused("no"), Transient("later", kind="circuit_open", retry_after=1), ValueError("a bug")]
)
async def test_what_is_not_worth_it_is_not_tried_again(error: Exception) -> None:
    endpoint = ScriptedEndpoint(error)
    seen, _ = await ask(FakeClock(), stack(endpoint, retry()))
    assert type(seen) is type(error)
    assert endpoint.opened == 1


@pytest.mark.asyncio
async def test_nothing_is_tried_again_after_the_first_token_and_the_caller_knows_how_much_came() -> None:
    endpoint = ScriptedEndpoint(Script("one two three", fail_after=2))
    error, call = await ask(FakeClock(), stack(endpoint, retry()))
    assert isinstance(error, Interrupted)
    assert (error.received_chars, error.received_events) == (len("one two"), 2)
    assert endpoint.opened == 1
    assert flow(call) == []


@pytest.mark.asyncio
async def test_a_retry_after_is_waited_for() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Transient("429", kind="rate_limited", retry_after=5.0), "fine")
    text, _ = await ask(clock, stack(endpoint, retry()))
    assert text == "fine"
    assert 5.0 <= clock.now() <= 5.25


@pytest.mark.asyncio
async def test_one_deadline_covers_all_attempts_and_no_sleep_outlasts_it() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Transient("429", kind="rate_limited", retry_after=5.0), "fine")
    error, call = await ask(clock, stack(endpoint, retry()), deadline=4.0)
    assert isinstance(error, Transient)
    assert clock.now() == 0.0, "the caller hears at once what it cannot change by waiting"
    assert flow(call) == ["no_retry:not_in_time"]


@pytest.mark.asyncio
async def test_an_outage_is_not_multiplied() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(BUSY)
    layer = retry(budget=RetryBudget(0.2, floor=3, window=1e9))
    handler = stack(endpoint, layer)
    for _ in range(100):
        _, call = await ask(clock, handler)
    assert endpoint.opened == 100 + 20 + 3
    assert flow(call)[-1] == "no_retry:budget_spent"


@pytest.mark.asyncio
async def test_a_retrying_sdk_outside_is_told_off_once(caplog: pytest.LogCaptureFixture) -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(BUSY)
    handler = stack(endpoint, retry())
    with caplog.at_level(logging.WARNING, "guardrails"):
        for before in ("1", "2", "1"):
            _, call = await ask(clock, handler, labels={SDK_RETRIES: before})
            assert flow(call) == ["nested_retries:sdk"]
    assert endpoint.opened == 3
    assert caplog.text.count("max_retries") == 1
    for first in ("0", "", "x"):  # a first attempt, or a header that somebody made up
        await ask(clock, handler, labels={SDK_RETRIES: first})
    assert endpoint.opened == 3 + 9


@pytest.mark.asyncio
async def test_cancelled_while_it_waits() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(BUSY)
    task = asyncio.ensure_future(collect(stack(endpoint, retry()), Call(ASK, clock=clock)))
    await clock.settle()
    assert clock.pending == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (clock.pending, endpoint.active) == (0, 0)


@pytest.mark.asyncio
async def test_the_record_names_the_retries() -> None:
    llm = Llm(ScriptedEndpoint(BUSY, "fine"), Retry(backoff=Backoff(base=0.0)))
    record = (await llm.ask("hi")).record
    assert record.flow == ("retry:unavailable",)
    assert [attempt.end for attempt in record.attempts] == ["unavailable", None]
    assert record.outcome == "complete"


# --- holding back


@pytest.mark.asyncio
@pytest.mark.parametrize(("tokens", "seen"), [(0, Interrupted), (2, Interrupted), (3, str), (9, str)])
async def test_a_failure_within_the_held_tokens_is_invisible(tokens: int, seen: type) -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("one two three four", fail_after=2, tpot=0.1), "five six seven")
    answer, call = await ask(clock, stack(endpoint, retry(), Holdback(tokens)))
    assert isinstance(answer, seen)
    if seen is str:
        assert answer == "five six seven"
        assert flow(call) == ["retry:scripted"]
    assert endpoint.active == 0


@pytest.mark.asyncio
async def test_inner_layers_still_see_the_interruption() -> None:
    seen: list[type[BaseException]] = []

    class Watch:
        def __init__(self, inner: Handler, call: Call) -> None:
            self.opening = inner(call)

        async def __aenter__(self) -> object:
            return await self.opening.__aenter__()

        async def __aexit__(self, kind: object, error: BaseException | None, tb: object) -> bool | None:
            seen.append(type(error))
            return await self.opening.__aexit__(kind, error, tb)  # type: ignore[arg-type]

    endpoint = ScriptedEndpoint(Script("one two three", fail_after=1))
    handler = stack(endpoint, Holdback(5), lambda call, inner: Watch(inner, call))  # type: ignore[arg-type, return-value]
    error, _ = await ask(FakeClock(), handler)
    assert type(error) is Transient
    assert seen == [Interrupted]


# --- any schedule


outcomes = st.sampled_from(["ok", "transient", "refused", "interrupted", "hang"])


@given(
    st.lists(st.lists(outcomes, min_size=1, max_size=4), min_size=1, max_size=12),
    st.lists(st.floats(0.0, 4.0), min_size=12, max_size=12),
    st.integers(0, 3),
    st.integers(0, 2**16),
)
def test_under_any_schedule_nothing_leaks_and_the_budget_holds(
    scripts: list[list[str]], stops: list[float], floor: int, seed: int
) -> None:
    async def schedule() -> None:
        clock = FakeClock()
        budget = RetryBudget(0.5, floor, window=1e9)
        layer = Retry(3, Backoff(base=0.5), budget, random.Random(seed))
        endpoints, tasks = [], []
        for plan, stop in zip(scripts, stops, strict=False):
            endpoint = ScriptedEndpoint(*(answer(word) for word in plan))
            endpoints.append(endpoint)
            handler = stack(endpoint, layer)
            tasks.append(asyncio.ensure_future(collect(handler, Call(ASK, clock=clock))))
            clock.call_later(stop + 0.01, tasks[-1].cancel)
        await clock.run_for(10.0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(endpoint.active == 0 for endpoint in endpoints)
        assert sum(e.opened for e in endpoints) <= len(scripts) + floor + 0.5 * len(scripts)
        assert clock.pending == 0

    asyncio.run(schedule())


def answer(word: str) -> object:
    return {
        "ok": Script("a b c", ttft=0.2, tpot=0.1),
        "transient": Script("", fail_after=0, ttft=0.1),
        "refused": Refused("no"),
        "interrupted": Script("a b c", ttft=0.2, tpot=0.1, fail_after=2),
        "hang": Script("a b", stall_after=1),
    }[word]


@pytest.mark.asyncio
async def test_an_endpoint_that_asks_not_to_be_asked_again_is_not() -> None:
    error = Transient("no", kind="overloaded")
    error.retry_here = False
    endpoint = ScriptedEndpoint(error, "second")
    seen, call = await ask(FakeClock(), stack(endpoint, Retry(3)))
    assert getattr(seen, "kind", seen) == "overloaded"
    assert endpoint.opened == 1
    assert any(getattr(note, "detail", "") == "no_retry:not_wanted" for _, note in call.journal.log)
