"""Circuit breakers: what opens them, what closes them, and how many may be open at once."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import (
    Call,
    DeadlineExceeded,
    Interrupted,
    Llm,
    Refused,
    Request,
    Shed,
    Transient,
    collect,
    stack,
)
from guardrails.endpoints.opening import Timeouts
from guardrails.flow.breaker import Breaker, Circuit, Group, Pass, Rules
from guardrails.flow.cold import ColdStart
from guardrails.handler import Handler
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

ASK = Request.of("hi")
DOWN = Transient("down", kind="connect")


def passed(circuit: Circuit, now: float) -> Pass:
    given_ = circuit.enter(now)
    assert isinstance(given_, Pass)
    return given_


def fail(circuit: Circuit, now: float, times: int = 1) -> None:
    for _ in range(times):
        circuit.failure(passed(circuit, now), now)


async def ask(clock: FakeClock, handler: Handler, **fields: object) -> str | BaseException:
    try:
        return (await clock.run(collect(handler, Call(ASK, clock=clock, **fields)))).text  # type: ignore[arg-type]
    except (Exception, asyncio.CancelledError) as error:
        return error


# --- the rule


def test_it_opens_after_failures_in_a_row_and_a_success_begins_a_new_row() -> None:
    circuit = Circuit(Rules(consecutive=3))
    fail(circuit, 0.0, 2)
    circuit.success(passed(circuit, 0.0), 0.0)
    fail(circuit, 0.0, 2)
    assert circuit.state == "closed"
    fail(circuit, 0.0)
    assert circuit.state == "open"
    assert circuit.enter(1.0) == pytest.approx(4.0)


def test_it_opens_by_ratio_only_with_a_minimum_of_calls_in_the_window() -> None:
    rules = Rules(consecutive=1000, ratio=0.5, minimum=20, window=30.0)
    circuit = Circuit(rules)
    for n in range(19):
        (fail if n % 2 else lambda c, t: c.success(passed(c, t), t))(circuit, 0.0)
    assert circuit.state == "closed"
    fail(circuit, 100.0)  # the others are long ago
    assert circuit.state == "closed"
    for _ in range(10):
        circuit.success(passed(circuit, 100.0), 100.0)
    fail(circuit, 100.0, 8)
    assert circuit.state == "closed", "9 of 19"
    fail(circuit, 100.0)
    assert circuit.state == "open", "10 of 20"


def test_ejections_double_up_to_the_longest_and_are_forgiven() -> None:
    circuit, now = Circuit(Rules(consecutive=1, ejection=5.0, longest=60.0)), 0.0
    lengths = []
    for _ in range(6):
        fail(circuit, now)
        wait = circuit.enter(now)
        assert isinstance(wait, float)
        lengths.append(wait)
        now += wait
    assert lengths == [5, 10, 20, 40, 60, 60]
    circuit.success(passed(circuit, now), now)
    assert circuit.state == "closed"
    fail(circuit, now + 60.0 * 10)
    assert circuit.enter(now + 600.0) == pytest.approx(5.0)


def test_probes_decide_and_only_so_many_at_a_time() -> None:
    circuit = Circuit(Rules(consecutive=1, probes=2))
    fail(circuit, 0.0)
    first, second = passed(circuit, 5.0), passed(circuit, 5.0)
    assert circuit.state == "half_open"
    assert circuit.enter(5.0) == 5.0
    circuit.success(first, 6.0)
    assert circuit.state == "half_open"
    circuit.success(second, 6.0)
    assert circuit.state == "closed"


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    circuit = Circuit(Rules(consecutive=1))
    fail(circuit, 0.0)
    circuit.ignored(passed(circuit, 5.0))
    fail(circuit, 5.0)
    assert circuit.state == "open"
    assert circuit.ejections == 2


def test_verdicts_from_an_earlier_state_count_no_more() -> None:
    circuit = Circuit(Rules(consecutive=2))
    late = [passed(circuit, 0.0) for _ in range(5)]
    fail(circuit, 0.0, 2)
    for each in late:
        circuit.failure(each, 1.0)
    assert circuit.ejections == 1
    circuit.success(passed(circuit, 5.0), 5.0)
    circuit.failure(late[0], 5.0)
    circuit.failure(late[0], 5.0)
    assert circuit.state == "closed"


@pytest.mark.parametrize(("members", "share", "out"), [(1, 0.5, 1), (2, 0.5, 1), (4, 0.5, 2), (3, 1.0, 3)])
def test_at_most_a_share_of_a_group_is_out_and_always_one_may_be(
    members: int, share: float, out: int
) -> None:
    group = Group(share)
    circuits = [Circuit(Rules(consecutive=3), group) for _ in range(members)]
    for circuit in circuits:
        fail(circuit, 0.0, 3)
    assert sum(circuit.state == "open" for circuit in circuits) == out
    if out < members:
        well = next(c for c in circuits if c.state == "open")
        well.success(passed(well, 5.0), 5.0)
        fail(circuits[-1], 5.0)
        assert circuits[-1].state == "open", "room was made"


def test_rules_that_cannot_be_kept_are_refused() -> None:
    for wrong in ({"consecutive": 0}, {"ratio": 0.0}, {"ejection": 9.0, "longest": 5.0}, {"probes": 0}):
        with pytest.raises(ValueError, match="these rules"):
            Rules(**wrong)  # type: ignore[arg-type]


steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["enter", "good", "bad", "ignored"]), st.floats(0, 8)),
    max_size=150,
)


@given(steps, st.sampled_from([0.34, 0.5, 1.0]), st.integers(1, 3))
def test_whatever_happens_the_group_keeps_its_share_and_every_circuit_comes_back(
    plan: list[tuple[int, str, float]], share: float, probes: int
) -> None:
    group, now = Group(share), 0.0
    rules = Rules(consecutive=2, minimum=5, ejection=5.0, longest=40.0, probes=probes)
    circuits = [Circuit(rules, group) for _ in range(3)]
    out: list[list[Pass]] = [[], [], []]
    for which, what, pause in plan:
        now += pause
        circuit = circuits[which]
        if what == "enter":
            got = circuit.enter(now)
            if isinstance(got, Pass):
                out[which].append(got)
                assert circuit.state != "open"
                assert sum(p.probe and p.era == got.era for p in out[which]) <= probes
            else:
                assert 0 < got <= rules.longest
        elif out[which]:
            given_ = out[which].pop(0)
            if what == "ignored":
                circuit.ignored(given_)
            else:
                (circuit.success if what == "good" else circuit.failure)(given_, now)
        assert sum(c.state != "closed" for c in circuits) <= max(1, int(3 * share))
    for circuit, left in zip(circuits, out, strict=True):
        for given_ in left:
            circuit.ignored(given_)
        for _ in range(probes):
            now += rules.longest
            got = circuit.enter(now)
            assert isinstance(got, Pass)
            circuit.success(got, now)
        assert circuit.state == "closed"


# --- the layer


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_contract(case: str) -> None:
    await check_layer(Breaker("x"), case)
    half_open = Circuit(Rules(consecutive=1, ejection=1e-9))
    fail(half_open, 0.0)
    await check_layer(Breaker("x", half_open), case)
    assert half_open._probing == 0


@pytest.mark.asyncio
async def test_an_open_circuit_fails_at_once_and_says_until_when(caplog: pytest.LogCaptureFixture) -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(DOWN, DOWN, "fine")
    told: list[tuple[str, str]] = []
    breaker = Breaker("main", Circuit(Rules(consecutive=2)), lambda *change: told.append(change))
    llm = Llm(endpoint, breaker, clock=clock)
    with caplog.at_level(logging.INFO, "guardrails"):
        await ask(clock, llm)
        await ask(clock, llm)
        clock.advance(1.0)
        call = Call(ASK, clock=clock)
        with pytest.raises(Transient, match=r"tried again in 4\.0 s") as caught:
            await collect(llm, call)
        assert (caught.value.kind, caught.value.retry_after) == ("circuit_open", 4.0)
        assert call.journal.record is not None
        assert call.journal.record.flow == ("circuit_open:main",)
        assert call.journal.record.error == "circuit_open"
        assert endpoint.opened == 2
        assert breaker.state == "open"
        clock.advance(4.0)
        assert await ask(clock, llm) == "fine"
    assert told == [("main", "open"), ("main", "half_open"), ("main", "closed")]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "opens"),
    [
        (DOWN, True),
        (Transient("t", kind="timeout_first_event"), True),
        (Transient("t", kind="server_error", status=500), True),
        (Script("a b c", fail_after=1, error=Interrupted("cut")), True),
        (Transient("t", kind="rate_limited", status=429), False),
        (Refused("r", kind="context_length"), False),
        (Shed("full"), False),
        (DeadlineExceeded("late"), False),
        (ValueError("bug"), False),
        ("fine", False),
    ],
)
async def test_what_counts_as_a_failure(answer: object, opens: bool) -> None:
    clock, breaker = FakeClock(), Breaker("x", Circuit(Rules(consecutive=3)))
    handler = stack(ScriptedEndpoint(answer), breaker)  # type: ignore[arg-type]
    for _ in range(3):
        await ask(clock, handler)
    assert (breaker.state == "open") == opens


@pytest.mark.asyncio
async def test_a_first_token_that_is_given_up_after_long_is_a_failure() -> None:
    """Or an endpoint that hangs is never found out where deadlines are shorter than its timeouts."""
    for deadline, opens in ((2.0, False), (12.0, True)):
        clock, breaker = FakeClock(), Breaker("x", Circuit(Rules(consecutive=3, hung=10.0)))
        handler = stack(ScriptedEndpoint(Script("a", stall_after=0)), breaker)
        for _ in range(3):
            seen = await ask(clock, handler, deadline=clock.now() + deadline)
            assert isinstance(seen, DeadlineExceeded)
        assert (breaker.state == "open") == opens


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [300.0, 1e9])
async def test_a_late_first_token_of_a_cold_endpoint_is_excused_but_no_other_failure(after: float) -> None:
    for answer, excused in ((Script("a", stall_after=0), True), (DOWN, False)):
        clock, breaker = FakeClock(), Breaker("x", Circuit(Rules(consecutive=1)))
        end = ScriptedEndpoint(answer, timeouts=Timeouts(first_event=20.0))
        await ask(clock, stack(end, ColdStart("x", after), breaker))
        assert (breaker.state == "closed") == excused


@pytest.mark.asyncio
async def test_an_early_break_and_the_consumers_own_errors_are_no_failures() -> None:
    breaker, endpoint = Breaker("x", Circuit(Rules(consecutive=1))), ScriptedEndpoint("a b c")
    handler = stack(endpoint, breaker)
    async with handler(Call(ASK)) as stream:
        async for _ in stream:
            break
    for error in (ZeroDivisionError("mine"), Transient("of another call"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            async with handler(Call(ASK)):
                raise error
    assert (breaker.state, endpoint.active) == ("closed", 0)


@pytest.mark.asyncio
async def test_a_probe_closes_the_circuit_at_its_first_token_and_its_stream_still_counts() -> None:
    clock, states = FakeClock(), list[str]()
    breaker = Breaker("x", Circuit(Rules(consecutive=1)), lambda _, state: states.append(state))
    handler = stack(ScriptedEndpoint(DOWN, Script("a b c", fail_after=2)), breaker)
    await ask(clock, handler)
    clock.advance(5.0)

    async def probe() -> None:
        async with handler(Call(ASK, clock=clock)) as stream:
            assert states == ["open", "half_open", "closed"]
            async for _ in stream:
                pass

    with pytest.raises(Interrupted):
        await probe()
    assert states[-1] == breaker.state == "open"


@pytest.mark.asyncio
async def test_a_cancelled_probe_gives_its_place_back() -> None:
    clock, breaker = FakeClock(), Breaker("x", Circuit(Rules(consecutive=1)))
    endpoint = ScriptedEndpoint(DOWN, Script("a", stall_after=0), "fine")
    handler = stack(endpoint, breaker)
    await ask(clock, handler)
    clock.advance(5.0)
    task = asyncio.ensure_future(collect(handler, Call(ASK, clock=clock)))
    await clock.settle()
    assert isinstance(await ask(clock, handler), Transient)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await ask(clock, handler) == "fine"
    assert breaker.state == "closed"
