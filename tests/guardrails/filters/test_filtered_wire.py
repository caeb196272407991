"""From a vendor's bytes to a vendor's bytes, with the output filtered in between."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from guardrails.call import Call, Event, Request, fold_response
from guardrails.dialects.anthropic import Anthropic
from guardrails.dialects.openai_chat import OpenAIChat
from guardrails.filters import OutputFilters, Pii
from guardrails.handler import Stream, stack


def openai_chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "token_ids": [3050, 31], **more}
    return {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": [choice]}


OPENAI = [
    openai_chunk({"role": "assistant", "content": ""}),
    openai_chunk({"reasoning_content": "They are jo@ac"}),
    openai_chunk({"reasoning_content": "me.com.", "content": "Mail "}),
    openai_chunk({"content": "jo@ac"}, logprobs={"content": [{"token": "jo@ac"}]}),
    openai_chunk({"content": "me.com, please. "}, logprobs={"content": [{"token": "me.com"}]}),
    openai_chunk({"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "f"}}]}),
    openai_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"to": "jo\\u0040'}}]}),
    openai_chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'acme.com"}'}}]}, "tool_calls"),
]


def _block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


ANTHROPIC = [
    {"type": "message_start", "message": {"id": "c", "model": "m", "usage": {"input_tokens": 3}}},
    *_block(
        0,
        {"type": "thinking", "thinking": ""},
        {"type": "thinking_delta", "thinking": "They are jo@ac"},
        {"type": "thinking_delta", "thinking": "me.com."},
    ),
    *_block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Mail jo@ac"},
        {"type": "text_delta", "text": "me.com, please. "},
    ),
    *_block(
        2,
        {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"to": "jo\\u0040'},
        {"type": "input_json_delta", "partial_json": 'acme.com"}'},
    ),
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]


def frames(raw: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def through(dialect: Any, chunks: list[dict[str, Any]], end: bytes) -> bytes:
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + end
    decoder = dialect.decoder()
    read: list[Event] = [*decoder.feed(body), *decoder.close()]

    @asynccontextmanager
    async def endpoint(call: Call) -> AsyncGenerator[Stream]:
        async def events() -> AsyncGenerator[Event]:
            for event in read:
                yield event

        yield events()

    request = Request.of("hello")
    encoder = dialect.encoder(request, response_id="r", created=1, model="m")
    out = b""
    async with stack(endpoint, OutputFilters([Pii()]))(Call(request)) as stream:
        async for event in stream:
            out += encoder.feed(event)
    written: bytes = out + encoder.close()
    return written


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("dialect", "chunks", "end"),
    [(OpenAIChat(), OPENAI, b"data: [DONE]\n\n"), (Anthropic(), ANTHROPIC, b"")],
    ids=["openai", "anthropic"],
)
async def test_no_byte_of_a_finding_reaches_the_other_side(
    dialect: Any, chunks: list[dict[str, Any]], end: bytes
) -> None:
    out = await through(dialect, chunks, end)
    for part in (b"jo@", b"acme", b"u0040", b"@ac"):
        assert part not in out
    decoder = dialect.decoder()
    choice = fold_response([*decoder.feed(out), *decoder.close()]).choices[0]
    assert choice.reasoning == "They are <EMAIL_ADDRESS>."
    assert choice.text == "Mail <EMAIL_ADDRESS>, please. "
    assert json.loads(choice.tool_calls[0].arguments) == {"to": "<EMAIL_ADDRESS>"}
    assert choice.finish_reason == "tool_calls"


@pytest.mark.asyncio
async def test_token_ids_go_with_the_text_that_they_spell() -> None:
    out = frames(await through(OpenAIChat(), OPENAI, b"data: [DONE]\n\n"))
    for chunk in out:
        for choice in chunk["choices"]:
            assert "<EMAIL" not in json.dumps(choice) or "token_ids" not in choice


@pytest.mark.asyncio
async def test_blocks_stay_in_order_and_closed() -> None:
    out = frames(await through(Anthropic(), ANTHROPIC, b""))
    open_block = None
    for frame in out:
        match frame["type"]:
            case "content_block_start":
                assert open_block is None
                open_block = frame["index"]
            case "content_block_delta":
                assert frame["index"] == open_block
            case "content_block_stop":
                assert frame["index"] == open_block
                open_block = None
    assert [f["content_block"]["type"] for f in out if f["type"] == "content_block_start"] == [
        "thinking",
        "text",
        "tool_use",
    ]
