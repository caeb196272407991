"""The same answer to the same question, in the same pieces, for nobody else; and one call for many."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import (
    Call,
    CallRecord,
    ConfigError,
    DeadlineExceeded,
    Delta,
    Finish,
    Interrupted,
    Llm,
    Opaque,
    Refused,
    Request,
    Transient,
    Usage,
    collect,
    stack,
)
from guardrails.call import Event, Note, Reset, ToolHead
from guardrails.clock import Clock
from guardrails.flow.cache import Cache, pack, unpack
from guardrails.flow.deadline import Deadline
from guardrails.flow.kept import Kept, MemoryKept, RedisKept, SqliteKept, kept
from guardrails.handler import Stream
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

USAGE = Usage(3, 2, cost=Decimal("0.25"))
ANSWER: list[Event] = [Delta("all "), Delta("is well"), Finish("stop"), Finish(None, USAGE)]


def ask(clock: Clock, text: str = "how?", **fields: object) -> Call:
    return Call(Request.of(text), clock=clock, **fields)  # type: ignore[arg-type]


async def events(handler: Any, call: Call) -> list[Event]:
    async with handler(call) as stream:
        return [event async for event in stream]


def said(call: Call, what: str) -> list[object]:
    return [entry.detail for _, entry in call.journal.log if isinstance(entry, Note) and entry.what == what]


# --- hits and misses ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_the_layer_keeps_the_contract(case: str, share: bool) -> None:
    await check_layer(Cache(share=share), case)


@pytest.mark.asyncio
@pytest.mark.parametrize("share", [True, False])
async def test_the_second_call_gets_the_same_pieces_without_the_endpoint(share: bool) -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(ANSWER)
    handler = stack(endpoint, Cache(share=share))
    first, second = ask(clock), ask(clock)
    assert await clock.run(events(handler, first)) == ANSWER
    assert await clock.run(events(handler, second)) == ANSWER
    assert len(endpoint.calls) == 1
    assert (said(first, "cached"), said(second, "cached")) == ([], ["store"])


@pytest.mark.asyncio
async def test_the_record_says_so_and_costs_nothing() -> None:
    records: list[CallRecord] = []
    llm = Llm(stack(ScriptedEndpoint(ANSWER, model="gpt-4o"), Cache()), sinks=(records.append,))
    clock = FakeClock()
    for _ in range(2):
        await clock.run(collect(llm, ask(clock)))
    assert [record.cached for record in records] == [False, True]
    assert [record.cost_usd for record in records] == [Decimal("0.25"), 0]
    assert {record.outcome for record in records} == {"complete"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "other",
    [
        {"text": "how not?"},
        {"tenant": "b"},
        {"request": Request.of("how?", temperature=0.5)},
        {"request": Request.of("how?", system="be kind")},
        {"request": replace(Request.of("how?"), model="m2")},
        {"request": replace(Request.of("how?"), extra={"user": "u"})},
        {"request": replace(Request.of("how?"), tool_choice="none")},
    ],
)
async def test_whatever_differs_is_asked_anew(other: dict[str, Any]) -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(ANSWER)
    handler = stack(endpoint, Cache())
    await clock.run(collect(handler, ask(clock, tenant="a")))
    call = ask(clock, other.pop("text", "how?"), tenant=other.pop("tenant", "a"))
    await clock.run(collect(handler, replace(call, **other)))
    assert len(endpoint.calls) == 2


@pytest.mark.asyncio
async def test_tenants_share_only_when_that_is_said() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(ANSWER)
    handler = stack(endpoint, Cache(across_tenants=True))
    for tenant in "ab":
        await clock.run(collect(handler, ask(clock, tenant=tenant)))
    assert len(endpoint.calls) == 1


def test_another_version_is_another_key() -> None:
    call = ask(FakeClock())
    assert Cache(version="1").key(call) != Cache(version="2").key(call)
    assert Cache().key(replace(call, tenant="")) != Cache(across_tenants=True).key(call)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        [Delta("cut"), Finish("length")],
        [Delta("bad"), Finish("content_filter")],
        [Delta("one", choice=0), Delta("two", choice=1), Finish("stop", choice=0)],
        [Opaque({"image": 1}, structural=False), Delta("x"), Finish("stop")],
        [Finish("stop")],
        [Delta("no end")],
        Script("a b c", fail_after=2),
        Refused("no"),
        Transient("no"),
    ],
)
async def test_what_is_not_complete_is_not_kept(answer: Any) -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(answer)
    handler = stack(endpoint, Cache())
    for _ in range(2):
        await clock.run(asyncio.gather(collect(handler, ask(clock)), return_exceptions=True))
    assert len(endpoint.calls) == 2
    assert endpoint.active == 0


@pytest.mark.asyncio
async def test_time_runs_out() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(ANSWER)
    handler = stack(endpoint, Cache(ttl=10))
    for at, calls in ((0, 1), (9.9, 1), (10, 2)):
        clock.advance(at - clock.now())
        await clock.run(collect(handler, ask(clock)))
        assert len(endpoint.calls) == calls


PIECE = st.builds(
    Delta,
    st.text(max_size=5),
    st.sampled_from(["text", "reasoning", "tool:0"]),
    st.integers(0, 1),
    st.none() | st.just({"content": [{"token": "a", "logprob": -0.5}]}),
    st.none() | st.builds(ToolHead, st.text(max_size=3), st.text(max_size=3)),
)


@given(st.lists(PIECE, min_size=1), st.sampled_from(["stop", "tool_calls"]), st.none() | st.just(USAGE))
def test_packing_keeps_every_piece(pieces: list[Delta], reason: str, usage: Usage | None) -> None:
    answer: list[Event] = [*pieces, Finish(reason, usage), Finish(reason, choice=1)]
    data = pack(answer)
    assert data is not None
    assert unpack(data) == answer
    assert pack([Delta("void"), Reset("reset"), *answer]) == data


class Broken:
    """A store that is out of order, or holds somebody else's bytes."""

    def __init__(self, bytes_: bytes | None = None) -> None:
        self.bytes = bytes_

    async def get(self, key: str, clock: Clock) -> bytes | None:
        if self.bytes is None:
            raise OSError("gone")
        return self.bytes

    async def put(self, key: str, value: bytes, ttl: float, clock: Clock) -> None:
        raise OSError("gone")

    async def aclose(self) -> None:
        pass


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [None, b"", b"null", b"[[1]]", b'[["f"]]', b"\xff"])
async def test_a_broken_store_costs_the_hit_and_not_the_call(data: bytes | None) -> None:
    clock, call = FakeClock(), ask(FakeClock())
    handler = stack(ScriptedEndpoint(ANSWER), Cache(Broken(data)))
    assert await clock.run(events(handler, call)) == ANSWER
    assert "cache_failed" in said(call, "flow")


