"""What a judge sees of an answer: read from a response, kept as plain JSON, shown in no repr."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import (
    Choice,
    Delta,
    Finish,
    Image,
    Message,
    OpaquePart,
    Reasoning,
    Response,
    Text,
    ToolHead,
    ToolResult,
    ToolUse,
    fold_response,
)
from guardrails.dialects import dialect
from judges.answer import Answer, answered, log_probabilities

TEXT = st.text(max_size=20)
JSON = st.dictionaries(TEXT, st.integers() | TEXT, max_size=2)
PART = st.one_of(
    st.builds(Text, TEXT, JSON),
    st.builds(Image, TEXT, JSON),
    st.builds(Reasoning, TEXT, JSON),
    st.builds(ToolUse, TEXT, TEXT, TEXT, JSON),
    st.builds(ToolResult, TEXT, st.tuples(st.builds(Text, TEXT)), st.booleans(), JSON),
    st.builds(OpaquePart, JSON),
)
ANSWERS = st.builds(
    Answer,
    TEXT,
    st.tuples(st.builds(ToolUse, TEXT, TEXT, TEXT)),
    st.none() | TEXT,
    TEXT,
    st.none() | st.lists(st.floats(max_value=0, allow_infinity=False), max_size=4).map(tuple),
    st.lists(st.builds(Message, TEXT, st.lists(PART, max_size=3).map(tuple), JSON), max_size=2).map(tuple),
)


def test_it_is_read_from_a_stream() -> None:
    events = [
        Delta("Hel", logprobs={"content": [{"token": "Hel", "logprob": -0.5}], "refusal": None}),
        Delta("lo", logprobs={"content": [{"token": "lo", "logprob": -0.25}]}),
        Delta("no", "refusal"),
        Delta("", "tool:0", tool=ToolHead("1", "look_up")),
        Delta('{"a": 1}', "tool:0"),
        Finish("tool_calls"),
    ]
    record = {"ttft_ms": 3.0}

    seen = Answer.of(fold_response(events), record)

    assert (seen.text, seen.refusal, seen.finish_reason) == ("Hello", "no", "tool_calls")
    assert seen.tool_calls == (ToolUse("1", "look_up", '{"a": 1}'),)
    assert seen.logprobs == (-0.5, -0.25)
    assert seen.record is record


def chunk(**choice: Any) -> bytes:
    body = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def token(text: str, logprob: float) -> dict[str, Any]:
    one = {"token": text, "logprob": logprob, "bytes": None, "top_logprobs": []}
    return {
        "delta": {"content": text},
        "logprobs": {"content": [one], "refusal": None},
        "finish_reason": None,
    }


def test_logprobs_come_over_the_wire_token_by_token() -> None:
    wire = (
        chunk(delta={"role": "assistant", "content": ""}, logprobs={"content": [], "refusal": None})
        + chunk(**token("Hel", -0.5))
        + chunk(**token("lo", -0.25))
        + chunk(delta={}, finish_reason="stop")
        + b"data: [DONE]\n\n"
    )
    decoder = dialect("openai_chat").decoder()
    seen = Answer.of(fold_response([*decoder.feed(wire), *decoder.close()]))
    assert (seen.text, seen.logprobs) == ("Hello", (-0.5, -0.25))


def test_any_choice_can_be_taken_and_no_choice_is_an_empty_answer() -> None:
    response = Response((Choice("a"), Choice("b", finish_reason="stop")))
    assert Answer.of(response, choice=1) == Answer("b", finish_reason="stop")
    assert Answer.of(Response(())) == Answer("")


def test_half_surrogates_become_question_marks() -> None:
    bad = Choice("a\ud800é", refusal="\udfff", tool_calls=(ToolUse("\ud800", "\ud800", "\ud800"),))
    assert Answer.of(Response((bad,))) == Answer("a?é", (ToolUse("?", "?", "?"),), refusal="?")


def test_a_bare_text_is_an_answer() -> None:
    assert answered("x") == Answer("x")
    assert answered(Answer("x", finish_reason="stop")).finish_reason == "stop"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([{"content": [{"logprob": -1}]}, {"content": None}, {}], (-1.0,)),
        ([{"tokens": ["a"], "token_logprobs": [-0.5, -2.0]}], (-0.5, -2.0)),
        ([-0.5], (-0.5,)),
        ([], None),
        ([{"content": []}], None),
        ([{"content": ["x"]}], None),
        ([{"content": [{"logprob": True}]}], None),
        ([{"content": [{"logprob": "-1"}]}], None),
        ([{"content": [{"logprob": -1}, {}]}], None),
        ([-math.inf], None),
        ([math.nan], None),
        (["x"], None),
    ],
)
def test_logprobs_are_numbers_or_none(given: Any, read: Any) -> None:
    assert log_probabilities(given) == read


@given(answer=ANSWERS)
def test_plain_values_read_back(answer: Answer) -> None:
    stored = json.loads(json.dumps(answer.as_dict(), allow_nan=False))
    record = {"cost_usd": "0.1"}
    again = Answer.from_dict(stored, record)
    assert again == Answer(**{**{f: getattr(answer, f) for f in Answer.__slots__}, "record": record})
    assert "record" not in stored


@pytest.mark.parametrize(
    "plain",
    [{}, {"text": "x", "tool_calls": [{}]}, {"text": "", "turns": [{"role": "u", "parts": [{"type": "?"}]}]}],
)
def test_other_values_are_refused(plain: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Answer.from_dict(plain)


def test_no_repr_shows_a_text() -> None:
    use = ToolUse("1", "f", "SECRET")
    turns = (Message.of("user", "SECRET"),)
    shown = repr(Answer("SECRET", (use,), None, "SECRET", (-1.0,), turns, {"labels": "SECRET"}))
    assert "SECRET" not in shown


@pytest.mark.parametrize("number", [-(10**400), float("nan"), float("-inf")])
def test_a_log_probability_that_no_float_holds_is_none(number: float) -> None:
    assert log_probabilities([{"content": [{"logprob": number}]}]) is None
