"""Conversations: scripted turns and simulated users, their records, their ends, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.conversation import (
    MAX_TURNS,
    NO_ANSWER,
    NOT_CONNECTED,
    Conversation,
    SimulatedUser,
    SimulatedUserFailed,
    converse,
    merged,
)
from evalkit.trial import call_cost
from guardrails.call import Call, Delta, Finish, Request, Sampling, Text, ToolHead, ToolResult, ToolUse, Usage
from guardrails.client import Llm
from guardrails.errors import ConfigError, Refused, Transient
from guardrails.flow.retry import Retry
from guardrails.handler import Handler
from guardrails.record import Meter
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from judges.answer import Answer

USAGE = Usage(100, 10)
METER = Meter(
    count=lambda text, model: (len(text.split()), "tokenizer"),
    count_prompt=lambda request, model: (100, "tokenizer"),
    price=lambda model, usage: None if model == "unpriced" else Decimal(usage.output_tokens) / 1000,
    price_version="test",
)


def llm(*answers: Any, clock: FakeClock, model: str = "m") -> tuple[ScriptedEndpoint, Llm]:
    endpoint = ScriptedEndpoint(*answers, model=model)
    return endpoint, Llm(endpoint, meter=METER, clock=clock)


def timed(text: str) -> Script:
    return Script(text, ttft=0.2, tpot=0.1, usage=USAGE)


def talk(
    handler: Handler, *turns: str, user: SimulatedUser | None = None, clock: FakeClock, **fields: Any
) -> Conversation:
    request = Request.of("first", system="Be kind.")
    call = Call(request, clock=clock, **fields)
    return asyncio.run(_run(clock, converse(handler, call, turns, user)))


async def _run(clock: FakeClock, coroutine: Any) -> Conversation:
    done: Conversation = await clock.run(coroutine)
    return done


def spoken(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in conversation.turns]


# --- scripts -----------------------------------------------------------------------------------------------


def test_scripted_turns_are_sent_one_after_each_answer() -> None:
    clock = FakeClock()
    endpoint, model = llm(timed("one"), timed("two"), timed("three"), clock=clock)

    done = talk(model, "second", "third", clock=clock)

    assert spoken(done) == [
        ("system", "Be kind."),
        *(("user", "first"), ("assistant", "one"), ("user", "second"), ("assistant", "two")),
        *(("user", "third"), ("assistant", "three")),
    ]
    assert done.ended == "script"
    assert done.response is not None
    assert done.response.text == "three"
    asked = [[message.text for message in call.request.messages] for call in endpoint.calls]
    assert asked == [[text for _, text in spoken(done)[:end]] for end in (2, 4, 6)]


def test_every_call_is_one_of_the_same_conversation() -> None:
    clock = FakeClock()
    endpoint, model = llm(timed("x"), clock=clock)
    talk(model, "a", clock=clock, deadline=99.0, priority="bulk", tenant="t", labels={"run": "r"})
    first, second = endpoint.calls
    assert (second.deadline, second.priority, second.tenant, second.labels) == (
        99.0,
        "bulk",
        "t",
        {"run": "r"},
    )
    assert second.conversation == first.id
    assert second.id != first.id
    assert second.arrived > first.arrived  # waiting for the first answer is not counted again


def test_without_turns_it_is_one_call() -> None:
    clock = FakeClock()
    endpoint, model = llm("hello", clock=clock)
    done = talk(model, clock=clock)
    assert len(endpoint.calls) == 1
    assert done.answer().text == "hello"


def test_a_bare_endpoint_has_no_records() -> None:
    clock = FakeClock()
    done = talk(ScriptedEndpoint("x"), "a", clock=clock)
    assert done.records == ()
    assert done.record is None
    assert done.answer().record is None


def test_tools_are_said_to_be_not_connected() -> None:
    clock = FakeClock()
    wish = [Delta("", "tool:0", tool=ToolHead("t1", "look_up")), Delta("{}", "tool:0"), Finish("tool_calls")]
    endpoint, model = llm(wish, "done", clock=clock)

    done = talk(model, "and now?", clock=clock)

    assistant, tool = endpoint.calls[1].request.messages[2:4]
    assert assistant.parts == (ToolUse("t1", "look_up", "{}"),)
    assert tool.parts == (ToolResult("t1", (Text(NOT_CONNECTED),), is_error=True),)
    assert [turn.role for turn in done.turns] == ["system", "user", "assistant", "tool", "user", "assistant"]


def test_empty_answers_refusals_and_half_characters_stay_sayable() -> None:
    clock = FakeClock()
    refused = [Delta("I would rather not", "refusal"), Finish("stop")]
    _, model = llm([Finish("stop")], refused, [Delta("a\ud800"), Finish("stop")], clock=clock)
    done = talk(model, "a", "b", clock=clock)
    assert [text for role, text in spoken(done) if role == "assistant"] == [
        NO_ANSWER,
        "I would rather not",
        "a?",
    ]
    json.dumps(done.answer().as_dict()).encode()


# --- simulated users ---------------------------------------------------------------------------------------


def test_a_simulated_user_pursues_its_goal_until_it_says_so() -> None:
    clock = FakeClock()
    endpoint, model = llm(timed("What is your order's number?"), timed("It comes on Monday."), clock=clock)
    player, user_model = llm(timed("It is 17."), timed("[DONE]"), clock=clock, model="u")
    user = SimulatedUser(user_model, "Find out {when} order 17 comes.", "Terse.")

    done = talk(model, user=user, clock=clock, labels={"run": "r"})

    assert done.ended == "stop"
    assert spoken(done)[1:] == [
        *(("user", "first"), ("assistant", "What is your order's number?")),
        *(("user", "It is 17."), ("assistant", "It comes on Monday.")),
    ]
    asked = player.calls[1].request
    assert [(m.role, m.text) for m in asked.messages[2:]] == [
        *(("assistant", "first"), ("user", "What is your order's number?")),
        *(("assistant", "It is 17."), ("user", "It comes on Monday.")),
    ]
    assert asked.messages[0].role == "system"
    assert "Find out {when} order 17 comes." in asked.messages[0].text
    assert "Terse." in asked.messages[0].text
    assert "Be kind." not in str([m.text for m in asked.messages])
    assert player.calls[0].labels == {"run": "r", "role": "simulated_user"}
    assert endpoint.calls[1].labels == {"run": "r"}


def test_its_turns_are_bounded_and_every_text_is_answered() -> None:
    clock = FakeClock()
    endpoint, model = llm("x", clock=clock)
    player, user_model = llm("more", clock=clock)
    done = talk(model, user=SimulatedUser(user_model, "?", max_turns=3), clock=clock)
    assert done.ended == "max_turns"
    assert (len(endpoint.calls), len(player.calls)) == (4, 3)
    assert done.turns[-1].role == "assistant"


@pytest.mark.parametrize("says", ["  ", "[DONE]", "Thanks! [DONE]"])
def test_silence_ends_a_conversation_too(says: str) -> None:
    clock = FakeClock()
    done = talk(ScriptedEndpoint("x"), user=SimulatedUser(ScriptedEndpoint(says), "?"), clock=clock)
    assert done.ended == "stop"
    assert done.turns[-1].text == "x"


def test_a_stop_word_of_the_model_ends_nothing() -> None:
    clock = FakeClock()
    user = SimulatedUser(ScriptedEndpoint("go on", "[DONE]"), "?")
    done = talk(ScriptedEndpoint("[DONE]", "y"), user=user, clock=clock)
    assert [text for role, text in spoken(done) if role == "assistant"] == ["[DONE]", "y"]


def test_a_script_comes_before_the_simulated_user() -> None:
    clock = FakeClock()
    user = SimulatedUser(ScriptedEndpoint("mine", "[DONE]"), "?")
    done = talk(ScriptedEndpoint("x"), "scripted", user=user, clock=clock)
    assert [text for role, text in spoken(done) if role == "user"] == ["first", "scripted", "mine"]


def test_a_sample_describes_it() -> None:
    endpoint = ScriptedEndpoint("x")
    made = SimulatedUser.of({"goal": "a refund", "persona": "angry", "max_turns": 2, "stop": "END"}, endpoint)
    assert made == SimulatedUser(endpoint, "a refund", "angry", 2, "END")
    assert "angry" not in repr(made)
    assert made.sampling == Sampling(max_tokens=400)


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({}, "needs a goal"),
        ({"goal": " "}, "needs a goal"),
        ({"goal": 3}, "goal must be text"),
        ({"goal": "x", "max_turns": 0}, "from 1 to"),
        ({"goal": "x", "max_turns": MAX_TURNS + 1}, "from 1 to"),
        ({"goal": "x", "max_turns": True}, "max_turns must be a whole number"),
        ({"goal": "x", "stop": ""}, "stop word"),
        ({"goal": "x", "mood": "good"}, "no 'mood'"),
    ],
)
def test_a_bad_description_is_refused(described: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SimulatedUser.of(described, ScriptedEndpoint("x"))


# --- records and failures ----------------------------------------------------------------------------------


def test_costs_and_times_add_up_and_the_users_are_kept_apart() -> None:
    clock = FakeClock()
    _, model = llm(timed("one two"), timed("three"), clock=clock)
    _, user_model = llm(timed("more"), timed("[DONE]"), clock=clock)

    done = talk(model, user=SimulatedUser(user_model, "?"), clock=clock)

    assert (len(done.records), len(done.user_records)) == (2, 2)
    record = done.record
    assert record is not None
    assert record["calls"] == 2
    assert (record["cost_usd"], record["user_cost_usd"]) == ("0.02", "0.02")
    assert (record["input_tokens"], record["output_tokens"]) == (200, 20)
    assert record["e2e_ms"] == pytest.approx(sum(each.e2e_ms for each in done.records))
    assert record["ttft_ms"] == pytest.approx(200)
    assert len(record["attempts"]) == 2
    assert done.answer() == Answer("three", finish_reason="stop", turns=done.turns, record=record)
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(("kind", "paid"), [("connect", "0.01"), ("timeout", None)])
def test_an_attempt_of_the_user_that_may_have_been_billed_is_not_free(kind: str, paid: str | None) -> None:
    clock = FakeClock()
    _, model = llm(timed("one"), clock=clock)
    endpoint = ScriptedEndpoint(Transient("gone", kind=kind), timed("[DONE]"), model="m")
    retried = Llm(endpoint, Retry(attempts=2), meter=METER, clock=clock)

    record = talk(model, user=SimulatedUser(retried, "?"), clock=clock).record

    assert record is not None
    assert len(endpoint.calls) == 2
    assert record["user_cost_usd"] == paid


def test_an_unknown_price_makes_the_sum_unknown() -> None:
    clock = FakeClock()
    _, model = llm(timed("x"), clock=clock, model="unpriced")
    record = talk(model, "a", clock=clock).record
    assert record is not None
    assert record["cost_usd"] is None


def test_what_is_known_of_a_broken_off_conversations_cost_is_kept() -> None:
    clock = FakeClock()
    _, model = llm(timed("one"), timed("two"), Transient("gone", kind="timeout"), clock=clock)
    record = talk(model, "a", "b", clock=clock).record
    assert record is not None
    assert (record["cost_usd"], record["wasted_usd"]) == (None, "0.02")
    assert call_cost(record) == (Decimal("0.02"), False)


def test_a_record_of_one_call_is_that_record() -> None:
    clock = FakeClock()
    _, model = llm(timed("x"), clock=clock)
    done = talk(model, clock=clock)
    assert done.record == {**done.records[0].as_dict(), "calls": 1}
    assert merged(()) is None


def test_a_call_that_fails_ends_the_conversation_and_keeps_its_records() -> None:
    clock = FakeClock()
    _, model = llm(timed("one"), Transient("down", kind="connect"), clock=clock)
    done = talk(model, "second", "third", clock=clock)
    assert done.ended == "error"
    assert done.response is None
    assert isinstance(done.error, Transient)
    assert [each.outcome for each in done.records] == ["complete", "failed"]
    assert spoken(done)[-1] == ("user", "second")
    with pytest.raises(Transient):
        done.answer()


def test_a_simulated_user_that_fails_is_not_the_models_fault() -> None:
    clock = FakeClock()
    user = SimulatedUser(ScriptedEndpoint(Refused("no key", kind="auth", hint="set it")), "?")
    done = talk(ScriptedEndpoint("x"), user=user, clock=clock)
    assert isinstance(done.error, SimulatedUserFailed)
    assert (done.error.kind, done.error.hint) == ("simulated_user", "set it")
    assert "auth" in done.error.message


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_cancellation_passes_through_and_closes_what_is_open(where: int) -> None:
    model = ScriptedEndpoint("one", Script("two", stall_after=1) if where == 2 else "two")
    if where == 0:
        model = ScriptedEndpoint(Script("one", stall_after=1))
    player = ScriptedEndpoint(Script("more", stall_after=0 if where == 1 else None))
    clock = FakeClock()

    async def run() -> None:
        call = Call(Request.of("first"), clock=clock)
        task = asyncio.create_task(converse(model, call, (), SimulatedUser(player, "?")))
        for _ in range(200):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (model.active, player.active) == (0, 0)

    asyncio.run(run())


@given(turns=st.lists(st.text(min_size=1, max_size=5), max_size=5))
def test_user_and_assistant_take_turns(turns: list[str]) -> None:
    clock = FakeClock()
    answer: Callable[[Call], str] = lambda call: f"answer {len(call.request.messages)}"  # noqa: E731
    done = talk(ScriptedEndpoint(answer), *turns, clock=clock)
    roles = [turn.role for turn in done.turns[1:]]
    assert roles == ["user", "assistant"] * (len(turns) + 1)
    assert [turn.text for turn in done.turns if turn.role == "user"] == ["first", *turns]