@pytest.mark.asyncio
async def test_a_broken_store_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    handler = stack(ScriptedEndpoint(ANSWER), Cache(Broken()))
    for _ in range(3):
        await clock.run(events(handler, ask(clock)))
    clock.advance(60.0)
    await clock.run(events(handler, ask(clock)))
    first, second = [record.getMessage() for record in caplog.records]
    assert "OSError at test_cache.py:" in first
    assert ", 1 times" in first
    assert ", 6 times" in second, "a look-up and a keeping of each call"
    assert "gone" not in first, "what the store says may hold its url"


# --- where answers lie -------------------------------------------------------------------------------------


def _kept(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Kept:
    if kind == "memory":
        return MemoryKept(max_bytes=1000)
    if kind == "sqlite":
        return SqliteKept(tmp_path / "sub" / "cache.db", max_bytes=1000)
    return RedisKept(request.getfixturevalue("redis_server").url, timeout=5.0, max_answer=1000)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
async def test_every_store_keeps_what_it_was_given(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store, clock = _kept(kind, tmp_path, request), FakeClock()
    assert await store.get("a", clock) is None
    await store.put("a", b"one", 60, clock)
    await store.put("a", b"\x00two", 60, clock)
    assert await store.get("a", clock) == b"\x00two"
    await store.put("huge", b"x" * 1001, 60, clock)
    assert await store.get("huge", clock) is None
    await store.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_room_is_bounded_in_bytes_and_time(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store, clock = _kept(kind, tmp_path, request), FakeClock()
    for key in "abc":
        await store.put(key, b"x" * 300, 60, clock)
        clock.advance(1)
    assert await store.get("a", clock) is not None
    clock.advance(1)
    await store.put("d", b"x" * 300, 60, clock)
    found = [key for key in "abcd" if await store.get(key, clock) is not None]
    assert found == ["a", "c", "d"], "the one unused for longest had to go"
    clock.advance(60)
    assert [key for key in "abcd" if await store.get(key, clock) is not None] == []
    await store.aclose()


@pytest.mark.asyncio
async def test_a_file_outlives_its_process_and_is_its_owners(tmp_path: Path) -> None:
    path, clock = tmp_path / "cache.db", FakeClock()
    endpoint = ScriptedEndpoint(ANSWER)
    for store in (SqliteKept(path), SqliteKept(path)):
        assert await events(stack(endpoint, Cache(store)), ask(clock)) == ANSWER
        await store.aclose()
    assert len(endpoint.calls) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"how?" not in path.read_bytes(), "prompts are only in the hash"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 60), st.floats(0.1, 5)), max_size=40))
