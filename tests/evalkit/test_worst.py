"""A cost cap covers whoever is paid: the endpoints, the simulated user and the judges."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evalkit.cap import ALONE, MOST_UNKNOWN
from evalkit.config import Suite
from evalkit.evaluate import Outcome, evaluate, spent_before
from evalkit.plan import Plan, Target
from evalkit.runner import Control
from evalkit.stores import open_store
from evalkit.worst import at_worst, judging_at_worst
from guardrails.call import Request, Usage
from guardrails.client import Llm
from guardrails.endpoints.function import FunctionEndpoint
from guardrails.errors import ConfigError, Transient
from guardrails.handler import Handler
from guardrails.testing import Script, ScriptedEndpoint

JUDGES = {"j": {"url": "http://j/v1", "model": "unpriced"}}
RUBRIC = [{"rubric": {"model": "j", "criteria": "Is it right?"}}]


def by_tokens(model: str, usage: Usage) -> Decimal:
    """One USD for a token that is read, a million for one that is written."""
    return Decimal(usage.input_tokens + 1_000_000 * usage.output_tokens)


def plan(folder: Path, handler: Any = None, *, price: Any = by_tokens, n: int = 1, **fields: Any) -> Plan:
    sample = fields.pop("sample", {})
    lines = ({"id": f"s{i}", "input": f"question {i}", "reference": "yes", **sample} for i in range(n))
    (folder / "g.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    suite = Suite.model_validate(
        {
            "golden": str(folder / "g.jsonl"),
            "endpoints": [{"name": "e", "url": "http://x/v1"}],
            "out": folder,
            "max_error_rate": 1,
            "budget": {"max_usd": 1, "assumed_output": 7},
            **fields,
        }
    )
    llm = Llm(handler or ScriptedEndpoint("yes"), name="e")
    made = Plan.of(suite, [Target(llm, "e", {"model": "m"}, price=price)])
    return made if made.user is None else replace(made, user=replace(made.user, price=price))


def worst(made: Plan) -> tuple[int, int]:
    """The tokens in and out that are reserved for the first job."""
    (target,) = made.targets
    out, into = divmod(int(at_worst(made, target, next(made.jobs(target)))), 1_000_000)
    return into, out


# --- whose price is not known


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"judges": JUDGES, "scorers": RUBRIC}, "j"),
        ({"user": {"url": "http://u/v1", "model": "unpriced"}}, "user"),
    ],
    ids=["judge", "user"],
)
async def test_a_cap_is_refused_where_a_price_is_not_known(
    tmp_path: Path, fields: dict[str, Any], name: str
) -> None:
    made = plan(tmp_path, price=None, **fields)
    made = replace(made, targets=tuple(replace(each, price=by_tokens) for each in made.targets))

    with pytest.raises(ConfigError, match=f"{name}: no price is known for the model 'unpriced'"):
        await evaluate(made)

    assert open_store(made.suite.database).runs() == [], "it leaves no run behind"
    free = made.suite.model_copy(update={"budget": None})
    assert Plan.of(free, made.targets), "without a cap nothing has to be known"


# --- what a job may cost


def test_a_call_may_cost_its_prompt_and_its_longest_answer(tmp_path: Path) -> None:
    read, assumed = worst(plan(tmp_path))

    assert assumed == 7
    assert worst(plan(tmp_path, sampling={"max_tokens": 20})) == (read, 20)


def test_every_turn_reads_again_what_was_said_before(tmp_path: Path) -> None:
    one, out = worst(plan(tmp_path, sampling={"max_tokens": 20}))

    into, out_of_three = worst(
        plan(tmp_path, sampling={"max_tokens": 20}, sample={"turns": ["b c d", "e f"]})
    )

    assert out_of_three == 3 * out
    assert into >= 3 * one + 20 + 2 * 20, "the second turn reads one answer again, the third two"


@pytest.mark.parametrize(
    ("described", "turns"), [({"max_turns": 3}, 3), ({}, 8)], ids=["three", "as many as may be"]
)
def test_a_simulated_user_is_paid_too(tmp_path: Path, described: dict[str, Any], turns: int) -> None:
    played = {"sampling": {"max_tokens": 20}, "user": {"url": "http://u/v1", "model": "u"}}
    sample = {"user": {"goal": "a refund", **described}}
    one, _ = worst(plan(tmp_path, sampling={"max_tokens": 20}))

    into, out = worst(plan(tmp_path, sample=sample, **played))

    assert out == (1 + turns) * 20 + turns * 400, "its texts have 400 tokens at most"
    assert into > (1 + 2 * turns) * one + (turns * (turns + 1) // 2) * (20 + 400)


# --- judges


FREE = Script("yes", usage=Usage(1, 1, cost=Decimal(0)))

LONG = 500
"""Turns of the event loop, in which every worker begins that may begin."""


def judging(
    folder: Path, cost: str, *answers: Any, handler: Handler | None = None, n: int = 32, calls: int = 0
) -> Plan:
    """So many answers at once that cost nothing, but judging one costs `cost`; it says so many `calls`.

    `cost` is an expression, and may be `next(costs)`: 0.3 once, and unknown from then on.
    """
    (folder / "dear.py").write_text(
        "import asyncio\n"
        "from itertools import chain, repeat\n"
        "from judges.judge import Score\n"
        "costs = chain([0.3], repeat(None))\n"
        "async def dear(question, answer):\n"
        f"    for _ in range({LONG}):\n"
        "        await asyncio.sleep(0)\n"
        f"    return Score(1.0, True, '', cost_usd={cost}, calls={calls})\n",
        encoding="utf-8",
    )
    made = plan(
        folder,
        handler or ScriptedEndpoint(*answers or [FREE]),
        price=lambda model, usage: Decimal(0),
        n=n,
        scorers=[{"python": f"{folder}/dear.py:dear"}],
        concurrency=n,
    )
    # A judge of the suite, so that it is known that somebody is paid.
    return replace(made, judges=(replace(made.targets[0], name="j"),))


def judged(outcome: Outcome) -> Decimal:
    return sum((row.judging_usd for row in outcome.store.trials(outcome.run.id)), Decimal(0))


def of_judging(folder: Path, *scorers: Any, answer: str | None = None, **fields: Any) -> tuple[int, int]:
    """The tokens in and out that are reserved for judging the first sample's answer."""
    judges = {"j": {"url": "http://j/v1", "model": "m"}}
    made = plan(folder, judges=judges, scorers=[*scorers], **fields)
    made = replace(made, judges=(replace(made.judges[0], price=by_tokens),))
    (part,) = made.parts
    one = next(made.samples(part))
    usd = judging_at_worst(made, part.scoring.judges(one).made, one.question(), answer)
    out, into = divmod(int(usd), 1_000_000)
    return into, out


