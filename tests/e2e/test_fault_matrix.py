"""Every fault between us and a server, at the wire: what the caller sees, who was asked how often, what the
record says, and that nothing is left behind.

Each fault meets two stacks: one endpoint with `Retry` (two attempts), and two endpoints under `FirstOf`, once
with and once without restarts.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from guardrails import (
    Call,
    EndpointError,
    Finish,
    Handler,
    Interrupted,
    Llm,
    Refused,
    Request,
    Reset,
    Stream,
    Timeouts,
    Transient,
    Truncated,
)
from guardrails.call import Event, fold_response
from guardrails.endpoints.http import HttpConfig, HttpEndpoint
from guardrails.flow.breaker import Breaker, Circuit
from guardrails.flow.fallback import FirstOf
from guardrails.flow.retry import Backoff, Retry, RetryBudget
from guardrails.flow.route import REASONS, Route
from guardrails.record import CallRecord
from guardrails.testing import Profile, simulate
from guardrails.testing.server import SimulatedServer

pytestmark = pytest.mark.e2e

TEXT = "one two three four five six"
BACKUP = "here I am"
SHORT, LONG = Timeouts(0.3, 0.3, 20), Timeouts(30, 30, 60)
EVERYTHING = frozenset(REASONS)


@dataclass(frozen=True)
class Fault:
    """What goes wrong (`spec` for the simulator, or `place` elsewhere), and what is to be seen of it.

    `error` None: the answer arrives all the same. `tries`: attempts with a `Retry` of two.
    """

    name: str
    error: type[EndpointError] | None
    kinds: str = ""
    tries: int = 1
    spec: str = ""
    place: str = "simulator"
    stream: bool = True
    retry_after: float | None = None


MATRIX = (
    # nobody there
    Fault("connection refused", Transient, "connect", 2, place="closed port"),
    Fault("DNS failure", Transient, "dns", 2, place="no such name"),
    Fault("TLS failure", Transient, "tls", 2, place="plain text"),
    # silence
    Fault("headers stall", Transient, "timeout_first_event", 2, "stall_headers"),
    Fault("first token stalls", Transient, "timeout_first_event", 2, "stall_first"),
    Fault("stall in mid-stream", Interrupted, "timeout_between_events", 1, "stall_after=2"),
    Fault("stall in a whole body", Transient, "timeout_first_event", 2, "stall_after=2", stream=False),
    # broken connections
    Fault("reset instead of headers", Transient, "reset", 2, "reset"),
    Fault("reset before the first token", Transient, "reset", 2, "reset_after=0"),
    Fault("reset after the first token", Interrupted, "reset", 1, "reset_after=1"),
    Fault("reset in mid-stream", Interrupted, "reset", 1, "reset_after=3"),
    Fault("reset in a whole body", Transient, "reset", 2, "reset_after=2", stream=False),
    Fault("clean end before the first token", Transient, "truncated", 2, "eof_after=0"),
    Fault("clean end in mid-stream", Truncated, "truncated", 1, "eof_after=2"),
    Fault("clean end of half a body", Transient, "malformed", 2, "eof_after=2", stream=False),
    Fault("empty 200", Transient, "truncated", 2, "empty"),
    Fault("empty whole 200", Transient, "malformed", 2, "empty", stream=False),
    # errors that are said
    Fault("429 with Retry-After", Transient, "rate_limited", 2, "rate_limit=0.05", retry_after=0.05),
    Fault("429 with a long Retry-After", Transient, "rate_limited", 1, "rate_limit=7", retry_after=7.0),
    Fault("429 without Retry-After", Transient, "rate_limited", 2, "rate_limit_bare"),
    Fault("429 with a date", Transient, "rate_limited", 2, place="429 now", retry_after=0.0),
    Fault("429 with a later date", Transient, "rate_limited", 1, place="429 later", retry_after=7.0),
    Fault("500", Transient, "server_error", 2, "status=500"),
    Fault("503", Transient, "unavailable server_error overloaded", 2, "status=503"),
    Fault("529", Transient, "overloaded server_error", 2, "status=529"),
    Fault("SSE error before the first token", Transient, "server_error", 2, "sse_error=0"),
    Fault("SSE error in mid-stream", Interrupted, "server_error", 1, "sse_error=2"),
    Fault("content policy", Refused, "content_policy", 1, place="policy"),
    Fault("context too long", Refused, "context_length", 1, place="too long"),
    # nonsense
    Fault("malformed JSON first", Transient, "malformed", 2, "malformed=0"),
    Fault("malformed JSON in mid-stream", Interrupted, "malformed", 1, "malformed=2"),
    Fault("no UTF-8", Interrupted, "malformed", 1, "invalid_utf8=2"),
    Fault("a web page", Refused, "not_inference", 1, "html"),
    Fault("oversized line", Interrupted, "oversized", 1, "oversized_line=18"),
    Fault("oversized body", Transient, "oversized", 2, "oversized_line=18", stream=False),
    # odd, and fine
    Fault("wrong content type", None, spec="wrong_type"),
    Fault("slow drip", None, spec="drip=0.05"),
    Fault("no fault", None),
)
every = pytest.mark.parametrize("fault", MATRIX, ids=[fault.name for fault in MATRIX])
# The network's faults know no dialect, and what other servers say here is said in OpenAI's.
SPOKEN = [(fault, "openai_chat") for fault in MATRIX]
SPOKEN += [(fault, "anthropic") for fault in MATRIX if fault.place == "simulator"]


# --- servers that say one thing


def _answer(status: str, body: str, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def _error(code: str) -> str:
    return f'{{"error": {{"message": "no", "type": "invalid_request_error", "code": "{code}"}}}}'


_DATE = "date: Sat, 21 Nov 2026 10:00:00 GMT\r\nretry-after: Sat, 21 Nov 2026 10:00:0{} GMT\r\n"
CANNED = {
    "plain text": _answer("400 Bad Request", ""),
    "429 now": _answer("429 Too Many Requests", _error("rate_limit_exceeded"), _DATE.format(0)),
    "429 later": _answer("429 Too Many Requests", _error("rate_limit_exceeded"), _DATE.format(7)),
    "policy": _answer("400 Bad Request", _error("content_policy_violation")),
    "too long": _answer("400 Bad Request", _error("context_length_exceeded")),
}


@dataclass
class Upstream:
    """Where a fault lives, and how often it was asked (None: nobody is there to tell)."""

    url: str
    connected: list[int] | None = None
    server: SimulatedServer | None = None

    @property
    def hits(self) -> int | None:
        if self.server is not None:
            return self.server.stats.requests
        return None if self.connected is None else len(self.connected)

    async def idle(self) -> bool:
        """Whether the server has no reply under way, after the turns that it needs to notice."""
        for _ in range(2000):
            if self.server is None or not self.server.stats.active:
                return True
            await asyncio.sleep(0)
        return False


@asynccontextmanager
async def upstream(fault: Fault, text: str = TEXT) -> AsyncGenerator[Upstream]:
    if fault.place == "simulator":
        async with simulate(Profile(answers=f"fixed:{text}")) as server:
            yield Upstream(server.url, server=server)
        return
    if fault.place == "no such name":
        yield Upstream("http://nowhere.invalid/v1")
        return
    if fault.place == "closed port":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        yield Upstream(f"http://127.0.0.1:{port}/v1")
        return
    canned, connected = CANNED[fault.place], list[int]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(1)
        await reader.read(65536)
        writer.write(canned)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        scheme = "https" if fault.place == "plain text" else "http"
        url = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        yield Upstream(url, connected)


class Slots:
    """A layer that counts what is held."""

    def __init__(self) -> None:
        self.held = self.taken = 0

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        self.held += 1
        self.taken += 1
        try:
            async with inner(call) as stream:
                yield stream
        finally:
            self.held -= 1


def endpoint(name: str, where: Upstream, fault: Fault, dialect: str) -> HttpEndpoint:
    model = f"sim+{fault.spec}" if fault.spec else "sim"
    timeouts = SHORT if "stall" in fault.spec else LONG
    return HttpEndpoint(HttpConfig(where.url, model, name, dialect, timeouts=timeouts))


def held_connections(*endpoints: HttpEndpoint) -> int:
    pools = [each._transport._session.connector for each in endpoints if each._transport is not None]  # type: ignore[attr-defined]
    return sum(len(pool._acquired) for pool in pools)


async def watch(llm: Llm, fault: Fault) -> tuple[list[Event], EndpointError | None, CallRecord]:
    call = Call(Request(Request.of("hi").messages, stream=fault.stream))
    seen: list[Event] = []
    error: EndpointError | None = None
    try:
        async with llm(call) as stream:
            async for event in stream:
                seen.append(event)  # noqa: PERF401 - what came before the error counts
    except EndpointError as raised:
        error = raised
    assert call.journal.record is not None
    return seen, error, call.journal.record


async def tasks_left() -> list[object]:
    """The tasks besides this one, after the turns that a server's own need to end."""
    left: list[object] = []
    for _ in range(100):
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if not left:
            break
        await asyncio.sleep(0)
    return left


