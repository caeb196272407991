"""The official SDKs, unmodified, talk to the simulator: what they take for a vendor, our users' apps will."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from guardrails.testing import Profile, simulate
from guardrails.testing.server import SimulatedServer

pytestmark = pytest.mark.e2e

KEY = "sk-test"
ASK: list[Any] = [{"role": "user", "content": "one two three"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@asynccontextmanager
async def openai_client(
    profile: Profile | None = None, key: str = KEY
) -> AsyncIterator[tuple[openai.AsyncOpenAI, SimulatedServer]]:
    async with (
        simulate(profile or Profile(key=KEY)) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=20) as client,
    ):
        yield client, server


@asynccontextmanager
async def anthropic_client(
    profile: Profile | None = None, key: str = KEY
) -> AsyncIterator[tuple[anthropic.AsyncAnthropic, SimulatedServer]]:
    async with (
        simulate(profile or Profile(key=KEY)) as server,
        anthropic.AsyncAnthropic(base_url=server.url, api_key=key, max_retries=0, timeout=20) as client,
    ):
        yield client, server


# --- OpenAI


@pytest.mark.asyncio
async def test_openai_whole() -> None:
    async with openai_client() as (client, _):
        answer = await client.chat.completions.create(model="sim", messages=ASK)
        assert answer.choices[0].message.content == "one two three"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.model == "sim"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3
        assert answer._request_id == "req_sim000000000001"


@pytest.mark.asyncio
async def test_openai_streamed_with_usage() -> None:
    async with openai_client(Profile(cached=0.5)) as (client, server):
        stream = await client.chat.completions.create(
            model="sim", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "one two three"
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
        assert len(usages) == 1
        assert usages[0].completion_tokens == 3
        assert usages[0].prompt_tokens_details is not None
        assert usages[0].prompt_tokens_details.cached_tokens == usages[0].prompt_tokens // 2
        assert server.stats.completed == 1


@pytest.mark.asyncio
async def test_openai_streams_no_usage_unasked() -> None:
    async with openai_client() as (client, _):
        stream = await client.chat.completions.create(model="sim", messages=ASK, stream=True)
        assert [chunk.usage async for chunk in stream if chunk.usage is not None] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [True, False])
async def test_openai_two_choices(streamed: bool) -> None:
    async with openai_client() as (client, _):
        if not streamed:
            answer = await client.chat.completions.create(model="sim", messages=ASK, n=2)
            assert [choice.message.content for choice in answer.choices] == ["one two three"] * 2
            return
        stream = await client.chat.completions.create(model="sim", messages=ASK, n=2, stream=True)
        texts, reasons = {0: "", 1: ""}, {}
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                reasons[choice.index] = choice.finish_reason
        assert texts == {0: "one two three", 1: "one two three"}
        assert reasons == {0: "stop", 1: "stop"}


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [True, False])
async def test_openai_tool_call(streamed: bool) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    async with openai_client() as (client, _):
        if streamed:
            stream = await client.chat.completions.create(model="sim", messages=ASK, tools=tools, stream=True)
            name, arguments, reason = "", "", None
            async for chunk in stream:
                for choice in chunk.choices:
                    reason = choice.finish_reason or reason
                    for call in choice.delta.tool_calls or ():
                        assert call.function is not None
                        name += call.function.name or ""
                        arguments += call.function.arguments or ""
        else:
            answer = await client.chat.completions.create(model="sim", messages=ASK, tools=tools)
            reason = answer.choices[0].finish_reason
            (whole,) = answer.choices[0].message.tool_calls or ()
            assert whole.type == "function"
            name, arguments = whole.function.name, whole.function.arguments
    assert (name, json.loads(arguments), reason) == ("weather", {"city": "example"}, "tool_calls")


@pytest.mark.asyncio
async def test_openai_reasoning() -> None:
    async with openai_client(Profile(reasoning=4)) as (client, _):
        answer = await client.chat.completions.create(model="sim", messages=ASK)
        extra = answer.choices[0].message.model_extra or {}
        assert extra["reasoning_content"] == "lorem ipsum dolor sit"
        assert answer.choices[0].message.content == "one two three"
        assert answer.usage is not None
        assert answer.usage.completion_tokens_details is not None
        assert answer.usage.completion_tokens_details.reasoning_tokens == 4


@pytest.mark.asyncio
async def test_openai_stop_and_length() -> None:
    async with openai_client() as (client, _):
        cut = await client.chat.completions.create(model="sim", messages=ASK, max_tokens=2)
        assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("one two", "length")
        stopped = await client.chat.completions.create(model="sim", messages=ASK, stop=["three"])
        assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("one two ", "stop")


@pytest.mark.asyncio
async def test_openai_models() -> None:
    async with openai_client(Profile(models=("one", "two"))) as (client, _):
        assert [model.id async for model in client.models.list()] == ["one", "two"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sim+rate_limit=3", openai.RateLimitError),
        ("sim+status=500", openai.InternalServerError),
        ("sim+status=503", openai.InternalServerError),
        ("sim+status=400", openai.BadRequestError),
        ("sim+reset", openai.APIConnectionError),
        ("sim+reset_after=1", openai.APIConnectionError),
        ("sim+sse_error=1", openai.APIError),
    ],
)
async def test_openai_errors_are_typed(model: str, error: type[Exception]) -> None:
    async with openai_client() as (client, server):
        with pytest.raises(error) as failed:
            await _drain(client.chat.completions.create(model=model, messages=ASK, stream=True))
        if isinstance(failed.value, openai.RateLimitError):
            assert failed.value.response.headers["retry-after"] == "3"
    assert server.stats.requests == 1


@pytest.mark.asyncio
async def test_openai_wrong_key_and_model() -> None:
    async with openai_client(Profile(key=KEY, models=("real",)), key="sk-wrong") as (client, _):
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="real", messages=ASK)
    async with openai_client(Profile(models=("real",))) as (client, _):
        with pytest.raises(openai.NotFoundError, match="real"):
            await client.chat.completions.create(model="made-up", messages=ASK)


async def _drain(opening: Any) -> None:
    async for _ in await opening:
        pass


# --- Anthropic


@pytest.mark.asyncio
async def test_anthropic_whole() -> None:
    async with anthropic_client() as (client, _):
        answer = await client.messages.create(model="sim", messages=ASK, max_tokens=50)
        assert answer.content[0].type == "text"
        assert answer.content[0].text == "one two three"
        assert answer.stop_reason == "end_turn"
        assert answer.usage.output_tokens == 3
        assert answer.usage.input_tokens > 0
        assert answer._request_id == "req_sim000000000001"


@pytest.mark.asyncio
async def test_anthropic_streamed() -> None:
    async with anthropic_client() as (client, server):
        async with client.messages.stream(model="sim", messages=ASK, max_tokens=50) as stream:
            texts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
        assert "".join(texts) == "one two three"
        assert len(texts) == 3
        assert final.stop_reason == "end_turn"
        assert final.usage.output_tokens == 3
        assert server.stats.completed == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [True, False])
async def test_anthropic_tool_call(streamed: bool) -> None:
    tools: list[Any] = [{"name": "weather", "input_schema": SCHEMA}]
    async with anthropic_client() as (client, _):
        if streamed:
            async with client.messages.stream(
                model="sim", messages=ASK, max_tokens=50, tools=tools
            ) as stream:
                answer: Any = await stream.get_final_message()
        else:
            answer = await client.messages.create(model="sim", messages=ASK, max_tokens=50, tools=tools)
        (call,) = answer.content
        assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "example"})
        assert answer.stop_reason == "tool_use"
        done: list[Any] = [
            *ASK,
            {"role": "assistant", "content": [call.model_dump(exclude_none=True)]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}]},
        ]
        after = await client.messages.create(model="sim", messages=done, max_tokens=50, tools=tools)
        assert after.stop_reason == "end_turn"


@pytest.mark.asyncio
async def test_anthropic_reasoning() -> None:
    async with anthropic_client(Profile(reasoning=4)) as (client, _):
        async with client.messages.stream(model="sim", messages=ASK, max_tokens=50) as stream:
            answer = await stream.get_final_message()
        thinking, said = answer.content
        assert thinking.type == "thinking"
        assert thinking.thinking == "lorem ipsum dolor sit"
        assert said.type == "text"
        assert said.text == "one two three"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sim+rate_limit=3", anthropic.RateLimitError),
        ("sim+status=500", anthropic.InternalServerError),
        ("sim+status=529", anthropic.InternalServerError),
        ("sim+status=400", anthropic.BadRequestError),
        ("sim+reset", anthropic.APIConnectionError),
        ("sim+reset_after=1", httpx2.ReadError),  # this SDK does not wrap what happens in mid-stream
        ("sim+sse_error=1", anthropic.APIStatusError),
    ],
)
async def test_anthropic_errors_are_typed(model: str, error: type[Exception]) -> None:
    async with anthropic_client() as (client, _):
        with pytest.raises(error):
            await _drain(client.messages.create(model=model, messages=ASK, max_tokens=50, stream=True))


@pytest.mark.asyncio
async def test_anthropic_wrong_key() -> None:
    async with anthropic_client(key="sk-wrong") as (client, _):
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(model="sim", messages=ASK, max_tokens=50)
