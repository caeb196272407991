from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import Attempt, Call, Delta, Event, Finish, Note, Request, Usage
from guardrails.endpoints.opening import Timeouts
from guardrails.errors import Interrupted, Refused, Transient, Truncated
from guardrails.handler import collect
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.scripted import words


def make_call(clock: FakeClock | None = None) -> Call:
    return Call(Request.of("hi"), clock=clock or FakeClock())


def ending(attempt: Attempt) -> object:
    last = attempt.log[-1][1]
    assert isinstance(last, Note)
    assert last.what == "ended"
    assert [e.what for _, e in attempt.log if isinstance(e, Note)].count("ended") == 1
    return last.detail


@given(st.text())
def test_words_joined_are_the_text_again(text: str) -> None:
    assert "".join(words(text)) == text
    assert all(words(text))


@given(st.text())
def test_a_string_comes_as_words_and_a_stop(text: str) -> None:
    endpoint = ScriptedEndpoint(text)
    response = asyncio.run(collect(endpoint, make_call()))
    assert response.text == text
    assert response.choices[0].finish_reason == "stop"
    assert (endpoint.opened, endpoint.closed, endpoint.active) == (1, 1, 0)


@pytest.mark.asyncio
async def test_answers_come_in_order_and_the_last_repeats() -> None:
    endpoint = ScriptedEndpoint(Transient("busy"), "one", [Delta("two"), Finish("stop")])
    with pytest.raises(Transient, match="busy"):
        await collect(endpoint, make_call())
    assert [(await collect(endpoint, make_call())).text for _ in range(3)] == ["one", "two", "two"]
    assert len(endpoint.calls) == endpoint.opened == endpoint.closed == 4


@pytest.mark.asyncio
async def test_an_answer_may_depend_on_the_call() -> None:
    endpoint = ScriptedEndpoint(lambda call: call.request.messages[-1].text + " yourself")
    assert (await collect(endpoint, make_call())).text == "hi yourself"


@pytest.mark.asyncio
async def test_the_journal_has_every_event_at_its_time() -> None:
    clock = FakeClock()
    usage = Usage(3, 2)
    endpoint = ScriptedEndpoint(Script("a b", ttft=1.0, tpot=0.5, usage=usage), name="e", model="m")
    call = make_call(clock)
    await clock.run(collect(endpoint, call))
    (attempt,) = call.journal.attempts
    assert (attempt.endpoint, attempt.model) == ("e", "m")
    assert attempt.log == [
        (0.0, Note("sent")),
        (1.0, Delta("a")),
        (1.5, Delta(" b")),
        (2.0, Finish("stop", usage)),
        (2.0, Note("ended")),
    ]


@pytest.mark.asyncio
async def test_entering_ends_at_the_first_event() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a b", ttft=1.0, tpot=1.0))

    async def enter() -> float:
        async with endpoint(make_call(clock)):
            return clock.now()

    assert await clock.run(enter()) == 1.0
    assert endpoint.abandoned == 1


@pytest.mark.asyncio
async def test_an_early_break_is_counted_and_closes() -> None:
    endpoint, call = ScriptedEndpoint("a b c"), make_call()
    async with endpoint(call) as stream:
        async for _ in stream:
            assert endpoint.active == 1
            break
    assert (endpoint.active, endpoint.abandoned, endpoint.cancelled) == (0, 1, 0)
    assert ending(call.journal.attempts[0]) == "abandoned"


@pytest.mark.asyncio
@pytest.mark.parametrize("script", [Script("a b", ttft=math.inf), Script("a b", stall_after=1)])
async def test_a_cancellation_while_waiting_is_counted_and_closes(script: Script) -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(script)
    call = make_call(clock)
    task = asyncio.create_task(collect(endpoint, call))
    await clock.run_for(1000)
    assert endpoint.active == 1
    task.cancel()
    await clock.settle()
    assert task.cancelled()
    assert (endpoint.active, endpoint.abandoned, endpoint.cancelled) == (0, 0, 1)
    assert ending(call.journal.attempts[0]) == "cancelled"
    assert clock.pending == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("script", "raised", "seen"),
    [
        (Script("a b c", fail_after=0), Transient, 0),
        (Script("a b c", fail_after=2), Interrupted, 2),
        (Script("a b c", fail_after=2, error=Truncated("cut")), Truncated, 2),
        (Script("a b c", error=Truncated("cut")), Truncated, 3),
        (Script("a b c", fail_after=0, error=Refused("no")), Refused, 0),
    ],
)
async def test_a_failure_comes_after_that_many_events(
    script: Script, raised: type[Exception], seen: int
) -> None:
    endpoint, call = ScriptedEndpoint(script), make_call()
    got: list[Event] = []

    async def read() -> None:
        async with endpoint(call) as stream:
            async for event in stream:
                got.append(event)  # noqa: PERF401 - the list must keep what came before the error

    with pytest.raises(raised) as failed:
        await read()
    assert type(failed.value) is raised
    assert len(got) == seen
    assert ending(call.journal.attempts[0]) == failed.value.kind
    assert endpoint.active == 0


def test_a_failure_that_could_never_happen_is_a_mistake_of_the_test() -> None:
    with pytest.raises(ValueError, match="never happen"):
        Script("a b", fail_after=4)


@pytest.mark.asyncio
async def test_each_raise_has_its_own_error_object() -> None:
    endpoint = ScriptedEndpoint(Transient("busy"))
    errors = []
    for _ in range(2):
        with pytest.raises(Transient) as failed:
            await collect(endpoint, make_call())
        errors.append(failed.value)
    assert errors[0] is not errors[1]


@pytest.mark.asyncio
async def test_an_answer_without_an_event_does_not_enter() -> None:
    with pytest.raises(Transient, match="before it began"):
        await collect(ScriptedEndpoint([]), make_call())


@pytest.mark.asyncio
async def test_timeouts_count_when_given() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a", ttft=10), timeouts=Timeouts(first_event=2))
    with pytest.raises(Transient) as failed:
        await clock.run(collect(endpoint, make_call(clock)))
    assert failed.value.kind == "timeout_first_event"
    assert clock.now() == 2


def test_no_answer_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ScriptedEndpoint()