def test_memory_counts_its_bytes(puts: list[tuple[str, int, float]]) -> None:
    store, clock = MemoryKept(100), FakeClock()

    async def work() -> None:
        for key, size, ttl in puts:
            await store.put(key, b"x" * size, ttl, clock)
            clock.advance(0.5)
            await store.get(key, clock)
            assert store.size == sum(len(value) for value, _ in store._held.values()) <= 100

    asyncio.run(work())


def test_stores_are_named_in_a_policy() -> None:
    assert isinstance(kept("memory"), MemoryKept)
    assert isinstance(kept("a/b.db"), SqliteKept)
    assert "secret" not in repr(kept("redis://:secret@h"))
    with pytest.raises(ConfigError):
        kept("")


# --- one call for many -------------------------------------------------------------------------------------

SLOW = Script("all is well", ttft=1.0, tpot=1.0)


@pytest.mark.asyncio
async def test_identical_calls_at_once_are_one() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(SLOW)
    handler = stack(endpoint, Cache())
    calls = [ask(clock) for _ in range(5)]
    first = asyncio.ensure_future(events(handler, calls[0]))
    await clock.run_for(1.5)
    got = await clock.run(asyncio.gather(first, *(events(handler, call) for call in calls[1:])))
    assert all(answer == got[0] for answer in got)
    assert len(endpoint.calls) == 1
    assert [said(call, "cached") for call in calls] == [[], *[["shared"]] * 4]
    assert clock.now() == pytest.approx(4), "followers stream along"


@pytest.mark.asyncio
@pytest.mark.parametrize("leave_at", [0.5, 1.5, 3.0])
async def test_the_first_ones_end_is_not_the_end_of_the_others(leave_at: float) -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(SLOW)
    handler = stack(endpoint, Cache())
    first, second = (asyncio.ensure_future(events(handler, ask(clock))) for _ in range(2))
    await clock.run_for(leave_at)
    first.cancel()
    assert len(await clock.run(second)) == 4
    assert first.cancelled()
    assert len(endpoint.calls) == 1
    assert endpoint.active == clock.pending == 0


@pytest.mark.asyncio
async def test_who_joins_after_another_has_left_still_shares() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(SLOW)
    handler = stack(endpoint, Cache())
    first, second = (asyncio.ensure_future(events(handler, ask(clock))) for _ in range(2))
    await clock.run_for(0.5)
    second.cancel()
    await clock.run_for(0.1)
    third = asyncio.ensure_future(events(handler, ask(clock)))
    await clock.run(asyncio.gather(first, third))
    assert len(endpoint.calls) == 1


@pytest.mark.asyncio
async def test_a_cancellation_counts_even_when_the_shared_call_fails_at_that_moment() -> None:
    clock, asked, tasks = FakeClock(), list[Call](), list[asyncio.Future[list[Event]]]()

    @asynccontextmanager
    async def endpoint(call: Call) -> AsyncGenerator[Stream]:
        asked.append(call)
        await clock.sleep(1.0)
        tasks[1].cancel()
        raise DeadlineExceeded("the first one's own")
        yield

    handler = stack(endpoint, Cache())
    tasks += [asyncio.ensure_future(events(handler, ask(clock))) for _ in range(2)]
    await clock.run_for(5.0)
    assert isinstance(tasks[0].exception(), DeadlineExceeded)
    assert tasks[1].cancelled()
    assert len(asked) == 1, "it does not ask for itself any more"