def test_one_reply_of_each_judge_that_asks_is_reserved(tmp_path: Path) -> None:
    """Whatever the first ones cost: the next may be a thousand times as dear."""
    rubric = {"rubric": {"model": "j", "criteria": "Is it right?", "max_tokens": 50}}
    again = {"rubric": {"model": "j", "criteria": "Is it kind?", "max_tokens": 30, "name": "kind"}}
    into, out = of_judging(tmp_path, rubric)
    assert out == 50
    assert of_judging(tmp_path, rubric, sampling={"max_tokens": 1_000})[0] == into - 7 + 1_000
    assert of_judging(tmp_path, rubric, answer="word " * 100)[0] > into + 50
    both = of_judging(tmp_path, {"all": [rubric, {"not": again}, "contains"]})
    assert both[1] == 80
    assert both[0] > 1.9 * into
    thrice = {"rubric": {**rubric["rubric"], "samples": 3, "temperature": 1}}
    assert of_judging(tmp_path, thrice)[1] == 150
    assert of_judging(tmp_path, thrice)[0] >= 3 * into
    thinks = {"rubric": {**rubric["rubric"], "reasoning": 1_000}}
    assert of_judging(tmp_path, thinks)[1] == 1_050
    told = {"rubric": {**rubric["rubric"], "criteria": "Is it right? " * 100}}
    assert of_judging(tmp_path, told)[0] > into + 200
    assert of_judging(tmp_path, "contains") == (0, 0)
    assert of_judging(tmp_path, {"rubric": {"model": "j", "max_tokens": None}})[1] == 7, "as is assumed"


