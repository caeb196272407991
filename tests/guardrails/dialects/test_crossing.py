"""From one dialect into the other: what has words on both sides is translated, the rest is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import (
    Delta,
    Event,
    Finish,
    Message,
    Opaque,
    OpaquePart,
    Reasoning,
    Request,
    Sampling,
    Text,
    ToolHead,
    ToolUse,
    Usage,
    fold_response,
)
from guardrails.dialects import NAMES, dialect
from guardrails.errors import ConfigError, Interrupted, Refused

CHAT, CLAUDE = dialect("openai_chat"), dialect("anthropic")

CHAT_BODY: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "be kind"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": "I will ask.",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        {"role": "tool", "tool_call_id": "2", "content": "two"},
        {"role": "user", "content": "and?"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g"}},
    ],
    "tool_choice": "required",
    "max_completion_tokens": 9,
    "temperature": 0.5,
    "stop": "x",
    "stream": True,
    "stream_options": {"include_usage": True},
    "logprobs": None,
}
CLAUDE_BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "system": "be kind",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I will ask."},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "2", "content": "two"},
            ],
        },
        {"role": "user", "content": "and?"},
    ],
    "tools": [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
    ],
    "tool_choice": {"type": "any"},
    "temperature": 0.5,
    "stop_sequences": ["x"],
    "stream": True,
}


def test_chat_into_messages() -> None:
    assert CLAUDE.encode_request(CHAT.decode_request(CHAT_BODY)) == CLAUDE_BODY


def test_messages_into_chat() -> None:
    body = CHAT.encode_request(CLAUDE.decode_request(CLAUDE_BODY))
    spelled = json.loads(json.dumps(CHAT_BODY))
    spelled["messages"][0]["role"] = "system"
    for call, arguments in zip(spelled["messages"][2]["tool_calls"], ('{"x":1}', "{}"), strict=True):
        call["function"]["arguments"] = arguments
    spelled["tools"][1]["function"]["parameters"] = {"type": "object", "properties": {}}
    spelled["stop"] = ["x"]
    del spelled["stream_options"], spelled["logprobs"]
    assert body == spelled


@pytest.mark.parametrize("ours", ["auto", "none", "required", "tool:f"])
def test_tool_choices_are_the_same_on_both_sides(ours: str) -> None:
    request = Request.of("hi")
    request = replace(request, tool_choice=ours)
    for one, other in ((CHAT, CLAUDE), (CLAUDE, CHAT)):
        read = one.decode_request(one.encode_request(request))
        assert read.tool_choice == ours
        assert other.decode_request(other.encode_request(read)).tool_choice == ours


UNSAYABLE = [
    ({"n": 2}, "sampling.n"),
    ({"seed": 1}, "sampling.seed"),
    ({"temperature": 1.5}, "sampling.temperature"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"tools": [{"type": "custom", "custom": {}}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools[0].function"),
    ({"messages": [{"role": "user", "content": "a", "name": "ann"}]}, "messages[0].name"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].parts[0]"),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "u", "detail": "low"}}],
                }
            ]
        },
        "messages[0].parts[0].image_url",
    ),
    ({"messages": [{"role": "assistant", "content": "a", "reasoning_content": "b"}]}, "messages[0].parts[0]"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}, "messages[1]"),
    ({"messages": [{"role": "function", "name": None, "content": "b"}]}, "messages[0].role"),
    ({"messages": [{"role": 1, "content": "b"}]}, "messages[0].parts[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
        ".url",
    ),
]


@pytest.mark.parametrize(("fields", "path"), UNSAYABLE)
def test_what_messages_has_no_word_for(fields: dict[str, Any], path: str) -> None:
    request = CHAT.decode_request({"messages": [], **fields})
    with pytest.raises(Refused) as caught:
        CLAUDE.encode_request(request)
    assert caught.value.kind == "untranslatable"
    assert path in str(caught.value)
    assert "leave these out" in str(caught.value)
    assert CHAT.encode_request(request) == {"messages": [], **fields}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"metadata": {"user_id": "u"}}, "metadata"),
        ({"thinking": {"type": "enabled"}}, "thinking"),
        (
            {"system": [{"type": "text", "text": "a", "cache_control": {}}]},
            "messages[0].parts[0].cache_control",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "redacted_thinking"}]}]},
            "messages[0].parts[0]",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "thinking", "thinking": "a", "signature": "s"}],
                    }
                ]
            },
            "messages[0].parts[0].signature",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "1", "is_error": True}],
                    }
                ]
            },
            "messages[0]",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "1",
                                "content": [{"type": "image", "source": {"type": "url", "url": "u"}}],
                            }
                        ],
                    }
                ]
            },
            "messages[0]",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
    ],
)
def test_what_chat_has_no_word_for(fields: dict[str, Any], path: str) -> None:
    request = CLAUDE.decode_request({"messages": [], **fields})
    with pytest.raises(Refused) as caught:
        CHAT.encode_request(request)
    assert caught.value.kind == "untranslatable"
    assert path in str(caught.value)
    assert CLAUDE.encode_request(request) == {"messages": [], **fields}


def test_a_refusal_never_quotes_the_prompt() -> None:
    secret = "my number is 536"
    parts = (
        Text(secret, {"x": secret}),
        OpaquePart({"y": secret}),
        ToolUse("1", "f", secret),
        Reasoning(secret),
    )
    request = Request((Message("user", parts, {"z": secret}),), sampling=Sampling(n=3), dialect="openai_chat")
    with pytest.raises(Refused) as caught:
        CLAUDE.encode_request(request)
    assert secret not in str(caught.value)


TEXT = st.text(min_size=1, max_size=5)
ANSWER = st.lists(
    st.one_of(
        st.builds(Delta, TEXT, st.sampled_from(["text", "reasoning"])),
        st.builds(lambda text: Delta(text, "tool", tool=ToolHead("id", "name")), TEXT),
    ),
    max_size=6,
)


@given(
    ANSWER, st.sampled_from(["stop", "length", "tool_calls", "content_filter", "odd"]), st.permutations(NAMES)
)
def test_an_answer_means_the_same_in_both_dialects(
    deltas: list[Delta], reason: str, order: list[str]
) -> None:
    tools = iter(range(len(deltas)))
    events: list[Event] = [
        replace(delta, channel=f"tool:{next(tools)}") if delta.channel == "tool" else delta
        for delta in deltas
    ]
    events.append(Finish(reason, Usage(9, 4, cached_tokens=3)))
    stream = events
    for name in (*order, *order):
        spoken = dialect(name)
        encoder = spoken.encoder(Request.of("x"), response_id="r", created=1, model="m")
        data = b"".join([encoder.feed(event) for event in stream]) + encoder.close()
        decoder = spoken.decoder()
        stream = decoder.feed(data) + decoder.close()
        assert fold_response(stream) == fold_response(events)


def test_what_an_answer_may_not_hold_across() -> None:
    signature = Opaque({"type": "content_block_delta"}, "anthropic", structural=False)
    with pytest.raises(Interrupted) as caught:
        CHAT.encoder(Request.of("x"), response_id="r", created=1).feed(signature)
    assert caught.value.kind == "untranslatable"
    for event in (
        Delta("no", "refusal"),
        Delta("b", choice=1),
        Opaque({"choices": []}, "openai_chat", False),
    ):
        with pytest.raises(Interrupted) as caught:
            CLAUDE.encoder(Request.of("x"), response_id="r", created=1).feed(event)
        assert caught.value.kind == "untranslatable"
    for structural in (Opaque({}, "anthropic"), Opaque({}, "openai_chat")):
        other = CHAT if structural.dialect == "anthropic" else CLAUDE
        assert other.encoder(Request.of("x"), response_id="r", created=1).feed(structural) == b""


def test_whole_answers_across() -> None:
    events: list[Event] = [
        Delta("a"),
        Delta('{"x":1}', "tool:0", tool=ToolHead("1", "f")),
        Finish("tool_calls", Usage(1, 2)),
    ]
    for one, other in ((CHAT, CLAUDE), (CLAUDE, CHAT)):
        read, _, _ = one.decode_response(
            one.encode_response(events, Request.of("x"), response_id="r", created=1)
        )
        body = other.encode_response(read, Request.of("x"), response_id="r", created=1)
        assert fold_response(other.decode_response(body)[0]) == fold_response(events)


def test_an_unknown_dialect_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="openai_chat"):
        dialect("openai")