@pytest.mark.asyncio
@pytest.mark.parametrize(("fault", "dialect"), SPOKEN, ids=[f"{f.name}, {name}" for f, name in SPOKEN])
async def test_one_endpoint_with_retries(fault: Fault, dialect: str) -> None:
    slots = Slots()
    retry = Retry(2, Backoff(base=0.001, patience=0.5), RetryBudget(), random.Random(1))
    async with upstream(fault) as where:
        http = endpoint("main", where, fault, dialect)
        async with Llm(http, retry, slots) as llm:
            seen, error, record = await watch(llm, fault)
            assert await where.idle()
            assert (slots.held, slots.taken) == (0, fault.tries)
            assert held_connections(http) == 0
        assert where.hits in (fault.tries, None)
    assert await tasks_left() == []
    ends = [attempt.end for attempt in record.attempts]
    assert record.flow.count("retry:" + (record.error or "")) == fault.tries - 1
    if fault.error is None:
        assert error is None
        assert fold_response(seen).text == TEXT
        assert (record.outcome, record.finish_reason, record.error, ends) == (
            "complete",
            "stop",
            None,
            [None],
        )
        return
    assert type(error) is fault.error
    assert error.kind in fault.kinds.split()
    assert error.endpoint == "main"
    assert getattr(error, "retry_after", None) == (
        None if fault.retry_after is None else pytest.approx(fault.retry_after, abs=1e-6)
    )
    assert (record.outcome, record.error, record.finish_reason) == ("failed", error.kind, None)
    assert ends == [error.kind] * fault.tries
    assert not any(isinstance(event, Finish) for event in seen), "an end that never came was made up"
    if isinstance(error, Interrupted):
        got = fold_response(seen).text
        assert TEXT.startswith(got)
        assert error.received_chars == len(got) > 0
        assert record.ttft_ms is not None
        assert record.output_tokens > 0
    else:
        assert seen == []
        assert record.ttft_ms is None


