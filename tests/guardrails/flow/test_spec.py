"""Flow layers from a configuration: what stands there is what happens."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from guardrails import (
    BudgetExceeded,
    Call,
    ConfigError,
    Delta,
    Finish,
    Llm,
    Request,
    Shed,
    Transient,
    collect,
)
from guardrails.config import build
from guardrails.testing import FakeClock

sys.modules.setdefault("tests_flow_spec", sys.modules[__name__])  # so that `target:` finds it
ASKED: list[str] = []
CLOCKS: list[FakeClock] = []


async def good(request: Request) -> str:
    """An endpoint that answers."""
    ASKED.append("good")
    return f"answered {request.model}".strip()


async def gone(_: Request) -> str:
    """An endpoint that is not there."""
    ASKED.append("gone")
    raise ConnectionRefusedError


async def flaky(_: Request) -> AsyncIterator[str]:
    """An endpoint that is there every third time."""
    ASKED.append("flaky")
    if len(ASKED) % 3:
        raise ConnectionResetError
    yield "at last"


async def slow(_: Request) -> str:
    """An endpoint that takes its time."""
    ASKED.append("slow")
    await CLOCKS[-1].sleep(2.0)
    return "at last"


async def cut_off(_: Request) -> AsyncIterator[Delta | Finish]:
    """An endpoint whose filter speaks after a few words."""
    yield Delta("not this")
    yield Finish("content_filter")


@pytest.fixture(autouse=True)
def _forget() -> None:
    ASKED.clear()


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "function", "target": f"tests_flow_spec:{name}", **fields}


async def ask(llm: Llm, clock: FakeClock, prompt: str = "hi", tenant: str = "") -> tuple[str, Any]:
    call = Call(Request.of(prompt, max_tokens=10), clock=clock, tenant=tenant)
    response = await clock.run(collect(llm, call))
    assert call.journal.record is not None
    return response.text, call.journal.record


@pytest.mark.asyncio
async def test_routes_fall_back_and_say_so() -> None:
    llm = build({"name": "r", "routes": [function("gone"), function("good", model="m")]})
    text, record = await ask(llm, FakeClock())
    assert text == "answered m"
    assert ASKED == ["gone", "good"]
    assert [attempt.endpoint for attempt in record.attempts] == ["gone", "good"]
    assert record.endpoint == "good"
    assert any("fallback" in decision for decision in record.flow)


@pytest.mark.asyncio
async def test_retries() -> None:
    llm = build(function("flaky", retry={"attempts": 3, "base": 1.0}))
    assert (await ask(llm, FakeClock()))[0] == "at last"
    assert len(ASKED) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("limit", "kind", "noted"),
    [
        ({"admit": {"limit": 1, "length": 0}}, "queue_full", "shed:good:queue_full"),
        ({"rate_limit": {"requests": 1, "patience": 0}}, "rate_limited", "shed:good:requests"),
    ],
)
async def test_a_call_that_is_shed_says_at_which_gate(limit: dict[str, Any], kind: str, noted: str) -> None:
    clock = FakeClock()
    llm = build(function("good", **limit))
    async with llm(Call(Request.of("hi"), clock=clock)):
        shed = Call(Request.of("hi"), clock=clock)
        with pytest.raises(Shed, match="good") as caught:
            await clock.run(collect(llm, shed))
    assert caught.value.kind == kind
    assert caught.value.hint
    assert shed.journal.record is not None
    assert (shed.journal.record.error, shed.journal.record.flow) == (kind, (noted,))


@pytest.mark.asyncio
async def test_a_breaker_stops_asking() -> None:
    clock = FakeClock()
    llm = build(function("gone", breaker={"consecutive": 2, "ejection": 60}))
    kinds = []
    for _ in range(5):
        with pytest.raises(Transient) as caught:
            await ask(llm, clock)
        kinds.append(caught.value.kind)
    assert len(ASKED) == 2
    assert kinds[2:] == ["circuit_open"] * 3


@pytest.mark.asyncio
async def test_a_cache_answers_again() -> None:
    clock = FakeClock()
    llm = build(function("good", cache={"store": "memory"}))
    first, second, other = [await ask(llm, clock, prompt) for prompt in ("a", "a", "b")]
    assert ASKED == ["good", "good"]
    assert [record.cached for _, record in (first, second, other)] == [False, True, False]


@pytest.mark.asyncio
async def test_rates_and_budgets_refuse() -> None:
    clock = FakeClock()
    llm = build(function("good", rate_limit={"requests": 1, "burst": 60, "patience": 5}))
    await ask(llm, clock)
    with pytest.raises(Shed):
        await ask(llm, clock)
    llm = build(function("good", budget={"name": "b", "allow": [{"per": "day", "tokens": 40}]}))

    async def ask_often() -> None:
        for _ in range(10):
            await ask(llm, clock, tenant="one")

    with pytest.raises(BudgetExceeded):
        await ask_often()
    assert (await ask(llm, clock, tenant="two"))[0] == "answered"


async def short(request: Request) -> str:
    """A small model that gives up on questions."""
    ASKED.append("short")
    return "" if "?" in request.messages[-1].text else "small talk"


@pytest.mark.asyncio
async def test_a_cascade_goes_on_when_the_small_answer_will_not_do() -> None:
    llm = build({"cascade": {"small": function("short"), "large": function("good")}})
    assert (await ask(llm, FakeClock(), "hello"))[0] == "small talk"
    assert (await ask(llm, FakeClock(), "why?"))[0] == "answered"
    assert ASKED == ["short", "short", "good"]


@pytest.mark.asyncio
async def test_a_shadow_is_asked_and_never_heard(tmp_path: Path) -> None:
    records = tmp_path / "calls.jsonl"
    llm = build(function("good", shadow={"candidate": function("short")}, records=records))
    async with llm:
        assert (await llm.ask("hello")).text == "answered"
        for _ in range(100):
            await asyncio.sleep(0)
    rows = [orjson.loads(line) for line in records.read_bytes().splitlines()]
    assert sorted(row["endpoint"] for row in rows) == ["good", "short"]
    assert [bool(row["labels"].get("shadow_of")) for row in rows if row["endpoint"] == "short"] == [True]


@pytest.mark.asyncio
async def test_admission_stands_before_everything_else() -> None:
    llm = build(function("good", admit={"limit": 1, "length": 0}, filters={"input": ["pii"]}))
    record = (await llm.ask("hi")).record  # on the machine's clock: filters load in a thread
    assert record.outcome == "complete"
    assert record.scanned == ("input",)


@pytest.mark.asyncio
async def test_the_shared_store_is_closed_with_the_client() -> None:
    store = {"redis": "redis://127.0.0.1:1/0", "when_gone": "local_share"}
    llm = build(function("good", store=store, rate_limit={"requests": 10}))
    assert (await llm.ask("hi")).text == "answered"
    shared = llm._endpoint._parts[-1]  # type: ignore[attr-defined]
    assert shared._client is not None
    await llm.aclose()
    assert shared._client is None


def test_mistakes_are_all_reported_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        """\
order: alphabetical
routes:
  - {name: a, url: "http://a/v1", on: [whenever]}
  - {name: b, url: "nowhere"}
  - {name: c, type: telepathy}
