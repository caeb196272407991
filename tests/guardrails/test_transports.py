"""What a server may send around an answer: compressed bodies, cookies, bytes that are no text."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

import guardrails
from guardrails import Call, Llm, Request, collect
from guardrails.errors import GuardrailsError

both = pytest.mark.parametrize("transport", ["aiohttp", "httpx"])

WHOLE = {
    "id": "r",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
}
CHUNK = {
    "id": "r",
    "model": "m",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
}
STREAM = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n".encode()
JSON, SSE = "content-type: application/json", "content-type: text/event-stream"
PACKED = "content-encoding: gzip"


@dataclass
class Served:
    """A server that gives everybody the same bytes, and what it was asked."""

    url: str
    asked: list[bytes] = field(default_factory=list)

    def llm(self, transport: str) -> Llm:
        return guardrails.endpoint(self.url, model="m", transport=transport)


def serving(body: bytes, *headers: str | bytes) -> AbstractAsyncContextManager[Served]:
    """A server whose answer has this body, and these headers besides its length."""
    lines = [line if isinstance(line, bytes) else line.encode() for line in headers]
    head = b"\r\n".join([b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *lines])
    return speaking(head + b"\r\n\r\n" + body)


@asynccontextmanager
async def speaking(said: bytes) -> AsyncIterator[Served]:
    """A server that says just this after each request."""
    served = Served("")
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in asked.lower().split(b"\r\n") if b"content-length" in line)
                await reader.readexactly(int(length.partition(b":")[2]))
                served.asked.append(asked)
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        served.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        yield served
        await asyncio.gather(*filter(None, serving))  # they end with the client's connections


@both
@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [True, False])
async def test_a_compressed_answer_is_unpacked(transport: str, stream: bool) -> None:
    body = STREAM if stream else json.dumps(WHOLE).encode()
    async with (
        serving(gzip.compress(body), SSE if stream else JSON, PACKED) as served,
        served.llm(transport) as llm,
    ):
        request = Request(Request.of("hi").messages, stream=stream)
        assert (await collect(llm, Call(request))).text == "yes"
        assert b"accept-encoding: identity" in served.asked[0].lower()


@both
@pytest.mark.asyncio
async def test_an_answer_that_only_says_it_is_compressed_is_malformed(transport: str) -> None:
    async with serving(STREAM, SSE, PACKED) as served, served.llm(transport) as llm:
        with pytest.raises(GuardrailsError) as caught:
            await llm.ask("hi")
    assert caught.value.kind == "malformed"


@both
@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [JSON, SSE])
async def test_a_small_answer_that_unpacks_to_a_huge_one_is_given_up_in_little_memory(
    transport: str, kind: str
) -> None:
    bomb = gzip.compress(bytes(200 * 2**20))
    async with serving(bomb, kind, PACKED) as served, served.llm(transport) as llm:
        await llm.aclose()  # what is loaded with the first pool is not the answer's
        tracemalloc.start()
        try:
            with pytest.raises(GuardrailsError) as caught:
                await llm.ask("hi")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert caught.value.kind == "oversized"
    assert peak < 64 * 2**20


@both
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",  # a TLS server's alert
        b"SSH-2.0-OpenSSH_9.2 and more, so that it looks like a line\r\n\r\n",
    ],
)
async def test_a_server_that_speaks_something_else_is_told_from_a_broken_one(
    transport: str, said: bytes
) -> None:
    async with speaking(said) as served, served.llm(transport) as llm:
        with pytest.raises(guardrails.Refused, match="does not answer in HTTP") as caught:
            await llm.ask("hi")
    assert caught.value.kind == "not_inference"
    assert "https" in caught.value.hint


@both
@pytest.mark.asyncio
async def test_no_cookie_is_sent_back(transport: str) -> None:
    async with serving(STREAM, SSE, "set-cookie: who=you; path=/") as served:
        url = served.url.replace("127.0.0.1", "localhost")  # cookies of bare addresses are refused anyway
        async with guardrails.endpoint(url, model="m", transport=transport) as llm:
            for _ in range(2):
                await llm.ask("hi")
    assert len(served.asked) == 2
    assert b"cookie" not in served.asked[1].lower()


@both
@pytest.mark.asyncio
async def test_a_request_id_that_is_no_text_can_be_written_down(transport: str) -> None:
    async with serving(STREAM, SSE, b"x-request-id: a\xff\xfe") as served, served.llm(transport) as llm:
        record = (await llm.ask("hi")).record
    assert record is not None
    assert record.request_id
    assert record.request_id.encode().startswith(b"a")  # half a surrogate pair could not be encoded
    assert json.loads(record.as_json())["request_id"] == record.request_id
