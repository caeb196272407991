"""The simulator at the wire, seen by a client that knows nothing but sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from guardrails.errors import ConfigError
from guardrails.testing import FakeClock, Fault, Profile, StepModel, simulate
from guardrails.testing.server import SimulatedServer

OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"


@dataclass(frozen=True)
class Answer:
    """What came back: `end` is `eof` or `reset` (the server closed), or `open` (a whole reply was read)."""

    raw: bytes
    end: str

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = self.raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines)

    @property
    def body(self) -> bytes:
        data = self.raw.partition(b"\r\n\r\n")[2]
        if self.headers.get("transfer-encoding") != "chunked":
            return data
        parts = []
        while data:
            size, _, data = data.partition(b"\r\n")
            parts.append(data[: int(size, 16)])
            data = data[int(size, 16) + 2 :]
        return b"".join(parts)

    @property
    def ended_well(self) -> bool:
        """Whether HTTP's framing says that the body is complete."""
        if self.headers.get("transfer-encoding") == "chunked":
            return self.raw.endswith(b"0\r\n\r\n")
        return len(self.raw.partition(b"\r\n\r\n")[2]) == int(self.headers["content-length"])


def text_of(answer: Answer) -> str:
    """The visible text of a streamed OpenAI answer."""
    chunks = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: {")]
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def post(path: str = OPENAI, *, close: bool = True, headers: str = "", **body: Any) -> bytes:
    body = {"model": "sim", "stream": True, "messages": [{"role": "user", "content": "a b c d e"}]} | body
    if path == ANTHROPIC:
        body.setdefault("max_tokens", 100)
    data = json.dumps(body).encode()
    connection = "connection: close\r\n" if close else ""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n{connection}{headers}\r\n"
    return head.encode() + data


@asynccontextmanager
async def connected(
    server: SimulatedServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**27)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ask(server: SimulatedServer, request: bytes) -> Answer:
    """Send, and read until the server closes."""
    raw, end = bytearray(), "eof"
    async with connected(server) as (reader, writer):
        writer.write(request)
        try:
            while data := await reader.read(2**20):
                raw += data
        except ConnectionResetError:
            end = "reset"
    return Answer(bytes(raw), end)


async def until(condition: Callable[[], bool]) -> None:
    """Give the sockets their turns until the condition holds."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def answer_to(profile: Profile, request: bytes) -> Answer:
    async with simulate(profile) as server:
        answer = await ask(server, request)
    assert server.stats.active == 0
    return answer


# --- the good case


@pytest.mark.asyncio
async def test_a_stream_in_the_openai_wire() -> None:
    answer = await answer_to(Profile(), post())
    assert (answer.status, answer.end, answer.ended_well) == (200, "eof", True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"] == "req_sim000000000001"
    assert text_of(answer) == "a b c d e"
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.asyncio
async def test_a_stream_in_the_anthropic_wire() -> None:
    answer = await answer_to(Profile(), post(ANTHROPIC))
    assert (answer.status, answer.ended_well) == (200, True)
    assert answer.headers["request-id"].startswith("req_sim")
    assert b"event: message_start" in answer.body
    assert b"event: message_stop" in answer.body


@pytest.mark.asyncio
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, OPENAI.removeprefix("/v1"), "/v1" + ANTHROPIC])
async def test_a_whole_answer(path: str) -> None:
    answer = await answer_to(Profile(), post(path, stream=False))
    body = json.loads(answer.body)
    said = body["choices"][0]["message"]["content"] if "choices" in body else body["content"][0]["text"]
    assert said == "a b c d e"
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.asyncio
async def test_a_connection_is_kept_alive_and_requests_may_be_pipelined() -> None:
    several = post(close=False, stream=False) * 50 + post(stream=False)
    async with simulate() as server:
        answer = await ask(server, several)
    assert answer.raw.count(b"HTTP/1.1 200 OK") == 51
    assert (server.stats.requests, server.stats.completed) == (51, 51)


@pytest.mark.asyncio
async def test_equal_requests_get_ids_of_their_own() -> None:
    async with simulate() as server:
        ids = [json.loads((await ask(server, post(stream=False))).body)["id"] for _ in range(3)]
    assert ids == [f"chatcmpl-sim{number:012d}" for number in (1, 2, 3)]


@pytest.mark.asyncio
async def test_a_request_may_arrive_byte_by_byte() -> None:
    async with simulate() as server, connected(server) as (reader, writer):
        for byte in post():
            writer.write(bytes([byte]))
            await writer.drain()
        assert text_of(Answer(await reader.read(), "eof")) == "a b c d e"


@pytest.mark.asyncio
async def test_models_and_stats() -> None:
    async with simulate(Profile(models=("one", "two"))) as server:
        listed = await ask(server, b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert [model["id"] for model in json.loads(listed.body)["data"]] == ["one", "two"]
        counts = await ask(server, b"GET /stats HTTP/1.1\r\nconnection: close\r\n\r\n")
        shown = json.loads(counts.body)
        assert (shown["requests"], shown["active"], shown["statuses"]) == (1, 0, {"200": 1})


# --- errors that are no faults


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post("/v1/other"), 404),
        (b"GET /v1/chat/completions HTTP/1.1\r\nconnection: close\r\n\r\n", 405),
        (post(model="unknown"), 404),
        (post(messages="none"), 400),
        (post(n=10**6), 400),
        (post(n=-1), 400),
        (post(max_tokens=0), 400),
        (b"POST /v1/messages HTTP/1.1\r\nconnection: close\r\ncontent-length: 1\r\n\r\n{", 400),
        (b"POST /v1/messages HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\n\r\n[]", 400),
        (b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
        (b"POST /v1/messages HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST /v1/messages HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"nonsense\r\n\r\n", 400),
        (b"x" * 70_000, 431),
    ],
)
async def test_a_bad_request_gets_its_status(request_bytes: bytes, status: int) -> None:
    assert (await answer_to(Profile(models=("sim",)), request_bytes)).status == status


@pytest.mark.asyncio
async def test_a_key_can_be_demanded() -> None:
    async with simulate(Profile(key="sk-test")) as server:
        assert (await ask(server, post())).status == 401
        assert (await ask(server, post(headers="authorization: Bearer no\r\n"))).status == 401
        assert (await ask(server, post(headers="authorization: Bearer sk-test\r\n"))).status == 200
        assert (await ask(server, post(ANTHROPIC, headers="x-api-key: sk-test\r\n"))).status == 200


@pytest.mark.asyncio
async def test_the_rate_limit_refills() -> None:
    clock = FakeClock()
    async with simulate(Profile(requests_per_minute=2), clock=clock) as server:
        first, second, third = [await ask(server, post()) for _ in range(3)]
        assert (first.status, second.status, third.status) == (200, 200, 429)
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert third.headers["retry-after"] == "30"
        clock.advance(30)
        fourth = await ask(server, post(ANTHROPIC))
        assert fourth.status == 200
        assert fourth.headers["anthropic-ratelimit-requests-reset"].startswith("2026-01-01T00:01:30")


# --- pace


@pytest.mark.asyncio
async def test_tokens_come_when_the_profile_says() -> None:
    clock = FakeClock()
    async with (
        simulate(Profile(ttft_ms=100, tpot_ms=10), clock=clock) as server,
        connected(server) as (reader, writer),
    ):
        writer.write(post())
        head = await reader.readuntil(b"\r\n\r\n")  # the headers come before any token
        assert b"200 OK" in head
        clock.advance(0.1)
        first = await reader.readuntil(b"\n\n\r\n")
        assert b'"a"' in first
        assert b'" b"' not in first
        clock.advance(0.01)
        second = await reader.readuntil(b"\n\n\r\n")
        assert b'" b"' in second
        assert b'" c"' not in second
        clock.advance(0.03)
        assert (await reader.read()).endswith(b"0\r\n\r\n")
    assert clock.now() == pytest.approx(0.14)
    assert clock.pending == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "profile",
    [
        Profile(ttft_ms=100, tpot_ms=10),
        Profile(engine=StepModel(base_ms=28, per_sequence_ms=0, per_prefill_token_ms=0)),
    ],
)
async def test_a_whole_answer_comes_with_its_last_token(profile: Profile) -> None:
    clock = FakeClock()
    async with simulate(profile, clock=clock) as server, connected(server) as (reader, writer):
        writer.write(post(stream=False))
        await until(lambda: clock.pending > 0)
        first = asyncio.create_task(reader.read(1))
        clock.advance(0.139)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not first.done()  # not even a header
        clock.advance(0.002)
        answer = Answer(await first + await reader.read(), "eof")
    assert answer.ended_well
    assert clock.pending == 0


async def drive(clock: FakeClock, task: asyncio.Task[Answer], step: float) -> Answer:
    """Let real sockets settle between small advances."""
    while not task.done():
        if clock.pending:
            clock.advance(step)
        await asyncio.sleep(0)
    return task.result()


@pytest.mark.asyncio
async def test_the_engine_paces_queues_and_turns_away() -> None:
    clock = FakeClock()
    engine = StepModel(base_ms=100, per_sequence_ms=0, per_prefill_token_ms=0, max_batch=1, max_queue=1)
    async with simulate(Profile(engine=engine), clock=clock) as server:
        tasks = [asyncio.create_task(ask(server, post())) for _ in range(4)]
        answers = [await drive(clock, task, step=0.1) for task in tasks]
    served = [answer for answer in answers if answer.status == 200]
    turned_away = [answer for answer in answers if answer.status == 503]
    assert (len(served), len(turned_away)) == (2, 2)
    assert all(text_of(answer) == "a b c d e" for answer in served)
    assert all("retry-after" in answer.headers for answer in turned_away)
    assert clock.now() >= 0.99  # two answers of five steps, one after the other
    assert server.stats.active == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", [None, StepModel()])
async def test_a_client_that_leaves_is_counted_and_costs_nothing_more(engine: StepModel | None) -> None:
    clock = FakeClock()
    profile = Profile(ttft_ms=100, tpot_ms=100, engine=engine)
    async with simulate(profile, clock=clock) as server:
        asking = asyncio.create_task(ask(server, post()))
        await until(lambda: clock.pending > 0)
        assert (server.stats.active, server.stats.peak) == (1, 1)
        asking.cancel()
        await until(lambda: server.stats.active == 0)
        assert server.stats.aborted == 1
        clock.advance(1)
    assert clock.pending == 0


@pytest.mark.asyncio
async def test_leaving_drops_open_connections() -> None:
    async with simulate() as server:
        asking = asyncio.create_task(ask(server, post(model="sim+stall_after=1")))
        await until(lambda: server.stats.requests > 0)
    assert (await asking).end in {"eof", "reset"}
    assert server.stats.active == 0


# --- faults, each by the model's name


async def fault(spec: str, **body: Any) -> Answer:
    return await answer_to(Profile(), post(model=f"sim+{spec}", **body))


@pytest.mark.asyncio
async def test_reset_before_anything() -> None:
    assert await fault("reset") == Answer(b"", "reset")


@pytest.mark.asyncio
async def test_reset_after_tokens() -> None:
    answer = await fault("reset_after=3")
    assert answer.end == "reset"
    assert not answer.ended_well
    assert text_of(answer) == "a b c"
    whole = await fault("reset_after", stream=False)
    assert whole.end == "reset"
    assert not whole.ended_well


@pytest.mark.asyncio
async def test_a_clean_end_without_the_terminal_event() -> None:
    answer = await fault("eof_after=3")
    assert (answer.end, answer.ended_well) == ("eof", True)
    assert text_of(answer) == "a b c"
    assert b'finish_reason":"stop' not in answer.body
    assert b"[DONE]" not in answer.body


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("spec", "seen"), [("stall_headers", None), ("stall_first", ""), ("stall_after=2", "a b")]
)
async def test_stalls(spec: str, seen: str | None) -> None:
    async with simulate() as server:
        async with connected(server) as (reader, writer):
            writer.write(post(model=f"sim+{spec}"))
            await until(lambda: server.stats.requests > 0)
            raw = b"" if seen is None else await reader.readuntil(b"\r\n\r\n")
            while seen and text_of(Answer(raw, "open")) != seen:
                raw += await reader.read(2**16)
            more = asyncio.create_task(reader.read(1))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not more.done()
            assert server.stats.active == 1
            more.cancel()
        await until(lambda: server.stats.active == 0)
        assert (server.stats.aborted, server.stats.faults) == (1, {spec.partition("=")[0]: 1})


@pytest.mark.asyncio
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_malformed_json(path: str) -> None:
    answer = await answer_to(Profile(), post(path, model="sim+malformed=2"))
    lines = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: {")]
    broken = [line for line in lines if not is_json(line)]
    assert len(broken) == 1
    assert lines.index(broken[0]) >= 2
    assert not is_json((await fault("malformed", stream=False)).body)


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_invalid_utf8(path: str, stream: bool) -> None:
    answer = await answer_to(Profile(), post(path, model="sim+invalid_utf8", stream=stream))
    assert b"\xff\xfe" in answer.body
    assert answer.ended_well


@pytest.mark.asyncio
async def test_html_wrong_type_and_empty() -> None:
    page = await fault("html")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.body.startswith(b"<!DOCTYPE html>")
    wrong = await fault("wrong_type")
    assert wrong.headers["content-type"].startswith("text/plain")
    assert text_of(wrong) == "a b c d e"
    assert (await fault("empty")).raw.endswith(
        b"content-length: 0\r\nx-request-id: req_sim000000000001\r\n\r\n"
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize(
    ("spec", "status", "retry_after"),
    [
        ("rate_limit=7", 429, "7"),
        ("rate_limit_bare", 429, None),
        ("status", 500, None),
        ("status=503", 503, None),
        ("status=529", 529, None),
        ("status=418", 418, None),
    ],
)
async def test_error_statuses(path: str, spec: str, status: int, retry_after: str | None) -> None:
    answer = await answer_to(Profile(), post(path, model=f"sim+{spec}"))
    assert answer.status == status
    assert answer.headers.get("retry-after") == retry_after
    assert "error" in json.loads(answer.body)


@pytest.mark.asyncio
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_an_error_in_the_stream(path: str) -> None:
    answer = await answer_to(Profile(), post(path, model="sim+sse_error=2"))
    assert answer.status == 200
    assert b'"error"' in answer.body
    assert b'" b"' in answer.body
    assert b'" c"' not in answer.body
    assert b"message_stop" not in answer.body


@pytest.mark.asyncio
async def test_an_oversized_line() -> None:
    answer = await fault("oversized_line=3")
    assert max(map(len, answer.body.split(b"\n"))) == 3_000_006
    assert len((await fault("oversized_line=1", stream=False)).body) > 1_000_000


@pytest.mark.asyncio
async def test_a_drip_is_the_same_answer() -> None:
    clock = FakeClock()
    async with simulate(clock=clock) as server:
        asking = asyncio.create_task(ask(server, post(model="sim+drip=10")))
        answer = await drive(clock, asking, step=0.01)
    assert text_of(answer) == "a b c d e"
    assert answer.ended_well
    framed = len(answer.raw.partition(b"\r\n\r\n")[2])
    assert clock.now() == pytest.approx((framed - 1) * 0.01)


@pytest.mark.asyncio
async def test_faults_by_header_by_number_and_by_probability() -> None:
    assert (await answer_to(Profile(), post(headers="x-sim-fault: status=503\r\n"))).status == 503
    scripted = Profile(faults=(Fault("status", 500, numbers=frozenset({2})),))
    drawn = Profile(faults=(Fault("status", 500, probability=0.5),))

    async def statuses(profile: Profile, count: int) -> list[int]:
        async with simulate(profile) as server:
            return [(await ask(server, post())).status for _ in range(count)]

    assert await statuses(scripted, 3) == [200, 500, 200]
    first = await statuses(drawn, 20)
    assert {200, 500} == set(first)
    assert first == await statuses(drawn, 20)
    assert first != await statuses(replace(drawn, seed=1), 20)


@pytest.mark.asyncio
async def test_an_unknown_fault_in_the_model_name_lists_the_known() -> None:
    answer = await fault("explode")
    assert answer.status == 400
    assert b"eof_after" in answer.body


# --- starting


@pytest.mark.asyncio
async def test_a_taken_port_is_a_clear_error() -> None:
    async with simulate() as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=r"cannot listen.*another --port"):
            async with simulate(port=port):
                pass


@pytest.mark.asyncio
async def test_the_source_may_be_a_function() -> None:
    async with simulate(source=lambda request, choice: f"{request.model}/{choice}") as server:
        assert text_of(await ask(server, post())) == "sim/0"
