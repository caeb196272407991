"""Every endpoint opens and closes as the house says: one contract, run on each of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

import guardrails
from guardrails import Call, Delta, Finish, Handler, Request, Transient, collect
from guardrails.call import Note
from guardrails.endpoints.function import FunctionEndpoint
from guardrails.endpoints.opening import Timeouts
from guardrails.endpoints.replay import Replay, fingerprint
from guardrails.testing import Profile, ScriptedEndpoint, simulate

ASK = Request.of("hi")
TEXT = "one two three four five six seven"
LIMITS = Timeouts(first_event=30, between_events=30, whole=60)


@asynccontextmanager
async def over_http(dialect: str, transport: str, stream: bool) -> AsyncIterator[Handler]:
    async with simulate(Profile(answers=f"fixed:{TEXT}")) as server:
        llm = guardrails.endpoint(server.url, model="sim", dialect=dialect, transport=transport)
        async with llm:
            yield lambda call: llm._endpoint(call.with_request(Request(call.request.messages, stream=stream)))


@asynccontextmanager
async def function() -> AsyncIterator[Handler]:
    async def pieces(_: Request) -> AsyncIterator[str]:
        for word in TEXT.split(" "):
            await asyncio.sleep(0)
            yield word if word == "one" else f" {word}"

    yield FunctionEndpoint(pieces, timeouts=LIMITS)


@asynccontextmanager
async def replay() -> AsyncIterator[Handler]:
    events = [(0.0, Delta(TEXT[:7])), (0.0, Delta(TEXT[7:])), (0.0, Finish("stop"))]
    yield Replay({fingerprint(ASK): (tuple(events),)})


@asynccontextmanager
async def scripted() -> AsyncIterator[Handler]:
    yield ScriptedEndpoint(TEXT)


ENDPOINTS: dict[str, Callable[[], AbstractAsyncContextManager[Handler]]] = {
    "openai over aiohttp": lambda: over_http("openai_chat", "aiohttp", True),
    "openai over httpx": lambda: over_http("openai_chat", "httpx", True),
    "openai whole": lambda: over_http("openai_chat", "aiohttp", False),
    "anthropic over aiohttp": lambda: over_http("anthropic", "aiohttp", True),
    "anthropic whole": lambda: over_http("anthropic", "httpx", False),
    "function": function,
    "replay": replay,
    "scripted": scripted,
}
every = pytest.mark.parametrize("name", ENDPOINTS)


def endings(call: Call) -> list[object]:
    log = call.journal.attempts[-1].log
    return [entry.detail for _, entry in log if isinstance(entry, Note) and entry.what == "ended"]


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


@every
@pytest.mark.asyncio
async def test_a_whole_answer_is_logged_in_order(name: str) -> None:
    async with ENDPOINTS[name]() as endpoint:
        call = Call(ASK)
        response = await collect(endpoint, call)
    assert response.text == TEXT
    assert response.choices[0].finish_reason == "stop"
    (attempt,) = call.journal.attempts
    assert endings(call) == [None]
    times = [at for at, _ in attempt.log]
    assert times == sorted(times)
    assert "".join(entry.text for _, entry in attempt.log if isinstance(entry, Delta)) == TEXT


@every
@pytest.mark.asyncio
@pytest.mark.parametrize("take", [0, 1])
async def test_leaving_early_closes_everything(name: str, take: int) -> None:
    before = others()
    async with ENDPOINTS[name]() as endpoint:
        idle = others()
        call = Call(ASK)
        async with endpoint(call) as stream:
            for _ in range(take):
                await anext(stream)
        assert endings(call) == ["abandoned"]
        assert (await collect(endpoint, Call(ASK))).text == TEXT, "and it works again"
        for _ in range(100):
            await asyncio.sleep(0)
        assert others() <= idle | before


@every
@pytest.mark.asyncio
async def test_cancelled_while_entering(name: str) -> None:
    async with ENDPOINTS[name]() as endpoint:
        for turns in range(0, 12, 3):
            call = Call(ASK)
            task = asyncio.ensure_future(collect(endpoint, call))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for attempt in call.journal.attempts:
                assert endings(call) in (["cancelled"], [None], ["abandoned"]), attempt.log
        assert (await collect(endpoint, Call(ASK))).text == TEXT


@every
@pytest.mark.asyncio
async def test_a_deadline_that_has_passed_is_an_error_and_not_an_answer(name: str) -> None:
    async with ENDPOINTS[name]() as endpoint:
        call = Call(ASK, deadline=0.0)
        with pytest.raises((guardrails.DeadlineExceeded, Transient)):
            await collect(endpoint, call)
        assert len(endings(call)) == 1
