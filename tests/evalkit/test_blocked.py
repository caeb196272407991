"""A filter that says no is an outcome of the stack under test: judged, counted and asked once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.config import Suite
from evalkit.evaluate import Outcome, evaluate
from evalkit.plan import Plan
from evalkit.stores import open_store
from guardrails.call import Request

DENIED: list[Any] = [{"denied": {"strings": ["Falcon"], "action": "block"}}]
PASSING: list[Any] = [{"denied": {"strings": ["Eagle"], "action": "block"}}]


async def tell(request: Request) -> str:
    """Half of the answers hold what the filter denies."""
    return "yes, Project Falcon" if int(request.messages[-1].text.split()[-1]) % 2 else "yes"


async def outcome(folder: Path, *, filters: Any, n: int = 10, **fields: Any) -> Outcome:
    lines = ({"id": f"s{i}", "input": f"question {i}", "reference": "yes"} for i in range(n))
    (folder / "g.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    endpoint = {"name": "e", "type": "function", "target": f"{__name__}:tell", "filters": filters}
    suite = {"golden": str(folder / "g.jsonl"), "endpoints": [endpoint], "out": folder, **fields}
    made = Plan.of(Suite.model_validate(suite), folder=folder)
    return await evaluate(made, store=open_store(made.suite.database))


@pytest.mark.asyncio
async def test_what_the_stack_blocks_did_not_pass_and_did_not_fail(tmp_path: Path) -> None:
    found = await outcome(
        tmp_path, filters={"output": DENIED}, gates=["pass_rate >= 90%", "error_rate <= 1%"]
    )

    (arm,) = found.endpoints
    assert (arm.calls, arm.passed, arm.failed, dict(arm.errors)) == (10, 5, 5, {})
    assert found.trouble is None, "half of the calls are blocked, and the run says what that means"
    assert found.verdict == "fail"
    assert arm.findings["output", "DENIED", "block"] == 5
    assert arm.latency["e2e"].n == 5, "how soon a filter says no is no latency of an answer"
    blocked = [row for row in found.store.trials(found.run.id) if row.blocked]
    assert {row.answer.refusal for row in blocked if row.answer} == {"blocked: the output holds DENIED"}
    assert all(row.done for row in blocked), "and nobody asks again what would be blocked again"


@pytest.mark.asyncio
async def test_a_block_is_the_refusal_that_a_sample_expects(tmp_path: Path) -> None:
    found = await outcome(tmp_path, filters={"output": DENIED}, scorers=[{"refusal": "refusal"}])
    assert (found.endpoints[0].passed, found.endpoints[0].failed) == (5, 5)


@pytest.mark.asyncio
async def test_where_nothing_judges_a_block_has_not_passed(tmp_path: Path) -> None:
    found = await outcome(tmp_path, filters={"output": DENIED}, scorers=["none"])
    assert found.endpoints[0].passed == 5


@pytest.mark.asyncio
async def test_what_is_asked_may_be_blocked_too(tmp_path: Path) -> None:
    filters = {"input": [{"denied": {"strings": ["question 3"], "action": "block"}}], "output": PASSING}
    found = await outcome(tmp_path, filters=filters)
    assert (found.endpoints[0].passed, found.endpoints[0].failed) == (9, 1)


@pytest.mark.asyncio
async def test_a_filter_that_takes_too_long_decides_nothing(tmp_path: Path) -> None:
    late = {"strings": ["Falcon"], "action": "block", "budget_ms": 1e-9, "on_exceeded": "block"}
    found = await outcome(tmp_path, filters={"output": [{"denied": late}]}, max_error_rate=1)
    assert dict(found.endpoints[0].errors) == {"filter_failed": 10}