@pytest.mark.asyncio
async def test_when_all_have_left_the_endpoint_is_left_too() -> None:
    clock, endpoint, cache = FakeClock(), ScriptedEndpoint(SLOW), Cache()
    handler = stack(endpoint, cache)
    tasks = [asyncio.ensure_future(events(handler, ask(clock))) for _ in range(3)]
    await clock.run_for(1.5)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert (endpoint.active, endpoint.cancelled, len(cache._flights), clock.pending) == (0, 1, 0, 0)
    await clock.run(events(handler, ask(clock)))
    assert len(endpoint.calls) == 2, "what nobody waited for was not kept"


@pytest.mark.asyncio
async def test_a_flight_that_never_began_strands_nobody() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(SLOW)
    handler = stack(endpoint, Cache())
    first = asyncio.ensure_future(events(handler, ask(clock)))
    await asyncio.sleep(0)  # it boards, and its flight has not taken a step yet
    first.cancel()
    assert len(await clock.run(events(handler, ask(clock)))) == 4
    assert first.cancelled()


@pytest.mark.asyncio
async def test_an_answer_that_is_over_is_no_longer_shared() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint([Delta("cut"), Finish("length")])
    handler = stack(endpoint, Cache())
    for _ in range(2):
        async with handler(ask(clock)) as stream:
            assert [event async for event in stream]
    assert len(endpoint.calls) == 2


@pytest.mark.asyncio
async def test_everybody_sees_the_endpoints_error() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("a b", ttft=1, fail_after=1, error=Interrupted("x", kind="reset")))
    handler = stack(endpoint, Cache())
    got = await clock.run(
        asyncio.gather(*(events(handler, ask(clock)) for _ in range(3)), return_exceptions=True)
    )
    assert [getattr(error, "kind", None) for error in got] == ["reset"] * 3
    assert len({id(error) for error in got}) == 3, "each its own"
    assert len(endpoint.calls) == 1


@pytest.mark.asyncio
async def test_the_first_ones_deadline_is_its_own() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(SLOW)
    handler = stack(endpoint, Cache())
    hasty = asyncio.ensure_future(events(handler, ask(clock, deadline=0.5)))
    await clock.settle()
    patient = asyncio.ensure_future(events(handler, ask(clock)))
    assert len(await clock.run(patient)) == 4
    assert isinstance(hasty.exception(), DeadlineExceeded)
    assert len(endpoint.calls) == 2


@pytest.mark.asyncio
async def test_a_followers_deadline_is_kept_too() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(SLOW)
    handler = stack(endpoint, Deadline(10), Cache())
    patient = asyncio.ensure_future(events(handler, ask(clock)))
    await clock.settle()
    hasty = asyncio.ensure_future(events(handler, ask(clock, deadline=2.5)))
    await clock.run_for(2.6)
    assert isinstance(hasty.exception(), DeadlineExceeded)
    assert len(await clock.run(patient)) == 4


@pytest.mark.asyncio
async def test_other_tenants_and_priorities_do_not_wait_for_each_other() -> None:
    clock, endpoint = FakeClock(), ScriptedEndpoint(SLOW)
    handler = stack(endpoint, Cache())
    calls = [ask(clock), ask(clock, tenant="t"), ask(clock, priority="bulk")]
    await clock.run(asyncio.gather(*(events(handler, call) for call in calls)))
    assert len(endpoint.calls) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("part", range(10))
async def test_no_schedule_of_leaving_leaks_or_mixes(part: int) -> None:
    for seed in range(50 * part, 50 * part + 50):
        rng = random.Random(seed)
        clock = FakeClock(rounds=12)

        def answer(call: Call, rng: random.Random = rng) -> Script:
            fail = rng.choice([None, None, None, 0, 1])
            return Script(f"to {call.tenant} only", rng.random(), rng.random(), fail_after=fail)

        endpoint, cache = ScriptedEndpoint(answer), Cache(ttl=rng.choice([0.5, 60]))
        handler = stack(endpoint, cache)
        tasks = []
        for _ in range(rng.randint(2, 10)):
            tenant = rng.choice("ab")
            tasks.append((tenant, asyncio.ensure_future(collect(handler, ask(clock, tenant=tenant)))))
            if rng.random() < 0.6:
                await clock.run_for(rng.random())
            if rng.random() < 0.4:
                rng.choice(tasks)[1].cancel()
        await clock.run(asyncio.gather(*(task for _, task in tasks), return_exceptions=True))
        for tenant, task in tasks:
            if not task.cancelled() and task.exception() is None:
                assert task.result().text == f"to {tenant} only"
        await clock.settle()
        assert (endpoint.active, clock.pending, len(cache._flights)) == (0, 0, 0)
