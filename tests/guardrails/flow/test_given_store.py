"""Stacks that are built with one store share what they may use, as the workers of one run do."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.client import Llm
from guardrails.config import build
from guardrails.errors import BudgetExceeded, GuardrailsError, Shed, Transient
from guardrails.flow.store import MemoryStore

asked: list[str] = []


async def says_yes(prompt: str) -> str:
    asked.append(prompt)
    return "yes"


async def fails(prompt: str) -> str:
    asked.append(prompt)
    raise Transient("the server is on fire", kind="server_error")


def policy(function: str, **fields: Any) -> dict[str, Any]:
    return {"name": "e", "type": "function", "target": f"{__name__}:{function}", **fields}


def twins(store: MemoryStore | None, config: dict[str, Any]) -> list[Llm]:
    return [build(config, store=store), build(config, store=store)]


async def outcomes(llms: list[Llm], calls: int) -> list[str]:
    said = []
    for number in range(calls):
        try:
            said.append((await llms[number % len(llms)].ask("well?")).text)
        except GuardrailsError as error:
            said.append(error.kind)
    return said


RATE = policy("says_yes", rate_limit={"requests": 3, "patience": 0})


@pytest.mark.asyncio
async def test_a_rate_holds_over_all_that_share_the_store_and_not_over_others() -> None:
    assert (
        await outcomes(twins(MemoryStore(), RATE), 8)
        == ["yes"] * 3 + [Shed("", kind="rate_limited").kind] * 5
    )
    assert (await outcomes(twins(None, RATE), 8)).count("yes") == 6


@pytest.mark.asyncio
async def test_a_budget_holds_over_all_that_share_the_store() -> None:
    allow = [{"per": "month", "tokens": 40}]
    config = policy(
        "says_yes", budget={"allow": allow, "assumed_output": 10, "unknown_price": "count_tokens_only"}
    )
    shared = await outcomes(twins(MemoryStore(), config), 60)
    alone = await outcomes(twins(None, config), 60)
    assert shared[-1] == BudgetExceeded.default_kind
    assert 0 < shared.count("yes") < alone.count("yes")


@pytest.mark.asyncio
async def test_what_one_found_out_about_an_endpoint_the_others_need_not() -> None:
    config = policy("fails", breaker={"consecutive": 2})
    asked.clear()
    first, second = twins(MemoryStore(), config)
    assert await outcomes([first], 2) == ["server_error"] * 2
    assert await outcomes([second], 1) == ["circuit_open"], "though the breaker does not say `shared`"
    assert len(asked) == 2


def test_a_configuration_that_names_redis_keeps_it() -> None:
    config = policy("says_yes", rate_limit={"requests": 3}, store={"redis": "redis://127.0.0.1:1/0"})
    assert "RedisStore" in repr(vars(build(config, store=MemoryStore())._endpoint)["_parts"])
