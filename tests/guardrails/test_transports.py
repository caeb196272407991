"""What a server may send around an answer: compressed bodies, cookies, bytes that are no text."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

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
async def speaking(said: bytes, *, once: bool = False) -> AsyncIterator[Served]:
    """A server that says just this after each request; with `once`, it hangs up then."""
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
                if once:
                    return
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
    "told", [("gzip, gzip",), ("gzip", "gzip"), ("br, gzip",), (b"gz\xffip",), ("gz\u00efp",)]
)
async def test_what_is_compressed_in_other_ways_is_not_read(
    transport: str, told: tuple[str | bytes, ...]
) -> None:
    lines = [b"content-encoding: " + (one if isinstance(one, bytes) else one.encode()) for one in told]
    async with serving(gzip.compress(STREAM), SSE, *lines) as served, served.llm(transport) as llm:
        with pytest.raises(GuardrailsError) as caught:
            await llm.ask("hi")
    assert caught.value.kind == "malformed"


@both
@pytest.mark.asyncio
async def test_identity_beside_an_encoding_says_nothing(transport: str) -> None:
    lines = ("content-encoding: Identity", "content-encoding: GZIP")
    async with serving(gzip.compress(STREAM), SSE, *lines) as served, served.llm(transport) as llm:
        assert (await llm.ask("hi")).text == "yes"


@both
@pytest.mark.asyncio
async def test_a_long_line_before_the_answer_is_read(transport: str) -> None:
    async with serving(STREAM, SSE, f"x-policy: {'a' * 30_000}") as served, served.llm(transport) as llm:
        assert (await llm.ask("hi")).text == "yes"


HEAD = b"HTTP/1.1 200 OK\r\n"


@both
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "said",
    [
        HEAD + SSE.encode() + b"\r\ntransfer-encoding: chunked\r\n\r\n",
        HEAD + SSE.encode() + b"\r\ntransfer-encoding: chunked\r\n\r\n6\r\n: hi\n\n\r\n",
        HEAD + SSE.encode() + b"\r\ncontent-length: 100\r\n\r\n",
        HEAD + JSON.encode() + b"\r\ncontent-length: 100\r\n\r\n{",
    ],
)
async def test_a_connection_that_breaks_after_the_head_can_be_tried_again(
    transport: str, said: bytes
) -> None:
    async with speaking(said, once=True) as served, served.llm(transport) as llm:
        with pytest.raises(guardrails.Transient) as caught:
            await llm.ask("hi")
    assert caught.value.kind == "reset"


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
        with pytest.raises(guardrails.Refused, match="is no valid HTTP") as caught:
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


@both
@pytest.mark.asyncio
async def test_who_still_reads_when_an_endpoint_is_closed_is_told(transport: str) -> None:
    endless = HEAD + SSE.encode() + b"\r\ncontent-length: 9999\r\n\r\n" + STREAM.split(b"data: [DONE]")[0]
    async with speaking(endless.replace(b'"finish_reason": "stop"', b'"finish_reason": null')) as served:
        llm = served.llm(transport)
        async with llm.stream("hi") as events:
            await anext(events)
            await llm.aclose()
            with pytest.raises(guardrails.Interrupted) as caught:
                async for _ in events:
                    pass
        assert caught.value.kind == "reset"


@both
@pytest.mark.asyncio
async def test_ones_own_header_stands_in_place_of_ours(transport: str) -> None:
    headers = {"Authorization": "Bearer mine", "User-Agent": "me"}
    async with serving(STREAM, SSE) as served:
        url = served.url
        async with guardrails.endpoint(
            url, model="m", transport=transport, key="sk-k", headers=headers
        ) as llm:
            await llm.ask("hi")
    sent = served.asked[0].lower()
    assert sent.count(b"authorization:") == sent.count(b"authorization: bearer mine") == 1
    assert sent.count(b"user-agent:") == sent.count(b"user-agent: me") == 1


# --- proxies


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
async def test_the_environments_proxy_is_asked(
    nowhere: pytest.MonkeyPatch, name: str, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine far.example login me password not-to-be-seen\n")
    nowhere.setenv("NETRC", str(tmp_path / "netrc"))
    async with serving(STREAM, SSE) as served:
        nowhere.setenv(name, served.url.removesuffix("/v1").replace("//", "//who:you%40@"))
        async with guardrails.endpoint("http://far.example/v1", model="m", key="sk-k") as llm:
            assert (await llm.ask("hi")).text == "yes"
    assert served.asked[0].startswith(b"POST http://far.example/v1/chat/completions HTTP/1.1")
    lines = served.asked[0].split(b"\r\n")
    assert b"authorization: Bearer sk-k" in lines
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"who:you@") in lines


@pytest.mark.asyncio
@pytest.mark.parametrize("spared", ["other.example,127.0.0.1", "*", "127.0.0.1:{port}"])
async def test_a_host_that_needs_no_proxy_is_asked_itself(nowhere: pytest.MonkeyPatch, spared: str) -> None:
    async with serving(STREAM, SSE) as served:
        nowhere.setenv("http_proxy", "http://far.invalid:1")
        port = served.url.split(":")[2].split("/")[0]
        nowhere.setenv("no_proxy", spared.format(port=port))
        async with served.llm("aiohttp") as llm:
            assert (await llm.ask("hi")).text == "yes"


@pytest.mark.asyncio
@pytest.mark.parametrize("given", ["http://[::1", "socks5://u:not-to-be-seen@h:1", "//", "h:1"])
async def test_a_proxy_that_cannot_be_used_is_named(nowhere: pytest.MonkeyPatch, given: str) -> None:
    nowhere.setenv("http_proxy", given)
    async with guardrails.endpoint("http://far.example/v1", model="m") as llm:
        with pytest.raises(guardrails.ConfigError, match="proxy") as caught:
            await llm.ask("hi")
    assert "NO_PROXY" in caught.value.hint
    assert "not-to-be-seen" not in str(caught.value)