@every
@pytest.mark.asyncio
@pytest.mark.parametrize("restart", [False, True])
async def test_two_endpoints(fault: Fault, restart: bool) -> None:
    slots, circuit = Slots(), Circuit()
    spare = Fault("no fault", None)
    async with AsyncExitStack() as running:
        where = await running.enter_async_context(upstream(fault))
        backup = await running.enter_async_context(upstream(spare, BACKUP))
        ends = [
            endpoint("main", where, fault, "openai_chat"),
            endpoint("backup", backup, spare, "openai_chat"),
        ]
        routes = FirstOf(
            [
                Route(ends[0], layers=[slots, Breaker("main", circuit)]),
                Route(ends[1], layers=[slots], on=EVERYTHING),
            ],
            restart=restart,
        )
        async with Llm(routes) as llm:
            seen, error, record = await watch(llm, fault)
            assert await where.idle()
            assert await backup.idle()
            assert slots.held == held_connections(*ends) == 0
        hits = backup.hits
        assert where.hits in (1, None)
    assert await tasks_left() == []
    attempts = [(attempt.endpoint, attempt.end) for attempt in record.attempts]
    broken = fault.error is not None and issubclass(fault.error, Interrupted)
    sick = fault.error is not None and fault.error is not Refused and "rate_limited" not in fault.kinds
    assert (circuit._row == 1) == sick
    if broken and not restart:
        assert isinstance(error, Interrupted)
        assert (hits, record.outcome, len(attempts)) == (0, "failed", 1)
        return
    assert error is None
    assert (record.outcome, record.error, record.finish_reason) == ("complete", None, "stop")
    assert [isinstance(event, Reset) for event in seen].count(True) == broken
    assert sum(isinstance(event, Finish) and event.reason is not None for event in seen) == 1
    if fault.error is None:
        assert (hits, attempts, fold_response(seen).text) == (0, [("main", None)], TEXT)
    else:
        (_, kind), *_ = attempts
        assert kind in fault.kinds.split()
        assert attempts == [("main", kind), ("backup", None)]
        assert (hits, record.endpoint, fold_response(seen).text) == (1, "backup", BACKUP)
        assert record.flow == (f"fallback:backup:{kind}",)
