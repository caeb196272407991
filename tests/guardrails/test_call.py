"""What may be asked: the forms that people write, and those that would lose the prompt."""

from __future__ import annotations

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


async def echo(request: Request) -> str:
    return "|".join(f"{message.role}:{message.text}" for message in request.messages)


def test_a_text_is_one_part() -> None:
    assert Message("user", "text") == Message.of("user", "text")  # type: ignore[arg-type] # what people write
    assert Message("user", [Text("a"), Image("https://x")]).parts == (Text("a"), Image("https://x"))  # type: ignore[arg-type]
    assert ToolResult("1", "four").parts == (Text("four"),)  # type: ignore[arg-type]


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
