"""One contract on both stores; and what holds across processes, and when Redis goes away."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from guardrails import Call, ConfigError, Finish, Request, Shed, Usage, collect, stack
from guardrails.call import Delta, Note
from guardrails.flow import store as module
from guardrails.flow.buckets import Correct, Part, Rate, Take
from guardrails.flow.budget import Allowance, Budget
from guardrails.flow.ledger import Counter, Reserve, Reserved, Settle, bounds
from guardrails.flow.rates import RateLimit, Rates
from guardrails.flow.redis_store import OWED, RedisStore
from guardrails.flow.store import LOCAL, SHARED, MemoryStore, Store
from guardrails.testing import Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

BIG = 2**52


def call() -> Call:
    return Call(Request.of("one two", max_tokens=100))


@asynccontextmanager
async def opened(kind: str, request: pytest.FixtureRequest, **options: Any) -> AsyncGenerator[Store]:
    server = request.getfixturevalue("redis_server") if kind == "redis" else None
    store: Store = RedisStore(server.url, timeout=5.0, **options) if server is not None else MemoryStore()
    try:
        yield store
    finally:
        await store.aclose()


both = pytest.mark.parametrize("kind", ["memory", "redis"])
SLOW = Rate(1 / 1000, 10.0)  # next to nothing flows in while a test runs


# --- the contract ------------------------------------------------------------------------------------------


@both
@pytest.mark.asyncio
async def test_rates_are_taken_all_or_none(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as store:
        first, where = await store.decide(Take((Part("{r}a", SLOW, 8), Part("{r}b", SLOW, 3)), 0), call())
        assert (first.booked, first.waits, where) == (True, (0, 0), SHARED)
        second, _ = await store.decide(Take((Part("{r}b", SLOW, 3), Part("{r}a", SLOW, 5)), 0), call())
        assert not second.booked
        assert second.waits == pytest.approx((0, 3000), rel=0.01)
        third, _ = await store.decide(Take((Part("{r}b", SLOW, 7), Part("{r}a", SLOW, 2)), 0), call())
        assert third.booked, "the one that did not fit booked nothing anywhere"


@both
@pytest.mark.asyncio
async def test_the_patient_book_ahead(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as store:
        for wait in (0, 1000, 2000):
            taken, _ = await store.decide(Take((Part("{r}a", Rate(1 / 100, 10), 10),), 1e9), call())
            assert taken.waits[0] == pytest.approx(wait, abs=10)
        huge, _ = await store.decide(Take((Part("{r}h", SLOW, 50),), 0), call())
        assert huge.booked, "an amount above the bucket goes when it is full"


@both
@pytest.mark.asyncio
async def test_corrections_and_floors(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as store:
        await store.decide(Take((Part("{r}a", SLOW, 10),), 0), call())
        await store.decide(Correct((Part("{r}a", SLOW, -4),)), call())
        taken, _ = await store.decide(Take((Part("{r}a", SLOW, 4),), 0), call())
        assert taken.booked
        await store.decide(Correct((Part("{r}a", SLOW, -1000),)), call())
        taken, _ = await store.decide(Take((Part("{r}a", SLOW, 10),), 0), call())
        assert taken.booked, "a bucket is never more than full"
        await store.decide(Correct((Part("{r}f", SLOW, 0, floor=12_000.0),)), call())
        taken, _ = await store.decide(Take((Part("{r}f", SLOW, 1),), 0), call())
        assert taken.waits[0] == pytest.approx(3000, rel=0.01)


@both
@pytest.mark.asyncio
@pytest.mark.parametrize("period", ["hour", "day", "month"])
async def test_budgets_reserve_all_or_none_and_settle_exactly(
    kind: str, period: Any, request: pytest.FixtureRequest
) -> None:
    def counters(*amounts: int) -> Reserve:
        keys = "{b}m", "{b}t"
        limits = BIG, 100
        triples = zip(keys, limits, amounts, strict=True)
        return Reserve(tuple(Counter(key, period, limit, amount) for key, limit, amount in triples))

    async with opened(kind, request) as store:
        asked = call()
        got, where = await store.decide(counters(BIG - 1, 60), asked)
        now = asked.clock.wall().timestamp()
        assert got == Reserved((bounds(period, now)[0],) * 2)
        refused, _ = await store.decide(counters(1, 41), call())
        assert (refused.refused, refused.spent) == (1, 60)
        assert refused.until == pytest.approx(bounds(period, now)[1] - now, abs=30)
        refused, _ = await store.decide(counters(2, 1), call())
        assert (refused.refused, refused.spent) == (0, BIG - 1)
        changes = ("{b}m", got.starts[0], 3 - BIG), ("{b}t", got.starts[1], -60), ("{b}t", 5, 1000)
        await store.decide(Settle(changes[:2]), asked, where)
        await store.decide(Settle(changes[2:]), asked, where)
        full, _ = await store.decide(counters(BIG - 2, 100), call())
        assert full.refused is None, "what belongs to another period changes nothing"
        over, _ = await store.decide(counters(1, 0), call())
        assert (over.refused, over.spent) == (0, BIG)


@both
@pytest.mark.asyncio
async def test_a_new_period_starts_from_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as store:
        if kind == "redis":
            request.getfixturevalue("redis_server").say("HSET {b}k start 3600 spent 100")
        else:
            assert isinstance(store, MemoryStore)
            store._cells.put("{b}k", (3600, 100), 1e18, 0)
        got, _ = await store.decide(Reserve((Counter("{b}k", "hour", 100, 100),)), call())
        assert got.refused is None


@both
@pytest.mark.asyncio
async def test_no_two_calls_at_once_get_the_last_of_it(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as store:
        decisions = [store.decide(Reserve((Counter("{b}k", "day", 100, 7),)), call()) for _ in range(50)]
        got = await asyncio.gather(*decisions)
        assert sum(reserved.refused is None for reserved, _ in got) == 14


@both
@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_the_layers_keep_the_contract(kind: str, case: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as store:
        await check_layer(RateLimit("e", Rates(requests=6000), store=store), case)
        await check_layer(Budget("b", (Allowance("day", tokens=10**6),), store=store), case)


# --- Redis alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("date", "first", "last"),
    [
        ("2026-02-28T23:59:59", "2026-02-01", "2026-03-01"),
        ("2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        ("2100-02-28T12:00:00", "2100-02-01", "2100-03-01"),
        ("2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
    ],
)
@pytest.mark.asyncio
async def test_the_scripts_calendar_is_the_same(redis_server: Any, date: str, first: str, last: str) -> None:
    from datetime import UTC, datetime

    from guardrails.flow.ledger import _BOUNDS

    def stamp(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())

    script = (
        _BOUNDS.replace("tonumber(redis.call('TIME')[1])", "tonumber(ARGV[1])") + "return {bounds('month')}"
    )
    assert "ARGV[1]" in script
    store = RedisStore(redis_server.url, timeout=5.0)
    got = await store._pool().eval(script, 0, str(stamp(date)))
    await store.aclose()
    assert got == [stamp(first), stamp(last)] == list(bounds("month", stamp(date)))


@pytest.mark.asyncio
async def test_keys_are_forgotten_when_they_mean_nothing_any_more(redis_server: Any) -> None:
    store = RedisStore(redis_server.url, timeout=5.0)
    await store.decide(Take((Part("{r}a", Rate(1, 10), 5),), 0), call())
    await store.decide(Reserve((Counter("{b}k", "hour", 100, 7),)), call())
    assert 0 < int(redis_server.say("PTTL {r}a").strip(b":\r\n")) <= 6000
    assert 0 < int(redis_server.say("TTL {b}k").strip(b":\r\n")) <= 7200
    await store.aclose()


WORKER = """
import asyncio, sys
from guardrails import Call, Request, Usage, collect, stack
from guardrails.flow.budget import Allowance, Budget
from guardrails.flow.rates import RateLimit, Rates
from guardrails.flow.redis_store import OWED, RedisStore
from guardrails.testing import Script, ScriptedEndpoint