"""
    )
    with pytest.raises(ConfigError) as caught:
        build(file)
    said = str(caught.value)
    for line, word in ((3, "whenever"), (4, "must look like"), (5, "telepathy")):
        assert any(f"policy.yaml:{line}:" in row and word in row for row in said.splitlines()), said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"retry": {"attempts": 0}}, "greater than or equal to 1"),
        ({"admit": {"limit": "psychic"}}, "two_signal"),
        ({"budget": {"allow": []}}, "at least 1 item"),
        ({"budget": {"allow": [{"per": "fortnight"}]}}, "'hour', 'day' or 'month'"),
        ({"cache": {"tll": 3}}, "not a known field"),
        ({"routes": [], "order": "weighted", "url": None}, "valid string|Field required|should be"),
        ({"routes": [{"name": "x", "url": "http://h/v1"}]}, "belongs into each route"),
    ],
)
def test_what_cannot_work_says_what_is_allowed(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build({"url": "http://h/v1", **change})


@pytest.mark.asyncio
@pytest.mark.parametrize("place", ["policy", "route"])
@pytest.mark.parametrize("when_full", [False, True])
async def test_no_hedge_while_the_gate_is_full(place: str, when_full: bool) -> None:
    gate = {"admit": {"limit": 1}}
    hedge = {"hedge": {"delay": 0.5, "when_full": when_full}}
    if place == "policy":
        llm = build(function("slow", **gate, **hedge))
    else:
        llm = build({"name": "r", "routes": [function("slow", **gate, **hedge)]})
    CLOCKS.append(FakeClock())
    _, record = await ask(llm, CLOCKS[-1])
    assert record.flow[0] == ("hedge:500ms" if when_full else "no_hedge:saturated")


@pytest.mark.asyncio
async def test_it_is_kept_warm(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    clock = FakeClock()
    async with build(
        function("good", keep_warm={"every": 60}, cold_start={"after": 100}, records=str(path))
    ) as llm:
        await ask(llm, clock)
        await clock.run_for(200)
        assert ASKED == ["good"] * 4
        assert not (await ask(llm, clock))[1].cold
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [row["labels"] for row in rows] == [{}, *[{"probe": "keep_warm"}] * 3, {}]


@pytest.mark.asyncio
async def test_held_back_tokens_of_a_filtered_answer_go_to_nobody_where_a_route_takes_policy() -> None:
    last = function("cut_off", holdback=8)
    first = function("gone", on=["content_policy"])
    assert (await ask(build({"name": "r", "routes": [first, last]}), FakeClock()))[0] == "not this"
    for on, text in ((["content_policy"], "answered m"), (["transient"], "not this")):
        routes = [function("cut_off", holdback=8), function("good", model="m", on=on)]
        assert (await ask(build({"name": "r", "routes": routes}), FakeClock()))[0] == text


@pytest.mark.asyncio
async def test_a_lasting_cache_knows_answers_of_another_policy(tmp_path: Path) -> None:
    cache = {"store": str(tmp_path / "cache.db")}
    again: list[bool] = []
    for fields in (
        {"model": "one"},
        {"model": "two"},
        {"model": "two", "filters": {"output": ["pii"]}},
        {"model": "two", "filters": {"output": ["pii"]}, "retry": {"attempts": 2}, "deadline": 9.0},
        {"model": "one"},
    ):
        async with build(function("good", cache=cache, **fields)) as llm:
            again.append((await llm.ask("hi")).record.cached)
    assert again == [False, False, False, True, True], "retries and deadlines shape no answer"
