"""The HTTP endpoint over real sockets, and over a transport that only pretends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

import guardrails
from guardrails import (
    Call,
    ConfigError,
    Delta,
    EndpointError,
    Finish,
    Interrupted,
    Llm,
    Request,
    Timeouts,
    Transient,
    Truncated,
    collect,
)
from guardrails.endpoints.http import HttpConfig, HttpEndpoint
from guardrails.testing import Profile, simulate

# Short only where a stall is what is tested: machines that are busy pause, too.
SHORT, LONG = Timeouts(0.4, 0.4, 20), Timeouts(30, 30, 60)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[str]:
    async with simulate(Profile(answers="fixed:one two three four five six")) as running:
        yield running.url


def client(url: str, fault: str, *, transport: str = "aiohttp", dialect: str = "openai_chat") -> Llm:
    model = f"sim+{fault}" if fault else "sim"
    timeouts = SHORT if "stall" in fault else LONG
    return guardrails.endpoint(url, model=model, dialect=dialect, transport=transport, timeouts=timeouts)


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic"])
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
async def test_a_good_answer(server: str, transport: str, dialect: str, stream: bool) -> None:
    async with client(server, "", transport=transport, dialect=dialect) as llm:
        call = Call(Request(Request.of("hi").messages, stream=stream))
        response = await collect(llm, call)
    assert response.text == "one two three four five six"
    record = call.journal.record
    assert record is not None
    assert record.outcome == "complete"
    assert record.finish_reason == "stop"
    assert record.token_source == "usage"
    assert record.model_reported == "sim"
    assert record.response_id
    assert record.request_id
    assert record.headers_ms is not None
    assert record.ttft_ms is not None
    assert record.headers_ms <= record.ttft_ms
    if transport == "aiohttp":
        assert record.connect_ms is not None
        assert record.connect_ms <= record.headers_ms


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "error", "kinds"),
    [
        ("reset", Transient, {"reset"}),
        ("reset_after=2", Interrupted, {"reset"}),
        ("eof_after=2", Truncated, {"truncated"}),
        ("stall_headers", Transient, {"timeout_first_event"}),
        ("stall_first", Transient, {"timeout_first_event"}),
        ("stall_after=2", Interrupted, {"timeout_between_events"}),
        ("malformed=2", Interrupted, {"malformed"}),
        ("invalid_utf8=2", Interrupted, {"malformed"}),
        ("html", guardrails.Refused, {"not_inference"}),
        ("empty", Transient, {"truncated"}),
        ("rate_limit=7", Transient, {"rate_limited"}),
        ("rate_limit_bare", Transient, {"rate_limited"}),
        ("status=500", Transient, {"server_error"}),
        ("status=503", Transient, {"unavailable", "overloaded", "server_error"}),
        ("status=529", Transient, {"overloaded", "server_error"}),
        ("sse_error=2", Interrupted, {"overloaded", "server_error", "error"}),
        ("oversized_line=18", Interrupted, {"oversized"}),
    ],
)
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic"])
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
async def test_every_fault_is_named(
    server: str, transport: str, dialect: str, fault: str, error: type[EndpointError], kinds: set[str]
) -> None:
    async with client(server, fault, transport=transport, dialect=dialect) as llm:
        call = Call(Request.of("hi"))
        with pytest.raises(error) as caught:
            await collect(llm, call)
        assert type(caught.value) is error or error is Interrupted
        assert caught.value.kind in kinds
        assert caught.value.endpoint == f"sim+{fault}"
        if fault == "rate_limit=7":
            assert isinstance(caught.value, Transient)
            assert caught.value.retry_after == pytest.approx(7)
        record = call.journal.record
        assert record is not None
        assert record.error == caught.value.kind
        assert record.outcome == "failed"
        assert (record.ttft_ms is None) == isinstance(caught.value, Transient | guardrails.Refused)
        # The endpoint is whole again afterwards: nothing of the failed call is left in the pool.
        good = Call(Request.of("hi", max_tokens=50))
        assert (await collect(llm, Call(Request(good.request.messages, model="sim")))).text.startswith("one")
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
async def test_a_slow_drip_and_a_wrong_type_still_arrive(server: str, transport: str) -> None:
    for fault in ("drip=0.1", "wrong_type"):
        async with client(server, fault, transport=transport) as llm:
            assert (await llm.ask("hi")).text == "one two three four five six"


@pytest.mark.asyncio
async def test_an_early_break_closes_the_connection() -> None:
    slow = Profile(answers="lorem:400", ttft_ms=1, tpot_ms=5)
    async with simulate(slow) as server, guardrails.endpoint(server.url, model="sim") as llm:
        async with llm.stream("hi") as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        for _ in range(1000):  # turns of the loop, for the server to notice
            if not server.stats.active:
                break
            await asyncio.sleep(0)
        assert server.stats.aborted == 1


@pytest.mark.asyncio
async def test_connections_are_used_again(server: str) -> None:
    async with simulate(Profile()) as counted, guardrails.endpoint(counted.url, model="sim") as llm:
        for _ in range(5):
            await llm.ask("hi")
        assert counted.stats.requests == 5
        pool = llm._endpoint._transport._session.connector  # type: ignore[attr-defined]
        assert sum(len(kept) for kept in pool._conns.values()) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
async def test_nobody_listens(transport: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with guardrails.endpoint(f"http://127.0.0.1:{port}/v1", model="m", transport=transport) as llm:
        with pytest.raises(Transient, match="refuses connections") as caught:
            await llm.ask("hi")
    assert caught.value.kind == "connect"


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
async def test_the_name_does_not_resolve(transport: str) -> None:
    async with guardrails.endpoint("http://nowhere.invalid/v1", model="m", transport=transport) as llm:
        with pytest.raises(Transient) as caught:
            await llm.ask("hi")
    assert caught.value.kind == "dns"


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
async def test_plain_http_where_tls_is_expected(transport: str) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        url = f"https://127.0.0.1:{port}/v1"
        async with guardrails.endpoint(url, model="m", transport=transport) as llm:
            with pytest.raises(Transient) as caught:
                await llm.ask("hi")
    assert caught.value.kind == "tls"


# --- keys, on a transport that only pretends


def pretending(seen: list[httpx.Request], status: int = 200, **headers: str) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        body = {
            "id": "r",
            "model": "m",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
            ],
        }
        return httpx.Response(status, json=body, headers=headers)

    return httpx.MockTransport(answer)


@pytest.mark.asyncio
async def test_a_vendors_key_goes_to_its_own_host_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marked")
    seen: list[httpx.Request] = []
    for url in ("https://api.openai.com/v1", "https://api.openai.com.evil.example/v1"):
        await Llm(HttpEndpoint(HttpConfig(url, model="m"), transport=pretending(seen))).ask("hi")
    assert [request.headers.get("authorization") for request in seen] == ["Bearer sk-marked", None]


@pytest.mark.asyncio
async def test_keys_can_rotate_and_are_never_shown() -> None:
    keys = iter(["sk-one", "sk-two"])

    async def later() -> str:
        return next(keys)

    seen: list[httpx.Request] = []
    config = HttpConfig("http://h/v1", model="m", key=later, headers={"x-secret": "sk-three"})
    llm = Llm(HttpEndpoint(config, transport=pretending(seen)))
    answers = [await llm.ask("hi"), await llm.ask("hi")]
    assert [request.headers["authorization"] for request in seen] == ["Bearer sk-one", "Bearer sk-two"]
    shown = f"{config!r}{llm!r}{llm._endpoint!r}{answers!r}{answers[0].record.as_json()!r}"
    assert "sk-" not in shown
    assert "sk-" not in repr(HttpConfig("http://h/v1", key="sk-four"))


@pytest.mark.asyncio
async def test_a_missing_key_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    llm = Llm(HttpEndpoint(HttpConfig("http://h/v1", key_env="MY_KEY"), transport=pretending([])))
    with pytest.raises(ConfigError, match="export MY_KEY="):
        await llm.ask("hi")


@pytest.mark.asyncio
async def test_redirects_are_not_followed() -> None:
    seen: list[httpx.Request] = []
    llm = Llm(
        HttpEndpoint(HttpConfig("http://h/v1"), transport=pretending(seen, 307, location="http://evil/"))
    )
    with pytest.raises(guardrails.Refused, match="redirects"):
        await llm.ask("hi")
    assert len(seen) == 1


def test_one_endpoint_serves_one_loop_after_another() -> None:
    async def ask(llm: Llm, url: str) -> str:
        async with simulate(Profile(answers="fixed:hello"), port=int(url.rsplit(":", 1)[1].split("/")[0])):
            text = (await llm.ask("hi")).text
            await llm.aclose()
            return text

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    llm = guardrails.endpoint(url, model="sim")
    assert [asyncio.run(ask(llm, url)) for _ in range(2)] == ["hello", "hello"]


@pytest.mark.asyncio
async def test_a_whole_answer_has_one_event_per_channel_and_a_finish(server: str) -> None:
    async with client(server, "") as llm:
        events = []
        async with llm(Call(Request(Request.of("hi").messages, stream=False))) as stream:
            events = [event async for event in stream]
    assert [type(event) for event in events] == [Delta, Finish] or isinstance(events[-1], Finish)