@pytest.mark.asyncio
async def test_many_judgings_at_once_do_not_pass_the_cap_together(tmp_path: Path) -> None:
    outcome = await evaluate(judging(tmp_path, "0.3"))

    assert (outcome.status, judged(outcome)) == ("capped", Decimal("0.9"))


@pytest.mark.asyncio
async def test_one_judging_dearer_than_the_cap_is_the_last(tmp_path: Path) -> None:
    outcome = await evaluate(judging(tmp_path, "100"))

    assert (outcome.status, judged(outcome)) == ("capped", Decimal(100))


@pytest.mark.asyncio
async def test_judges_that_cost_nothing_are_not_waited_for(tmp_path: Path) -> None:
    outcome = await evaluate(judging(tmp_path, "0", n=8))

    assert (outcome.status, len(outcome.columns)) == ("complete", 8)


@pytest.mark.asyncio
async def test_a_call_that_failed_says_nothing_of_what_judging_costs(tmp_path: Path) -> None:
    outcome = await evaluate(judging(tmp_path, "0.3", ConnectionError("gone"), FREE))

    assert (outcome.status, judged(outcome)) == ("capped", Decimal("0.9"))


@pytest.mark.asyncio
async def test_an_endpoint_that_fails_is_asked_by_many_at_once_all_the_same(tmp_path: Path) -> None:
    under_way: list[int] = []
    now = 0

    async def stall(request: Request) -> str:
        nonlocal now
        now += 1
        under_way.append(now)
        for _ in range(LONG):
            await asyncio.sleep(0)
        now -= 1
        raise Transient("it stalls", kind="timeout")

    outcome = await evaluate(judging(tmp_path, "0.3", handler=FunctionEndpoint(stall)))

    assert (outcome.status, len(under_way)) == ("complete", 32)
    assert under_way[:ALONE] == [1] * ALONE
    assert max(under_way) >= 8, "or 32 timeouts would follow each other"


@pytest.mark.asyncio
async def test_whoever_waits_for_its_turn_does_not_begin_after_a_stop(tmp_path: Path) -> None:
    control = Control()

    async def answer(request: Request) -> str:
        for _ in range(LONG):
            await asyncio.sleep(0)
        control.stop()
        return "yes"

    outcome = await evaluate(judging(tmp_path, "0.01", handler=FunctionEndpoint(answer)), control=control)

    assert (outcome.status, len(outcome.columns)) == ("interrupted", 1)


@pytest.mark.asyncio
@pytest.mark.parametrize(("cost", "rows"), [("next(costs)", 3), ("None", MOST_UNKNOWN)])
async def test_judgings_of_unknown_cost_do_not_pass_the_cap(tmp_path: Path, cost: str, rows: int) -> None:
    outcome = await evaluate(judging(tmp_path, cost, calls=1))

    assert (outcome.status, len(outcome.columns)) == ("capped", rows)


@pytest.mark.asyncio
async def test_what_was_judged_at_unknown_cost_counts_after_a_resume(tmp_path: Path) -> None:
    outcome = await evaluate(judging(tmp_path, "next(costs)", calls=1))

    assert spent_before(outcome.store, outcome.run) == Decimal("0.9"), "each as dear as the dearest"
