"""Routes: where a call goes, where it goes on to and why, and what it never does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import (
    Blocked,
    BudgetExceeded,
    Call,
    ConfigError,
    DeadlineExceeded,
    Delta,
    EndpointError,
    Finish,
    Interrupted,
    Llm,
    Refused,
    Request,
    Reset,
    Shed,
    Tool,
    Transient,
    Truncated,
    collect,
    stack,
)
from guardrails.call import fold_response
from guardrails.dialects import dialect
from guardrails.endpoints.replay import Replay, Tape
from guardrails.flow.breaker import Breaker, Circuit
from guardrails.flow.cascade import Cascade
from guardrails.flow.choose import Canary, Cheapest, Sticky, Weighted, least_latency, order
from guardrails.flow.cold import ColdStart
from guardrails.flow.fallback import FirstOf
from guardrails.flow.hedge import Hedge
from guardrails.flow.holdback import Holdback
from guardrails.flow.retry import RetryBudget
from guardrails.flow.route import REASONS, Route
from guardrails.flow.shadow import Shadow
from guardrails.handler import Handler
from guardrails.record import CallRecord
from guardrails.recorder import Record
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

ASK = Request.of("hi")
DOWN = Transient("down", kind="connect")


def flow(call: Call) -> list[str]:
    return [note.detail for _, note in call.journal.log if getattr(note, "what", "") == "flow"]  # type: ignore[union-attr]


async def ask(
    handler: Handler, request: Request = ASK, clock: FakeClock | None = None, **fields: object
) -> tuple[str | BaseException, Call]:
    clock = clock or FakeClock()
    call = Call(request, clock=clock, **fields)  # type: ignore[arg-type]
    try:
        return (await clock.run(collect(handler, call))).text, call
    except (Exception, asyncio.CancelledError) as error:
        return error, call


def endpoint(name: str, *answers: object) -> ScriptedEndpoint:
    return ScriptedEndpoint(*(answers or (f"I am {name}",)), name=name)  # type: ignore[arg-type]


# --- ordered fallback


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
@pytest.mark.parametrize("restart", [False, True])
async def test_contract(case: str, restart: bool) -> None:
    await check_layer(
        lambda call, inner: FirstOf([Route(inner, "only")], restart=restart)(call),
        case,
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_contract_of_the_shadow(case: str) -> None:
    shadow = Shadow(endpoint("copy"))
    await check_layer(shadow, case)
    await shadow.aclose()
    assert shadow.running == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DOWN, "transient"),
        (Transient("t", kind="truncated"), "truncated"),
        (Refused("long", kind="context_length"), "context_length"),
        (Refused("no", kind="content_policy"), "content_policy"),
        (Refused("key", kind="auth"), "refused"),
        (Blocked("no"), "blocked"),
        (BudgetExceeded("spent"), "budget"),
        (Shed("full"), "shed"),
    ],
)
async def test_a_call_goes_on_only_for_the_reasons_that_the_next_route_names(
    error: Exception, reason: str
) -> None:
    for on in ({reason}, set(REASONS) - {reason} - ({"transient"} if reason == "truncated" else set())):
        first, second = endpoint("first", error), endpoint("second")
        routes = FirstOf([Route(first), Route(second, on=frozenset(on))])
        seen, call = await ask(routes)
        if reason in on:
            assert seen == "I am second"
            assert flow(call) == [f"fallback:second:{error.kind}"]  # type: ignore[attr-defined]
        else:
            assert type(seen) is type(error)
            assert second.opened == 0
        assert first.active == second.active == 0


@pytest.mark.asyncio
async def test_each_step_has_its_own_reasons() -> None:
    first = endpoint("first", Refused("long", kind="context_length"))
    other, long = endpoint("other"), endpoint("long")
    routes = FirstOf([Route(first), Route(other), Route(long, on=frozenset({"context_length"}))])
    assert (await ask(routes))[0] == "I am long"
    assert other.opened == 0


@pytest.mark.asyncio
async def test_a_deadline_and_a_bug_go_nowhere() -> None:
    for error in (DeadlineExceeded("late"), ZeroDivisionError("bug")):
        second = endpoint("second")
        seen, _ = await ask(FirstOf([Route(endpoint("first", error)), Route(second, on=frozenset(REASONS))]))
        assert type(seen) is type(error)
        assert second.opened == 0


@pytest.mark.asyncio
async def test_when_all_fail_the_last_error_is_seen() -> None:
    routes = FirstOf([Route(endpoint("a", DOWN)), Route(endpoint("b", Refused("key", kind="auth")))])
    seen, _ = await ask(routes)
    assert isinstance(seen, Refused)
    assert seen.endpoint == "b"


@pytest.mark.asyncio
async def test_fallbacks_have_a_budget_but_not_those_that_cost_nothing() -> None:
    first, second = endpoint("first", DOWN), endpoint("second")
    budget = RetryBudget(0.2, floor=0, window=1e9)
    routes = FirstOf([Route(first), Route(second)], budget=budget)
    seen = [(await ask(routes))[0] for _ in range(10)]
    assert seen.count("I am second") == 2
    circuit = Circuit()
    routes = FirstOf([Route(first, layers=[Breaker("first", circuit)]), Route(second)], budget=budget)
    clock = FakeClock()
    seen = [(await ask(routes, clock=clock))[0] for _ in range(50)]
    assert circuit.state == "open"
    assert seen[8:] == ["I am second"] * 42, "once the circuit is open every call moves on"


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown reason transcient"):
        Route(endpoint("a"), on=frozenset({"transcient"}))
    with pytest.raises(ConfigError, match="names of their own"):
        FirstOf([Route(endpoint("a")), Route(endpoint("a"))])
    with pytest.raises(ConfigError, match="names of their own"):
        FirstOf([])


# --- what fits


TOOLS = Request(ASK.messages, tools=(Tool("look"),))
LONG = Request.of("word " * 300, max_tokens=100)


@pytest.mark.asyncio
@pytest.mark.parametrize(("request_", "limits"), [(TOOLS, {"tools": False}), (LONG, {"context": 350})])
async def test_what_does_not_fit_is_refused_before_it_is_sent(
    request_: Request, limits: dict[str, object]
) -> None:
    small, big = endpoint("small"), endpoint("big", DOWN)
    everything = frozenset(REASONS)
    narrow = Route(small, on=everything, **limits)  # type: ignore[arg-type]
    seen, call = await ask(FirstOf([Route(big), narrow]), request_)
    assert isinstance(seen, Transient), "the error that matters is the endpoint's"
    assert flow(call) == ["does_not_fit:small"]
    seen, call = await ask(FirstOf([narrow]), request_)
    assert isinstance(seen, Refused)
    assert seen.kind == "does_not_fit"
    assert call.journal.attempts == []
    seen, _ = await ask(FirstOf([narrow, Route(endpoint("wide"))]), request_)
    assert seen == "I am wide"
    with pytest.raises(Refused, match="nothing was sent"):
        await collect(narrow, Call(request_))
    assert small.opened == 0
    assert (await ask(FirstOf([narrow])))[0] == "I am small"


@pytest.mark.asyncio
async def test_a_route_asks_its_own_model() -> None:
    first, second = endpoint("first", DOWN), endpoint("second")
    routes = FirstOf([Route(first), Route(second, model="big-2")])
    _, call = await ask(routes, Request(ASK.messages, model="gpt"))
    assert [e.calls[0].request.model for e in (first, second)] == ["gpt", "big-2"]
    assert call.request.model == "gpt"


# --- orders


def routes_of(**weights: float) -> list[Route]:
    return [Route(endpoint(name), weight=weight) for name, weight in weights.items()]


def test_weights_are_shares() -> None:
    chosen, call = Weighted(random.Random(3)), Call(ASK)
    routes = routes_of(a=8, b=2, c=0)
    drawn = [[route.name for route in chosen(call, routes)] for _ in range(4000)]
    first = Counter(names[0] for names in drawn)
    assert 0.77 < first["a"] / 4000 < 0.83
    assert first["c"] == 0
    assert all(names[2] == "c" and set(names) == {"a", "b", "c"} for names in drawn)


@given(st.text(max_size=20), st.integers(0, 4))
def test_sticky_keys_stay_and_only_those_of_a_lost_route_move(key: str, lost: int) -> None:
    chosen, routes = Sticky(), routes_of(a=1, b=1, c=2, d=1, e=1)
    call = Call(ASK, conversation=key, tenant="t")
    before = [route.name for route in chosen(call, routes)]
    gone = routes.pop(lost).name
    assert [route.name for route in chosen(call, routes)] == [name for name in before if name != gone]


def test_sticky_spreads_by_weight() -> None:
    chosen, routes = Sticky(), routes_of(a=3, b=1, c=0)
    first = Counter(chosen(Call(ASK, conversation=str(n)), routes)[0].name for n in range(2000))
    assert 0.71 < first["a"] / 2000 < 0.79
    assert first["c"] == 0


def test_cheapest_by_own_price_then_by_the_book_then_unknown() -> None:
    dear = Route(endpoint("dear"), price=(Decimal(10), Decimal(30)))
    booked = Route(endpoint("booked"), model="m")
    unknown = Route(endpoint("unknown"), model="u")
    chosen = Cheapest(lambda model, usage: Decimal("0.0001") if model == "m" else None)
    call = Call(Request.of("hi", max_tokens=100))
    assert [r.name for r in chosen(call, [unknown, dear, booked])] == ["booked", "dear", "unknown"]
    # A long answer makes the one with dear output the worse choice.
    input_dear, output_dear = (
        Route(endpoint("in"), price=(Decimal(20), Decimal(1))),
        Route(endpoint("out"), price=(Decimal(1), Decimal(20))),
    )
    for tokens, first in ((1, "out"), (1000, "in")):
        call = Call(Request.of("some words here", max_tokens=tokens))
        assert Cheapest()(call, [input_dear, output_dear])[0].name == first


def test_cheapest_tells_prices_apart_under_a_coarse_decimal_context() -> None:
    dear, cheap = (
        Route(endpoint(name), price=(Decimal(0), Decimal(price)))
        for name, price in (("dear", "1.0002"), ("cheap", "1.0001"))
    )
    with localcontext(Context(prec=4)):
        first, _ = Cheapest()(Call(Request.of("hi", max_tokens=100)), [dear, cheap])
    assert first.name == "cheap"


@pytest.mark.asyncio
async def test_least_latency_leaves_a_slow_and_a_failing_route_and_comes_back() -> None:
    clock = FakeClock()
    pace = {"a": 0.1, "b": 0.3}
    ends = {
        name: ScriptedEndpoint(lambda _, n=name: Script(n, ttft=pace[n]), name=name)  # type: ignore[misc]
        for name in pace
    }
    routes = FirstOf([Route(e) for e in ends.values()], least_latency, RetryBudget(1, 1000))

    async def firsts(n: int) -> Counter[str]:
        return Counter([str((await ask(routes, clock=clock))[0]) for _ in range(n)])

    assert (await firsts(20))["a"] >= 18
    pace["a"] = 1.0
    assert (await firsts(20))["b"] >= 15
    clock.advance(600)
    pace.update(a=0.1, b=0.2)
    assert (await firsts(20))["a"] >= 15, "what was slow once is tried again"


@pytest.mark.asyncio
async def test_failing_fast_is_not_being_fast_and_refusing_says_nothing() -> None:
    for answer, least, most in ((DOWN, 10.0, 10.0), (Refused("no"), 0.0, 0.0), ("fine", 0.0, 0.0)):
        route = Route(endpoint("a", answer))
        await ask(route)
        assert least <= route.latency.estimate(0.0) <= most
    route, clock = Route(endpoint("a", Script("a", stall_after=0))), FakeClock()
    task = asyncio.ensure_future(collect(route, Call(ASK, clock=clock)))
    await clock.run_for(3.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert route.latency.estimate(3.0) == 3.0, "somebody lost patience after that long"


@pytest.mark.asyncio
async def test_a_canary_gets_its_share_and_nobody_falls_back_to_it() -> None:
    routes = routes_of(stable=1, new=1)
    chosen = Canary("new", share=0.1, when=lambda call: call.tenant == "us", rng=random.Random(5))
    names = [tuple(r.name for r in chosen(Call(ASK), routes)) for _ in range(2000)]
    assert 0.08 < names.count(("new", "stable")) / 2000 < 0.12
    assert set(names) == {("new", "stable"), ("stable",)}
    assert chosen(Call(ASK, tenant="us"), routes)[0].name == "new"


def test_orders_have_names() -> None:
    routes = routes_of(a=1, b=1)
    for name in ("listed", "weighted", "least_latency", "cheapest", "sticky"):
        assert {route.name for route in order(name)(Call(ASK), routes)} == {"a", "b"}
    assert [r.name for r in order("canary", route="b", share=1.0)(Call(ASK), routes)] == ["b", "a"]
    with pytest.raises(ConfigError, match="use one of: listed"):
        order("random")
    with pytest.raises(ConfigError, match="no option wieght"):
        order("sticky", wieght=1)


@given(st.text(max_size=200), st.integers(1, 300))
def test_the_quick_bound_never_lets_through_what_counting_would_not(text: str, context: int) -> None:
    route = Route(endpoint("a"), context=context)
    request = Request.of(text, max_tokens=20)
    assert (route.misfit(request) is None) == (route.prompt_tokens(request) + 20 <= context)


@pytest.mark.asyncio
async def test_a_cold_start_teaches_nothing() -> None:
    clock, end = FakeClock(), endpoint("a", Script("a", ttft=9.0), Script("a", ttft=0.5))
    hedge = Hedge(budget=RetryBudget())
    route = Route(end, layers=[ColdStart("a"), hedge])
    await ask(route, clock=clock)
    assert route.latency.estimate(clock.now()) == len(hedge.times) == 0
    await ask(route, clock=clock)
    assert route.latency.estimate(clock.now()) == 0.5
    assert len(hedge.times) == 1


# --- after tokens were sent


CUT = Script("one two three four", fail_after=2, error=Interrupted("cut", kind="reset"))


async def events_of(handler: Handler, call: Call) -> tuple[list[object], BaseException | None]:
    seen: list[object] = []
    try:
        async with handler(call) as stream:
            async for event in stream:
                seen.append(event)  # noqa: PERF401 - what came before the error counts
    except EndpointError as error:
        return seen, error
    return seen, None


@pytest.mark.asyncio
async def test_by_default_a_broken_stream_is_interrupted_and_no_stop_is_made_up() -> None:
    second = endpoint("second")
    routes = FirstOf([Route(endpoint("first", CUT)), Route(second, on=frozenset(REASONS))])
    seen, error = await events_of(routes, Call(ASK))
    assert [type(event) for event in seen] == [Delta, Delta]
    assert isinstance(error, Interrupted)
    assert error.received_chars == len("one two")
    assert second.opened == 0


@pytest.mark.asyncio
async def test_a_restart_says_reset_and_the_whole_answer_is_the_second_one() -> None:
    first, second = endpoint("first", CUT), endpoint("second", "five six")
    routes = FirstOf([Route(first), Route(second)], restart=True)
    llm = Llm(routes)
    call = Call(ASK)
    seen, error = await events_of(llm, call)
    assert error is None
    assert [type(event) for event in seen] == [Delta, Delta, Reset, Delta, Delta, Finish]
    assert seen[2] == Reset("reset")
    assert fold_response(seen).text == "five six"  # type: ignore[arg-type]
    record = call.journal.record
    assert record is not None
    assert (record.outcome, record.endpoint, record.finish_reason) == ("complete", "second", "stop")
    assert record.flow == ("fallback:second:reset",)
    assert [(a.endpoint, a.end) for a in record.attempts] == [("first", "reset"), ("second", None)]
    assert first.active == second.active == 0
    assert (await llm.ask("hi")).text == "five six"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("second", "kinds"),
    [([], []), ([DOWN], ["connect"]), ([CUT], [])],
)
async def test_a_restart_that_cannot_be_is_interrupted_after_all(
    second: list[object], kinds: list[str]
) -> None:
    routes = [Route(endpoint("first", CUT)), *(Route(endpoint("second", answer)) for answer in second)]
    call = Call(ASK)
    _, error = await events_of(Llm(FirstOf(routes, restart=True)), call)
    assert type(error) is Interrupted
    record = call.journal.record
    assert record is not None
    assert (record.outcome, record.error, record.finish_reason) == ("failed", "reset", None)
    assert [word.removeprefix("no_restart:") for word in record.flow if "no_restart" in word] == kinds


@pytest.mark.asyncio
async def test_a_restart_needs_budget_and_reason_and_room() -> None:
    for second in (
        Route(endpoint("second"), on=frozenset({"budget"})),
        Route(endpoint("second"), context=1),
    ):
        _, error = await events_of(FirstOf([Route(endpoint("first", CUT)), second], restart=True), Call(ASK))
        assert isinstance(error, Interrupted)
    routes = [Route(endpoint("first", CUT)), Route(endpoint("second"))]
    _, error = await events_of(FirstOf(routes, budget=RetryBudget(0, 0), restart=True), Call(ASK))
    assert isinstance(error, Interrupted)


@pytest.mark.asyncio
async def test_a_truncated_answer_restarts_where_that_is_a_reason() -> None:
    cut = Script("one", error=Truncated("cut"), finish=None)
    routes = [Route(endpoint("first", cut)), Route(endpoint("second"), on=frozenset({"truncated"}))]
    call = Call(ASK)
    assert (await collect(FirstOf(routes, restart=True), call)).text == "I am second"


@pytest.mark.asyncio
async def test_the_breaker_of_a_broken_route_hears_of_it_and_leaving_after_a_restart_closes_all() -> None:
    circuit = Circuit()
    first, second = endpoint("first", CUT), endpoint("second")
    routes = FirstOf([Route(first, layers=[Breaker("first", circuit)]), Route(second)], restart=True)
    for _ in range(5):
        async with routes(Call(ASK)) as stream:
            async for event in stream:
                if isinstance(event, Reset):
                    break
            assert first.active == 0, "the broken one is closed before the next is opened"
        assert second.active == 0
    assert circuit.state == "open"


@pytest.mark.asyncio
async def test_holding_back_makes_the_failover_invisible() -> None:
    routes = FirstOf([Route(endpoint("first", CUT), layers=[Holdback(3)]), Route(endpoint("second", "five"))])
    seen, error = await events_of(routes, Call(ASK))
    assert error is None
    assert [type(event) for event in seen] == [Delta, Finish]


def test_dialects_say_a_reset_honestly() -> None:
    events = [Delta("void"), Finish("stop"), Reset("reset"), Delta("good"), Finish("length")]
    for name in ("openai_chat", "anthropic"):
        spoken = dialect(name)
        encoder = spoken.encoder(ASK, response_id="r", created=0)
        encoder.feed(events[0])
        with pytest.raises(Interrupted, match="starts again") as caught:
            encoder.feed(events[2])
        assert caught.value.kind == "untranslatable"
        whole = spoken.encode_response(events, ASK, response_id="r", created=0)
        again, _, _ = spoken.decode_response(whole)
        response = fold_response(again)
        assert (response.text, response.choices[0].finish_reason) == ("good", "length")
    assert fold_response([*events, Reset()]).choices == ()


@pytest.mark.asyncio
async def test_a_tape_keeps_only_what_stands(tmp_path: object) -> None:
    path = tmp_path / "tape.jsonl"  # type: ignore[operator]
    routes = FirstOf([Route(endpoint("first", CUT)), Route(endpoint("second", "five"))], restart=True)
    await collect(stack(routes, Tape(path)), Call(ASK))
    assert (await collect(Replay.load(path), Call(ASK))).text == "five"


# --- shadow


@pytest.mark.asyncio
async def test_a_shadow_is_recorded_and_never_returned() -> None:
    records: list[CallRecord] = []
    answers: list[str] = []
    copy = endpoint("copy")
    shadow = Shadow(copy, sinks=(records.append,), answers=lambda _, response: answers.append(response.text))
    clock = FakeClock()
    text, call = await ask(stack(endpoint("real"), shadow), clock=clock, tenant="t")
    await clock.settle()
    assert text == "I am real"
    assert answers == ["I am copy"]
    (record,) = records
    assert record.labels["shadow_of"] == call.id != record.id
    assert (record.priority, record.tenant, record.outcome) == ("bulk", "t", "complete")
    assert len(call.journal.attempts) == 1, "the real call's record knows nothing of the copy"
    await shadow.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("failure", [DOWN, ZeroDivisionError("bug"), Script("a b", fail_after=1)])
async def test_a_shadows_failure_is_never_seen(failure: object, caplog: pytest.LogCaptureFixture) -> None:
    records: list[CallRecord] = []
    shadow = Shadow(endpoint("copy", failure), sinks=(records.append,))
    clock = FakeClock()
    assert (await ask(stack(endpoint("real"), shadow), clock=clock))[0] == "I am real"
    await clock.settle()
    assert shadow.running == 0
    assert records[0].outcome == "failed"
    assert "bug" not in caplog.text


@pytest.mark.asyncio
async def test_a_shadows_load_goes_first_and_closing_cancels_it() -> None:
    copy = endpoint("copy", Script("a b c", stall_after=1))
    shadow = Shadow(copy, limit=2)
    clock = FakeClock()
    handler = stack(endpoint("real"), shadow)
    calls = [(await ask(handler, clock=clock))[1] for _ in range(5)]
    await clock.settle()
    assert (shadow.running, copy.opened) == (2, 2)
    assert [flow(call) for call in calls] == [[], []] + [["no_shadow:full"]] * 3
    await shadow.aclose()
    assert (shadow.running, copy.active, copy.cancelled) == (0, 0, 2)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    busy = Shadow(copy, saturated=lambda: True)
    await ask(stack(endpoint("real"), busy), clock=clock)
    assert busy.running == 0


@pytest.mark.asyncio
async def test_closing_an_llm_closes_its_layers_and_all_routes() -> None:
    closed: list[str] = []

    class Held(ScriptedEndpoint):
        async def aclose(self) -> None:
            closed.append(self.name)
            if self.name == "copy":
                raise OSError("cannot be closed")

    held = {name: Held("x", name=name) for name in ("copy", "small", "large", "b", "other")}
    cascade = Cascade(Route(held["small"]), Route(held["large"]))
    hedged = Route(held["b"], layers=[Hedge(other=held["other"])])
    llm = Llm(FirstOf([Route(cascade), hedged]), Shadow(held["copy"]))
    with pytest.raises(OSError, match="cannot be closed"):
        await llm.aclose()
    assert sorted(closed) == sorted(held)


@pytest.mark.asyncio
async def test_a_shadow_that_hangs_ends_by_itself_and_a_failed_call_has_none() -> None:
    copy, clock = endpoint("copy", Script("a b c", stall_after=1)), FakeClock()
    shadow = Shadow(copy, seconds=5.0)
    await ask(stack(endpoint("real"), shadow), clock=clock)
    await clock.run_for(6.0)
    assert (shadow.running, copy.active) == (0, 0)
    await ask(stack(endpoint("real", DOWN), shadow), clock=clock)
    assert copy.opened == 1
    assert clock.pending == 0


# --- cascade


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("small", "expected", "note"),
    [
        ("fine", "fine", "cascade:small"),
        (Script("cut off", finish="length"), "I am large", "cascade:large:not_good_enough"),
        (DOWN, "I am large", "cascade:large:connect"),
        (Script("a b c", fail_after=2), "I am large", "cascade:large:scripted"),
        (Script(""), "I am large", "cascade:large:not_good_enough"),
    ],
)
async def test_a_cascade_goes_on_to_the_large_model(small: object, expected: str, note: str) -> None:
    little, big = endpoint("small", small), endpoint("large")
    cascade = stack(Cascade(Route(little), Route(big)), Record())
    text, call = await ask(cascade)
    assert text == expected
    assert flow(call) == [note]
    record = call.journal.record
    assert record is not None
    assert record.endpoint == ("small" if expected == "fine" else "large")
    assert little.active == big.active == 0


@pytest.mark.asyncio
async def test_a_judge_decides_and_a_broken_one_decides_for_the_large_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def judge(call: Call, response: object) -> bool:
        return call.tenant == "easy"

    def broken(call: Call, response: object) -> bool:
        raise ValueError("the answer was secret")

    routes = Route(endpoint("small")), Route(endpoint("large"))
    assert (await ask(Cascade(*routes, judge), tenant="easy"))[0] == "I am small"
    assert (await ask(Cascade(*routes, judge), tenant="hard"))[0] == "I am large"
    assert (await ask(Cascade(*routes, broken)))[0] == "I am large"
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.asyncio
async def test_a_cascade_passes_over_a_small_model_that_does_not_fit_and_cancels_cleanly() -> None:
    little, big = endpoint("small"), endpoint("large")
    assert (await ask(Cascade(Route(little, tools=False), Route(big)), TOOLS))[0] == "I am large"
    assert little.opened == 0
    for stuck in (little, big):
        stuck._answers = (Script("a b", stall_after=1),)
        clock = FakeClock()
        task = asyncio.ensure_future(
            collect(Cascade(Route(little), Route(big), lambda *_: False), Call(ASK, clock=clock))
        )
        await clock.settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert little.active == big.active == 0
        stuck._answers = ("fine",)


# --- any schedule


answers = st.sampled_from(["ok", "down", "refused", "cut", "hang"])


@given(
    st.lists(st.tuples(answers, answers, answers, st.floats(0, 3), st.booleans()), max_size=10),
    st.booleans(),
    st.integers(0, 3),
)
def test_under_any_schedule_at_most_one_route_is_open_and_nothing_leaks(
    plans: list[tuple[str, str, str, float, bool]], restart: bool, floor: int
) -> None:
    scripts = {
        "ok": Script("a b c", ttft=0.2, tpot=0.1),
        "down": Script("", fail_after=0, ttft=0.1),
        "refused": Refused("no"),
        "cut": Script("a b c", ttft=0.2, tpot=0.1, fail_after=2),
        "hang": Script("a b", stall_after=1),
    }

    async def schedule() -> None:
        clock, budget = FakeClock(), RetryBudget(0.5, floor, window=1e9)
        ends, tasks = [], []

        async def use(handler: Handler, call: Call, early: bool) -> None:
            async with handler(call) as stream:
                async for _ in stream:
                    if early:
                        break

        for number, (*words, stop, early) in enumerate(plans):
            trio = [endpoint(f"{number}{n}", scripts[word]) for n, word in enumerate(words)]
            ends.append(trio)
            handler = FirstOf([Route(each) for each in trio], budget=budget, restart=restart)
            tasks.append(asyncio.ensure_future(use(handler, Call(ASK, clock=clock), early)))
            clock.call_later(stop + 0.01, tasks[-1].cancel)
        for _ in range(20):
            await clock.run_for(0.25)
            assert all(sum(each.active for each in trio) <= 1 for trio in ends)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(isinstance(result, AssertionError) for result in results)
        assert all(each.active == 0 for trio in ends for each in trio)
        extra = sum(max(0, sum(each.opened for each in trio) - 1) for trio in ends)
        assert extra <= floor + 0.5 * len(plans)
        assert clock.pending == 0

    asyncio.run(schedule())


# --- answers that the endpoint's own filter cuts off

POLICY = frozenset({"content_policy"})


@pytest.mark.asyncio
async def test_a_filter_that_refuses_to_answer_sends_the_call_on_only_where_a_route_takes_it() -> None:
    for on, text in ((POLICY, "I am second"), (frozenset({"transient"}), "")):
        first, second = endpoint("first", Script("", finish="content_filter")), endpoint("second")
        routes = FirstOf([Route(first), Route(second, on=on)])
        seen, call = await ask(routes)
        assert seen == text
        assert second.opened == (on == POLICY)
        assert flow(call) == (["fallback:second:content_policy"] if on == POLICY else [])
        assert first.active == second.active == 0


@pytest.mark.asyncio
async def test_a_whole_answer_is_handed_on_as_it_is_where_filtered_ones_are_not() -> None:
    first = endpoint("first", "one two three")
    seen, error = await events_of(FirstOf([Route(first), Route(endpoint("b"), on=POLICY)]), Call(ASK))
    assert (fold_response(seen).text, len(seen), error) == ("one two three", 4, None)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_when_every_route_filters_the_refusal_is_seen() -> None:
    cut = Script("", finish="content_filter")
    routes = [Route(endpoint("first", cut)), Route(endpoint("second", cut), on=POLICY)]
    seen, _ = await ask(FirstOf(routes))
    assert seen == "", "the last one's answer is what it is"
    down = Route(endpoint("second", DOWN), on=POLICY)
    seen, _ = await ask(FirstOf([Route(endpoint("first", cut)), down]))
    assert getattr(seen, "kind", seen) == "connect"


CUT_OFF = Script("one two", finish="content_filter")


@pytest.mark.asyncio
async def test_an_answer_that_is_filtered_after_tokens_passes_unless_held_back_or_restarted() -> None:
    def routes(restart: bool = False, held: int = 0, refuses: bool = True) -> FirstOf:
        layers = [Holdback(held, refuses)] if held else []
        first = Route(endpoint("first", CUT_OFF), layers=layers)
        return FirstOf([first, Route(endpoint("second"), on=POLICY)], restart=restart)

    kinds = [Delta, Delta, Finish]
    seen, error = await events_of(routes(), Call(ASK))
    assert ([type(event) for event in seen], error) == (kinds, None)
    seen, _ = await events_of(routes(held=8, refuses=False), Call(ASK))
    assert [type(event) for event in seen] == kinds
    seen, _ = await events_of(routes(held=8), Call(ASK))
    assert fold_response(seen).text == "I am second"  # type: ignore[arg-type]
    assert Reset not in map(type, seen)
    call = Call(ASK)
    seen, _ = await events_of(routes(restart=True), call)
    assert fold_response(seen).text == "I am second"  # type: ignore[arg-type]
    assert seen[2] == Reset("content_policy")
    assert flow(call) == ["fallback:second:content_policy"]


@pytest.mark.asyncio
async def test_a_filtered_answer_that_cannot_start_again_ends_as_the_endpoint_ended_it() -> None:
    routes = [Route(endpoint("first", CUT_OFF)), Route(endpoint("second", DOWN), on=POLICY)]
    call = Call(ASK)
    seen, error = await events_of(FirstOf(routes, restart=True), call)
    assert error is None
    assert [type(event) for event in seen] == [Delta, Delta, Finish]
    assert flow(call) == ["fallback:second:content_policy", "no_restart:connect"]


@pytest.mark.asyncio
async def test_a_filter_is_no_failure_of_the_endpoint() -> None:
    circuit = Circuit()
    first = Route(endpoint("first", Script("", finish="content_filter")), layers=[Breaker("first", circuit)])
    for restart in (False, True):
        for _ in range(9):
            await ask(FirstOf([first, Route(endpoint("second"), on=POLICY)], restart=restart))
    assert circuit.state == "closed"
