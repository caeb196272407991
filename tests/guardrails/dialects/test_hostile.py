"""Peers that are broken or hostile: whatever the bytes, the only errors are ours, and they quote nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrails.call import Event, Request
from guardrails.dialects import NAMES, dialect
from guardrails.errors import EndpointError, GuardrailsError

CHAT_STREAM = (
    b'data: {"id":"a","choices":[{"index":0,"delta":{"role":"assistant","content":"canary"},"logprobs":null,'
    b'"finish_reason":null}]}\n\ndata: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"1",'
    b'"function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"cost":0.1}}\n\ndata: [DONE]\n\n'
)
CLAUDE_STREAM = b"".join(
    b"event: " + raw["type"].encode() + b"\r\ndata: " + json.dumps(raw).encode() + b"\r\n\r\n"
    for raw in (
        {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "canary"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "1", "name": "f"},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": "{}"},
        },
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
)
STREAMS = {"openai_chat": CHAT_STREAM, "anthropic": CLAUDE_STREAM}
VALUES = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"9" * 400,
    b'""',
    b'"\\ud800"',
    b"[]",
    b"{}",
    b"[[1]]",
    b'{"a":1}',
    b"\xff",
]
WORDS = [
    b"choices",
    b"delta",
    b"content",
    b"index",
    b"usage",
    b"type",
    b"error",
    b"text",
    b"message",
    b"tool_calls",
    b"id",
    b"function",
]


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good stream with some bytes or values replaced, removed or repeated."""
    name = draw(st.sampled_from(NAMES))
    data = STREAMS[name]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 10])))
        match draw(st.sampled_from(["bytes", "value", "repeat", "cut", "word"])):
            case "bytes":
                data = data[:start] + draw(st.binary(max_size=3)) + data[end:]
            case "value":
                colon = data.find(b":", start)
                comma = data.find(b",", colon)
                if 0 <= colon < comma:
                    data = data[: colon + 1] + draw(st.sampled_from(VALUES)) + data[comma:]
            case "repeat":
                data = data[:end] + data[start:]
            case "cut":
                data = data[:start]
            case "word":
                data = data.replace(draw(st.sampled_from(WORDS)), draw(st.sampled_from(WORDS)), 1)
    return name, data


def run(name: str, pieces: list[bytes]) -> tuple[list[Event], EndpointError | None]:
    decoder = dialect(name).decoder()
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except EndpointError as error:
        return events, error
    return events, None


def check(name: str, data: bytes) -> None:
    events, error = run(name, [data])
    again, other = run(name, [data[i : i + 7] for i in range(0, len(data), 7)])
    assert again == events
    assert (type(other), getattr(other, "kind", "")) == (type(error), getattr(error, "kind", ""))
    if error is not None:
        assert "canary" not in str(error)
    for into in NAMES:
        encoder = dialect(into).encoder(Request.of("x"), response_id="r", created=1)
        refusal = ""
        try:
            for event in events:
                encoder.feed(event)
            encoder.close()
        except GuardrailsError as refused:
            refusal = str(refused)
        assert "canary" not in refusal


@given(mutations())
def test_mutated_streams(mutated: tuple[str, bytes]) -> None:
    check(*mutated)


@given(st.sampled_from(NAMES), st.binary(max_size=60))
@example("openai_chat", b"data: " + b"[" * 2000)
@example("anthropic", b'data: {"type": ["message_stop"]}\n\n')
@example("anthropic", b'data: {"type": {}, "index": []}\n\n')
def test_random_bytes(name: str, data: bytes) -> None:
    check(name, data)
    check(name, b"data: " + data + b"\n\n")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda j: (
        st.lists(j, max_size=3) | st.dictionaries(st.sampled_from([w.decode() for w in WORDS]), j, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(NAMES), st.dictionaries(st.sampled_from([w.decode() for w in WORDS]), JSON, max_size=5)
)
def test_any_object_as_event_answer_request_or_error(name: str, body: dict[str, Any]) -> None:
    spoken = dialect(name)
    check(name, b"data: " + json.dumps(body).encode() + b"\n\n")
    calls: list[Callable[[], Any]] = [
        lambda: spoken.encode_response(
            spoken.decode_response(body)[0], Request.of("x"), response_id="r", created=1
        ),
        lambda: spoken.decode_request(body),
        lambda: spoken.decode_request({"messages": [body]}),
    ]
    for call in calls:
        with suppress(GuardrailsError):
            call()
    assert isinstance(spoken.decode_error(400, {}, json.dumps({"error": body}).encode()), EndpointError)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("depth", "readable"), [(200, True), (300, False), (1000, False), (100_000, False)])
def test_nothing_is_read_that_could_not_be_written(name: str, depth: int, readable: bool) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    data = b'data: {"type":"x","choices":[{"delta":{"y":' + deep + b"}}]}\n\n"
    check(name, data)
    events, error = run(name, [data])
    assert bool(events) is readable
    assert error is not None
    assert (error.kind == "malformed") is not readable


def test_brackets_in_a_text_are_no_nesting() -> None:
    data = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"[{" * 5000 + b'"}}]}\n\n'
    assert run("openai_chat", [data])[0]
