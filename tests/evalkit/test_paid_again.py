"""What a run paid for rows that are no longer there counts, in its cap and in its report."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evalkit.config import Suite
from evalkit.evaluate import Outcome, evaluate, spent_before
from evalkit.plan import Plan, Target
from guardrails.call import Usage
from guardrails.client import Llm
from guardrails.testing import Script, ScriptedEndpoint

CALL, JUDGE = Decimal("0.1"), Decimal("0.01")
BROKEN = f"Score(None, None, 'no reply', 'timeout', cost_usd={JUDGE})"


def answering() -> ScriptedEndpoint:
    return ScriptedEndpoint(lambda call: Script("yes", usage=Usage(1, 1, cost=CALL)))


def plan(folder: Path, *handlers: ScriptedEndpoint, said: str = BROKEN, n: int = 2, **fields: Any) -> Plan:
    """`n` samples; a judge in Python that says the same of each answer. Endpoints cost `CALL` at most."""
    samples = [{"id": f"s{i}", "input": f"question {i}"} for i in range(n)]
    (folder / "set.jsonl").write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
    (folder / "judge.txt").write_text(said, encoding="utf-8")
    (folder / "judge.py").write_text(
        "from pathlib import Path\n"
        "from judges.judge import Score\n"
        "def f(question, answer):\n"
        "    return eval((Path(__file__).parent / 'judge.txt').read_text())\n",
        encoding="utf-8",
    )
    suite = Suite.model_validate(
        {
            "golden": str(folder / "set.jsonl"),
            "endpoints": [{"name": f"e{i}", "url": "http://x/v1"} for i in range(len(handlers))],
            "scorers": [{"python": f"{folder}/judge.py:f"}],
            "concurrency": 1,
            "max_error_rate": 1,
            "out": folder,
            **fields,
        }
    )
    # Alike but for their names: an answer of one may stand in for one of the other.
    targets = [
        Target(Llm(handler, name=f"e{i}"), f"e{i}", {"model": "m"}, price=lambda model, usage: CALL)
        for i, handler in enumerate(handlers)
    ]
    return Plan.of(suite, targets)


async def again(made: Plan, before: Outcome) -> Outcome:
    return await evaluate(made, store=before.store, resume=before.run)


def paid(outcome: Outcome) -> Decimal:
    return sum((each.cost.paid for each in outcome.endpoints), Decimal(0))


@pytest.mark.asyncio
async def test_a_run_that_goes_on_says_what_all_its_tries_cost(tmp_path: Path) -> None:
    outcome = await evaluate(plan(tmp_path, answering()))
    assert paid(outcome) == 2 * (CALL + JUDGE)
    for tries in (2, 3):
        outcome = await again(plan(tmp_path, answering()), outcome)
        assert paid(outcome) == tries * 2 * (CALL + JUDGE)
    assert spent_before(outcome.store, outcome.run) == paid(outcome)
    (arm,) = outcome.as_dict()["endpoints"]
    assert Decimal(arm["cost"]["paid"]) == 6 * (CALL + JUDGE)
    assert Decimal(arm["cost"]["replaced"]) == 4 * (CALL + JUDGE)


@pytest.mark.asyncio
async def test_the_cap_holds_over_all_tries(tmp_path: Path) -> None:
    made = {"n": 1, "budget": {"max_usd": "0.35"}}
    outcome = await evaluate(plan(tmp_path, answering(), **made))
    calls = []
    for _ in range(5):
        handler = answering()
        outcome = await again(plan(tmp_path, handler, **made), outcome)
        calls.append(len(handler.calls))
    assert calls == [1, 1, 0, 0, 0]
    assert outcome.status == "capped"
    assert paid(outcome) == 3 * (CALL + JUDGE)
