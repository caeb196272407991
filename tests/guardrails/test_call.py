"""What may be asked: the forms that people write, and those that would lose the prompt."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from guardrails import (
    ConfigError,
    Image,
    InputFilters,
    Message,
    Pii,
    Request,
    Text,
    ToolResult,
    endpoint,
)
from guardrails.dialects import dialect


async def echo(request: Request) -> str:
    return "|".join(f"{message.role}:{message.text}" for message in request.messages)


def test_a_text_is_one_part() -> None:
    assert Message("user", "text") == Message.of("user", "text")  # type: ignore[arg-type] # what people write
    assert Message("user", [Text("a"), Image("https://x")]).parts == (Text("a"), Image("https://x"))  # type: ignore[arg-type]
    assert ToolResult("1", "four").parts == (Text("four"),)  # type: ignore[arg-type]


def test_ones_own_kinds_of_message_and_part_are_taken() -> None:
    class Turn(Message):
        pass

    class Piece(Text):
        pass

    turn = Turn("user", (Piece("hi"),))
    request = Request((turn,))
    assert request.messages[0] is turn
    assert Request.of([turn]).messages[0].text == "hi"
    sent = dialect("openai_chat").encode_request(request)["messages"]
    assert sent == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("parts", [["a secret"], ("a secret",), {"text": "a secret"}, None, 3, b"a secret"])
def test_what_is_no_part_is_refused_unquoted(parts: Any) -> None:
    with pytest.raises(ConfigError, match=r'Message\("user", "Hello"\)') as error:
        Message("user", parts)
    assert "a secret" not in str(error.value)


@pytest.mark.parametrize("messages", ["a secret", [{"role": "user", "content": "a secret"}], [None], 3])
def test_what_is_no_message_is_refused_unquoted(messages: Any) -> None:
    with pytest.raises(ConfigError, match=r"Request\.of") as error:
        Request(messages=messages)
    assert "a secret" not in str(error.value)


def test_a_list_of_messages_is_a_tuple_of_them() -> None:
    turns = [Message.of("user", "hi")]
    assert Request(messages=turns) == Request((*turns,))  # type: ignore[arg-type] # what people write


@pytest.mark.asyncio
async def test_openai_messages_can_be_asked() -> None:
    parts = [{"type": "text", "text": "two"}]
    turns: list[dict[str, object]] = [{"role": "user", "content": "one"}, {"role": "user", "content": parts}]
    llm = endpoint(echo)
    assert (await llm.ask(turns, system="be brief")).text == "system:be brief|user:one|user:two"
    assert (await llm.ask([Message.of("user", "ours")])).text == "user:ours"
    async with llm.stream(turns) as events:
        assert [event async for event in events]


SECRET = "ann@example.com"
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
UNREAD: list[tuple[dict[str, Any], str]] = [
    ({"content": {"a": SECRET}}, "its content is of type dict"),
    ({"content": 5}, "its content is of type int"),
    ({"content": [{"type": "input_text", "text": SECRET}]}, "a part of type input_text"),
    ({"content": [{"type": SECRET, "text": SECRET}]}, "a part of unknown type"),
    ({"content": [{"type": "text", "text": "x", "title": SECRET}]}, "an unknown field of a part"),
    (
        {"content": [{"type": "image_url", "image_url": {"url": "https://x", "alt": SECRET}}]},
        "image_url of a",
    ),
    ({"content": [SECRET, 5]}, "its content is of type list"),
    ({"content": "x", "name": SECRET}, "the field name"),
    ({"content": "x", SECRET: "x"}, "an unknown field"),
    ({"content": None, "refusal": SECRET}, "the field refusal"),
    ({"content": None}, "it has no content"),
    ({}, "it has no content"),
    ({"role": "tool", "tool_call_id": "1", "content": None}, "it has no content"),
    ({"role": "tool", "tool_call_id": "1", "content": "x", "name": SECRET}, "the field name"),
    ({"role": "tool", "tool_call_id": "1", "content": [{"type": "file", "file": SECRET}]}, "of type file"),
    ({"role": "assistant", "content": None, "tool_calls": [{**CALL, "note": SECRET}]}, "an unknown field"),
    ({"role": "assistant", "content": "x", "tool_calls": [{"f": SECRET}]}, "the field tool_calls"),
]


@pytest.mark.parametrize(("turn", "said"), UNREAD)
def test_words_that_no_filter_looks_at_are_refused_unquoted(turn: dict[str, Any], said: str) -> None:
    before = {"role": "user", "content": "hi"}
    with pytest.raises(ConfigError) as error:
        Request.of([before, {"role": "user", **turn}])
    assert error.value.message.startswith("messages[1]: ")
    assert said in error.value.message
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "1", "name": "get_weather", "content": "rain"},
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "x", "detail": "low"}}],
        },
        {"role": "user", "content": ["x"]},
        {"role": "assistant", "content": "x", "reasoning_content": "y"},
    ],
)
def test_what_clients_write_besides_is_taken_and_passes_as_it_is(turn: dict[str, Any]) -> None:
    assert dialect("openai_chat").encode_request(Request.of([turn]))["messages"] == [turn]


@pytest.mark.asyncio
@pytest.mark.parametrize("prompt", [None, [], [{"content": "a secret"}], [Message.of("user", "x"), {}], 3])
async def test_what_is_no_prompt_is_refused_unquoted(prompt: Any) -> None:
    with pytest.raises(ConfigError, match="a text or a list of messages") as error:
        await endpoint(echo).ask(prompt)
    assert "a secret" not in str(error.value)


@pytest.mark.asyncio
async def test_a_text_in_a_message_reaches_filter_and_endpoint() -> None:
    llm = endpoint(echo, InputFilters([Pii(entities=("EMAIL_ADDRESS",))]))
    request = Request((Message("user", "I am ann@example.com"),))  # type: ignore[arg-type] # what people write
    assert (await llm.ask(request)).text == "user:I am <EMAIL_ADDRESS>"


FORKED = """
import os, random, sys
from guardrails import Call, Request
request = Request.of("hi")
ids = [Call(request).id for _ in range(2)]
for _ in range(2):
    random.seed(1)  # what an application does to its own random numbers
    ids.append(Call(request).id)
if os.fork() == 0:
    os.write(1, f"{Call(request).id}\\n".encode())
    os._exit(0)
os.wait()
print(*ids, Call(request).id, sep="\\n")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_no_two_calls_have_one_name_after_a_fork_or_a_seed_either() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    ids = done.stdout.split()
    assert len(set(ids)) == len(ids) == 6
    assert all(len(bytes.fromhex(each)) == 16 for each in ids)