async def main():
    store = RedisStore(sys.argv[1], timeout=5.0)
    layers = {
        "rate": RateLimit("shared", Rates(requests=20, burst=60), store=store, patience=0),
        "budget": Budget("shared", (Allowance("month", tokens=2180),), store=store),
    }
    endpoint = ScriptedEndpoint(Script("x", usage=Usage(9, 100)))
    handler = stack(endpoint, layers[sys.argv[2]])
    calls = [Call(Request.of("one two", max_tokens=100)) for _ in range(30)]
    await asyncio.gather(*(collect(handler, call) for call in calls), return_exceptions=True)
    print(len(endpoint.calls))
    await store.aclose()

asyncio.run(main())
"""


@pytest.mark.e2e
@pytest.mark.parametrize("layer", ["rate", "budget"])
def test_two_processes_share_one_limit(redis_server: Any, layer: str) -> None:
    command = [sys.executable, "-c", WORKER, redis_server.url, layer]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sent = [int(process.communicate(timeout=60)[0]) for process in processes]
    # 20 requests a minute; a third of one flows in each second that the processes run beside each other
    assert sum(sent) in (range(20, 25) if layer == "rate" else range(20, 21)), sent


@pytest.mark.asyncio
async def test_when_redis_goes_away_closed_means_closed(redis_process: Any) -> None:
    store = RedisStore(redis_process.url, timeout=1.0, retry_every=0.0)
    endpoint = ScriptedEndpoint("ok")
    handler = stack(endpoint, Budget("b", (Allowance("day", tokens=10**6),), store=store))
    await collect(handler, call())
    redis_process.stop()
    try:
        asked = call()
        with pytest.raises(Shed) as shed:
            await collect(handler, asked)
        assert shed.value.kind == "store_gone"
        assert ("flow", "store_gone:closed") in _notes(asked)
    finally:
        redis_process.start()
    await collect(handler, call())
    assert len(endpoint.calls) == 2
    await store.aclose()


@pytest.mark.asyncio
async def test_when_redis_goes_away_a_replica_keeps_to_its_share(redis_process: Any) -> None:
    store = RedisStore(
        redis_process.url, when_gone="local_share", replicas=4, timeout=1.0, retry_every=3600.0
    )
    endpoint = ScriptedEndpoint([Delta("x"), Finish("stop", Usage(9, 100))])
    limit = Budget("b", (Allowance("month", tokens=109 * 8),), store=store)
    handler = stack(endpoint, limit)
    redis_process.stop()
    try:
        tried = [call() for _ in range(8)]
        results = [await asyncio.gather(collect(handler, asked), return_exceptions=True) for asked in tried]
        assert [type(result).__name__ for (result,) in results] == ["Response"] * 2 + ["BudgetExceeded"] * 6
    finally:
        redis_process.start()
    assert len(endpoint.calls) == 2
    assert ("flow", "store_gone:local_share") in _notes(tried[0])
    await store.aclose()


@pytest.mark.asyncio
async def test_a_call_that_runs_when_redis_goes_away_is_not_harmed(redis_process: Any) -> None:
    for mode in ("closed", "local_share"):
        store = RedisStore(redis_process.url, when_gone=mode, timeout=1.0)
        layers = (
            RateLimit("e", Rates(requests=600), store=store),
            Budget("b", (Allowance("day", tokens=10**6),), store=store),
        )
        async with stack(ScriptedEndpoint("all is well"), *layers)(call()) as stream:
            redis_process.stop()
            events = [event async for event in stream]
        redis_process.start()
        assert isinstance(events[-1], Finish)
        await store.aclose()


@pytest.mark.asyncio
async def test_what_was_decided_here_is_undone_here(redis_server: Any) -> None:
    store = RedisStore(redis_server.url, when_gone="local_share", replicas=2, timeout=5.0, retry_every=0.0)
    settle = Settle((("{b}k", bounds("month", call().clock.wall().timestamp())[0], -50),))
    await store.decide(Reserve((Counter("{b}k", "month", 100, 60),)), call())
    _, where = await store.decide(settle, call(), LOCAL)
    assert where == LOCAL
    assert b"60" in redis_server.say("HGET {b}k spent"), "a local refund never reaches what others reserved"
    await store.aclose()


@pytest.mark.asyncio
async def test_a_reservation_whose_call_was_cancelled_meanwhile_is_taken_back(redis_server: Any) -> None:
    store = RedisStore(redis_server.url, timeout=5.0)
    budget = Budget("b", (Allowance("month", tokens=1000),), store=store)
    sent = 0
    for turns in range(0, 48, 4):
        endpoint = ScriptedEndpoint(Script("ok", stall_after=1))
        task = asyncio.ensure_future(collect(stack(endpoint, budget), call()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        sent += len(endpoint.calls)
    while module._finishing:
        await asyncio.gather(*module._finishing, return_exceptions=True)
    reply = redis_server.say("HGET guardrails:budget:{b}:=:month:tokens spent")
    assert reply.split()[-1] in (b"%d" % (10 * sent), b"$-1"), "prompt and token of those sent"
    assert sent < 12
    await store.aclose()


SPENT = "HGET guardrails:budget:{b}:=:day:tokens spent"


def number(reply: bytes) -> int:
    return int(reply.split()[-1])


@pytest.mark.asyncio
async def test_what_a_call_used_while_redis_was_away_is_booked_when_it_is_back(redis_process: Any) -> None:
    store = RedisStore(redis_process.url, timeout=1.0, retry_every=0.0)
    budget = Budget("b", (Allowance("day", tokens=10**6),), store=store)
    handler = stack(ScriptedEndpoint([Delta("x"), Finish("stop", Usage(9, 1))]), budget)
    dead: Any = None
    async with handler(call()) as stream:
        # Redis hangs instead of going away, so that it comes back with what it knew.
        dead = redis_process._process
        dead.send_signal(signal.SIGSTOP)
        store._timeout = 0.05
        await store._pool().aclose()
        store._client = None
        events = [event async for event in stream]
    assert isinstance(events[-1], Finish)
    dead.send_signal(signal.SIGCONT)
    store._timeout = 1.0
    await store.aclose()
    assert number(redis_process.say(SPENT)) == 10, "neither the reservation nor twice the refund"
    await collect(handler, call())
    while module._finishing:
        await asyncio.gather(*module._finishing)
    assert number(redis_process.say(SPENT)) == 20
    await store.aclose()
    redis_process.say("FLUSHALL")


@pytest.mark.asyncio
async def test_the_first_decision_after_brings_what_is_owed(redis_server: Any) -> None:
    store = RedisStore(redis_server.url, timeout=5.0)
    asked, counter = call(), Counter("{b}k", "day", 100, 60)
    got, _ = await store.decide(Reserve((counter,), "one"), asked)
    store.later(Settle((("{b}k", got.starts[0], -50),), "one"))
    await store.decide(Reserve((Counter("{b}k", "day", 100, 5),), "two"), asked)
    while module._finishing:
        await asyncio.gather(*module._finishing)
    assert number(redis_server.say("HGET {b}k spent")) == 15
    await store.aclose()


@pytest.mark.asyncio
async def test_what_is_sent_twice_is_booked_once(redis_server: Any) -> None:
    store = RedisStore(redis_server.url, timeout=5.0)
    reserve = Reserve((Counter("{b}k", "day", 100, 60), Counter("{b}h", "hour", 100, 60)), "one")
    for _ in range(3):
        got, _ = await store.decide(reserve, call())
        assert got.refused is None, "it has room: its own"
    settle = Settle(
        tuple((key, start, -50) for key, start in zip(reserve.keys, got.starts, strict=True)), "one"
    )
    for _ in range(3):
        await store.decide(settle, call())
    assert [number(redis_server.say(f"HGET {key} spent")) for key in reserve.keys] == [10, 10]
    assert b"r:one" not in redis_server.say("HGETALL {b}k")
    await store.aclose()


@pytest.mark.asyncio
async def test_what_a_dead_process_reserved_is_free_after_its_lease(redis_server: Any) -> None:
    store = RedisStore(redis_server.url, timeout=5.0)

    def reserve(name: str, amount: int, lease: int = 900) -> Reserve:
        return Reserve((Counter("{b}k", "day", 100, amount),), name, lease)

    got, _ = await store.decide(reserve("gone", 60, lease=0), call())
    await store.decide(reserve("alive", 30), call())
    over, _ = await store.decide(reserve("large", 71), call())
    assert (over.refused, over.spent) == (0, 30), "only what is alive counts any more"
    fits, _ = await store.decide(reserve("new", 70), call())
    assert fits.refused is None
    # The one that was given up on comes back after all: what it used is booked, and once.
    for _ in range(2):
        await store.decide(Settle((("{b}k", got.starts[0], 7 - 60),), "gone"), call())
    await store.decide(Settle((("{b}k", got.starts[0], 5 - 30),), "alive"), call())
    assert number(redis_server.say("HGET {b}k spent")) == 7 + 5 + 70
    await store.aclose()


@pytest.mark.asyncio
async def test_a_live_reservation_is_not_swept_away(redis_server: Any) -> None:
    store = RedisStore(redis_server.url, timeout=5.0)
    one = Counter("{b}k", "day", 100, 60)
    await store.decide(Reserve((one,), "alive"), call())
    for name in ("a", "b", "c"):
        got, _ = await store.decide(Reserve((one,), name), call())
        assert (got.refused, got.spent) == (0, 60)
    await store.aclose()


def test_no_more_is_owed_than_there_is_room_for() -> None:
    store = RedisStore("redis://nowhere")
    for _ in range(OWED + 5):
        store.later(Settle(()))
    assert len(store._owed) == OWED


def test_a_wrong_url_says_what_is_right() -> None:
    pytest.importorskip("redis")
    with pytest.raises(ConfigError, match="redis://"):
        asyncio.run(_ask("http://nowhere"))


async def _ask(url: str) -> None:
    await RedisStore(url).decide(Take((), 0), call())


def test_no_password_is_shown() -> None:
    assert "secret" not in repr(RedisStore("redis://:secret@host"))


def _notes(asked: Call) -> list[tuple[str, Any]]:
    return [(entry.what, entry.detail) for _, entry in asked.journal.log if isinstance(entry, Note)]
