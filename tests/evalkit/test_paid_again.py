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
from guardrails.errors import Transient
from guardrails.testing import Script, ScriptedEndpoint

CALL, JUDGE = Decimal("0.1"), Decimal("0.01")
BROKEN = f"Score(None, None, 'no reply', 'timeout', cost_usd={JUDGE})"
FINE = f"Score(1.0, True, 'fine', cost_usd={JUDGE})"


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


@pytest.mark.asyncio
async def test_the_cap_holds_over_all_tries_of_calls_whose_cost_nobody_knows(tmp_path: Path) -> None:
    """Each is booked at its worst: in the try that made it, in the next, and once another took its place."""

    def late() -> ScriptedEndpoint:
        return ScriptedEndpoint(Transient("late", kind="timeout_first_event"))

    made = {"n": 4, "budget": {"max_usd": "0.65"}}
    handlers = [late() for _ in range(4)]
    outcome = await evaluate(plan(tmp_path, handlers[0], **made))
    for handler in handlers[1:]:
        outcome = await again(plan(tmp_path, handler, **made), outcome)
    assert [len(handler.calls) for handler in handlers] == [4, 2, 0, 0]
    assert outcome.status == "capped"
    assert paid(outcome) == 0, "what is only presumed is no cost"
    more = await again(plan(tmp_path, answering(), n=4, budget={"max_usd": "1.05"}, said=FINE), outcome)
    assert (more.status, paid(more)) == ("complete", 4 * (CALL + JUDGE))


@pytest.mark.asyncio
async def test_with_a_cache_a_run_judges_its_own_answers_again_as_measured_by_itself(tmp_path: Path) -> None:
    """As often as it takes: they are no earlier answers, and stay what the run itself measured."""
    outcome = await evaluate(plan(tmp_path, answering(), cache=True))
    before = list(outcome.store.trials(outcome.run.id))
    for tries, said in ((2, BROKEN), (3, BROKEN), (4, FINE)):
        handler = answering()
        outcome = await again(plan(tmp_path, handler, said=said, cache=True), outcome)
        rows = list(outcome.store.trials(outcome.run.id))
        assert handler.calls == []
        assert [row.record for row in rows] == [row.record for row in before]
        assert [row.answer for row in rows] == [row.answer for row in before]
        assert paid(outcome) == 2 * (CALL + tries * JUDGE)
        assert [each.cached for each in outcome.endpoints] == [0]
    assert outcome.endpoints[0].passed == 2


@pytest.mark.asyncio
async def test_what_is_judged_again_under_a_cap_costs_its_judging(tmp_path: Path) -> None:
    made: dict[str, Any] = {"cache": True, "budget": {"max_usd": "0.24"}}
    outcome = await evaluate(plan(tmp_path, answering(), **made))
    outcome = await again(plan(tmp_path, answering(), **made), outcome)
    assert outcome.status == "complete", "the calls were paid once: 0.22, and the judging 0.02 more"
    assert paid(outcome) == 2 * (CALL + 2 * JUDGE)


@pytest.mark.asyncio
async def test_an_answer_of_another_arm_of_the_same_run_is_an_earlier_one(tmp_path: Path) -> None:
    first, second = answering(), answering()
    outcome = await evaluate(plan(tmp_path, first, second, cache=True, n=1))
    assert len(first.calls) + len(second.calls) in (1, 2)
    outcome = await again(plan(tmp_path, answering(), answering(), said=FINE, cache=True, n=1), outcome)
    records = [row.record for row in outcome.store.trials(outcome.run.id)]
    assert sum(not record["cached"] for record in records if record) == len(first.calls) + len(second.calls)


@pytest.mark.asyncio
async def test_another_run_takes_them_as_earlier_ones(tmp_path: Path) -> None:
    await evaluate(plan(tmp_path, answering(), cache=True))
    handler = answering()
    outcome = await evaluate(plan(tmp_path, handler, said=FINE, cache=True))
    assert handler.calls == []
    assert outcome.endpoints[0].cached == 2
    assert paid(outcome) == 2 * JUDGE
